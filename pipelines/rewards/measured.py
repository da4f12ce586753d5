"""What a measurement fit reads and gives: the column contracts, the settings and the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from pipelines.stats.contract import NOTES
from store.rewards import MEASURED_SIGNALS as SIGNALS
from store.rewards import MEASURED_TRACES as TRACES

__all__ = [
    "ANCHOR_RATE",
    "CLICKS",
    "CONTRIBUTIONS",
    "DELAY",
    "EVIDENCE",
    "LENIENCY",
    "LOADINGS",
    "NOTES",
    "SIGNALS",
    "TRACES",
    "JudgeQuality",
    "MeasurementConfig",
    "MeasurementFit",
]

EVIDENCE = pl.Schema(
    {
        "trace_id": pl.String(),
        "location": pl.Float64(),  # logit scale of the latent quality
        "precision": pl.Float64(),  # > 0
        "signals": pl.Int32(),  # signals that count; 0 where only the absence of events says something
    }
)
CONTRIBUTIONS = pl.Schema(  # long: what each item of a trace counts for
    {"trace_id": pl.String(), "kind": pl.String(), "name": pl.String(), "weight": pl.Float64()}
)
LOADINGS = pl.Schema(
    {
        "agent": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),  # what is modelled of it: the signal's name, "volunteered", "given", or null
        "signals": pl.Int64(),
        "users": pl.Int64(),
        "traces": pl.Int64(),  # at risk: the absence of the event counts as well
        "loading": pl.Float64(),
        "loading_sd": pl.Float64(),  # half the width of the 95 % interval over 1.96; 0 where it is fixed
        "loading_lower": pl.Float64(),
        "loading_upper": pl.Float64(),
        "intercept": pl.Float64(),
        "intercept_sd": pl.Float64(),
        "intercept_lower": pl.Float64(),
        "intercept_upper": pl.Float64(),
        "weight": pl.Float64(),  # mean tempering weight of a trace's share, 0..1
        "anchor": pl.Boolean(),
        "basis": pl.String(),  # solicited, volunteered, observed, randomised, model-based, checked, judged
        "note": pl.String(),
    }
)
LENIENCY = pl.Schema(
    {
        "user_id": pl.String(),
        "leniency": pl.Float64(),  # logits added to what the person reports
        "sd": pl.Float64(),
        "events": pl.Int64(),  # explicit statements behind it
        "leans_on": pl.Float64(),  # share of the estimate that is the segment's or the agent's: 1 without events
        "leans_on_what": pl.String(),  # the segment's name, or "agent"
        "segment": pl.String(),  # the same, null for the agent: a segment may itself be called "agent"
        "satisfaction": pl.Float64(),  # P(satisfied) with an average trace of the agents this person uses
        "satisfaction_sd": pl.Float64(),
    }
)
CLICKS = pl.Schema(
    {
        "agent": pl.String(),
        "position": pl.Int64(),
        "examination": pl.Float64(),
        "sd": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "n": pl.Int64(),
        "basis": pl.String(),  # randomised or model-based
    }
)
DELAY = pl.Schema(
    {
        "agent": pl.String(),
        "kind": pl.String(),
        "shape": pl.Float64(),
        "shape_lower": pl.Float64(),
        "shape_upper": pl.Float64(),
        "scale_hours": pl.Float64(),
        "scale_lower": pl.Float64(),
        "scale_upper": pl.Float64(),
        "eventual": pl.Float64(),
        "events": pl.Int64(),
        "q95_hours": pl.Float64(),
    }
)
ANCHOR_RATE = pl.Schema(
    {
        "agent": pl.String(),
        "anchor": pl.String(),  # thumb, rating, outcome, annotation: what `rate` is the rate of
        "n": pl.Int64(),
        "rate": pl.Float64(),  # design-based: asked at random, weighted by 1 / propensity
        "sd": pl.Float64(),  # clustered by user
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "model_rate": pl.Float64(),  # the same rate by the measurement model, using all signals
        "model_sd": pl.Float64(),
        "volunteered_n": pl.Int64(),
        "volunteered_rate": pl.Float64(),
        "rho": pl.Float64(),  # odds of speaking up when satisfied against when not; null when not identified
        "rho_lower": pl.Float64(),
        "rho_upper": pl.Float64(),
    }
)


@dataclass(frozen=True)
class JudgeQuality:
    """Measured error rates of a judge (its signal's `name`) against what people say, with the labels behind them."""

    sensitivity: float
    specificity: float
    labels: int


@dataclass(frozen=True)
class MeasurementConfig:
    """`now` gives every trace its age (None: the newest time in the frames); `judges` by name of the judge signal.

    `min_anchor` solicited answers are needed for an anchor, `min_events` signals for an item to be modelled,
    `min_judge_labels` labels for a judge's error rates to be believed.
    """

    now: datetime | None = None
    judges: Mapping[str, JudgeQuality] = field(default_factory=dict)
    min_anchor: int = 10
    min_events: int = 20
    min_judge_labels: int = 50
    level: float = 0.95


@dataclass(frozen=True)
class MeasurementFit:
    """What a fit gives; `parameters` can be held by JSON. `contributions` is long, one row per trace and item."""

    evidence: pl.DataFrame
    contributions: pl.DataFrame
    loadings: pl.DataFrame
    leniency: pl.DataFrame
    clicks: pl.DataFrame
    delay: pl.DataFrame
    anchor_rate: pl.DataFrame
    notes: pl.DataFrame
    parameters: dict[str, Any]
