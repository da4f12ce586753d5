"""What an operator's weight changes in what is expected of the traces that it is set for, and of no others.

The model of single traces learns from all agents at once. Fitted on weighted evidence it would carry the weight of one
agent to the others: through features that they share, through the spread around them and through the link, which would
be fitted to what people of that agent stated after it had been taken out. On a simulated deployment a weight of 0 moved
the rewards of other agents by .06 on average and by up to .33, and made all of them worse (root mean square error
against true satisfaction .157 instead of .119 for the others, .207 instead of .140 for the agent itself). So the model
and its link rest on all evidence as it is, and each agent with a weight gets a correction of its own:

    location - m0 = x' beta_a + t + u + e          weighted evidence of the agent's weighted traces, m0 their prior

the same model once more on what the first one leaves over there (`trace_model.fit`, cross-fitted as ever). Where there
is too little evidence for one, the weight holds for the evidence of single traces only, and a note says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards import trace_model
from pipelines.rewards.features import Encoder
from pipelines.rewards.stated import Evidence, Scoped, weighted_rows
from pipelines.rewards.trace_model import Prior, TraceModel, TraceModelConfig
from pipelines.stats.contract import FitRefused

__all__ = ["Correction", "correct", "fit_corrections"]


@dataclass(frozen=True)
class Correction:
    """What the weight of one agent (None: of traces that name none) adds to what is expected of its traces."""

    agent: str | None
    model: TraceModel

    def parameters(self) -> dict[str, Any]:
        """What JSON can hold and `of` reads."""
        return {"agent": self.agent, "model": self.model.parameters()}

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> "Correction":
        """From what `parameters` gave."""
        return cls(parameters["agent"], TraceModel.of(parameters["model"]))


def fit_corrections(
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    segments: pl.Series,
    encoder: Encoder,
    prior: Prior,
    evidence: Evidence,
    scopes: Sequence[Scoped],
    config: TraceModelConfig | None = None,
) -> tuple[Prior, list[Correction], list[dict[str, Any]]]:
    """The prior of every trace with the corrections of agents that have a weight, the corrections, and notes.

    Args: `prior` of the model on evidence without weights; `evidence` with them; `scopes` as `apply_weights` gave them.
    """
    corrections, notes = [], []
    for agent, rows in _agents(facts, segments, scopes):
        part, steps = _part(facts, tokens, rows)
        left = np.where(evidence.precision[rows] > 0.0, evidence.location[rows] - prior.mean[rows], 0.0)
        try:
            model, expected = trace_model.fit(part, steps, encoder, left, evidence.precision[rows], config)
        except FitRefused as refused:
            text = f"The weight of what people state holds for evidence of single traces only: {refused.detail}"
            notes.append({"agent": agent, "reason": "weight_on_evidence_only", "text": text})
            continue
        corrections.append(Correction(agent, model))
        prior = _added(prior, rows, expected)
    return prior, corrections, notes


def correct(
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    segments: pl.Series,
    prior: Prior,
    corrections: Sequence[Correction],
    scopes: Sequence[Scoped],
) -> Prior:
    """The prior of other traces with the corrections of an earlier fit; `scopes` are those of that fit."""
    known = {one.agent: one.model for one in corrections}
    for agent, rows in _agents(facts, segments, scopes):
        if agent in known:
            prior = _added(prior, rows, known[agent].prior(*_part(facts, tokens, rows)))
    return prior


def _agents(
    facts: pl.DataFrame, segments: pl.Series, scopes: Sequence[Scoped]
) -> list[tuple[str | None, NDArray[np.int64]]]:
    """Each agent with the rows of its traces that a weight was applied to."""
    weighted = weighted_rows(scopes, facts["agent"], segments)
    names = dict.fromkeys(one.agent for one in scopes if one.note is None)
    found = []
    for name in names:
        own = facts.select(pl.col("agent").eq_missing(pl.lit(name, dtype=pl.String))).to_series().to_numpy()
        found.append((name, np.flatnonzero(weighted & own).astype(np.int64)))
    return [(name, rows) for name, rows in found if len(rows)]


def _part(facts: pl.DataFrame, tokens: pl.DataFrame, rows: NDArray[np.int64]) -> tuple[pl.DataFrame, pl.DataFrame]:
    steps = tokens.filter(pl.col("row").is_in(pl.Series(rows, dtype=pl.UInt32).implode()))
    return facts[rows], steps.with_columns(
        row=pl.Series(np.searchsorted(rows, steps["row"].to_numpy()), dtype=pl.UInt32)
    )


def _added(prior: Prior, rows: NDArray[np.int64], expected: Prior) -> Prior:
    """What is expected of `rows` moves by `expected`, whose variance is that of all that is left over.

    That variance rests on one agent's evidence alone: what is expected is never surer than it was without a weight.
    """
    mean, variance = prior.mean.copy(), prior.variance.copy()
    features, disagreement = prior.features.copy(), prior.disagreement.copy()
    mean[rows] += expected.mean
    variance[rows] = np.maximum(variance[rows] + expected.disagreement, expected.variance)
    features[rows] += expected.features
    disagreement[rows] += expected.disagreement
    return Prior(mean, variance, features, disagreement)
