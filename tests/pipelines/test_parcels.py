"""Parcels: whatever is packed comes out the same, and large frames and arrays leave no file behind."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from pipelines.parcels import LARGE, Parcels
from store.clock import FixedClock
from store.connection import Store

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
BIG = 100_000


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def parcels(store):
    return Parcels(store.exchange(), store)


def every_type(rows):
    number = pl.int_range(rows, eager=True)
    return pl.DataFrame({"n": number}).with_columns(
        byte=pl.col("n").cast(pl.UInt8, strict=False),
        hash=pl.col("n").hash(7),
        single=pl.col("n").cast(pl.Float32) / 3,
        text=pl.when(pl.col("n") % 3 > 0).then(pl.format("text of row {} \u00e4\u4e2d", "n")),
        yes=pl.col("n") % 2 == 0,
        at=pl.datetime_range(NOW, interval="1s", end=NOW + dt.timedelta(seconds=rows - 1), time_zone="UTC", eager=True),
        day=pl.lit(dt.date(2026, 1, 1)),
        span=pl.lit(dt.timedelta(microseconds=3)),
        share=pl.lit("1.25").cast(pl.Decimal(10, 2)),
        kind=pl.lit("b").cast(pl.Enum(["a", "b"])),
        category=pl.format("c{}", pl.col("n") % 5).cast(pl.Categorical),
        listed=pl.when(pl.col("n") % 4 > 0).then(pl.concat_list("n", pl.lit(None, pl.Int64))),
        pair=pl.struct("n", inner=pl.when(pl.col("n") > 5).then(pl.concat_list(pl.lit("x"), pl.lit("")))),
        nothing=pl.lit(None),
        raw=pl.lit(b"\x00\xff"),
    )


@pytest.mark.parametrize("rows", [0, 1, BIG])
def test_every_type_comes_out_as_it_went_in(parcels, rows):
    frame = every_type(rows)
    packed = parcels.pack({"a": [frame, "beside"], "again": frame})
    assert (len(packed) < LARGE) or rows < BIG
    opened = parcels.unpack(packed)
    assert opened["a"][0].schema == frame.schema
    assert opened["a"][0].equals(frame, null_equal=True)
    assert opened["again"] is opened["a"][0]
    assert opened["a"][1] == "beside"
    assert list(parcels._folder.iterdir()) == []


def test_slices_and_chunks_travel_as_they_are_seen(parcels):
    frame = every_type(BIG)
    part = pl.concat([frame.slice(10, BIG // 2), frame.slice(0, 3)], rechunk=False)
    assert parcels.unpack(parcels.pack(part)).equals(part, null_equal=True)


def test_a_frame_that_came_can_be_worked_with_after_its_file_is_gone(parcels):
    frame = every_type(BIG)
    opened = parcels.unpack(parcels.pack(frame))
    assert opened.sort("n", descending=True)["text"].to_list() == frame["text"].to_list()[::-1]
    assert opened.filter(pl.col("n") == 7).drop("kind").rows() == frame.filter(pl.col("n") == 7).drop("kind").rows()
    assert parcels.unpack(parcels.pack(opened)).equals(frame, null_equal=True)


def test_arrays_are_the_same_and_can_be_written_to(parcels):
    arrays = {
        "large": np.arange(LARGE, dtype=np.float64).reshape(2, -1),
        "turned": np.arange(LARGE).reshape(2, -1).T,
        "small": np.arange(3),
        "objects": np.array([None, "x"] * LARGE, dtype=object),
        "named": np.zeros(LARGE, dtype=[("a", "i4"), ("b", "f8")]),
    }
    opened = parcels.unpack(parcels.pack(arrays))
    for name, array in arrays.items():
        assert type(opened[name]) is np.ndarray
        assert opened[name].dtype == array.dtype
        assert np.array_equal(opened[name], array)
    opened["large"] += 1
    assert opened["large"][0, 0] == 1.0
    assert list(parcels._folder.iterdir()) == []


def test_a_store_becomes_the_one_of_the_other_side(parcels, store, tmp_path):
    with Store.open(tmp_path / "other.duckdb", threads=1).read():
        pass
    assert parcels.unpack(parcels.pack([store, {"store": store}])) == [store, {"store": store}]


def test_what_cannot_be_written_is_an_error(parcels):
    parcels._folder.rmdir()
    with pytest.raises(OSError):  # noqa: PT011
        parcels.pack(every_type(BIG))
    with pytest.raises(Exception, match="pickle"):
        parcels.pack(lambda: None)
