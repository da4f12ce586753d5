"""Rare states fold into their parents; labels are readable; every step keeps exactly one state."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.transitions.abstraction import AbstractionConfig, fold, labels

SCHEMA = {
    "state": pl.UInt64(), "kind": pl.String(), "name": pl.String(), "failed": pl.Boolean(), "arguments": pl.String(),
    "retries": pl.Int32(),
}  # fmt: skip
SHAPE = '{"city":"text","nights":"number"}'


def _states(*rows):
    return pl.DataFrame([(i, *row) for i, row in enumerate(rows)], schema=SCHEMA, orient="row")


def _visits(*n):
    return pl.DataFrame({"state": range(len(n)), "n": n}, schema={"state": pl.UInt64(), "n": pl.Int64()})


def test_labels_are_readable():
    table = labels(
        _states(
            ("tool", "hotels", True, SHAPE, 2), ("llm", None, False, "after failed hotels", 0),
            ("llm", None, False, "opening", 0), ("retriever", "faq", False, None, 0), ("tool", None, False, "[", 1),
        )
    )  # fmt: skip
    assert table["level0"].to_list() == [
        "hotels (city: text, nights: number), failed, again and again", "model call after failed hotels",
        "model call opening", "retriever faq", "unnamed tool ([), again",
    ]  # fmt: skip
    assert table.row(0)[2:6] == (
        "hotels, failed, again and again", "hotels, failed", "any other tool, failed", "any other step",
    )  # fmt: skip


def test_rare_states_fold_only_as_far_as_they_must():
    states = _states(
        ("tool", "hotels", False, SHAPE, 0), ("tool", "hotels", False, '{"city":"text"}', 0),
        ("tool", "hotels", False, '{"town":"text"}', 0), ("tool", "seen once", False, None, 0),
        ("tool", "seen twice", False, None, 0), ("llm", None, False, "opening", 0),
    )  # fmt: skip
    folded = fold(_visits(100, 12, 9, 1, 2, 50), labels(states))
    found = dict(folded.states.select("label", "visits").iter_rows())
    assert found == {
        "hotels (city: text, nights: number)": 100, "hotels": 21, "model call opening": 50, "any other step": 3,
    }  # fmt: skip
    places = dict(folded.of.iter_rows())
    assert places[1] == places[2] != places[0]
    assert folded.states["place"].to_list() == [1, 2, 3, 4]
    assert dict(folded.states.select("label", "action").iter_rows())["hotels"] == "hotels"


def test_an_agent_with_too_many_states_keeps_the_most_common():
    rows = [("tool", f"tool {i}", False, None, 0) for i in range(40)]
    folded = fold(_visits(*range(100, 140)), labels(_states(*rows)), AbstractionConfig(most=10))
    assert folded.states.height <= 10
    assert folded.states["visits"].sum() == sum(range(100, 140))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tool", "llm", "retriever"]), st.sampled_from(["a", "b", "c"]), st.booleans(),
            st.sampled_from([None, SHAPE, "after a"]), st.integers(0, 2), st.integers(1, 60),
        ),
        min_size=1, max_size=40, unique_by=lambda row: row[:5],
    ),
    st.integers(1, 12),
)  # fmt: skip
def test_no_visit_is_lost_and_no_state_is_rarer_than_it_could_be(rows, most):
    table = labels(_states(*(row[:5] for row in rows)))
    folded = fold(_visits(*(row[5] for row in rows)), table, AbstractionConfig(most=most))
    assert folded.of.height == len(rows)
    assert folded.of["state"].n_unique() == len(rows)
    assert folded.states["visits"].sum() == sum(row[5] for row in rows)
    assert folded.states.height <= most or set(folded.states["label"]) == {"any other step"}
    rare = folded.states.filter(pl.col("visits") < 20)
    assert set(rare["label"]) <= {"any other step"}


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        AbstractionConfig(rare=0)


def test_an_agent_without_steps_has_no_states():
    folded = fold(_visits(), labels(_states()))
    assert folded.states.is_empty()
    assert folded.of.is_empty()
