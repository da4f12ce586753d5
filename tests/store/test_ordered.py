"""Rows that are sorted beside the engine stand as its ORDER BY puts them, read here or from a process of its own."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from store.connection import Store
from store.export import Readings, StoreView

ROWS = pl.Schema({"a": pl.String(), "b": pl.Int64(), "i": pl.Int64()})
_TEXTS = st.none() | st.text(alphabet="aZz09 _é漢\U0001f600\x00~", max_size=4)


@given(st.lists(st.tuples(_TEXTS, st.none() | st.integers(-3, 3)), max_size=40))
def test_rows_stand_as_order_by_puts_them(rows):
    store = Store.open(None)
    frame = pl.DataFrame([(*row, i) for i, row in enumerate(rows)], schema=ROWS, orient="row")

    def work(connection):
        connection.register("given", frame.to_arrow())
        connection.execute("CREATE TABLE held AS FROM given")
        connection.unregister("given")

    store.write(work)
    with store.read() as reader:
        wanted = reader.frame("FROM held ORDER BY a, b, i", ROWS)
        assert reader.frame("FROM held", ROWS, order=("a", "b", "i")).equals(wanted)
    readings = Readings(store, store.exchange())
    with StoreView(readings.answer).read() as reader:
        assert reader.frame("FROM held", ROWS, order=("a", "b", "i")).equals(wanted)
    store.close()
