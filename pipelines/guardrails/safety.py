"""Safety floors: is an arm's metric at most a stated margin below the baseline's, looked at as often as one likes.

The contrast of arm and baseline, turned so that more is better, has a 99 % confidence sequence. When its upper end is
below -margin the floor is broken, and the chance that this ever happens to an arm that keeps it is 1 % at most. Where
the arms were drawn with logged probabilities the contrast is causal and the arm may be switched off; from a difference
of means of what was merely observed nothing is switched off by itself, since requests may differ.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration.pseudo_outcomes import BURN_IN, contrast, looks, probabilities
from pipelines.exploration.stopping import BETTER, NO_WORSE, OBSERVED, OPEN, RANDOMISED, WORSE
from pipelines.stats.confidence_sequence import ESS_GATE, TUNE_AT, difference
from pipelines.stats.contract import require
from store.guardrails import METRICS
from store.safety_measures import MEASURED

__all__ = ["ALPHA", "DRAWS", "SafetyLook", "look", "safety_verdict"]

Floats = NDArray[np.float64]

ALPHA: Final = 0.01
DRAWS = pl.Schema(
    {
        "trace_id": pl.String(),
        "arm": pl.String(),
        "arms": pl.List(pl.String()),
        "propensities": pl.List(pl.Float64()),
        "reward": pl.Float64(),
        "cost_usd": pl.Float64(),
    }
)


@dataclass(frozen=True)
class SafetyLook:
    """One look; limits are None while collecting. `estimate` is arm minus baseline where more is better, baseline
    minus arm for the other metrics."""

    n_arm: int
    n_baseline: int
    estimate: float | None
    lower: float | None
    upper: float | None
    verdict: str  # worse: the floor is broken
    basis: str

    @property
    def broken(self) -> bool:
        """Whether the arm has been shown to be below the floor."""
        return self.verdict == WORSE

    def reason(self, metric: str, margin: float, arm: str, baseline: str) -> str:
        """Why an arm is switched off or reported, in words."""
        way = "below" if METRICS[metric] > 0 else "above"
        return (
            f"{metric} of {arm} is worse than that of {baseline}: {abs(self.estimate or 0.0):.4g} {way} it, at least "
            f"{-(self.upper or 0.0):.4g} with 99 % confidence at every look, and {margin:g} is tolerated "
            f"(n {self.n_arm} and {self.n_baseline}, {self.basis})."
        )


def look(
    draws: pl.DataFrame, measured: pl.DataFrame, arm: str, baseline: str, metric: str, margin: float
) -> SafetyLook:
    """Look at one arm.

    Args: `draws` (columns DRAWS) are the agent's randomised decisions in their order, one trace each; `measured`
    (columns MEASURED of `store.safety_measures`) the metric of its traces; `margin` ≥ 0 in the metric's unit.
    Decisions decide where both arms could be drawn in more than `BURN_IN` of them; else all traces are compared.
    Raises: ContractError.
    """
    draws = require(draws, DRAWS, "draws", not_null=["arm", "arms", "propensities"])
    measured = require(measured, MEASURED, "metric of traces", not_null=["trace_id", "arm", "value"], unique="trace_id")
    sign = float(METRICS[metric])
    valued = _valued(draws, measured, metric)
    p = probabilities(valued, [arm, baseline])
    both = (p > 0.0).all(axis=1)
    if both.sum() > BURN_IN:
        own = valued.filter(pl.Series(both))
        drawn = own["arm"].to_numpy()
        first, second = drawn == arm, drawn == baseline
        found = contrast(sign * own["value"].to_numpy(), first, second, p[both, 0], p[both, 1])
        seen = looks(found, alpha=ALPHA)
        limits = (float(seen.estimate[-1]), float(seen.lower[-1]), float(seen.upper[-1]))
        return _look(int(first.sum()), int(second.sum()), limits, margin, RANDOMISED)
    ours, theirs = (sign * measured.filter(pl.col("arm") == name)["value"].to_numpy() for name in (arm, baseline))
    if not ours.size or not theirs.size:
        return SafetyLook(ours.size, theirs.size, None, None, None, OPEN, OBSERVED)
    one, two = ((float(x.size), float(x.mean()), float(x.var())) for x in (ours, theirs))
    apart = difference(one, two, alpha=ALPHA, tune_at=TUNE_AT, gate=ESS_GATE)
    return _look(ours.size, theirs.size, (apart.estimate, apart.lower, apart.upper), margin, OBSERVED)


def safety_verdict(lower: float, upper: float, margin: float) -> str:
    """worse when the whole interval is below -margin; NaN limits say nothing yet."""
    if upper < -margin:
        return WORSE
    if lower > 0.0:
        return BETTER
    return NO_WORSE if lower > -margin else OPEN


def _valued(draws: pl.DataFrame, measured: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The draws with the metric's value, those without one left out; rewards and costs are those of the whole draw."""
    if metric in ("reward", "cost_usd"):
        valued = draws.with_columns(value=pl.col(metric))
    else:
        valued = draws.join(measured.select("trace_id", "value"), on="trace_id", how="left", maintain_order="left")
    return valued.filter(pl.col("value").is_finite())


def _look(n_arm: int, n_baseline: int, limits: tuple[float, float, float], margin: float, basis: str) -> SafetyLook:
    estimate, lower, upper = limits
    said = safety_verdict(lower, upper, margin)
    known = not np.isnan(lower)
    return SafetyLook(n_arm, n_baseline, estimate, lower if known else None, upper if known else None, said, basis)
