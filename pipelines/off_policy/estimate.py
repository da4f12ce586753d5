"""What another policy would have earned, as far as the logged decisions can say; and when they cannot, why not.

The headline is the doubly robust estimate. Its interval is a confidence sequence on the pseudo-outcomes, which holds at
every look and for logging policies that learn (Waudby-Smith et al. 2024, arXiv:2210.10768); the unit is the user's day
where users come again. IPS and SNIPS stand beside it as a check, SWITCH and DRos as its shrunk, slightly biased kin.

Nothing is said before the weights are worth 200 decisions ("collecting"), and nothing at all ("refused") where the log
cannot answer: propensities that are missing or impossible, arms drawn in other shares than logged, a policy that does
what was never tried, or weights that rest on a handful of decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import chi2

from pipelines.off_policy import targets
from pipelines.off_policy.logged import Prepared, prepare
from pipelines.off_policy.targets import Target
from pipelines.off_policy.tuning import tuned
from pipelines.stats import confidence_sequence
from pipelines.stats.confidence_sequence import ESS_GATE
from pipelines.stats.contract import FitRefused, require
from store import off_policy
from store.off_policy import ROUNDS, Moments, Summary

__all__ = ["OVERLAP", "TABLE", "Diagnostics", "Estimates", "evaluate", "evaluate_rounds", "sample_ratio"]

Floats = NDArray[np.float64]
Verdict = Literal["ok", "collecting", "refused"]

TABLE = pl.Schema(
    {
        "estimator": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),  # at every look
        "upper": pl.Float64(),
        "fixed_lower": pl.Float64(),  # if looked at once only
        "fixed_upper": pl.Float64(),
    }
)
OVERLAP = pl.Schema(
    {
        "arm": pl.String(),
        "drawn": pl.Int64(),
        "expected": pl.Float64(),  # by the logged propensities
        "wanted": pl.Float64(),  # decisions the policy asked about would give it
        "impossible": pl.Float64(),  # of these, where it could not be drawn
    }
)

SMALLEST_SHARE = 0.01  # effective size over units
LARGEST_SHARE = 0.05  # of all weight on one unit
SAMPLE_RATIO_P = 0.001  # at the usual alpha; several questions at once share it as they share alpha
_USUAL_ALPHA = 0.05
FEW = 0.1  # effective size over units below which overlap is poor
HEAVY = 100.0  # the largest weight that the propensity floor of .01 allows
_BROKEN = 0.01  # share of decisions with unusable propensities above which the log is not trusted
_OFF = 4.0  # standard errors of the mean weight
_EXPECTED = 5.0  # smallest expected count of an arm in the chi-square
_NOTHING = 1e-9


@dataclass(frozen=True)
class Diagnostics:
    """Of the weights. `units` are clusters (decisions where each stands for itself); `ess` the effective number of
    them; `max_weight_share` of one unit; `mean_weight_z` how far the mean weight is from 1 in standard errors;
    `impossible_share` of the policy's choices where their propensity is 0; `sample_ratio_p` null when not tested."""

    n: int
    units: int
    ess: float
    ess_share: float
    max_weight_share: float
    largest_weight: float
    mean_weight: float
    mean_weight_z: float
    impossible_share: float
    sample_ratio_p: float | None


@dataclass(frozen=True)
class Estimates:
    """The answer to one question. Values and limits are None unless `verdict` is ok; `reason` says why in words.

    `value` with `lower` and `upper` (at every look, 1 - `alpha`) and `fixed_lower` and `fixed_upper` (one look) is the
    mean reward under the policy by `estimator`; `logged_value` that of the policy as it ran; `gain` with its limits the
    difference on the same decisions. `table` (columns TABLE) has all estimators, `overlap` (columns OVERLAP) each arm.
    """

    target: str
    verdict: Verdict
    reason_key: str | None
    reason: str | None
    alpha: float
    n: int
    diagnostics: Diagnostics | None = None
    estimator: str = "DR"
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    fixed_lower: float | None = None
    fixed_upper: float | None = None
    logged_value: float | None = None
    gain: float | None = None
    gain_lower: float | None = None
    gain_upper: float | None = None
    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TABLE))
    overlap: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=OVERLAP))
    warnings: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def ess(self) -> float:
        """Effective number of units; 0 where there are none."""
        return 0.0 if self.diagnostics is None else self.diagnostics.ess

    @property
    def max_weight_share(self) -> float:
        """Of one unit; 1 where there are none."""
        return 1.0 if self.diagnostics is None else self.diagnostics.max_weight_share


def evaluate(
    logged: pl.DataFrame | Prepared,
    target: Target,
    *,
    alpha: float = 0.05,
    dropped: Mapping[str, int] | None = None,
    where_possible: bool = False,
) -> Estimates:
    """What `target` would have earned on these decisions.

    Args: `logged` decisions (`pipelines.off_policy.logged.DECISIONS`), or the same prepared for several questions;
    `dropped` counts of those left out (`store.logged_decisions.dropped`); `where_possible` asks only about decisions in
    which everything the target would do could have been drawn. Raises: ContractError.
    """
    name = targets.words(target)
    dropped = dict(dropped or {})
    try:
        prepared = logged if isinstance(logged, Prepared) else prepare(logged)
    except FitRefused as refused:
        return Estimates(name, "refused", refused.reason, refused.detail, alpha, len(logged), dropped=dropped)
    broken = {key: dropped.get(key, 0) for key in ("impossible_propensities", "missing_propensities")}
    for key, count in broken.items():
        if count > _BROKEN * (len(prepared) + sum(broken.values())):
            words = f"{count:,} of {len(prepared) + sum(broken.values()):,} decisions with outcomes have {_BAD[key]}."
            return Estimates(name, "refused", key, words, alpha, len(prepared), dropped=dropped)
    vectors = target.vectors(prepared.choices)
    impossible = np.where(prepared.choices.logged > 0.0, 0.0, vectors)
    uncovered = impossible.sum(axis=1) + np.maximum(1.0 - vectors.sum(axis=1), 0.0)
    if where_possible and (uncovered > _NOTHING).any() and (possible := uncovered <= _NOTHING).any():
        prepared, vectors, impossible, uncovered = (
            prepared.only(possible), vectors[possible], impossible[possible], uncovered[possible]
        )  # fmt: skip
    rows = np.arange(len(prepared))
    columns: dict[str, NDArray[np.generic]] = {
        "propensity": prepared.propensity,
        "target": vectors[rows, prepared.drawn],
        "reward": prepared.reward,
        "fitted": prepared.fitted[rows, prepared.drawn],
        "direct": np.einsum("ij,ij->i", vectors, prepared.fitted),
    }
    if prepared.cluster is not None:
        columns["cluster"] = prepared.cluster
    found = evaluate_rounds(
        pl.DataFrame(columns),
        name,
        alpha=alpha,
        impossible_share=float(uncovered.mean()) if uncovered.max() > _NOTHING else 0.0,
        sample_ratio_p=sample_ratio(prepared.choices.logged, prepared.drawn),
    )
    overlap = pl.DataFrame(
        {
            "arm": list(prepared.choices.arms),
            "drawn": np.bincount(prepared.drawn, minlength=len(prepared.choices.arms)),
            "expected": prepared.choices.logged.sum(axis=0),
            "wanted": vectors.sum(axis=0),
            "impossible": impossible.sum(axis=0),
        },
        schema=OVERLAP,
    )
    return _with(found, overlap=overlap, dropped=dropped)


def evaluate_rounds(
    rounds: pl.DataFrame,
    name: str,
    *,
    alpha: float = 0.05,
    impossible_share: float = 0.0,
    sample_ratio_p: float | None = None,
) -> Estimates:
    """As `evaluate`, from the probabilities of the arm that ran (columns `store.off_policy.ROUNDS`, perhaps `cluster`)
    and a target in words, for logs without the distribution of every arm. Raises: ContractError.
    """
    checked = require(rounds, ROUNDS, "rounds", not_null=list(ROUNDS))
    bad = checked.filter(~(pl.col("propensity") > 0.0) | ~(pl.col("propensity") <= 1.0) | pl.col("propensity").is_nan())
    if checked.is_empty() or bad.height:
        key, words = ("no_rows", "There is no decision with an outcome.") if checked.is_empty() else (
            "impossible_propensities",
            f"{bad.height:,} of {checked.height:,} decisions have a propensity that is not above 0 and at most 1.",
        )  # fmt: skip
        return Estimates(name, "refused", key, words, alpha, checked.height)
    if "cluster" in rounds.columns:
        checked = checked.with_columns(rounds["cluster"])
    tau, lam = tuned(checked)
    counted = off_policy.summary(checked, tau=tau, lam=lam)
    error = np.sqrt(counted.weight.variance / counted.units)
    diagnostics = Diagnostics(
        n=counted.decisions,
        units=counted.units,
        ess=counted.ess,
        ess_share=counted.ess / counted.units,
        max_weight_share=counted.largest_share,
        largest_weight=counted.largest_weight,
        mean_weight=counted.weight.value,
        mean_weight_z=float((counted.weight.value - 1.0) / error) if error > 0.0 else 0.0,
        impossible_share=impossible_share,
        sample_ratio_p=sample_ratio_p,
    )
    verdict, reason_key, reason = _verdict(diagnostics, SAMPLE_RATIO_P * alpha / _USUAL_ALPHA)
    if verdict == "ok" and counted.logged.variance == 0.0:
        verdict, reason_key, reason = "refused", "equal_rewards", (
            f"All rewards are {counted.logged.value:.3g}: nothing that came back tells one decision from another."
        )  # fmt: skip
    if verdict != "ok":
        return Estimates(name, verdict, reason_key, reason, alpha, counted.decisions, diagnostics)
    return _answer(name, counted, diagnostics, alpha)


def sample_ratio(logged: Floats, drawn: NDArray[np.int64]) -> float | None:
    """p-value of the arms having been drawn with the logged propensities, (decisions, arms); None when too few.

    With counts N and propensities p_i, (N - Σp_i)' V⁻¹ (N - Σp_i) with V = Σ diag(p_i) - p_i p_i' is chi-square with as
    many degrees of freedom as V has rank. Arms expected fewer than 5 times count as one.
    """
    expected = logged.sum(axis=0)
    off = np.bincount(drawn, minlength=logged.shape[1]) - expected
    covariance = np.diag(expected) - logged.T @ logged
    small = expected < _EXPECTED
    groups = np.vstack([np.eye(len(expected))[~small], small[None, :].astype(np.float64)])
    off, covariance = groups @ off, groups @ covariance @ groups.T
    values, directions = np.linalg.eigh(covariance)
    known = values > 1e-9 * max(float(values[-1]), 1.0)
    if not known.any() or float(values[known].min()) < 1.0:
        known &= values >= 1.0
    if not known.any():
        return None
    distance = float((((directions.T @ off)[known]) ** 2 / values[known]).sum())
    return float(chi2.sf(distance, int(known.sum())))


_BAD = {
    "impossible_propensities": "propensities that are impossible",
    "missing_propensities": "no logged propensity of every arm",
}


def _verdict(of: Diagnostics, smallest_p: float) -> tuple[Verdict, str | None, str | None]:
    unit = "decisions" if of.units == of.n else "users' days"
    if of.impossible_share > 0.0:
        return "refused", "no_overlap", (
            f"It would choose arms that could not be drawn: {_percent(of.impossible_share)} of its choices had a "
            "propensity of 0. No reweighting can show what was never tried."
        )  # fmt: skip
    if of.sample_ratio_p is not None and of.sample_ratio_p < smallest_p:
        return "refused", "sample_ratio", (
            f"Arms ran in other shares than the logged propensities say (p = {of.sample_ratio_p:.1g}): assignments are "
            "lost or changed on the way. Find the cause before reading any estimate."
        )  # fmt: skip
    if of.ess_share < SMALLEST_SHARE:
        return "refused", "effective_size", (
            f"The {of.units:,} {unit} are worth {of.ess:,.0f} ({_percent(of.ess_share)}) for this question; "
            f"at least {_percent(SMALLEST_SHARE)} is needed. It differs too much from what ran."
        )  # fmt: skip
    if of.ess < ESS_GATE:
        return "collecting", "collecting", (
            f"Collecting: the {of.units:,} {unit} so far are worth {of.ess:,.0f} for this question; an answer is "
            f"given from {ESS_GATE:,.0f} on."
        )  # fmt: skip
    if of.max_weight_share > LARGEST_SHARE:
        return "refused", "dominated", (
            f"One of {of.units:,} {unit} carries {_percent(of.max_weight_share)} of all weight; at most "
            f"{_percent(LARGEST_SHARE)} is accepted."
        )  # fmt: skip
    return "ok", None, None


def _answer(name: str, counted: Summary, diagnostics: Diagnostics, alpha: float) -> Estimates:
    rows, limits = [], {}
    for estimator, moments in counted.estimators.items():
        # What the model alone says has no error that these rows could tell.
        known = estimator != "DM"
        limits[estimator] = _limits(moments, counted, alpha, moments.value) if known else (None,) * 4
        rows.append((estimator, moments.value, *limits[estimator]))
    dr = counted.estimators["DR"]
    lower, upper, fixed_lower, fixed_upper = limits["DR"]
    gain_lower, gain_upper, _, _ = _limits(counted.gain, counted, alpha, dr.value)
    return Estimates(
        name, "ok", None, None, alpha, counted.decisions, diagnostics,
        value=dr.value, lower=lower, upper=upper, fixed_lower=fixed_lower, fixed_upper=fixed_upper,
        logged_value=counted.logged.value, gain=counted.gain.value, gain_lower=gain_lower, gain_upper=gain_upper,
        table=pl.DataFrame(rows, schema=TABLE, orient="row"),
        warnings=tuple(_warnings(counted, diagnostics, limits["DR"])),
    )  # fmt: skip


def _limits(moments: Moments, counted: Summary, alpha: float, rate: float) -> tuple[float, float, float, float]:
    """At every look and at one.

    What holds at every look is guarded against what has not been seen yet: one more unit of the largest weight, and (as
    Agresti & Coull 1998 add pseudo-observations) one more success and failure, which matter where outcomes are rare.
    """
    rate = min(max(rate, 0.0), 1.0)
    heavy = counted.largest_unit**2 * rate * (1.0 - rate) / counted.units
    rare = counted.units / counted.ess * (1.0 - 2.0 * rate) ** 2 / (counted.ess + 2.0)
    margin = float(confidence_sequence.radius(counted.units, moments.variance + heavy + rare, alpha=alpha))
    fixed = float(-ndtri(alpha / 2.0)) * float(np.sqrt(moments.variance / counted.units))
    value = moments.value
    return value - margin, value + margin, value - fixed, value + fixed


def _warnings(
    counted: Summary, of: Diagnostics, limits: tuple[float | None, float | None, float | None, float | None]
) -> list[str]:
    found = []
    if of.ess_share < FEW:
        found.append(
            f"Poor overlap: the log is worth {_percent(of.ess_share)} of its size for this question "
            f"({of.ess:,.0f} of {of.units:,}), and one decision counts like {of.largest_weight:,.0f}."
        )
    elif of.largest_weight > HEAVY:
        found.append(f"One decision counts like {of.largest_weight:,.0f}.")
    if abs(of.mean_weight_z) > _OFF:
        found.append(
            f"Weights average {of.mean_weight:.3f} where 1 is expected ({of.mean_weight_z:+.1f} standard errors): the "
            "logged propensities may be wrong, or rare decisions with large weights have not been seen."
        )
    ips, snips = (counted.estimators[name].value for name in ("IPS", "SNIPS"))
    lower, upper = limits[0], limits[1]
    if lower is not None and upper is not None and not (lower <= ips <= upper and lower <= snips <= upper):
        found.append(
            f"Estimators disagree: IPS {ips:.4f}, SNIPS {snips:.4f}, while DR lies from {lower:.4f} to {upper:.4f}."
        )
    return found


def _with(found: Estimates, *, overlap: pl.DataFrame, dropped: Mapping[str, int]) -> Estimates:
    return replace(found, overlap=overlap, dropped=dropped)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
