"""The panels of judges: model and budget, the rubric editor with preview and cost, labelling, quality, estimates."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_data import HOSTILE, NOW
from page_driver import click, markup, shown, store_for_pages
from publishing import Publish, publisher
from streamlit.testing.v1 import AppTest

from dashboard import runtime
from store import judges, llm_calls, rubrics
from store.connection import Store
from store.judges import Verdict
from store.llm_calls import Budget, Charge, Ended, Question
from store.rubrics import Rubric
from store.settings import Settings

TEXT = "The agent did what the user asked for. It fails when it did not."
KEY = "rubric_new"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    return publisher(store, tmp_path)


def with_model(**changes: Any) -> None:
    settings = Settings(model="fake-model", model_prices="fake-model=2/8", model_base_url="http://127.0.0.1:9/v1")
    runtime.install(replace(runtime.current(), settings=replace(settings, **changes)))


def panels() -> AppTest:
    def page() -> None:
        from dashboard.learn import judge_panels
        from dashboard.learn.actions import notice
        from dashboard.ui import theme

        notice()
        judge_panels.show(theme.current())

    app = AppTest.from_function(page, default_timeout=30)
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: str(metric.value) for metric in app.metric}


def plain(app: AppTest) -> str:
    return shown(app).replace("\\", "")


def trace(number: int, **more: Any) -> dict[str, Any]:
    begin = NOW - timedelta(days=1)
    base = {"trace_id": f"t{number:04}", "agent": "shop", "started_at": begin, "ended_at": begin}
    return {**base, "input": f"Do {number}", "output": HOSTILE, **more}


def test_without_model_rubric_or_verdict_each_panel_says_what_could_be_here(store: Store) -> None:
    said = plain(panels())
    assert "No model is configured" in said
    assert "TRIMTAB_MODEL" in said
    assert "No rubrics yet" in said
    assert "No verdicts yet" in said


def test_a_model_without_a_price_is_told(store: Store) -> None:
    with_model(model_prices="")
    assert "Setting TRIMTAB_MODEL_PRICES is ''" in plain(panels())


def test_what_is_spent_is_shown_against_the_budget(store: Store) -> None:
    with_model(model_daily_usd=2.0, model_daily_tokens=1_000)
    budget = Budget(Charge(10**6, 10.0), Charge(10**6, 10.0))
    call = llm_calls.begin(
        store, Question("r", "judge", "p.v1", None, "chat", "fake-model", "0"), Charge(9, 1.0), budget
    )
    llm_calls.finish(store, call, Ended("answered", 1, 0.5, Charge(250, 0.5), False, 200, 50, "fake-1", "{}"))
    app = panels()
    assert metrics(app) == {"Spent today": "$0.50", "Tokens today": "250"}
    assert "of $2.00 a day" in [element.proto.text.replace("\\", "") for element in app.get("progress")]
    (table,) = [frame.value for frame in app.dataframe]
    assert table["purpose"].to_list() == ["judge"]


def test_a_rubric_is_previewed_with_its_cost_before_it_is_created(store: Store, publish: Publish) -> None:
    publish(traces=[trace(1)])
    with_model()
    app = panels()
    app.text_input(key=f"{KEY}_rubric").input("did-it")
    app.text_area(key=f"{KEY}_text").input(TEXT)
    click(app, f"{KEY}_preview")
    codes = [code.value for code in app.code]
    assert any(TEXT in code for code in codes)
    assert any(HOSTILE in code and "Do 1" in code for code in codes)
    assert "<img" not in markup(app)
    likely = metrics(app)["A run of 100, likely"]
    assert likely.startswith("$")
    assert likely != "$0.00"
    assert "the limit of a run is $1.00" in plain(app)
    assert rubrics.newest(store) == []
    assert llm_calls.recent(store).is_empty()
    click(app, f"{KEY}_save")
    (kept,) = rubrics.active(store)
    assert (kept.rubric, kept.text, kept.scale, kept.judged_share) == ("did-it", TEXT, "pass_fail", 0.1)
    assert "did-it is in use from now on" in plain(app)


def test_what_cannot_be_kept_is_told_and_keeps_nothing(store: Store) -> None:
    app = panels()
    app.text_input(key=f"{KEY}_rubric").input("Did it!")
    app.text_area(key=f"{KEY}_text").input(TEXT)
    click(app, f"{KEY}_save")
    assert "the key is 'Did it!'" in plain(app)
    click(app, f"{KEY}_preview")
    assert "Preview: the key is 'Did it!'" in plain(app)
    assert rubrics.newest(store) == []


def test_a_rubric_is_edited_and_retired(store: Store) -> None:
    rubrics.create(store, Rubric("did-it", TEXT), operator="ann")
    app = panels()
    app.selectbox(key="rubric_chosen").set_value("did-it").run()
    app.text_area(key="rubric_did-it_1_text").input(f"{TEXT} Politely.")
    click(app, "rubric_did-it_1_save")
    assert rubrics.newest(store)[0].text == f"{TEXT} Politely."
    assert "did-it is at version 2 now" in plain(app)
    click(app, "rubric_did-it_2_retire")
    assert rubrics.active(store) == []
    assert "did-it is retired" in plain(app)
    assert "Retired at version 3" in plain(app)


def judged_sample(store: Store, rubric: Rubric, count: int) -> None:
    """Draw everything for a rubric and keep a verdict of each."""
    judges.draw(store, rubric, room=count, settled_before=NOW)
    waiting = judges.pending(store, rubric, count)
    judges.record(
        store,
        rubric,
        [Verdict(each, each, "scored", "judge_trace.v1", 1, f"v{each}", 1.0, False) for each in waiting["subject_id"]],
    )


def test_what_was_drawn_is_labelled_without_seeing_the_verdict(store: Store, publish: Publish) -> None:
    publish(traces=[trace(number) for number in range(5)])
    rubric = rubrics.create(store, Rubric("did-it", TEXT, judged_share=1.0, labelled_share=1.0), operator="ann")
    judged_sample(store, rubric, 5)
    app = panels()
    assert HOSTILE in [element.value for element in app.text]
    assert "<img" not in markup(app)
    first = judges.to_label(store, rubric)["trace_id"][0]
    click(app, f"label_bad_did-it_{first}")
    assert "Labelled bad by did-it" in plain(app)
    assert first not in judges.to_label(store, rubric)["trace_id"].to_list()
    with store.read() as reader:
        (row,) = reader.any_frame("SELECT * FROM signals WHERE kind = 'annotation'").to_dicts()
    assert (row["trace_id"], row["value"], row["propensity"], row["solicited"]) == (first, 0.0, 1.0, True)
    assert (row["annotator_kind"], row["annotator_id"]) == ("operator", "local operator")


def imported(publish: Publish, *, labels: int, solicited: bool) -> np.ndarray:
    """A judge of another system on 400 traces, right nine times in ten, with labels on the first of them."""
    random = np.random.default_rng(4)
    truth = random.random(400) < 0.6
    said = np.where(random.random(400) < 0.9, truth, ~truth)
    asked = {"solicited": True, "propensity": labels / 400} if solicited else {}
    publish(
        traces=[trace(number) for number in range(400)],
        signals=[
            {"signal_id": f"v{i}", "trace_id": f"t{i:04}", "kind": "judge", "name": HOSTILE, "value": float(said[i]),
             "annotator_kind": "llm", "occurred_at": NOW} for i in range(400)
        ] + [
            {"signal_id": f"l{i}", "trace_id": f"t{i:04}", "kind": "annotation", "value": float(truth[i]),
             "annotator_kind": "user", "occurred_at": NOW, **asked} for i in range(labels)
        ],
    )  # fmt: skip
    return truth


def test_a_judge_of_another_system_is_measured_and_corrected_without_a_model(store: Store, publish: Publish) -> None:
    imported(publish, labels=120, solicited=True)
    app = panels()
    assert "No model is configured" in plain(app)
    tables = {tuple(frame.value.columns): frame.value for frame in app.dataframe}
    quality = next(table for columns, table in tables.items() if "sensitivity" in columns)
    assert quality["labels"].to_list() == ["at random"]
    assert quality["n"].to_list() == [120]
    assert quality["sensitivity"][0].startswith("0.")
    assert "(" in quality["kappa"][0]
    said = plain(app)
    assert "judge, corrected by labels: 0." in said
    assert "labels alone: 0." in said
    assert "judge alone, as if it were right: 0." in said
    assert "Over 400 judged traces, 120 of them labelled at random" in said
    assert "<img" not in markup(app)


def test_volunteered_labels_give_a_quality_and_no_estimate(store: Store, publish: Publish) -> None:
    imported(publish, labels=120, solicited=False)
    said = plain(panels())
    assert "no estimate" in said
    assert "120 more were volunteered" in said


def test_too_few_labels_say_how_many_are_missing(store: Store, publish: Publish) -> None:
    imported(publish, labels=20, solicited=True)
    app = panels()
    quality = next(frame.value for frame in app.dataframe if "sensitivity" in frame.value.columns)
    assert quality["missing"].to_list() == ["20 of at least 50 labels"]
    assert quality["kappa"].to_list() == ["not enough data"]
    assert "20 of at least 50 labels" in plain(app)


def test_verdicts_without_any_label_say_what_is_missing(store: Store, publish: Publish) -> None:
    imported(publish, labels=0, solicited=False)
    assert "0 of at least 50 labels" in plain(panels())
