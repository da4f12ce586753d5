"""Which signals count as evidence, and for how much."""

import polars as pl
import pytest

from pipelines.rewards.observations import SIGNALS, observe
from pipelines.stats.contract import ContractError
from store.errors import SettingsError


def signals(*rows: tuple[object, ...]) -> pl.DataFrame:
    """Rows of (trace_id, kind, value, annotator_kind, solicited)."""
    return pl.DataFrame(list(rows), schema=SIGNALS, orient="row")


def test_classes_are_weighed_by_the_odds_of_their_reliability() -> None:
    observed = observe(
        signals(("t", "outcome", 1.0, "code", None), ("t", "thumb", 0.0, "user", None)), {"outcome": 0.9, "thumb": 0.5}
    ).frame
    assert observed["outcome"][0] == pytest.approx(9 / 10)
    assert observed["odds"][0] == pytest.approx(10)
    assert observed["signals"][0] == 2
    assert observed["verified"][0]
    assert observed["volunteered"][0]


def test_saying_it_twice_counts_once() -> None:
    once = observe(signals(("t", "thumb", 1.0, "user", True))).frame
    twice = observe(signals(("t", "thumb", 1.0, "user", True), ("t", "thumb", 1.0, "user", True))).frame
    assert twice["odds"][0] == once["odds"][0]
    assert twice["signals"][0] == 2
    assert not twice["volunteered"][0]
    assert once["fair_odds"][0] == once["odds"][0]
    split = observe(signals(("t", "thumb", 1.0, "user", True), ("t", "thumb", 0.0, "user", True))).frame
    assert split["outcome"][0] == 0.5


def test_what_was_volunteered_is_not_fair() -> None:
    frame = observe(
        signals(
            ("both", "outcome", 1.0, "code", None),
            ("both", "thumb", 0.0, "user", None),
            ("asked", "thumb", 0.0, "user", True),
            ("unasked", "annotation", 0.0, "operator", False),
        )
    ).frame
    fair = {row["trace_id"]: (row["fair_outcome"], row["fair_odds"]) for row in frame.iter_rows(named=True)}
    assert fair == {"both": (1.0, pytest.approx(9.0)), "asked": (0.0, pytest.approx(1.0)), "unasked": (None, 0.0)}
    assert dict(frame.select("trace_id", "volunteered").iter_rows()) == {"both": True, "asked": False, "unasked": True}


def test_an_outcome_is_verified_only_by_code() -> None:
    frame = observe(
        signals(
            ("code", "outcome", 1.0, "code", None),
            ("unnamed", "outcome", 1.0, None, None),
            ("model", "outcome", 1.0, "llm", None),
        )
    ).frame
    assert dict(frame.select("trace_id", "verified").iter_rows()) == {"code": True, "unnamed": False}
    odds = dict(frame.select("trace_id", "odds").iter_rows())
    assert odds == {"code": pytest.approx(9.0), "unnamed": pytest.approx(7 / 3)}


def test_everything_left_out_is_counted_under_its_reason() -> None:
    observations = observe(
        signals(
            ("t", "judge", 1.0, "llm", None),
            ("t", "annotation", 1.0, "llm", None),
            ("t", "click", 1.0, "user", None),
            ("t", "comment", None, "user", None),
            (None, "thumb", 1.0, "user", None),
            ("t", "thumb", None, "user", None),
            ("t", "rating", 4.0, "user", None),
            ("t", "rating", float("nan"), "user", None),
            ("kept", "rating", 0.75, "user", None),
        )
    )
    assert observations.excluded == {
        "class not used: judge": 2,
        "kind not used: click": 1,
        "kind not used: comment": 1,
        "no trace": 1,
        "no value": 2,
        "value outside 0 to 1": 1,
    }
    assert observations.frame["trace_id"].to_list() == ["kept"]


def test_a_judge_counts_when_its_reliability_is_stated() -> None:
    frame = observe(signals(("t", "judge", 1.0, "llm", None)), {"judge": 0.2}).frame
    assert frame["odds"][0] == pytest.approx(0.25)


@pytest.mark.parametrize("reliability", [{"outcome": 1.0}, {"thumb": 0.0}, {"click": 0.5}])
def test_refuses_impossible_reliabilities(reliability: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="reliability"):
        observe(signals(), reliability)


def test_refuses_a_wrong_frame() -> None:
    with pytest.raises(ContractError, match="missing: annotator_kind, solicited"):
        observe(pl.DataFrame({"trace_id": ["t"], "kind": ["thumb"], "value": [1.0]}))
