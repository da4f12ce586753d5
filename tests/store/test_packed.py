"""Many texts as one parameter: the engine takes out of it what was put in, whatever it holds."""

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from store.frames import packed, texts_in

CONNECTION = duckdb.connect()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_is_packed_comes_out_in_order(listed):
    rows = CONNECTION.execute(f"SELECT {texts_in('ids')}", {"ids": packed(listed)}).fetchall()
    assert [row[0] for row in rows] == listed
