"""Frames are checked where they enter a job."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.stats.contract import ContractError, require
from store.errors import TrimtabError

SCHEMA = pl.Schema({"id": pl.String(), "n": pl.Int64(), "share": pl.Float64(), "at": pl.Datetime("us", "UTC")})
GOOD = pl.DataFrame({"id": ["a"], "n": [1], "share": [0.5], "at": [datetime(2026, 1, 1, tzinfo=UTC)]}, schema=SCHEMA)


def test_returns_the_declared_columns_in_order_and_type() -> None:
    frame = GOOD.select("at", "share", "n", "id", extra=pl.lit(1)).with_columns(
        n=pl.col("n").cast(pl.Int8), share=pl.lit(1), at=pl.col("at").dt.cast_time_unit("ms")
    )
    checked = require(frame, SCHEMA, "things")
    assert checked.schema == SCHEMA
    assert checked["share"][0] == 1.0


def test_a_column_of_nulls_has_any_type() -> None:
    checked = require(GOOD.with_columns(id=pl.lit(None)), SCHEMA, "things")
    assert checked.schema["id"] == pl.String


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": pl.lit("1")}, "column n must be Int64, came as String"),
        ({"n": pl.lit(1.0)}, "column n must be Int64, came as Float64"),
        ({"share": pl.lit("0.5")}, "column share must be Float64"),
        ({"at": pl.col("at").dt.replace_time_zone(None)}, "column at must be Datetime"),
        ({"share": pl.lit(1.5)}, "column share must lie from 0 to 1; 1 rows do not, the first is 1.5"),
        ({"share": pl.lit(float("nan"))}, "column share must lie from 0 to 1"),
        ({"id": pl.lit(None, pl.String)}, "column id may not be null; 1 of 1 rows are"),
    ],
)
def test_says_what_is_wrong(change: dict[str, pl.Expr], message: str) -> None:
    with pytest.raises(ContractError) as error:
        require(GOOD.with_columns(**change), SCHEMA, "things", not_null=["id"], unit_interval=["share"])
    assert message in str(error.value)
    assert str(error.value).startswith("The frame of things cannot be used")
    assert isinstance(error.value, TrimtabError)


def test_missing_columns_and_repeated_keys_are_named() -> None:
    with pytest.raises(ContractError, match="missing: n, at"):
        require(GOOD.drop("n", "at"), SCHEMA, "things")
    with pytest.raises(ContractError, match="column id must be unique; 2 rows repeat"):
        require(pl.concat([GOOD, GOOD, GOOD]), SCHEMA, "things", unique="id")
