"""The segment that a reward model pools a trace by: the user's by rule, else what the trace's metadata state."""

import polars as pl

from pipelines.rewards.refit import segment_of

_RULED = pl.DataFrame({"segment_by_rule": ["payers", None, None], '$."segment"': ["north", "south", None]})


def test_a_rule_goes_before_metadata() -> None:
    assert segment_of(_RULED, ('$."plan"', '$."segment"')).to_list() == ["payers", "south", None]


def test_a_rule_counts_where_no_metadata_state_a_segment() -> None:
    found = segment_of(_RULED, ('$."plan"',))
    assert (found.name, found.to_list()) == ("segment", ["payers", None, None])


def test_material_of_another_time_knows_no_rules() -> None:
    assert segment_of(_RULED.drop("segment_by_rule"), ('$."segment"',)).to_list() == ["north", "south", None]
    assert segment_of(_RULED.drop("segment_by_rule"), ()).to_list() == [None, None, None]
