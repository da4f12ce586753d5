"""What the scale of quality is anchored on, and how far volunteered feedback can mislead.

The anchor is an answer that was asked for at random: P(satisfied | quality) = σ(quality) by definition, and its mean,
weighted by 1 / propensity (Hájek 1971), is the satisfaction rate whatever the model. Volunteered answers have the odds
of the truth times ρ, the odds of speaking up when satisfied against when not. Where answers were asked for as well, ρ
is estimated; where not, only a curve over ρ can be shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import expit

from pipelines.rewards.grid import GRID, gaussian_nodes, normal_weights
from pipelines.rewards.latent import LatentFit
from pipelines.rewards.measured import MeasurementConfig
from pipelines.rewards.response_models import Array

__all__ = ["Anchor", "Rate", "choose_anchor", "design_rate", "model_rate", "sensitivity"]

# Of asking a person. Below it one answer would outweigh a million others, and its square leaves the range of numbers.
LEAST_PROPENSITY = 1e-6

Basis = Literal["solicited", "checked", "annotated", "volunteered"]


@dataclass(frozen=True)
class Anchor:
    """The signals that fix the scale: their `kind`, `basis`, rows (`at`, `value`, `propensity`, ...) and a warning."""

    kind: str
    basis: Basis
    values: pl.DataFrame
    note: tuple[str, str] | None


@dataclass(frozen=True)
class Rate:
    """A share with its standard deviation clustered by user, and its interval."""

    n: int
    rate: float
    sd: float
    lower: float
    upper: float


def sensitivity(rate_observed: float, rhos: Sequence[float] | Array) -> Array:
    """The true share satisfied for each assumed ρ, given the share among volunteered answers: odds / ρ.

    ρ = 1 is no selection; ρ = .14 that the satisfied speak up a seventh as often. Raises ValueError for a share outside
    0..1 or a ρ that is not positive and finite.
    """
    rho = np.asarray(rhos, dtype=np.float64)
    if not 0.0 <= rate_observed <= 1.0:
        raise ValueError(f"expected an observed share from 0 to 1, came {rate_observed!r}")
    if not (np.all(np.isfinite(rho)) and np.all(rho > 0.0)):
        raise ValueError("expected every rho positive and finite")
    return np.asarray(rate_observed / (rate_observed + (1.0 - rate_observed) * rho))


def choose_anchor(signals: pl.DataFrame, config: MeasurementConfig) -> tuple[Anchor | None, list[tuple[str, str]]]:
    """The best anchor among one agent's signals, and notes on what stood in the way of a better one.

    Asked at random first (thumbs, then ratings), then outcomes checked by code, annotations by people, and last what
    was volunteered, uncorrected. An anchor needs `min_anchor` answers, of both kinds.
    """
    notes: list[tuple[str, str]] = []
    people = signals.filter((pl.col("annotator_kind") != "llm").fill_null(True))
    solicited = pl.col("solicited").fill_null(False)
    for kind in ("thumb", "rating"):
        asked = people.filter((pl.col("kind") == kind) & solicited)
        possible = pl.col("propensity").is_between(LEAST_PROPENSITY, 1.0)
        valid = asked.filter(pl.col("propensity").is_null() | possible)
        if wrong := asked.height - valid.height:
            allowed = f"from {LEAST_PROPENSITY:g} to 1"
            text = f"{wrong} solicited answers ({kind}) state a propensity that is not {allowed}: left out."
            notes.append(("propensity_invalid", text))
        if _usable(valid, config, notes, f"asked at random ({kind})"):
            if unknown := valid["propensity"].null_count():
                text = (
                    f"{unknown} of {valid.height} solicited answers do not state with which probability they were "
                    "asked for: all are taken as equally likely."
                )
                notes.append(("propensity_missing", text))
            return Anchor(kind, "solicited", valid, None), notes
    for kind, basis, keep, reason in _FALLBACKS:
        values = people.filter((pl.col("kind") == kind) & keep).with_columns(propensity=pl.lit(None, dtype=pl.Float64))
        if _usable(values, config, notes, f"{basis} ({kind})"):
            return Anchor(kind, basis, values, ("no_anchor", reason)), notes
    return None, notes


_CHECKED = (
    "Nobody was asked at random: the scale rests on outcomes checked by code, so a reward is the probability of a good "
    "outcome, not of a satisfied person."
)
_ANNOTATED = (
    "Nobody was asked at random: the scale rests on annotations by people, so a reward is the probability of a good "
    "annotation, not of a satisfied person."
)
_VOLUNTEERED = (
    "Nobody was asked at random and nothing was checked: the scale rests on volunteered feedback, which those who are "
    "not satisfied give more often. See the sensitivity curve; asking 1-2 % at random would settle it."
)
_FALLBACKS: tuple[tuple[str, Basis, pl.Expr, str], ...] = (
    ("outcome", "checked", pl.col("annotator_kind") == "code", _CHECKED),
    ("annotation", "annotated", pl.lit(True), _ANNOTATED),
    ("thumb", "volunteered", ~pl.col("solicited").fill_null(False), _VOLUNTEERED),
    ("rating", "volunteered", ~pl.col("solicited").fill_null(False), _VOLUNTEERED),
)


def _usable(values: pl.DataFrame, config: MeasurementConfig, notes: list[tuple[str, str]], what: str) -> bool:
    if values.height == 0:
        return False
    if values.height < config.min_anchor:
        text = f"{values.height} answers {what}; {config.min_anchor} are needed to anchor on them."
        notes.append(("few_anchors", text))
        return False
    if (values["value"] > 0.5).n_unique() < 2:
        text = f"All {values.height} answers {what} say the same: they cannot anchor the scale."
        notes.append(("constant_labels", text))
        return False
    return True


def design_rate(values: pl.DataFrame, level: float) -> Rate:
    """Share above .5 among `values` (columns `value`, `propensity`, `user`), weighted by 1 / propensity.

    The interval is Wilson's at the effective number of answers, which clusters of users and unequal weights lower.
    """
    satisfied = (values["value"].to_numpy() > 0.5).astype(np.float64)
    inverse = 1.0 / values["propensity"].cast(pl.Float64)
    weight = inverse.fill_null(inverse.mean() if inverse.null_count() < len(inverse) else 1.0).to_numpy()
    n, total = len(satisfied), float(weight.sum())
    rate = float(weight @ satisfied / total)
    _, cluster = np.unique(values["user"].to_numpy(), return_inverse=True)
    sums = np.bincount(cluster, weights=weight * (satisfied - rate))
    clusters = len(sums)
    variance = float((sums**2).sum()) / total**2 * clusters / max(clusters - 1, 1)
    plain = rate * (1.0 - rate)
    effective = min(plain / variance, float(n)) if variance > 0.0 and plain > 0.0 else total**2 / float(weight @ weight)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    centre = (rate + z * z / (2.0 * effective)) / (1.0 + z * z / effective)
    half = z * sqrt(plain / effective + z * z / (4.0 * effective**2)) / (1.0 + z * z / effective)
    sd = sqrt(variance) if plain > 0.0 else half / z
    return Rate(n, rate, sd, max(centre - half, 0.0), min(centre + half, 1.0))


def model_rate(fit: LatentFit) -> tuple[float, float]:
    """Mean of P(satisfied) over the agent's traces by the model, and its standard deviation by the delta method."""
    reported = any(item.anchor and item.on == "report" for item in fit.items)
    nodes, weights = gaussian_nodes(fit.tau if reported else 0.0)

    def rate(mean: float, log_sd: float) -> float:
        density = normal_weights(mean, float(np.exp(log_sd)))
        return float(sum(weight * (density @ expit(GRID + node)) for node, weight in zip(nodes, weights, strict=True)))

    mean, log_sd, step = float(fit.free[0]), float(fit.free[1]), 1e-4
    gradient = np.array(
        [
            (rate(mean + step, log_sd) - rate(mean - step, log_sd)) / (2.0 * step),
            (rate(mean, log_sd + step) - rate(mean, log_sd - step)) / (2.0 * step),
        ]
    )
    return rate(mean, log_sd), float(np.sqrt(gradient @ fit.covariance[:2, :2] @ gradient))
