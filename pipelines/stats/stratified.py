"""Does a yes/no property go with a higher response within strata? Cochran-Mantel-Haenszel, exact where that is cheap.

Strata are tasks: comparing rollouts only with rollouts of the same task removes the task's difficulty (METHODS §4,
"confounding by difficulty"). Under the null hypothesis responses are exchangeable within a stratum, so with x the
property and r the response T = Σ_s Σ_i (x_i - x̄_s) r_i has the permutation variance Σ_s Sxx Srr / (n_s - 1); for a 0/1
response T²/Var is the Cochran-Mantel-Haenszel statistic without continuity correction (Mantel 1963, JASA 58:690-700).
For a 0/1 response in up to 200 informative strata the conditional distribution of Σ x r, a convolution of
hypergeometrics, is computed instead of assumed normal: groups of four rollouts are too small for a normal tail.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, stdtrit

__all__ = ["EXACT_STRATA", "StratifiedTest", "compare", "exact_p"]

Array = NDArray[np.float64]
EXACT_STRATA = 200


@dataclass(frozen=True)
class StratifiedTest:
    """The Mantel-Haenszel difference of mean responses (with minus without), its 95 % interval and two-sided p-value.

    `strata` have rows with and without the property; `informative` of them also differ in response. `rows_with` and
    `rows_without` count rows in those strata. Effect, limits and p are NaN where they are not identified.
    """

    effect: float
    lower: float
    upper: float
    p_value: float
    exact: bool
    strata: int
    informative: int
    rows_with: int
    rows_without: int
    z: float


def compare(
    has: NDArray[np.bool_], response: Array, strata: NDArray[np.int64], *, level: float = 0.95
) -> StratifiedTest:
    """Compare `response` where `has` against where not, within `strata` (non-negative codes); all of shape (rows,).

    The effect weighs strata by n₁n₀/n, which is least squares with one intercept per stratum; its interval uses that
    regression's heteroscedasticity-robust standard error (HC1; White 1980) with n - strata - 1 degrees of freedom.
    """
    codes = np.unique(strata, return_inverse=True)[1]
    x = has.astype(np.float64)
    n: Array = np.bincount(codes).astype(np.float64)
    n1: Array = np.bincount(codes, weights=x).astype(np.float64)
    both = (n1 > 0) & (n1 < n)
    rows = both[codes]
    if not rows.any():
        return StratifiedTest(np.nan, np.nan, np.nan, np.nan, False, 0, 0, 0, 0, np.nan)
    x, r = x[rows], response[rows]
    codes = np.unique(codes[rows], return_inverse=True)[1]
    n, n1 = n[both], n1[both]
    x_centred = x - (n1 / n)[codes]
    r_centred = r - (np.bincount(codes, weights=r) / n)[codes]
    sxx = np.bincount(codes, weights=x_centred**2)
    srr = np.bincount(codes, weights=r_centred**2)
    informative = srr > 1e-12
    statistic = float(x_centred @ r_centred)
    effect = statistic / float(sxx.sum())
    lower, upper = _limits(effect, x_centred, r_centred, float(sxx.sum()), n.size, level)
    exact = bool(np.all((r == 0.0) | (r == 1.0))) and int(informative.sum()) <= EXACT_STRATA
    z = statistic / float(np.sqrt(np.sum(sxx * srr / (n - 1.0)))) if informative.any() else np.nan
    if not informative.any():
        p_value = np.nan
    elif exact:
        successes: Array = np.bincount(codes, weights=r).astype(np.float64)
        p_value = exact_p(float((x * r).sum()), n1, n, successes, informative)
    else:
        p_value = float(2.0 * ndtr(-abs(z)))
    return StratifiedTest(
        effect,
        lower,
        upper,
        p_value,
        exact,
        int(n.size),
        int(informative.sum()),
        int(x.sum()),
        int(x.size - x.sum()),
        z,
    )


def _limits(effect: float, x: Array, r: Array, sxx: float, strata: int, level: float) -> tuple[float, float]:
    freedom = x.size - strata - 1
    if freedom < 1:
        return np.nan, np.nan
    residual = r - effect * x
    variance = float(np.sum((x * residual) ** 2)) / sxx**2 * x.size / freedom
    margin = float(stdtrit(freedom, 0.5 + level / 2)) * float(np.sqrt(variance))
    return effect - margin, effect + margin


def exact_p(observed: float, n1: Array, n: Array, successes: Array, informative: NDArray[np.bool_]) -> float:
    """Sum of the probabilities of all values of Σ x r that are no more likely than the observed one.

    Args: the `observed` Σ x r over a 0/1 response r; per stratum (strata,) the rows with the property `n1`, all rows
    `n`, the `successes` and whether the stratum is `informative` (its responses differ).
    """
    probabilities = np.ones(1)
    lowest = float(np.sum(np.where(successes == n, n1, 0.0)[~informative]))
    for stratum in np.flatnonzero(informative):
        with_, all_, good = n1[stratum], n[stratum], successes[stratum]
        least, most = max(0.0, with_ + good - all_), min(with_, good)
        hits = np.arange(least, most + 1.0)
        log_ways = _log_choose(good, hits) + _log_choose(all_ - good, with_ - hits) - _log_choose(all_, np.array(with_))
        probabilities = np.convolve(probabilities, np.exp(log_ways))
        lowest += least
    at = probabilities[round(observed - lowest)]
    return float(min(1.0, probabilities[probabilities <= at * (1.0 + 1e-7)].sum()))


def _log_choose(n: float, k: Array) -> Array:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0), dtype=np.float64)
