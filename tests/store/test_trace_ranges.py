"""Ranges hold every trace once, and nothing of another."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from store.trace_ranges import trace_ranges


@given(st.sets(st.text(max_size=5), max_size=40), st.integers(1, 12))
def test_ranges_hold_every_id_once_in_order(ids, most):
    listed = sorted(ids)
    found = []
    for each in trace_ranges(pl.Series(listed, dtype=pl.String), most):
        assert each.start == len(found)
        held = [one for one in listed if each.first <= one <= each.last]
        assert 1 <= len(held) <= most
        found += held
    assert found == listed
