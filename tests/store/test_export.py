"""Reading through a view: the same rows as of the store itself, whatever their types, and no file left behind."""

from datetime import timedelta

import polars as pl
import pytest

from store.errors import QueryTimeout, SchemaMismatch, StoreClosed, StoreError
from store.export import Readings, StoreView
from store.frames import UTC_TIME, declare

EVERY_TYPE = declare(
    {
        "whole": pl.Int64, "small": pl.Int32, "tiny": pl.UInt8, "short": pl.UInt16, "hash": pl.UInt64,
        "number": pl.Float64, "single": pl.Float32, "yes": pl.Boolean, "text": pl.String, "json": pl.String,
        "day": pl.Date, "at": UTC_TIME, "plain": pl.Datetime("us"), "share": pl.Decimal(10, 2), "choice": pl.String,
        "texts": pl.List(pl.String), "numbers": pl.List(pl.Float32), "hashes": pl.List(pl.UInt64),
        "pair": pl.Struct({"name": pl.String, "n": pl.Int64}),
        "pairs": pl.List(pl.Struct({"name": pl.String, "shares": pl.List(pl.Float64)})),
        "times": pl.List(UTC_TIME), "nothing": pl.String, "total": pl.Int64,
    }
)  # fmt: skip
FULL = """SELECT -9223372036854775807 AS whole, -5::INTEGER AS small, 255::UTINYINT AS tiny, 65535::USMALLINT AS short,
    18446744073709551615::UBIGINT AS hash, 0.1::DOUBLE AS number, 'nan'::FLOAT AS single, true AS yes,
    'a''b"c' || chr(10) || '\u00e4\u4e2d' || chr(128512) AS text, '{"a": [1, null]}'::JSON AS json,
    DATE '1969-12-31' AS day, TIMESTAMPTZ '2026-03-29 02:30:00.123456+02:00' AS at,
    TIMESTAMP '1901-01-01 00:00:00.000001' AS plain, -12.34::DECIMAL(10, 2) AS share,
    'one'::ENUM('one', 'two') AS choice, ['a', NULL, ''] AS texts, [1.5, NULL]::FLOAT[] AS numbers,
    [18446744073709551615, 0]::UBIGINT[] AS hashes, {'name': 'x', 'n': NULL::BIGINT} AS pair,
    [{'name': NULL, 'shares': [0.5, NULL]}, NULL] AS pairs, [TIMESTAMPTZ '2026-01-01 00:00:00+00', NULL] AS times,
    NULL AS nothing, (SELECT sum(range) FROM range(10)) AS total"""
NULLS = f"""SELECT {", ".join(f'CASE WHEN false THEN "{name}" END AS "{name}"' for name in EVERY_TYPE)} FROM ({FULL})"""
EMPTY = f"""SELECT [] ::VARCHAR[] AS texts, * EXCLUDE (texts) FROM ({FULL})"""
ROWS = f"""({FULL}) UNION ALL BY NAME ({NULLS}) UNION ALL BY NAME ({EMPTY})"""


@pytest.fixture
def readings(store):
    return Readings(store, store.exchange())


@pytest.fixture
def view(readings):
    return StoreView(readings.answer)


def read(store, sql, schema, params=None):
    with store.read() as reader:
        return reader.frame(sql, schema, params)


@pytest.mark.parametrize("sql", [ROWS, FULL, NULLS, f"SELECT * FROM ({FULL}) WHERE false"])
def test_every_type_is_as_it_is_in_the_store(store, view, readings, sql):
    there, here = read(view, sql, EVERY_TYPE), read(store, sql, EVERY_TYPE)
    assert there.schema == here.schema == EVERY_TYPE
    assert there.equals(here, null_equal=True)
    assert there.height == {ROWS: 3, FULL: 1, NULLS: 1}.get(sql, 0)
    assert list(readings.folder.iterdir()) == []


def test_order_parameters_and_comments(store, view):
    sql = """SELECT s AS n, $word || s AS text FROM range($most::BIGINT) AS r(s)
    WHERE NOT list_contains($left_out::BIGINT[], s) ORDER BY hash(s) -- in no order at all"""
    schema = {"n": pl.Int64, "text": pl.String}
    params = {"word": "it's ; -- ", "most": 100_000, "left_out": [3, 5]}
    there = read(view, sql, schema, params)
    assert there.height == 99_998
    assert there.equals(read(store, sql, schema, params))


def test_a_wrong_schema_is_refused_and_its_file_removed(view, readings):
    for schema in ({"b": pl.Int64}, {"a": pl.Int64, "b": pl.Int64}, {"a": pl.Datetime("us")}):
        with pytest.raises(SchemaMismatch):
            read(view, "SELECT 'x' AS a", schema)
    assert list(readings.folder.iterdir()) == []


def test_what_the_engine_refuses_leaves_the_view_usable(view, readings):
    with pytest.raises(StoreError):
        read(view, "SELECT nothing_like_it", {"a": pl.Int64})
    with pytest.raises(StoreError, match="read-only"), view.read() as reader:
        reader.value("DELETE FROM traces")
    with pytest.raises(QueryTimeout), view.read(timeout=0.05) as reader:
        reader.value("SELECT sum(a.range * b.range) FROM range(100_000_000) AS a, range(100_000_000) AS b")
    assert read(view, "SELECT 1::BIGINT AS a", {"a": pl.Int64}).item() == 1
    assert list(readings.folder.iterdir()) == []


def test_a_view_reads_and_tells_the_time_of_the_store(store, view, tmp_path):
    assert view.clock.now() == store.clock.now()
    store.clock.moment += timedelta(hours=1)
    assert view.clock.now() == store.clock.now()
    with view.read() as reader:
        reader.export(tmp_path / "rows.parquet", "SELECT 7 AS a")
    assert pl.read_parquet(tmp_path / "rows.parquet").item() == 7
    with pytest.raises(StoreError, match="cannot change"):
        view.write(lambda connection: None)
    with pytest.raises(StoreError, match="cannot change"):
        view.submit(lambda connection: None)
    with pytest.raises(StoreError, match="no cursor"):
        view.borrowed_cursor()
    view.close()
    assert store.write(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)


def test_closed_readings_answer_nothing_and_hold_nothing_open(store, view, readings):
    with view.read() as reader:
        readings.close()
        with pytest.raises(StoreClosed):
            reader.value("SELECT 1")
        assert len(store._open_cursors) == 1
        readings.end()
        assert len(store._open_cursors) == 0
    with pytest.raises(StoreClosed), view.read():
        pass
    assert len(store._open_cursors) == 0
