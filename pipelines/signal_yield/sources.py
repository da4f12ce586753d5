"""What each source of evidence says of each trace, as a small code, and what it is held against.

A source's code is 0 where it is silent and counts up from 1 where it speaks: silence is information too (the unhappy
volunteer thumbs more often). Values from 0 to 1 of few kinds are coded as they are, others by quantiles.
The reference is what a person said who was asked at random, or else a verified outcome. A source is never held against
itself: solicited feedback is held against verified outcomes, outcomes against solicited feedback.
"""

from typing import Final

import numpy as np
import polars as pl

from pipelines.stats.contract import require
from store.signal_yield import DERIVED as SIGNALS

__all__ = ["CODES", "REFERENCES", "SIGNALS", "SOLICITED", "VERIFIED", "codes", "references", "spoken"]

SOLICITED: Final = "solicited feedback"
VERIFIED: Final = "verified outcome"
REFERENCES: Final = pl.Schema({"trace_id": pl.String(), "reference": pl.String(), "good": pl.Int64()})
CODES: Final = pl.Schema({"trace_id": pl.String(), "source": pl.String(), "code": pl.Int64()})

BINS: Final = 5


def spoken(signals: pl.DataFrame) -> pl.DataFrame:
    """Signals (trace_id, kind, name, value, annotator_kind, solicited) as sources: columns SIGNALS.

    Signals without a trace tell nothing of one and are left out; so are impressions, which the agent makes itself.
    """
    kind, explicit = pl.col("kind"), pl.col("kind").is_in(["thumb", "rating"])
    by_model = pl.col("annotator_kind") == "llm"
    asked = pl.col("solicited").fill_null(False)
    source = (
        pl.when((kind == "judge") | by_model)
        .then(pl.format("judge: {}", pl.col("name").fill_null("unnamed")))
        .when(explicit & asked)
        .then(pl.lit(SOLICITED))
        .when(explicit)
        .then(pl.format("volunteered {}", kind))
        .when((kind == "outcome") & (pl.col("annotator_kind") == "code"))
        .then(pl.lit(VERIFIED))
        .when(kind == "outcome")
        .then(pl.lit("reported outcome"))
        .otherwise(kind)
    )
    return (
        signals.filter(pl.col("trace_id").is_not_null() & (kind != "impression"))
        .with_columns(source=source)
        .group_by("trace_id", "source")
        .agg(pl.col("value").mean())
        .select(list(SIGNALS))
    )


def references(said: pl.DataFrame) -> pl.DataFrame:
    """Per trace and reference whether it was good, at least one half (columns REFERENCES); `said` as `spoken` gives."""
    said = require(said, SIGNALS, "sources", not_null=["trace_id", "source"])
    gold = said.filter(pl.col("source").is_in([SOLICITED, VERIFIED]) & pl.col("value").is_between(0.0, 1.0))
    return gold.select("trace_id", reference="source", good=(pl.col("value") >= 0.5).cast(pl.Int64)).sort(
        "reference", "trace_id"
    )


def codes(said: pl.DataFrame) -> pl.DataFrame:
    """Every trace and source that speaks, with a code from 1 (columns CODES)."""
    said = require(said, SIGNALS, "sources", not_null=["trace_id", "source"])
    parts = [pl.DataFrame(schema=CODES)]
    for own in said.partition_by("source"):
        values = own["value"]
        if values.drop_nulls().n_unique() <= BINS:
            code = values.rank("dense").cast(pl.Int64)
        else:
            # Between the largest numbers of either sign there is a distance that no number holds.
            known = np.clip(values.drop_nulls().to_numpy(), -1e300, 1e300)
            edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
            filled = values.fill_null(0.0).to_numpy()
            code = pl.Series(np.searchsorted(edges, filled, side="right") + 1, dtype=pl.Int64).set(
                values.is_null(), None
            )
        # Speaking without a value, as a comment does, is a code of its own.
        parts.append(own.select("trace_id", "source", code=code.fill_null(BINS + 2)))
    return pl.concat(parts)
