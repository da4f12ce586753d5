"""With and without on the same task: what was fixed, what was broken, and whether that can be chance.

Of pairs that differ, under no effect each is as likely to be fixed as broken. Looked at once, that is McNemar's exact
test (1947, Psychometrika 12:153-157) with limits of the share fixed by Clopper & Pearson (1934, Biometrika 26:404-413).
Looked at again and again, as on live data, limits are those of the beta-binomial mixture (Robbins 1970, Ann. Math.
Stat. 41:1397-1409): all shares s for which s^fixed (1-s)^broke is more than α times its mean over uniform s.

The effect is (fixed - broke) / pairs, its limits 2 s - 1 at the limits of s, times the share of pairs that differ at
whichever of its own limits is further out. So an interval is above 0 exactly where the test says better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import betaln
from scipy.stats import beta, binomtest

from pipelines.exploration.stopping import BETTER, OPEN, WORSE, StoppingConfig, verdict
from store.errors import SettingsError

__all__ = ["TABLE", "Paired", "compare", "table"]

TABLE = pl.Schema(
    {
        "arm": pl.String(),
        "pairs": pl.Int64(),
        "fixed": pl.Int64(),
        "broke": pl.Int64(),
        "effect": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "p_value": pl.Float64(),  # of this comparison alone
        "p_together": pl.Float64(),  # Holm, over all rows of the table
        "verdict": pl.String(),
    }
)
"""After the columns that it was asked to be made by. A verdict is wrong with probability α for its own row only."""


@dataclass(frozen=True)
class Paired:
    """`pairs` compared, of which `fixed` went well only with it and `broke` only without; limits of the effect and,
    for one look, the p-value (NaN otherwise)."""

    pairs: int
    fixed: int
    broke: int
    effect: float
    lower: float
    upper: float
    p_value: float
    verdict: str

    @property
    def reason(self) -> str:
        """What the verdict rests on, in words."""
        if not self.pairs:
            return "No task was done both with and without it."
        told = f"Of {self.pairs:,} pairs on the same task {self.fixed:,} were fixed and {self.broke:,} broken"
        if self.verdict in (BETTER, WORSE):
            return f"{told}: more than chance."
        return f"{told}: it may be chance." if self.verdict == OPEN else f"{told}: at most little harm."


def compare(
    pairs: int, fixed: int, broke: int, *, alpha: float = 0.05, margin: float = StoppingConfig.margin,
    sequential: bool = False,
) -> Paired:  # fmt: skip
    """The paired effect and its verdict; `sequential` for limits that hold at every look.

    Raises: ValueError for counts that cannot be.
    """
    if min(fixed, broke) < 0 or fixed + broke > pairs:
        raise ValueError(f"expected fixed and broke of at most {pairs} pairs, came {fixed} and {broke}")
    if pairs == 0:
        return Paired(0, 0, 0, np.nan, np.nan, np.nan, np.nan, OPEN)
    differ = fixed + broke
    of_share = _mixture if sequential else _clopper_pearson
    low, high = (2.0 * each - 1.0 for each in of_share(fixed, differ, alpha))
    least, most = of_share(differ, pairs, alpha)
    lower, upper = low * (least if low > 0.0 else most), high * (most if high > 0.0 else least)
    p = float("nan") if sequential else (float(binomtest(fixed, differ).pvalue) if differ else 1.0)
    return Paired(pairs, fixed, broke, (fixed - broke) / pairs, lower, upper, p, verdict(lower, upper, margin))


def table(
    outcomes: pl.DataFrame, *, by: Sequence[str], pair: str, arm: str, control: str, good: str, alpha: float = 0.05,
    margin: float = StoppingConfig.margin,
) -> pl.DataFrame:  # fmt: skip
    """Every arm against the `control` arm, one look, separately by the columns `by` (those columns, then TABLE).

    `outcomes` has one row for each arm and `pair` within `by`; `good` is true where it went well. Pairs that lack one
    side are left out. Raises: SettingsError when a pair comes twice on one side, or no row is of the control arm.
    """
    key = [*by, pair]
    known = outcomes.drop_nulls([*key, arm, good])
    twice = known.height - known.unique([*key, arm]).height
    if twice or known.filter(pl.col(arm) == control).is_empty():
        problem = f"{twice} rows repeat one" if twice else f"no row of the control {control}"
        raise SettingsError("paired outcomes", problem, f"one row for each {', '.join([*key, arm])}")
    without = known.filter(pl.col(arm) == control).select(*key, pl.col(good).alias("without"))
    counted = (
        known.filter(pl.col(arm) != control)
        .join(without, on=key)
        .group_by(*by, pl.col(arm).alias("arm"))
        .agg(
            pairs=pl.len(),
            fixed=(pl.col(good) & ~pl.col("without")).sum(),
            broke=(~pl.col(good) & pl.col("without")).sum(),
        )
        .sort(*by, "arm")
    )
    found = [
        compare(row["pairs"], row["fixed"], row["broke"], alpha=alpha, margin=margin)
        for row in counted.iter_rows(named=True)
    ]
    answered = pl.DataFrame(
        {name: [getattr(each, name) for each in found] for name in ("effect", "lower", "upper", "p_value", "verdict")},
        schema={name: TABLE[name] for name in ("effect", "lower", "upper", "p_value", "verdict")},
    )
    together = pl.Series("p_together", _holm(answered["p_value"].to_numpy()), dtype=pl.Float64)
    whole = pl.concat([counted, answered, together.to_frame()], how="horizontal")
    return whole.select(*by, *(pl.col(name).cast(dtype) for name, dtype in TABLE.items()))


def _holm(p: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """p-values that hold together (Holm 1979, Scand. J. Stat. 6:65-70)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    together = np.empty(p.size)
    together[order] = np.minimum(steps, 1.0)
    return [float(each) for each in together]


def _clopper_pearson(hits: int, of: int, alpha: float) -> tuple[float, float]:
    if of == 0:
        return 0.0, 1.0
    low = float(beta.ppf(alpha / 2.0, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1.0 - alpha / 2.0, hits + 1, of - hits)) if hits < of else 1.0
    return low, high


def _mixture(hits: int, of: int, alpha: float) -> tuple[float, float]:
    if of == 0:
        return 0.0, 1.0
    least = float(betaln(hits + 1, of - hits + 1)) + np.log(alpha)
    best = hits / of

    def inside(share: float) -> bool:
        with np.errstate(divide="ignore"):
            told = (hits * np.log(share) if hits else 0.0) + ((of - hits) * np.log1p(-share) if hits < of else 0.0)
        return bool(told >= least)

    def edge(outer: float) -> float:
        if inside(outer):
            return outer
        near, far = best, outer
        for _ in range(60):
            middle = (near + far) / 2.0
            near, far = (middle, far) if inside(middle) else (near, middle)
        return far

    return edge(0.0), edge(1.0)
