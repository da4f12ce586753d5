"""How good a judge is: sensitivity, specificity and kappa against labels, on all that is labelled and on the hard part.

A label counts as good from .5 on, a score likewise. Labels that were asked for at random, with a logged probability,
are weighted by its inverse, so that the numbers hold for everything the judge sees. Labels that were volunteered tell
of those who volunteer; where only they are there, the numbers say so.

Sources: sensitivity and specificity with Wilson's interval (Wilson 1927) at the number of labels that weighting leaves;
Cohen's kappa with its large-sample variance (Fleiss, Cohen and Everitt 1969, Psychol. Bulletin 72:323-327), weighted.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.proportion import Interval
from store.judged import GOLDS

__all__ = ["MINIMUM_CLASS", "MINIMUM_LABELS", "Quality", "best_gold", "confidence_of", "labelled", "quality"]

MINIMUM_LABELS: Final = 50
"""Below this many labels nothing is said (METHODS §9)."""

MINIMUM_CLASS: Final = 10
"""Below this many good, or bad, ones nothing is said of sensitivity, or specificity."""

Basis = Literal["at random", "volunteered"]
Slice = Literal["all", "hard"]

_THRESHOLD: Final = 0.5
_UNSURE: Final = 0.5
_Z95: Final = 1.959963984540054

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """A judge against one kind of label. Where a number is None, `missing` says what it lacks."""

    gold: str
    slice: Slice
    basis: Basis
    n: int
    good: int
    bad: int
    sensitivity: Interval | None
    specificity: Interval | None
    kappa: Interval | None
    missing: str | None


def quality(judged: pl.DataFrame, gold: str, part: Slice = "all") -> Quality:
    """The quality of one judge (`judged` of columns `store.judged.JUDGED`) against the labels of column `gold`.

    Raises: `ValueError` for a `gold` that is none.
    """
    rows, basis = labelled(judged, gold)
    if part == "hard":
        rows = rows.filter(is_hard())
    truth = rows[gold].to_numpy() >= _THRESHOLD
    said = rows["score"].to_numpy() >= _THRESHOLD
    weight = rows["weight"].to_numpy().astype(np.float64)
    good, bad = int(truth.sum()), int((~truth).sum())
    n = rows.height
    short = _missing(n, good, bad)
    enough = n >= MINIMUM_LABELS
    return Quality(
        gold=gold,
        slice=part,
        basis=basis,
        n=n,
        good=good,
        bad=bad,
        sensitivity=_share(said[truth], weight[truth]) if enough and good >= MINIMUM_CLASS else None,
        specificity=_share(~said[~truth], weight[~truth]) if enough and bad >= MINIMUM_CLASS else None,
        kappa=kappa(truth, said, weight) if enough else None,
        missing=short,
    )


def labelled(judged: pl.DataFrame, gold: str) -> tuple[pl.DataFrame, Basis]:
    """The labelled rows with their `weight`, and on what they rest.

    Those asked for at random alone, once there are enough of them; else all of them, equally weighted.
    """
    if gold not in GOLDS:
        raise ValueError(f"expected one of {', '.join(GOLDS)}, came {gold!r}")
    probability = f"{gold}_probability"
    rows = judged.filter(pl.col(gold).is_not_null())
    asked = rows.filter(pl.col(probability).is_not_null())
    if asked.height >= MINIMUM_LABELS:
        return asked.with_columns(weight=1.0 / (pl.col(probability) * pl.col("judged_probability"))), "at random"
    return rows.with_columns(weight=pl.lit(1.0)), "volunteered" if rows.height > asked.height else "at random"


def best_gold(judged: pl.DataFrame) -> str | None:
    """The kind of label to compare a judge with: the first of `GOLDS` with enough labels, else the one with most."""
    counts = {gold: judged[gold].count() for gold in GOLDS}
    enough = [gold for gold in GOLDS if counts[gold] >= MINIMUM_LABELS]
    if enough:
        return enough[0]
    most = max(GOLDS, key=lambda gold: counts[gold])
    return most if counts[most] else None


def confidence_of() -> pl.Expr:
    """The judge's confidence from 0 to 1; of a judge that states none, how far its score is from the middle."""
    return pl.coalesce(pl.col("confidence").clip(0.0, 1.0), (2.0 * pl.col("score") - 1.0).abs())


def is_hard() -> pl.Expr:
    """Where judging is hard: the judge is not sure, or the reward may be on either side of the middle."""
    uncertain = (pl.col("reward") - _THRESHOLD).abs() < pl.col("reward_sd")
    return (confidence_of() < _UNSURE) | uncertain.fill_null(False)


def kappa(truth: NDArray[np.bool_], said: NDArray[np.bool_], weight: Array) -> Interval | None:
    """Cohen's kappa with its 95 % interval; None where it is not defined: both always say the same one thing.

    With p the weighted shares of the 2 by 2 table, o = sum p_ii and e = sum p_i. p_.i, kappa is (o - e) / (1 - e) and
    changes with p_ij by d_ij = [i = j] / (1 - e) - (1 - o)(p_.i + p_j.) / (1 - e)^2. Its variance is that of the
    weighted mean of d; for equal weights this is the formula of Fleiss, Cohen and Everitt.
    """
    row, column = truth.astype(np.int64), said.astype(np.int64)
    table = np.zeros((2, 2))
    np.add.at(table, (row, column), weight)
    table /= table.sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    chance = float(rows @ columns)
    if chance >= 1 - 1e-12:
        return None
    agreed = float(np.trace(table))
    value = (agreed - chance) / (1 - chance)
    slope = np.eye(2) / (1 - chance) - (1 - agreed) * (columns[:, None] + rows[None, :]) / (1 - chance) ** 2
    error = sqrt(_variance(slope[row, column], weight))
    return Interval(value, max(-1.0, value - _Z95 * error), min(1.0, value + _Z95 * error))


def effective(weight: Array) -> float:
    """How many equally weighted rows say as much as these (Kish): (sum w)^2 / sum w^2."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _share(hit: NDArray[np.bool_], weight: Array) -> Interval:
    """A weighted share with Wilson's interval at the number of equally weighted rows with the same standard error."""
    p = float(np.average(hit, weights=weight))
    variance = _variance(hit.astype(np.float64), weight)
    n = p * (1 - p) / variance if variance > 0 else effective(weight)
    centre = p + _Z95**2 / (2 * n)
    spread = _Z95 * sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    scale = 1 + _Z95**2 / n
    return Interval(p, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def _variance(value: Array, weight: Array) -> float:
    """The variance of a weighted mean whose rows were drawn independently, by its linear form (Hajek)."""
    residual = weight * (value - np.average(value, weights=weight))
    return float(residual @ residual / weight.sum() ** 2)


def _missing(n: int, good: int, bad: int) -> str | None:
    if n < MINIMUM_LABELS:
        return f"{n} of at least {MINIMUM_LABELS} labels"
    short = [f"{count} of at least {MINIMUM_CLASS} {name} ones" for count, name in ((good, "good"), (bad, "bad"))
             if count < MINIMUM_CLASS]  # fmt: skip
    return " and ".join(short) or None
