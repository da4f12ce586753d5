"""Frames of answers: every type arrives, in one piece, and a frame that is held takes no more than its rows need."""

import sys

import duckdb
import polars as pl
import pytest
from allocation import allocated

from store.frames import fetched

_MB = 1 << 20
_ROW = "i, i * 1.5 AS d, 'text ' || i AS s, [i, i + 1] AS l, {'a': i} AS st, i % 2 = 0 AS b, NULL::VARCHAR AS n"


@pytest.mark.parametrize("rows", [0, 1, 8_191, 8_192, 8_193, 20_000])
def test_all_rows_and_types_arrive_in_one_piece(rows: int) -> None:
    with duckdb.connect() as connection:
        frame = fetched(connection.execute(f"SELECT {_ROW} FROM range({rows}) AS r(i)"))
    wanted = {
        "i": list(range(rows)), "d": [i * 1.5 for i in range(rows)], "s": [f"text {i}" for i in range(rows)],
        "l": [[i, i + 1] for i in range(rows)], "st": [{"a": i} for i in range(rows)],
        "b": [i % 2 == 0 for i in range(rows)], "n": [None] * rows,
    }  # fmt: skip
    assert frame.to_dict(as_series=False) == wanted
    assert frame.n_chunks() == 1
    assert frame.schema["l"] == pl.List(pl.Int64)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the allocator of the C library of GNU")
def test_frames_that_are_held_take_what_their_rows_need() -> None:
    with duckdb.connect() as connection:
        held = [fetched(connection.execute(f"SELECT {_ROW} FROM range(10) AS r(i)"))]
        before = allocated()
        held += [fetched(connection.execute(f"SELECT {_ROW} FROM range(10) AS r(i)")) for _ in range(100)]
        grown = allocated() - before
    assert len(held) == 101
    assert grown < 5 * _MB  # 50 MB with the buffers of 8,192 rows, 5 GB with those of a million
