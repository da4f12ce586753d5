"""Drafting by one batch a night: sent once whatever ends the process, followed, read, and every failure named."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from drafting_world import answer, contrast, fill, lesson, run, settings

from pipelines.lessons.drafting import asking
from pipelines.lessons.drafting.preview import preview
from store import drafting, lessons, llm_batches, llm_calls
from store.clock import FixedClock
from store.connection import Store
from tests.pipelines.judges.model_server import (
    KEY,
    WRITTEN,
    Asked,
    ModelServer,
    Refuses,
    Says,
    batch_response,
    model_server,
)

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
GOOD = Says(json.dumps(answer(lesson())))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def batched(server: ModelServer, **changes: Any) -> Any:
    return settings(server, model_batches=True, **changes)


def rows(store: Store) -> list[dict[str, Any]]:
    return drafting.recent(store).reverse().to_dicts()


def batch(store: Store) -> dict[str, Any]:
    return llm_batches.listed(store, asking.PURPOSE, 1).row(0, named=True)


def by_task(*behaviours: Says | Refuses | dict[str, Any] | None) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """Answers to the lines in their order; a dictionary stands for itself, None for no line."""

    def reply(line: dict[str, Any]) -> dict[str, Any] | None:
        behaviour = behaviours[int(line["custom_id"].rsplit("-", 1)[1])]
        return batch_response(line, behaviour) if isinstance(behaviour, Says | Refuses) else behaviour

    return reply


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_batch_is_sent_once_followed_and_read(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock, api: str
) -> None:
    fill(store, tmp_path, ("refund", "exchange", "return"))
    chosen = batched(server, model_api=api, drafted_per_run=2)
    most = preview(store, chosen).most
    assert most is not None
    sent = run(store, chosen)
    assert "Batch 1: 2 questions sent." in sent.message
    assert [row["status"] for row in rows(store)] == ["waiting", "waiting"]
    # Half the price is reserved, as the preview has said.
    assert llm_calls.spent(store).usd == pytest.approx(2 * most.usd, rel=0.02)
    assert {line["url"] for line in server.desk.lines("batch_1")} == {
        "/v1/responses" if api == "responses" else "/v1/chat/completions"
    }
    assert KEY not in json.dumps(server.desk.lines("batch_1"))
    server.desk.batches["batch_1"]["status"] = "in_progress"
    clock.moment = NOW + timedelta(hours=1)
    assert run(store, chosen).rows == 0
    assert batch(store)["server_state"] == "in_progress"
    server.desk.finish("batch_1", by_task(GOOD, Says(json.dumps(answer(nothing="Chance.")))))
    asked = [Asked("", {}, line["body"]) for line in server.desk.lines("batch_1")]
    done = run(store, chosen)
    assert done.rows == 1
    assert "2 of 2 questions answered" in done.message
    # Nothing is left on the server of what traces say.
    assert (server.desk.files, len(server.desk.removed)) == ({}, 2)
    assert [row["status"] for row in rows(store)] == ["proposed", "nothing to learn"]
    assert batch(store)["state"] == "completed"
    # Paid is what was read and written, at half the price of 2 and 8 dollars a million tokens.
    assert llm_calls.spent(store).usd == pytest.approx(sum((one.tokens * 1 + WRITTEN * 4) / 1e6 for one in asked))
    # Neither a second batch on the same day, nor the same questions again; the third task the night after.
    assert (server.desk.created, server.asked) == (1, [])
    clock.moment = NOW + timedelta(hours=21)
    run(store, chosen)
    assert server.desk.created == 2
    assert [row["task"] for row in rows(store)] == ["refund", "exchange", "return"]


@pytest.mark.parametrize("step", range(1, 6))
def test_a_kill_at_any_step_sends_nothing_twice(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fill(store, tmp_path, ("refund", "exchange"))
    real, count = llm_batches.step, 0

    def killed(*arguments: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise SystemExit
        real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(llm_batches, "step", killed)
        with pytest.raises(SystemExit):
            run(store, batched(server))
    reserved = llm_calls.spent(store)
    run(store, batched(server))
    assert (server.desk.created, len(server.desk.files)) == (1, 1)
    assert llm_calls.spent(store) == reserved
    server.desk.finish("batch_1", by_task(GOOD, GOOD))
    assert run(store, batched(server)).rows == 2
    assert [row["status"] for row in rows(store)] == ["proposed", "proposed"]
    assert server.asked == []


@pytest.mark.parametrize("step", range(3))
def test_a_kill_while_answers_are_read_loses_none_and_asks_for_none_again(
    store: Store, tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fill(store, tmp_path, ("refund", "exchange"))
    run(store, batched(server))
    server.desk.finish("batch_1", by_task(GOOD, GOOD))
    real, count = llm_calls.finish, 0

    def killed(*arguments: Any, **named: Any) -> datetime:
        nonlocal count
        count += 1
        if count == step + 1:
            raise SystemExit
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(llm_calls, "finish", killed)
        if step == 2:
            patch.setattr("pipelines.lessons.drafting.job.close", killed)
        with pytest.raises(SystemExit):
            run(store, batched(server))
    assert run(store, batched(server)).rows == 2
    assert [row["status"] for row in rows(store)] == ["proposed", "proposed"]
    assert (server.desk.created, server.asked) == (1, [])


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ("POST /v1/files", "page"),
        ("POST /v1/batches", "page"),
        ("GET /v1/batches/batch_1", "page"),
        ("GET /v1/files/file-2/content", "page"),
        ("GET /v1/files/file-2/content", 500),
    ],
)
def test_a_server_that_answers_something_else_is_asked_again_later(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock, route: str, fault: object
) -> None:
    fill(store, tmp_path)
    server.desk.faults[route] = [fault]
    for hour in range(3):
        clock.moment = NOW + timedelta(hours=hour)
        run(store, batched(server))
    server.desk.finish("batch_1", by_task(GOOD))
    for hour in range(3, 5):
        clock.moment = NOW + timedelta(hours=hour)
        run(store, batched(server))
    # A web page instead of the file of answers is a file without lines: its question has an end with a name.
    lost = (route, fault) == ("GET /v1/files/file-2/content", "page")
    assert rows(store)[0]["status"] == ("unavailable" if lost else "proposed")
    assert server.desk.created == 1


@pytest.mark.parametrize("route", ["POST /v1/files", "POST /v1/batches"])
def test_an_answer_that_is_lost_on_the_way_is_looked_for(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock, route: str
) -> None:
    fill(store, tmp_path)
    server.desk.faults[route] = ["lost"]
    assert "could not be asked for a batch" in run(store, batched(server)).message
    run(store, batched(server))
    assert (server.desk.created, len(server.desk.files)) == (1, 1)
    assert batch(store)["state"] == "running"


def test_a_batch_that_the_server_does_not_show_yet_is_not_made_again_at_once(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock
) -> None:
    fill(store, tmp_path)
    server.desk.faults["POST /v1/batches"] = ["lost"]
    server.desk.hidden = True
    run(store, batched(server))
    assert "not known yet" in run(store, batched(server)).message
    server.desk.hidden = False
    clock.moment = NOW + timedelta(hours=1)
    run(store, batched(server))
    assert server.desk.created == 1


def test_a_busy_server_gets_the_batch_later(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock
) -> None:
    fill(store, tmp_path)
    server.desk.faults["POST /v1/batches"] = [503]
    assert "answered 503" in run(store, batched(server)).message
    clock.moment = NOW + timedelta(hours=1)
    run(store, batched(server))
    assert (server.desk.created, batch(store)["state"]) == (1, "running")


def test_a_server_without_batches_is_named_and_nothing_is_charged(
    store: Store, tmp_path: Path, server: ModelServer
) -> None:
    fill(store, tmp_path)
    server.desk.faults["POST /v1/files"] = [404]
    done = run(store, batched(server))
    assert "TRIMTAB_MODEL_BATCHES" in done.message
    assert batch(store)["state"] == "failed"
    assert llm_calls.spent(store).usd == 0
    (row,) = rows(store)
    assert row["status"] == "unavailable"
    assert "answered 404" in row["message"]


def test_every_way_a_line_can_end_has_a_name(store: Store, tmp_path: Path, server: ModelServer) -> None:
    tasks = [f"task{number}" for number in range(7)]
    fill(store, tmp_path, tasks)
    run(store, batched(server, drafted_per_run=7))
    server.desk.finish(
        "batch_1",
        by_task(
            GOOD, Refuses("No."), Says("{", cut=True), Says("no json"), None,
            {"response": {"status_code": 500, "body": {"error": {"message": "broke"}}}},
            {"error": {"code": "batch_expired", "message": "This request could not be executed in time."}},
        ),
        status="expired",
    )  # fmt: skip
    done = run(store, batched(server))
    assert done.rows == 1
    assert "The batch has expired; 1 of 7 questions were answered." in done.message
    found = {row["task"]: (row["status"], row["message"]) for row in rows(store)}
    assert [found[task][0] for task in tasks] == [
        "proposed", "refused", "truncated", "off-schema", "unavailable", "unavailable", "unavailable",
    ]  # fmt: skip
    assert "expired before it was answered" in found["task4"][1]
    assert "broke" in found["task5"][1]
    assert "in time" in found["task6"][1]
    charged = {row["task"]: row["cost_usd"] for row in rows(store)}
    assert charged["task4"] == charged["task5"] == charged["task6"] == 0
    assert charged["task0"] > 0


def test_a_batch_that_fails_as_a_whole_is_named(store: Store, tmp_path: Path, server: ModelServer) -> None:
    fill(store, tmp_path)
    run(store, batched(server))
    server.desk.batches["batch_1"] |= {
        "status": "failed", "errors": {"object": "list", "data": [{"code": "x", "message": "no such model"}]},
    }  # fmt: skip
    assert "no such model" in run(store, batched(server)).message
    assert rows(store)[0]["status"] == "unavailable"
    assert llm_calls.spent(store).usd == 0


def test_a_batch_reserves_within_the_budget_and_names_what_is_left_out(
    store: Store, tmp_path: Path, server: ModelServer
) -> None:
    fill(store, tmp_path, ("refund", "exchange", "return"))
    most = preview(store, batched(server)).most
    assert most is not None
    limit = 2.5 * most.usd
    done = run(store, batched(server, model_daily_usd=limit))
    assert len(server.desk.lines("batch_1")) == 2
    assert llm_calls.spent(store).usd <= limit
    assert [row["status"] for row in rows(store)] == ["waiting", "waiting", "over budget"]
    assert "The model was not asked" in done.message


def test_a_server_that_never_makes_the_batch_is_given_up_after_days(
    store: Store, tmp_path: Path, server: ModelServer, clock: FixedClock
) -> None:
    fill(store, tmp_path)
    server.desk.faults["POST /v1/files"] = [503] * 9
    run(store, batched(server))
    clock.moment = NOW + timedelta(days=4)
    assert "Given up" in run(store, batched(server)).message
    assert llm_batches.listed(store, asking.PURPOSE).filter(state="failed").height == 1
    assert rows(store)[0]["status"] in ("unavailable", "interrupted")


def test_an_open_batch_is_followed_when_batches_are_switched_off(
    store: Store, tmp_path: Path, server: ModelServer
) -> None:
    fill(store, tmp_path)
    run(store, batched(server))
    server.desk.finish("batch_1", by_task(GOOD))
    assert run(store, settings(server)).rows == 1
    assert lessons.library(store).height == 1
    contrast(store, ("refund",), rollouts=40)
    run(store, settings(server))
    assert server.asked == []


def test_a_batch_of_another_server_waits_for_it(store: Store, tmp_path: Path, server: ModelServer) -> None:
    fill(store, tmp_path)
    run(store, batched(server))
    with model_server() as other:
        message = run(store, batched(other)).message
    assert f"It was sent to {server.url}" in message
    assert batch(store)["state"] == "running"
