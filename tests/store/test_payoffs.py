"""Payoffs in the store: the newest run is read, and of earlier ones only the history of lessons is kept."""

import polars as pl

from store import payoffs
from store.connection import Store


def _rows(*changed: dict[str, object]) -> pl.DataFrame:
    usual: dict[str, object] = {
        "agent": "a", "kind": "lesson", "lesson_id": "l", "version": 1, "segment": None, "measure": "outcome",
        "estimator": "doubly robust", "served": 8, "withheld": 2, "units": 10, "verdict": "can't tell yet",
    }  # fmt: skip
    frame = pl.DataFrame([dict.fromkeys(payoffs.PAYOFFS) | usual | each for each in changed])
    return frame.cast(payoffs.PAYOFFS)


def _publish(store: Store, frame: pl.DataFrame) -> int:
    return payoffs.publish(store, frame, message="m", data_version=3, code_version="c", reward_model_id=None)


def test_the_newest_run_is_read_with_the_newest_version_first(store: Store) -> None:
    _publish(store, _rows({"effect": 0.5}))
    second = _rows(
        {"measure": "tokens"}, {"version": 2, "effect": 0.1}, {"segment": "new"}, {"effect": 0.2},
        {"kind": "playbook", "lesson_id": None, "version": None}, {"agent": "b", "lesson_id": "m"},
    )  # fmt: skip
    assert _publish(store, second) == 2
    found = payoffs.newest(store)
    assert found.schema == payoffs.PAYOFFS
    assert found.height == 6
    own = payoffs.of_lesson(store, "l")
    assert own.select("version", "segment", "measure").rows() == [
        (2, None, "outcome"), (1, None, "outcome"), (1, None, "tokens"), (1, "new", "outcome"),
    ]  # fmt: skip
    assert payoffs.of_lesson(store, "l", version=2)["effect"].to_list() == [0.1]
    assert payoffs.newest(store, "b")["lesson_id"].to_list() == ["m"]
    assert payoffs.newest(store, "c").is_empty()


def test_history_keeps_whole_lessons_only(store: Store) -> None:
    for effect in (0.1, 0.2, 0.3):
        _publish(store, _rows({"effect": effect}, {"segment": "new"}, {"kind": "retry", "lesson_id": None}))
    assert payoffs.history(store, "l")["effect"].to_list() == [0.1, 0.2, 0.3]
    assert payoffs.history(store, "l", agents=["b"]).is_empty()
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM lesson_payoffs") == 5
    run = payoffs.latest_run(store)
    assert run is not None
    assert (run["run_id"], run["data_version"], run["found_at"]) == (3, 3, store.clock.now())
