"""The job on a store: a planted change becomes a change and one notice; late data, repeats, anchors, hostile names."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from loop_data import HOSTILE, run_loop
from publishing import Publish, publisher

from store import model_anchors, model_answers, model_figures, notices
from store.clock import FixedClock
from store.connection import Store
from tests.pipelines.model_watch.answer_world import FIRST, changed, traces

DAYS, SINCE = 34, 24
NEW = f"new {HOSTILE}"


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store.open(None, clock=FixedClock(FIRST + timedelta(days=DAYS, hours=5)), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    return publisher(store, tmp_path)


def twelve(model: str, day: int) -> list[str]:
    return ["seats", "refunds"] * 6


def world(**more: Any) -> list[dict[str, Any]]:
    styles = changed(NEW, SINCE, refusals=0.4, fingerprint="fp_two")
    return traces(np.random.default_rng(1), models=("old", NEW), days=DAYS, styles=styles, traffic=twelve, **more)


def flagged(store: Store) -> set[tuple[str, str]]:
    found = model_figures.changes(store, flagged_only=True, current_only=True)
    return set(found.select("model", "metric").iter_rows())


def test_a_planted_change_is_found_once_and_told_once(store: Store, publish: Publish) -> None:
    assert "No trace names" in run_loop(store, "model-watch")["model-watch"].message
    publish(traces=world())
    run_loop(store, "model-watch")
    assert {(NEW, "refusal share"), (NEW, "fingerprint")} <= flagged(store)
    assert {model for model, _ in flagged(store)} == {NEW}
    first = model_figures.changes(store, flagged_only=True)
    refusals = first.row(by_predicate=pl.col("metric") == "refusal share", named=True)
    assert abs(refusals["changed_at"] - (FIRST + timedelta(days=SINCE))) <= timedelta(days=2)
    assert refusals["n"] == DAYS * 12
    (notice,) = notices.open_(store).to_dicts()
    assert (notice["kind"], notice["page"], notice["times"]) == ("model change", "drift", 1)
    assert "Refusal share" in notice["text"]

    store.clock.moment += timedelta(hours=2)  # type: ignore[attr-defined]
    run_loop(store, "model-watch")
    again = model_figures.changes(store, flagged_only=True)
    # The same changes under the same numbers, found when they were found; nobody is told again.
    assert again.drop("run_id").equals(first.drop("run_id"))
    assert notices.open_(store)["times"].to_list() == [1]
    latest = model_figures.latest_run(store)
    assert latest is not None
    assert latest["run_id"] == 2
    assert latest["models"] == 2
    days = model_figures.figures(store, model=NEW, metric="refusal share")
    assert days.height == DAYS
    assert days["n"].sum() == DAYS * 12
    assert model_figures.figures(store, by_agent=True)["agent"].unique().to_list() == ["desk"]


def test_only_days_with_new_answers_are_measured_again(store: Store, publish: Publish) -> None:
    rows = world()
    late = [row for number, row in enumerate(rows) if number % 9 == 0]
    early = [row for number, row in enumerate(rows) if number % 9]
    publish(traces=early)
    run_loop(store, "model-watch")
    since, until = FIRST.date(), (FIRST + timedelta(days=DAYS)).date()
    assert model_answers.days_to_look_at(store, since=since, until=until).is_empty()
    last_week = FIRST + timedelta(days=DAYS - 7)
    publish(traces=[row for row in late if row["started_at"] >= last_week])
    touched = model_answers.days_to_look_at(store, since=since, until=until)
    assert touched["day"].min() == last_week.date()
    publish(traces=[row for row in late if row["started_at"] < last_week])
    run_loop(store, "model-watch")
    held = model_answers.watched(store, since=FIRST)
    # The same as if all had come at once.
    assert held.height == len(rows)
    assert held["trace_id"].n_unique() == len(rows)
    assert (NEW, "refusal share") in flagged(store)


def test_a_day_that_is_not_over_waits_and_large_days_are_sampled(store: Store, publish: Publish) -> None:
    store.clock.moment = FIRST + timedelta(days=1, hours=12)  # type: ignore[attr-defined]
    rows = traces(np.random.default_rng(2), models=("m",), days=2, traffic=lambda model, day: ["seats"] * 150)
    publish(traces=rows)
    run_loop(store, "model-watch")
    held = model_answers.watched(store, since=FIRST)
    assert held["day"].unique().to_list() == [FIRST.date()]
    assert held.height == 80
    few = model_answers.watched(store, since=FIRST, sample=7)
    assert few.height == 7
    assert few.join(held, on="trace_id", how="semi").height == 7
    assert model_answers.watched(store, since=FIRST, models=0).is_empty()


def test_answers_are_steps_of_a_model_or_whole_traces_and_go_with_their_trace(store: Store, publish: Publish) -> None:
    begin = FIRST + timedelta(hours=3)
    message = '{"role": "assistant", "content": "I cannot help with that."}'
    publish(
        traces=[
            {"trace_id": "a", "agent": "desk", "model": "m", "started_at": begin, "output": "Gladly."},
            {"trace_id": "b", "model": "m", "started_at": begin, "output": "x" * 3_000},
            {"trace_id": "c", "started_at": begin, "output": "of no model"},
        ],
        spans=[
            {"trace_id": "a", "span_id": "1", "kind": "llm", "model": "m", "started_at": begin,
             "ended_at": begin + timedelta(seconds=4), "output": message, "model_fingerprint": "fp_9"},
            {"trace_id": "a", "span_id": "2", "kind": "tool", "model": "m", "started_at": begin, "output": "no"},
        ],
    )  # fmt: skip
    run_loop(store, "model-watch")
    held = {row["trace_id"]: row for row in model_answers.watched(store, since=FIRST).to_dicts()}
    assert set(held) == {"a", "b"}
    assert (held["a"]["refusal"], held["a"]["seconds"], held["a"]["fingerprint"]) == (1.0, 4.0, "fp_9")
    # In full, where the rollup keeps a preview.
    assert (held["b"]["length"], held["b"]["span_id"]) == (3_000.0, "")
    store.write(lambda connection: connection.execute("DELETE FROM traces WHERE trace_id = 'b'"))
    run_loop(store, "model-watch")
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM model_answers") == 1


def test_an_anchor_settles_what_was_found(store: Store, publish: Publish) -> None:
    publish(traces=world())
    run_loop(store, "model-watch")
    assert flagged(store)
    store.clock.moment += timedelta(hours=1)  # type: ignore[attr-defined]
    model_anchors.anchor(
        store, NEW, anchored_at=FIRST + timedelta(days=SINCE), reason="We switched it.", operator="ann"
    )
    assert notices.open_(store).is_empty()
    assert flagged(store) == set()
    store.clock.moment += timedelta(hours=1)  # type: ignore[attr-defined]
    run_loop(store, "model-watch")
    assert flagged(store) == set()
    assert notices.open_(store).is_empty()
    # What was flagged before stays in the history.
    assert not model_figures.changes(store, flagged_only=True).is_empty()
