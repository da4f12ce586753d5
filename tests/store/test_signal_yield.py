"""What signal yield reads of the store."""

from typing import Any

import pytest

from store import rewards, signal_yield


@pytest.mark.parametrize(
    ("propensity", "asked"),
    [(None, True), (0.02, True), (1.0, True), (0.0, False), (-0.1, False), (1.5, False), (1e-9, False)],
)
def test_feedback_asked_for_with_a_probability_that_is_none_counts_as_volunteered(
    store: Any, publish: Any, propensity: float | None, asked: bool
) -> None:
    publish(
        traces=[{"trace_id": "t", "agent": "x"}],
        signals=[
            {"signal_id": "s", "trace_id": "t", "kind": "thumb", "value": 1.0, "solicited": True,
             "propensity": propensity},
            {"signal_id": "v", "trace_id": "t", "kind": "thumb", "value": 0.0, "solicited": False},
            {"signal_id": "w", "trace_id": "t", "kind": "thumb", "value": 0.0},
        ],
    )  # fmt: skip
    assert signal_yield.signals(store)["solicited"].to_list() == [asked, False, None]
    assert rewards.signals(store, ["thumb"])["solicited"].to_list() == [asked, False, None]
