"""When to stop: is an arm better than the baseline, no worse, worse, or can it not be told yet, looked at any time.

Each arm's contrast with the baseline (`pipelines.exploration.pseudo_outcomes`) has a confidence sequence at level
1 - α/K over the K arms compared, so that over all arms and all looks a wrong verdict comes with probability α at most:

    better              lower limit above 0
    worse               upper limit below 0
    no worse            lower limit above -margin
    can't tell yet      otherwise, and always below an effective sample size of 200 or while outcomes are too skewed

Without logged propensities the difference of means of what was observed is shown, and no verdict drawn from it is
causal (`basis` observed).

The best of several estimates is too high on average. Its value is shown shrunk towards the mean of all arms by as much
as noise explains of their spread (empirical Bayes for normal means: Efron & Morris 1973, JASA 68:117-130; for selection
Efron 2011, JASA 106:1602-1614).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration.pseudo_outcomes import BURN_IN, Contrast, contrast, looks, probabilities, values
from pipelines.stats.confidence_sequence import ESS_GATE, TUNE_AT, difference, radius
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.frames import UTC_TIME, declare

__all__ = [
    "BETTER", "DECISIONS", "NO_WORSE", "OBSERVED", "OPEN", "RANDOMISED", "VERDICTS", "WORSE", "Budget",
    "StoppingConfig", "conservative_budget", "further_decisions", "shrunk", "verdict", "verdicts",
]  # fmt: skip

Floats = NDArray[np.float64]

BETTER: Final = "better"
NO_WORSE: Final = "no worse"
WORSE: Final = "worse"
OPEN: Final = "can't tell yet"
RANDOMISED: Final = "randomised"
OBSERVED: Final = "observed"
# Beyond so many further decisions the answer is that it will not be told at this pace.
_FAR: Final = 10_000_000

DECISIONS = declare(
    {
        "decision_id": pl.String, "decided_at": UTC_TIME, "arm": pl.String, "arms": pl.List(pl.String),
        "propensities": pl.List(pl.Float64), "reward": pl.Float64,
    }
)  # fmt: skip
VERDICTS = pl.Schema(
    {
        "arm": pl.String(),
        "baseline": pl.String(),
        "verdict": pl.String(),
        "basis": pl.String(),  # randomised, observed
        "estimate": pl.Float64(),  # arm minus baseline
        "lower": pl.Float64(),  # null while collecting
        "upper": pl.Float64(),
        "n": pl.Int64(),  # decisions in which both could be drawn
        "n_arm": pl.Int64(),
        "n_baseline": pl.Int64(),
        "ess": pl.Float64(),  # the smaller effective size of the two
        "more_decisions": pl.Int64(),  # expected until the next verdict; null where it is out of reach or final
        "value": pl.Float64(),  # the arm's own mean
        "value_sd": pl.Float64(),
        "shrunk_value": pl.Float64(),
        "reason": pl.String(),
    }
)


@dataclass(frozen=True)
class StoppingConfig:
    """`alpha` over all arms and looks; `margin` of no worse, in reward points; effective size below which nothing is
    said; the number of decisions about which intervals are narrowest."""

    alpha: float = 0.05
    margin: float = 0.02
    gate: float = ESS_GATE
    tune_at: float = TUNE_AT

    def __post_init__(self) -> None:
        if not (0.0 < self.alpha < 1.0 and self.margin >= 0.0 and self.gate >= 2.0 and self.tune_at > 0.0):
            raise SettingsError("stopping alpha, margin, gate, tune_at", self, "0 < alpha < 1, margin ≥ 0, gate ≥ 2")


@dataclass(frozen=True)
class Budget:
    """Whether one more play of an arm keeps the promise, and by how many reward points it does or does not."""

    allowed: bool
    slack: float


def verdicts(
    decisions: pl.DataFrame, baseline: str, config: StoppingConfig | None = None, *, randomised: bool = True
) -> pl.DataFrame:
    """One row for each other arm than the baseline (columns VERDICTS), by name.

    `decisions` (columns DECISIONS) are one agent's, in the order in which they were made, the arm that was executed,
    its reward, and the eligible arms with their probabilities; decisions in which an arm and the baseline
    could not both be drawn say nothing about them. With `randomised` False lists may be null and means are compared.
    Raises: ContractError.
    """
    config = config or StoppingConfig()
    needed = ["arm", "reward", *(("arms", "propensities") if randomised else ())]
    decisions = require(decisions, DECISIONS, "decisions", not_null=needed)
    named = decisions["arms"].explode().drop_nulls().unique().to_list() if randomised else []
    arms = sorted({*decisions["arm"].to_list(), *named} - {baseline})
    if not arms:
        return pl.DataFrame(schema=VERDICTS)
    alpha = config.alpha / len(arms)
    every = [baseline, *arms]
    drawn = decisions["arm"].to_numpy()
    rewards = decisions["reward"].to_numpy()
    if randomised:
        p = probabilities(decisions, every)
        rows = [_randomised(every, place, drawn, rewards, p, alpha, config) for place in range(1, len(every))]
        own = [_own(drawn == arm, rewards, p[:, place]) for place, arm in enumerate(every)]
    else:
        groups = [rewards[drawn == arm] for arm in every]
        rows = [_observed(groups[0], group, alpha, config) for group in groups[1:]]
        own = [_mean(group) for group in groups]
    means, sds = (np.array(each) for each in zip(*own, strict=True))
    shrunken = shrunk(means, sds)
    listed = [
        row
        | {
            "arm": arm,
            "baseline": baseline,
            "value": _number(means[place]),
            "value_sd": _number(sds[place]),
            "shrunk_value": _number(shrunken[place]),
        }
        for place, (arm, row) in enumerate(zip(arms, rows, strict=True), start=1)
    ]
    return pl.DataFrame(listed, schema=VERDICTS)


def verdict(lower: float, upper: float, margin: float) -> str:
    """The verdict that limits of arm minus baseline allow; NaN limits allow none."""
    if lower > 0.0:
        return BETTER
    if upper < 0.0:
        return WORSE
    return NO_WORSE if lower > -margin else OPEN


def further_decisions(
    estimate: float, variance: float, n: float, gated: float, said: str, alpha: float, config: StoppingConfig
) -> int | None:
    """How many more decisions, at the present probabilities, until the next verdict if the estimate is the truth.

    `variance` is that of one pseudo-outcome, `gated` the number of decisions before which nothing is said. From "no
    worse" the next is better or worse; those two are final (0). None where it is out of reach.
    """
    if said in (BETTER, WORSE):
        return 0
    reach = abs(estimate)
    if said == OPEN:
        reach = max(reach, estimate + config.margin)
    more = max(_size_for(reach, variance, alpha, config.tune_at), gated) - n
    return None if not more <= _FAR else max(int(np.ceil(more)), 1)


def shrunk(means: Floats, sds: Floats) -> Floats:
    """Means (arms,) shrunk towards their precision-weighted mean; NaN stays. One arm alone is left as it is.

    The variance between arms is that of DerSimonian & Laird (1986, Control. Clin. Trials 7:177-188), at least 0.
    """
    result = means.copy()
    known = np.isfinite(means) & np.isfinite(sds) & (sds > 0.0)
    if known.sum() < 2:
        return result
    x, v = means[known], sds[known] ** 2
    w = 1.0 / v
    q = float((w * (x - (w * x).sum() / w.sum()) ** 2).sum())
    between = max(0.0, (q - (x.size - 1)) / (w.sum() - (w**2).sum() / w.sum()))
    w = 1.0 / (v + between)
    centre = (w * x).sum() / w.sum()
    result[known] = centre + between / (between + v) * (x - centre)
    return result


def conservative_budget(
    plays: Floats, lower: Floats, candidate: int, baseline_mean: tuple[float, float], *, baseline_plays: float,
    alpha: float = 0.05,
) -> Budget:  # fmt: skip
    """Whether to play `candidate` once more and still have earned (1 - `alpha`) of what the baseline would have.

    With n_a `plays` (arms,) of the other arms so far and `lower` (arms,) limits of their means, the condition of Wu,
    Shariff, Lattimore & Szepesvári (2016, ICML, "Conservative bandits") is

        Σ_a n_a LCB_a + n_0 μ_0 + LCB_candidate >= (1 - α) (Σ_a n_a + n_0 + 1) μ_0

    It is linear in the baseline's mean μ_0, so it holds over the interval `baseline_mean` where it holds at both ends.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"expected alpha between 0 and 1, came {alpha}")
    earned = float((plays * lower).sum() + lower[candidate])
    total = float(plays.sum()) + baseline_plays + 1.0
    slack = min(earned + baseline_plays * mean - (1.0 - alpha) * total * mean for mean in baseline_mean)
    return Budget(slack >= 0.0, slack)


def _randomised(
    every: list[str], place: int, drawn: NDArray[np.object_], rewards: Floats, p: Floats, alpha: float,
    config: StoppingConfig,
) -> dict[str, object]:  # fmt: skip
    both = (p[:, 0] > 0.0) & (p[:, place] > 0.0)
    first, second = drawn[both] == every[place], drawn[both] == every[0]
    counts = {"n": int(both.sum()), "n_arm": int(first.sum()), "n_baseline": int(second.sum())}
    if counts["n"] <= BURN_IN:
        return _collecting(counts, RANDOMISED, 0.0, None, None, config)
    found: Contrast = contrast(rewards[both], first, second, p[both, place], p[both, 0])
    seen = looks(found, alpha=alpha, tune_at=config.tune_at, gate=config.gate)
    estimate, lower, upper, variance, needed = (float(each[-1]) for each in seen)
    ess, n = float(found.ess[-1]), found.values.size
    said = verdict(lower, upper, config.margin)
    gated = max(n * config.gate / ess, needed) if ess > 0.0 else np.inf
    more = further_decisions(estimate, variance, n, gated, said, alpha, config)
    if np.isnan(lower):
        return _collecting(counts, RANDOMISED, ess, estimate, more, config)
    return counts | {
        "verdict": said, "basis": RANDOMISED, "estimate": estimate, "lower": lower, "upper": upper, "ess": ess,
        "more_decisions": more, "reason": _reason(said, config, more),
    }  # fmt: skip


def _observed(base: Floats, own: Floats, alpha: float, config: StoppingConfig) -> dict[str, object]:
    counts = {"n": base.size + own.size, "n_arm": own.size, "n_baseline": base.size}
    size = float(min(base.size, own.size))
    if not base.size or not own.size:
        return _collecting(counts, OBSERVED, size, None, None, config)
    one, two = ((float(x.size), float(x.mean()), float(x.var())) for x in (own, base))
    seen = difference(one, two, alpha=alpha, tune_at=config.tune_at, gate=config.gate)
    said = verdict(seen.lower, seen.upper, config.margin)
    variance = counts["n"] * (one[2] / one[0] + two[2] / two[0])
    gated = counts["n"] * config.gate / size
    more = further_decisions(seen.estimate, variance, counts["n"], gated, said, alpha, config)
    if not seen.ready:
        return _collecting(counts, OBSERVED, size, seen.estimate, more, config)
    reason = f"{_reason(said, config, more)} Arms were not drawn at random: the difference may be one of requests."
    return counts | {
        "verdict": said, "basis": OBSERVED, "estimate": seen.estimate, "lower": seen.lower, "upper": seen.upper,
        "ess": size, "more_decisions": more, "reason": reason,
    }  # fmt: skip


def _collecting(
    counts: dict[str, int], basis: str, ess: float, estimate: float | None, more: int | None, config: StoppingConfig
) -> dict[str, object]:
    reason = f"The effective sample size is {ess:.0f}; nothing is said below {config.gate:.0f}."
    if ess >= config.gate:
        reason = "Rewards are too rare or too uneven so far for an interval that holds."
    return counts | {
        "verdict": OPEN, "basis": basis, "estimate": estimate, "lower": None, "upper": None, "ess": ess,
        "more_decisions": more, "reason": reason,
    }  # fmt: skip


def _reason(said: str, config: StoppingConfig, more: int | None) -> str:
    text = {
        BETTER: "The whole interval is above 0.",
        WORSE: "The whole interval is below 0.",
        NO_WORSE: f"The whole interval is above -{config.margin:g}, but not above 0.",
        OPEN: f"The interval reaches from below -{config.margin:g} to above 0.",
    }[said]
    if said in (BETTER, WORSE):
        return text
    if more is None:
        return f"{text} At this pace it will not be told."
    return f"{text} About {more:,} more decisions at the present rates if the difference is as it looks."


def _own(drawn: NDArray[np.bool_], rewards: Floats, p: Floats) -> tuple[float, float]:
    """Mean and standard error of one arm over the decisions in which it could be drawn."""
    able = p > 0.0
    if able.sum() <= BURN_IN or not drawn[able].any():
        return np.nan, np.nan
    return _mean(values(rewards[able], drawn[able], p[able]))


def _mean(x: Floats) -> tuple[float, float]:
    return (float(x.mean()), float(x.std(ddof=1) / np.sqrt(x.size))) if x.size > 1 else (np.nan, np.nan)


def _size_for(reach: float, variance: float, alpha: float, tune_at: float) -> float:
    """The number of decisions at which the radius has come down to `reach`; infinite where it never does in time."""
    low, high = 1.0, 100.0 * _FAR
    if reach <= 0.0 or float(radius(high, variance, alpha=alpha, tune_at=tune_at)) > reach:
        return np.inf
    for _ in range(100):
        middle = np.sqrt(low * high)
        if float(radius(middle, variance, alpha=alpha, tune_at=tune_at)) > reach:
            low = middle
        else:
            high = middle
    return float(high)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
