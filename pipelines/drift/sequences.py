"""Sequences as they are scanned: what is usable, in order of time, one row per block, and what was left out."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.contract import ContractError, require

__all__ = ["LIKELIHOODS", "SEQUENCES", "Group", "Prepared", "prepare"]

LEVELS: Final = ("user", "segment", "population")
LIKELIHOODS: Final = ("bernoulli", "gaussian", "log", "categorical", "embedding")
_UTC = pl.Datetime("us", "UTC")

# Long frame, one row per event or session. A sequence is one (user_id, agent, metric) of level user, one (segment,
# agent, metric) of level segment, one (agent, metric) of level population; rows of one time keep their order.
# Optional columns: `category` (String; likelihood categorical: without it `value` is the category's code), `vector`
# (List of floats; likelihood embedding), `place` (Int64; likelihood embedding): the number of the event in its
# sequence, from 1 and without gaps, where those before the rows given are left out because no look needs them.
SEQUENCES: Final = pl.Schema(
    {
        "level": pl.String(),
        "user_id": pl.String(),
        "segment": pl.String(),
        "agent": pl.String(),
        "metric": pl.String(),
        "likelihood": pl.String(),
        "practical": pl.Float64(),  # the least change that matters: metric's unit; log: of ln(after / before)
        "occurred_at": _UTC,
        "value": pl.Float64(),  # as seen; rows without a finite value are left out and counted
        "residual": pl.Float64(),  # what is scanned; null: the value (log: its logarithm). Of log: on the log scale
        "block": pl.String(),  # session: rows of one block are averaged (embedding: permuted together); null: alone
    }
)
_LARGEST: Final = 1e100  # beyond it sums of squares overflow
_KEY: Final = ("level", "subject_user", "subject_segment", "agent", "metric", "likelihood")


@dataclass(frozen=True)
class Prepared:
    """`subjects`: one row per sequence, numbered by `sequence`. `rows`: what is scanned of each, in order of time."""

    subjects: pl.DataFrame
    rows: pl.DataFrame


@dataclass(frozen=True)
class Group:
    """The sequences of one level, metric and likelihood, with their rows in order of sequence and time."""

    level: str
    metric: str
    likelihood: str
    subjects: pl.DataFrame
    rows: pl.DataFrame

    def totals(self) -> NDArray[np.int64]:
        """Rows of each sequence, shape (subjects,)."""
        counts = self.rows.group_by("sequence").len("rows")
        joined = self.subjects.select("sequence").join(counts, on="sequence", how="left", maintain_order="left")
        return np.asarray(joined["rows"].fill_null(0).to_numpy(), dtype=np.int64)


def prepare(sequences: pl.DataFrame) -> Prepared:
    """Check and order sequences (columns SEQUENCES). Raises ContractError; see `pipelines.drift.detection.detect`."""
    frame = _checked(sequences).with_columns(
        subject_user=pl.when(pl.col("level") == "user").then("user_id"),
        subject_segment=pl.when(pl.col("level") == "segment").then("segment"),
        scanned=_scanned(),
    )
    frame = frame.with_columns(usable=_usable())
    subjects = frame.group_by(_KEY, maintain_order=True).agg(
        pl.col("segment").last(),
        practical=pl.col("practical").drop_nulls().first().fill_null(0.0),
        ignored=(~pl.col("usable")).sum().cast(pl.Int64),
    )
    subjects = subjects.with_row_index("sequence").with_columns(user_id="subject_user")
    rows = frame.filter("usable").join(
        subjects.select(*_KEY, "sequence"), on=_KEY, how="left", nulls_equal=True, maintain_order="left"
    )
    _refuse_fractions(rows)
    rows = _ordered(_averaged(rows))
    # Yes/no events averaged over sessions are shares: scanned as numbers.
    shares = rows.filter((pl.col("likelihood") == "bernoulli") & ~pl.col("scanned").is_in([0.0, 1.0]))["sequence"]
    subjects = subjects.with_columns(
        likelihood=pl.when(pl.col("sequence").is_in(shares.unique().implode()))
        .then(pl.lit("gaussian"))
        .otherwise("likelihood")
    )
    return Prepared(subjects, rows)


def _checked(sequences: pl.DataFrame) -> pl.DataFrame:
    frame = require(sequences, SEQUENCES, "drift sequences", not_null=("level", "metric", "likelihood"))
    extra = [name for name in ("category", "vector", "place") if name in sequences.columns]
    frame = frame.hstack(sequences.select(extra)) if extra else frame
    for column, allowed in (("level", LEVELS), ("likelihood", LIKELIHOODS)):
        other = frame.filter(~pl.col(column).is_in(allowed))
        if other.height:
            raise ContractError(
                "drift sequences", f"{column} must be one of {', '.join(allowed)}; came {other[column][0]!r}."
            )
    for level, column in (("user", "user_id"), ("segment", "segment")):
        if frame.filter((pl.col("level") == level) & pl.col(column).is_null()).height:
            raise ContractError("drift sequences", f"column {column} may not be null at level {level}.")
    if "category" not in extra:
        frame = frame.with_columns(category=pl.lit(None, pl.String))
    if "place" not in extra:
        frame = frame.with_columns(place=pl.lit(None, pl.Int64))
    if "vector" not in extra:
        if frame.filter(pl.col("likelihood") == "embedding").height:
            raise ContractError("drift sequences", "likelihood embedding needs a column vector.")
        frame = frame.with_columns(vector=pl.lit(None, pl.List(pl.Float64)))
    elif not isinstance(frame.schema["vector"], (pl.List, pl.Array)):
        raise ContractError("drift sequences", f"column vector must hold lists, came {frame.schema['vector']}.")
    frame = frame.with_columns(pl.col("vector").cast(pl.List(pl.Float64)))
    coded = pl.when((pl.col("likelihood") == "categorical") & pl.col("value").is_finite()).then(
        pl.col("value").cast(pl.Int64, strict=False).cast(pl.String)
    )
    return frame.with_columns(category=pl.coalesce("category", coded))


def _scanned() -> pl.Expr:
    is_log = pl.col("likelihood") == "log"
    own = pl.when(is_log).then(pl.when(pl.col("value") > 0).then(pl.col("value").log())).otherwise("value")
    return pl.coalesce("residual", own)


def _usable() -> pl.Expr:
    numbers = pl.col("value").abs().le(_LARGEST) & pl.col("scanned").abs().le(_LARGEST)
    vectors = (pl.col("vector").list.len() > 0) & (
        pl.col("vector").list.eval(pl.element().is_finite().fill_null(value=False)).list.all()
    )
    named = pl.col("category").is_not_null()
    by_likelihood = (
        pl.when(pl.col("likelihood") == "categorical")
        .then(named)
        .when(pl.col("likelihood") == "embedding")
        .then(vectors)
        .otherwise(numbers)
    )
    return by_likelihood.fill_null(value=False) & pl.col("occurred_at").is_not_null()


def _refuse_fractions(rows: pl.DataFrame) -> None:
    other = rows.filter((pl.col("likelihood") == "bernoulli") & ~pl.col("scanned").is_in([0.0, 1.0]))
    if other.height:
        raise ContractError(
            "drift sequences",
            f"value of likelihood bernoulli must be 0 or 1; {other.height} rows are not, the first of metric "
            f"{other['metric'][0]} is {other['scanned'][0]:g}.",
        )


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by sequence and time; sorting is the dearest step, and mostly they come like that."""
    sequence, time = pl.col("sequence").cast(pl.Int64).diff(), pl.col("occurred_at").diff()
    behind = (sequence < 0) | ((sequence == 0) & (time < pl.duration()))
    if not rows.select(behind.any()).item():
        return rows
    return rows.sort("sequence", "occurred_at", maintain_order=True)


def _averaged(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per block. At the levels above users a row is a day: rows of one moment are one."""
    daily = (pl.col("level") != "user") & pl.col("likelihood").is_in(["gaussian", "log"])
    moment = pl.when(daily).then(pl.col("occurred_at").cast(pl.Int64).cast(pl.String))
    rows = rows.with_columns(unit=pl.coalesce("block", moment))
    single = pl.col("unit").is_null() | (pl.col("likelihood") == "embedding")
    several = rows.filter(~single)
    if not several.select(pl.struct("sequence", "unit").is_duplicated().any()).item():
        return rows
    others = ("level", "metric", "likelihood", "category")
    averaged = several.group_by("sequence", "unit", maintain_order=True).agg(
        pl.col(others).first(), pl.col("occurred_at").min(), pl.col("value", "scanned").mean()
    )
    return pl.concat([rows.filter(single), averaged], how="diagonal")
