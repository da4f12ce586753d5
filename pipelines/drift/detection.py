"""Which sequences changed, when, by how much and how sure that is; and which of many findings to believe (METHODS §7).

Each likelihood has its scan: bernoulli and categorical by likelihood ratios of counts, gaussian and log by those of
normal scores, embedding by permutations of blocks. p-values hold for all looks of the schedule in `DetectionConfig`.
"""

from typing import Final

import numpy as np
import polars as pl

from pipelines.drift.looks import DetectionConfig
from pipelines.drift.number_changes import of_numbers
from pipelines.drift.sequences import SEQUENCES, Group, prepare
from pipelines.drift.vector_changes import of_vectors
from pipelines.stats.false_discovery import adjust
from pipelines.stats.hierarchical_gate import open_gate

__all__ = ["FINDINGS", "SEQUENCES", "DetectionConfig", "detect", "gate"]

FINDINGS: Final = pl.Schema(
    {
        "level": pl.String(),
        "user_id": pl.String(),
        "segment": pl.String(),
        "agent": pl.String(),
        "metric": pl.String(),
        "likelihood": pl.String(),
        "status": pl.String(),  # drift, no drift seen, not enough data
        "events": pl.Int64(),  # scanned: the newest `window`, up to the last multiple of `look_every`
        "events_total": pl.Int64(),
        "missing": pl.Int64(),  # events still needed before a scan is made
        "ignored": pl.Int64(),  # rows without a finite value
        "statistic": pl.Float64(),  # null from here on where no scan was made
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),  # null until `gate`
        "flagged": pl.Boolean(),  # false until `gate`
        "changed_at": pl.Datetime("us", "UTC"),
        "changed_from": pl.Datetime("us", "UTC"),
        "changed_to": pl.Datetime("us", "UTC"),
        "before_mean": pl.Float64(),  # categorical: the share of `category`; embedding: null
        "before_n": pl.Int64(),
        "after_mean": pl.Float64(),
        "after_n": pl.Int64(),
        "effect": pl.Float64(),  # of the residual, shrunk; log: ln(after / before); embedding: null
        "effect_sd": pl.Float64(),
        "practical": pl.Float64(),
        "category": pl.String(),  # likelihood categorical: whose share changed most
        "psi": pl.Float64(),  # likelihood categorical: bias-corrected population stability index of before and after
    }
)


def detect(
    sequences: pl.DataFrame, config: DetectionConfig | None = None, *, random: np.random.Generator
) -> pl.DataFrame:
    """One row per sequence (columns FINDINGS), `q_value` null and `flagged` false until `gate`.

    `random` draws projections and permutations (likelihood embedding only). Effects are shrunk towards those of all
    sequences of the same level, metric and likelihood: pass all users of a metric at once. Rows without a finite value
    are left out and counted; rows of one block are averaged (of categories the first counts), and so are rows of one
    moment at the levels segment and population. Raises ContractError for wrong columns, unknown levels or likelihoods
    and 0/1 values that are not, NotCalibrated for a schedule without calibration.
    """
    config = config or DetectionConfig()
    prepared = prepare(sequences)
    found = [pl.DataFrame(schema=FINDINGS)]
    for (level, metric, likelihood), subjects in prepared.subjects.group_by(
        "level", "metric", "likelihood", maintain_order=True
    ):
        rows = prepared.rows.join(subjects.select("sequence"), on="sequence", how="semi", maintain_order="left")
        group = Group(str(level), str(metric), str(likelihood), subjects, rows)
        if likelihood == "embedding":
            found.append(of_vectors(group, config, random))
        else:
            found.append(of_numbers(group, config))
    findings = pl.concat(found, how="diagonal_relaxed").select(pl.col(name).cast(to) for name, to in FINDINGS.items())
    unscanned = pl.col("p_value").is_null()
    return findings.with_columns(
        status=pl.when(unscanned).then(pl.lit("not enough data")).otherwise(pl.lit("no drift seen")),
        flagged=pl.lit(value=False),
    ).sort("p_value", "level", "metric", "segment", "user_id", "agent", nulls_last=True, maintain_order=True)


def gate(findings: pl.DataFrame, config: DetectionConfig | None = None) -> pl.DataFrame:
    """`findings` (any number of metrics and levels together) with `q_value`, `flagged` and `status`; same rows.

    Users x metrics are the leaves of a tree: everybody, segments, users (`hierarchical_gate`); users without a segment
    are a segment of their own. Findings of segments, and of the population, are a family each.
    """
    config = config or DetectionConfig()
    p = findings["p_value"].fill_null(np.nan).to_numpy()
    level = findings["level"].to_numpy()
    q = np.full(p.shape, np.nan)
    for name in ("segment", "population"):
        q[level == name] = adjust(p[level == name])
    users = level == "user"
    if users.any():
        segments = findings["segment"].fill_null("").rank("dense").cast(pl.Int64).to_numpy()[users] - 1
        q[users] = open_gate(p[users], segments, q=config.false_discovery_rate).q_value
    q_value = pl.Series("q_value", q).fill_nan(None)
    flagged = (q_value <= config.false_discovery_rate).fill_null(value=False)
    scanned = pl.col("p_value").is_not_null()
    return findings.with_columns(q_value, flagged.alias("flagged")).with_columns(
        status=pl.when(~scanned)
        .then(pl.lit("not enough data"))
        .when("flagged")
        .then(pl.lit("drift"))
        .otherwise(pl.lit("no drift seen"))
    )
