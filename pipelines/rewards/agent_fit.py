"""What is found about one agent, and its rows of the result."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from pipelines.rewards import measured
from pipelines.rewards.anchor import Anchor, design_rate, model_rate
from pipelines.rewards.evidence import TraceEvidence
from pipelines.rewards.items import AgentData
from pipelines.rewards.latent import Item, LatentFit
from pipelines.rewards.leniency import People
from pipelines.rewards.loadings import loading_rows
from pipelines.stats.delay import DelayFit

__all__ = [
    "AgentFit",
    "agent_loadings",
    "contribution_frame",
    "delay_frame",
    "evidence_frame",
    "parameters",
    "rate_row",
]


_MOST_SEGMENTS, _LONGEST_NAME = 100, 200  # kept with a version


@dataclass(frozen=True)
class AgentFit:
    """All that is found about one agent; no fit, items and evidence where nothing fixes a scale."""

    data: AgentData
    anchor: Anchor | None
    notes: list[tuple[str, str]]
    clicks: pl.DataFrame
    delays: list[tuple[str, DelayFit]]
    fit: LatentFit | None = None
    items: tuple[Item, ...] = ()
    evidence: TraceEvidence | None = None
    people: People | None = None


def evidence_frame(one: AgentFit) -> pl.DataFrame:
    """Columns EVIDENCE."""
    assert one.evidence is not None
    return pl.DataFrame(
        {
            "trace_id": one.data.traces["trace_id"],
            "location": one.evidence.location,
            "precision": one.evidence.precision,
            "signals": one.evidence.signals,
        }
    ).filter(pl.col("precision") > 0.0).cast(measured.EVIDENCE)  # fmt: skip


def contribution_frame(one: AgentFit) -> pl.DataFrame:
    """Weights of the items that are signals; those of absences are in the loadings' mean weight."""
    assert one.evidence is not None
    frames = [pl.DataFrame(schema=measured.CONTRIBUTIONS)]
    trace_id = one.data.traces["trace_id"]
    for index, item in enumerate(one.items):
        at = item.states if item.list_of is None else item.list_of
        signalled = at >= 0 if item.list_of is not None else np.concatenate([item.signalled, [False]])[at]
        rows = np.flatnonzero(signalled)
        frames.append(
            pl.DataFrame(
                {
                    "trace_id": trace_id.gather(rows),
                    "kind": pl.Series([item.kind], dtype=pl.String).new_from_index(0, len(rows)),
                    "name": pl.Series([item.name], dtype=pl.String).new_from_index(0, len(rows)),
                    "weight": one.evidence.weights[one.evidence.of_trace[rows], index],
                }
            )
        )
    return pl.concat(frames)


def agent_loadings(one: AgentFit) -> pl.DataFrame:
    """Columns LOADINGS."""
    assert one.fit is not None
    assert one.evidence is not None
    users = one.data.traces["user"].to_numpy()
    return loading_rows(one.data.agent, one.fit, one.items, one.evidence.mean_weight, users)


def delay_frame(one: AgentFit, level: float) -> pl.DataFrame:
    """Columns DELAY."""
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    rows = []
    for kind, found in one.delays:
        shape_margin, scale_margin = (float(np.exp(z * np.sqrt(found.covariance[i, i]))) for i in (0, 1))
        rows.append(
            (
                one.data.agent, kind, found.shape, found.shape / shape_margin, found.shape * shape_margin, found.scale,
                found.scale / scale_margin, found.scale * scale_margin, found.eventual, found.events,
                float(found.quantile(0.95)),
            )
        )  # fmt: skip
    return pl.DataFrame(rows, schema=measured.DELAY, orient="row")


def rate_row(one: AgentFit, level: float) -> tuple[Any, ...]:
    """One row of ANCHOR_RATE."""
    assert one.fit is not None
    assert one.anchor is not None
    found = design_rate(one.anchor.values, level)
    by_model, by_model_sd = model_rate(one.fit)
    volunteered = one.data.of(one.anchor.kind).filter(~pl.col("solicited").fill_null(False))
    rho: tuple[float | None, float | None, float | None] = (None, None, None)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    for index, item in enumerate(one.fit.items):
        if item.name == "volunteered":
            _, _, log_rho, sd = item.family.report(*one.fit.own(index))
            rho = (float(np.exp(log_rho)), float(np.exp(log_rho - z * sd)), float(np.exp(log_rho + z * sd)))
    share = float((volunteered["value"].to_numpy() > 0.5).mean()) if volunteered.height else None
    return (
        one.data.agent, one.anchor.kind, found.n, found.rate, found.sd, found.lower, found.upper, by_model,
        by_model_sd, volunteered.height, share, *rho,
    )  # fmt: skip


def parameters(one: AgentFit) -> dict[str, Any]:
    """What the model's version keeps of the agent."""
    assert one.fit is not None
    assert one.anchor is not None
    spread = one.people.spread if one.people is not None else None
    return {
        "agent": one.data.agent,
        "anchor": one.anchor.kind,
        "basis": one.anchor.basis,
        "mean": one.fit.mean,
        "mean_sd": float(np.sqrt(one.fit.covariance[0, 0])),
        "sd": one.fit.sd,
        "leniency_sd": one.fit.tau,
        "leniency_lower": None if spread is None or spread.reason == "few_people" else spread.limits[0],
        "leniency_upper": None if spread is None or spread.reason == "few_people" else spread.limits[1],
        "user_sd": None if spread is None else spread.sigma,
        "segments": [
            {**vars(segment), "name": segment.name[:_LONGEST_NAME]}
            for segment in sorted(one.people.segments if one.people is not None else (), key=lambda s: -s.people)
        ][:_MOST_SEGMENTS],
        "converged": one.fit.converged,
        "log_likelihood": one.fit.log_likelihood,
        "patterns": len(one.fit.patterns.count),
    }
