"""The operator's weight between what people state and what they do."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards.stated import REVEALED_KINDS, STATED_KINDS, Evidence, apply_again, apply_weights, scoped_weights

AGENTS = pl.Series(["shop", "shop", "desk", "shop"])
SEGMENTS = pl.Series(["busy", "slow", "busy", None])
# Stated: location 2, precision 1; revealed: location -1, precision 3; the last trace has stated evidence alone.
STATED = Evidence(np.full(4, 2.0), np.ones(4))
REVEALED = Evidence(np.array([-1.0, -1.0, -1.0, 0.0]), np.array([3.0, 3.0, 3.0, 0.0]))


def _sum(*parts):
    precision = sum(part.precision for part in parts)
    natural = sum(part.precision * part.location for part in parts)
    return Evidence(np.where(precision > 0, natural / np.where(precision > 0, precision, 1), 0.0), precision)


WHOLE = _sum(STATED, REVEALED)


def _without(kinds):
    return {STATED_KINDS: REVEALED, REVEALED_KINDS: STATED}[kinds]


def _settings(*rows):
    return pl.DataFrame(rows, schema={"agent": pl.String, "segment": pl.String, "weight": pl.Float64}, orient="row")


def test_the_narrowest_setting_holds():
    settings = _settings((None, None, 0.1), ("shop", None, 0.2), (None, "busy", 0.3), ("shop", "busy", 0.4))
    assert scoped_weights(settings, AGENTS, SEGMENTS).tolist() == [0.4, 0.2, 0.3, 0.2]
    assert scoped_weights(_settings(), AGENTS, SEGMENTS).tolist() == [0.5] * 4


def test_an_even_weight_asks_for_nothing_and_changes_nothing():
    got, scopes = apply_weights(WHOLE, np.full(4, 0.5), AGENTS, SEGMENTS, lambda kinds: pytest.fail("not needed"))
    assert got is WHOLE
    assert scopes == []


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (1.0, STATED),
        (0.0, REVEALED),
        (0.75, _sum(STATED, Evidence(REVEALED.location, REVEALED.precision / 2))),
        (0.25, _sum(REVEALED, Evidence(STATED.location, STATED.precision / 2))),
    ],
)
def test_a_weight_takes_one_side_down_where_both_are_there(weight, expected):
    got, scopes = apply_weights(WHOLE, np.full(4, weight), AGENTS, SEGMENTS, _without)
    assert got.location[:3] == pytest.approx(expected.location[:3])
    assert got.precision[:3] == pytest.approx(expected.precision[:3])
    # The trace without a segment has one side only: nothing is applied, and it says so.
    assert (got.location[3], got.precision[3]) == (WHOLE.location[3], WHOLE.precision[3])
    notes = {(one.agent, one.segment): one.note is None for one in scopes}
    assert notes == {("shop", "busy"): True, ("shop", "slow"): True, ("desk", "busy"): True, ("shop", None): False}


def test_a_weight_in_one_segment_leaves_the_others_alone():
    weight = scoped_weights(_settings(("shop", "busy", 1.0)), AGENTS, SEGMENTS)
    got, _ = apply_weights(WHOLE, weight, AGENTS, SEGMENTS, _without)
    assert got.location.tolist() == pytest.approx([2.0, *WHOLE.location[1:]])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_other_traces_get_the_weights_as_the_fit_applied_them(weight):
    settings = _settings(("shop", None, weight))
    fitted, scopes = apply_weights(WHOLE, scoped_weights(settings, AGENTS, SEGMENTS), AGENTS, SEGMENTS, _without)
    again = apply_again(WHOLE, scopes, AGENTS, SEGMENTS, _without)
    assert again.location.tolist() == fitted.location.tolist()
    assert again.precision.tolist() == fitted.precision.tolist()

    def one(evidence):
        return Evidence(evidence.location[:1], evidence.precision[:1])

    alone = apply_again(one(WHOLE), scopes, AGENTS[:1], SEGMENTS[:1], lambda kinds: one(_without(kinds)))
    assert (alone.location[0], alone.precision[0]) == (fitted.location[0], fitted.precision[0])


def test_a_segment_that_the_fit_has_not_seen_has_no_weight_yet():
    _, scopes = apply_weights(WHOLE, np.full(4, 0.0), AGENTS, SEGMENTS, _without)
    new = pl.Series(["new"] * 4)
    assert apply_again(WHOLE, scopes, AGENTS, new, lambda kinds: pytest.fail("not needed")) is WHOLE
    assert apply_again(WHOLE, [], AGENTS, SEGMENTS, lambda kinds: pytest.fail("not needed")) is WHOLE
