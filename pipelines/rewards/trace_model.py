"""The trace-level reward model: what the features of a trace, its task and its person say of its quality, and the
trace's own evidence on top; so traces without any signal have a reward too.

    theta_i = x_i' beta + t_task + u_user + e_i,          e_i ~ N(0, s^2)
    location_i = theta_i + noise,                         noise ~ N(0, 1 / precision_i)     (the measurement model's
    evidence)

    prior      m0 = x'beta + t + u,  v0 = s^2 + var t + var u + var of beta's part
    posterior  1/v = 1/v0 + precision,  m = v (m0 / v0 + precision location)
    reward     E[s(a + b theta)] over the posterior                                          (`calibration`)

beta is a ridge regression cross-fitted by people and tasks at once (`crossfit`), so the prior of a trace rests on other
people and other tasks only; t and u come from the other traces of the same task and person (`group_effects`). The part
of beta in v0 is how much the cross-fits disagree about the trace. A linear model on ranges, counts and products is
used, not trees: its parameters are plain numbers that can be read and stored, and new traces are scored without fitting
again.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards.calibration import Link
from pipelines.rewards.crossfit import CrossFit, Grams, fold_of, solve
from pipelines.rewards.features import Encoder
from pipelines.rewards.group_effects import Effect, GroupEffects, fit_effects, known_effect
from pipelines.stats.contract import FitRefused

__all__ = ["METHOD", "Fused", "Prior", "TraceModel", "TraceModelConfig", "fit", "fuse", "user_folds", "weights"]

METHOD = "trace_model"
_NAME = "model of single traces"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TraceModelConfig:
    """`folds` of people and of tasks; the least traces with evidence and people behind them; how many traces are used
    to fit (evenly spread over all with evidence), and how many rows of the matrix are held at once.
    """

    folds: int = 5
    min_traces: int = 400
    min_users: int = 20
    most_training: int = 250_000
    chunk: int = 25_000


@dataclass(frozen=True)
class Prior:
    """What is expected of each trace without its own evidence, on the latent scale, and its parts."""

    mean: Floats
    variance: Floats
    features: Floats  # x'beta, out of fold in people and tasks
    disagreement: Floats  # variance of it between the cross-fits


@dataclass(frozen=True)
class Fused:
    """Posterior of the latent quality of each trace."""

    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class TraceModel:
    """A fitted model: everything that scoring a trace needs, and what was learned on the way."""

    encoder: Encoder
    crossfit: CrossFit
    effects: GroupEffects
    folds: int
    link: Link
    notes: list[tuple[str, str]] = field(default_factory=list)

    def parameters(self) -> dict[str, Any]:
        """What JSON can hold and `of` reads: coefficients, effects, encoder and link."""
        return {
            "folds": self.folds,
            "encoder": self.encoder.parameters(),
            "coefficients": [[float(f"{v:.6g}") for v in row] for row in self.crossfit.coefficients],
            "whole": [float(f"{v:.6g}") for v in self.crossfit.whole],
            "residual": self.effects.residual,
            "users": _effect_parameters(self.effects.users),
            "tasks": _effect_parameters(self.effects.tasks),
            "link": vars(self.link),
        }

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> "TraceModel":
        """From what `parameters` gave; only what scoring needs is there."""
        coefficients = np.array(parameters["coefficients"])
        whole = np.array(parameters["whole"])
        crossfit = CrossFit(coefficients, whole, np.zeros_like(whole), {}, 0.0, 0.0, np.zeros(len(whole), np.int64), 0)
        effects = GroupEffects(
            _effect_of(parameters["users"]), _effect_of(parameters["tasks"]), float(parameters["residual"])
        )
        return cls(
            Encoder.of(parameters["encoder"]), crossfit, effects, int(parameters["folds"]), Link(**parameters["link"])
        )

    def prior(self, facts: pl.DataFrame, tokens: pl.DataFrame, *, chunk: int = 25_000) -> Prior:
        """What is expected of these traces, which may be new: their people and tasks by name where they are known."""
        cell = _cells(facts, self.folds)
        predicted, disagreement = _predict(self.encoder, self.crossfit, facts, tokens, cell, chunk)
        user = known_effect(self.effects.users, facts["user_id"])
        task = known_effect(self.effects.tasks, facts["task"])
        variance = self.effects.residual + user[1] + task[1] + disagreement
        return Prior(predicted + user[0] + task[0], variance, predicted, disagreement)


def fit(
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    encoder: Encoder,
    location: Floats,
    precision: Floats,
    config: TraceModelConfig | None = None,
) -> tuple[TraceModel, Prior]:
    """Fit the model and give the prior of every trace, without a link yet (`calibration` adds it).

    Args: `facts` and `tokens` as `store.reward_features` gives them, one row a trace; `location` and `precision` of
    each trace's own evidence (precision 0: none), both on the latent scale. Raises: `FitRefused` (too_few_traces,
    too_few_users, constant_labels) when there are too few traces or people,
    or when all evidence says the same.
    """
    config = config or TraceModelConfig()
    _check(facts, location, precision, config)
    cell = _cells(facts, config.folds)
    known = np.flatnonzero(precision > 0.0)
    training = known if len(known) <= config.most_training else known[
        np.linspace(0, len(known) - 1, config.most_training).astype(np.int64)
    ]  # fmt: skip
    crossfit = _fit_rows(facts, tokens, encoder, location, precision, cell, training, config)
    predicted, disagreement = _predict(encoder, crossfit, facts, tokens, cell, config.chunk)
    effects = fit_effects(location - predicted, precision, facts["user_id"], facts["task"])
    # The residuals are out of fold, so on average they hold the error of beta already.
    effects = replace(effects, residual=max(effects.residual - float(disagreement.mean()), 0.02))
    model = TraceModel(encoder, crossfit, effects, config.folds, Link(0.0, 1.0, 0.0, 0.0, 0, "prior"))
    variance = effects.residual + effects.users.sd2 + effects.tasks.sd2 + disagreement
    return model, Prior(predicted + effects.users.mean + effects.tasks.mean, variance, predicted, disagreement)


def fuse(prior: Prior, location: Floats, precision: Floats) -> Fused:
    """The posterior of each trace: its prior and its own evidence, weighed by their precisions."""
    total = 1.0 / prior.variance + precision
    return Fused(
        (prior.mean / prior.variance + precision * np.where(precision > 0, location, 0.0)) / total, 1.0 / total
    )


def weights(model: TraceModel) -> pl.DataFrame:
    """What each feature is worth in logits, by the fit on all training traces (columns of `reward_versions.WEIGHTS`).

    The standard deviations are those of the ridge posterior: they take traces as independent given their features.
    """
    columns, fitted = model.encoder.columns(), model.crossfit
    # The fit weighs rows as if quality varied by one logit around it; where it varies by more, so do the weights.
    scale = max(model.effects.residual + model.effects.users.variance + model.effects.tasks.variance, 1.0) ** 0.5
    frame = pl.DataFrame(
        {
            "agent": pl.Series([column.agent for column in columns], dtype=pl.String),
            "feature": pl.Series([column.feature for column in columns], dtype=pl.String),
            "kind": pl.Series([column.kind for column in columns], dtype=pl.String),
            "weight": fitted.whole[1:],
            "sd": fitted.whole_sd[1:] * scale,
            "traces": fitted.nonzero[1:],
            "share": fitted.nonzero[1:] / max(fitted.rows, 1),
        }
    )
    return frame.filter(pl.col("traces") > 0)


def user_folds(facts: pl.DataFrame, folds: int) -> NDArray[np.int64]:
    """The fold of each trace's person."""
    return fold_of(facts["user_id"], facts["trace_id"], folds)


def _check(facts: pl.DataFrame, location: Floats, precision: Floats, config: TraceModelConfig) -> None:
    known = precision > 0.0
    traces = int(known.sum())
    if traces < config.min_traces:
        raise FitRefused(
            _NAME,
            "too_few_traces",
            f"{traces} traces have evidence of their own and a model of single traces needs {config.min_traces}: "
            "rewards rest on the means of tasks instead.",
        )
    users = facts["user_id"].filter(pl.Series(known)).drop_nulls().n_unique()
    if users < config.min_users:
        raise FitRefused(
            _NAME,
            "too_few_users",
            f"The traces with evidence name {users} people and a model that is tried on people it has not seen needs "
            f"{config.min_users}: rewards rest on the means of tasks instead.",
        )
    if float(np.ptp(location[known])) < 1e-9:
        raise FitRefused(
            _NAME,
            "constant_labels",
            f"All {traces} traces with evidence say the same: nothing separates good from bad, and rewards rest on the "
            "means of tasks instead.",
        )


def _fit_rows(
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    encoder: Encoder,
    location: Floats,
    precision: Floats,
    cell: NDArray[np.int64],
    training: NDArray[np.int64],
    config: TraceModelConfig,
) -> CrossFit:
    """The cross-fit on the rows `training`, in order; only these become rows of the matrix."""
    part = facts[training]
    steps = tokens.filter(pl.col("row").is_in(pl.Series(training, dtype=pl.UInt32).implode()))
    steps = steps.with_columns(row=pl.Series(np.searchsorted(training, steps["row"].to_numpy()), dtype=pl.UInt32))
    grams = Grams(config.folds**2, len(encoder.columns()))
    for start in range(0, part.height, config.chunk):
        stop = min(start + config.chunk, part.height)
        at = training[start:stop]
        weight = 1.0 / (1.0 + 1.0 / precision[at])
        grams.add(encoder.transform(part, steps, start, stop), location[at], weight, cell[at])
    return solve(grams, config.folds, [column.kind for column in encoder.columns()])


def _cells(facts: pl.DataFrame, folds: int) -> NDArray[np.int64]:
    return user_folds(facts, folds) * folds + fold_of(facts["task"], facts["trace_id"], folds)


def _predict(
    encoder: Encoder,
    crossfit: CrossFit,
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    cell: NDArray[np.int64],
    chunk: int,
) -> tuple[Floats, Floats]:
    """Each trace by the fit of its own cell, and the variance between the fits of all cells."""
    predicted, disagreement = np.empty(facts.height), np.empty(facts.height)
    coefficients = crossfit.coefficients.astype(np.float32)
    for start in range(0, facts.height, chunk):
        stop = min(start + chunk, facts.height)
        matrix = encoder.transform(facts, tokens, start, stop)
        everyone = matrix @ coefficients[:, 1:].T + coefficients[:, 0]
        predicted[start:stop] = everyone[np.arange(stop - start), cell[start:stop]]
        disagreement[start:stop] = everyone.var(axis=1)
    return predicted, disagreement


def _effect_parameters(effect: Effect) -> dict[str, Any]:
    return {
        "variance": effect.variance,
        "names": effect.table["name"].to_list(),
        "weighted": [float(f"{v:.5g}") for v in effect.table["weighted"]],
        "weight": [float(f"{v:.5g}") for v in effect.table["weight"]],
    }


def _effect_of(parameters: dict[str, Any]) -> Effect:
    table = pl.DataFrame(
        {name: parameters[key] for name, key in (("name", "names"), ("weighted", "weighted"), ("weight", "weight"))},
        schema={"name": pl.String(), "weighted": pl.Float64(), "weight": pl.Float64()},
    )
    return Effect(float(parameters["variance"]), np.zeros(0), np.zeros(0), table, table.height)
