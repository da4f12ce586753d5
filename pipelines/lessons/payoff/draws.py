"""Draws numbered for estimation: which comparison each belongs to, whose it is, and what was not expected of it."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.lessons.payoff import effects
from pipelines.lessons.payoff.baseline import codes, contexts, expected, folds
from pipelines.lessons.payoff.effects import Effects, Rows
from pipelines.lessons.payoff.exposed import MEASURES
from pipelines.lessons.payoff.reasons import missing_unevenly, wrong_shares
from pipelines.stats.confidence_sequence import radius

__all__ = ["Draws", "faults", "numbered", "rates_changed"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_KEYS = ["lesson_id", "version", "segment"]
_BROKEN_AT = 0.001  # level over all looks at which shares are found wrong
_NEGLIGIBLE = 0.01  # difference in the share of missing outcomes that is put up with
_ROUNDING = 1e-6  # of a logged probability
_LEAST = 50  # units before shares are looked at


@dataclass(frozen=True)
class Draws:
    """`units` one row a draw (columns `exposed.UNITS`, and left_<measure>: minus what was expected), the number of its
    comparison `group` (rows,), what each comparison is in `keys` (lesson_id, version, segment), and whose it is:
    `person` (rows,), the same number wherever the person occurs."""

    units: pl.DataFrame
    group: Ints
    keys: pl.DataFrame
    person: Ints

    def estimate(self, values: pl.Series, *, plain: bool = False) -> Effects:
        """The effect on `values`, one a row, null where missing."""
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        at = np.isfinite(numbers)
        person = self.person[at]
        rows = Rows(
            group=self.group[at],
            groups=self.keys.height,
            left=numbers[at],
            served=self.units["served"].to_numpy()[at],
            p=self.units["p"].to_numpy()[at],
            cluster=person,
            fold=folds(person),
        )
        return effects.difference(rows) if plain else effects.doubly_robust(rows)

    def total(self, values: pl.Series) -> Floats:
        """Sum of `values` in each comparison, nulls as 0."""
        numbers = values.cast(pl.Float64).fill_null(0.0).to_numpy()
        sums = np.bincount(self.group, weights=numbers, minlength=self.keys.height)
        return np.asarray(sums, dtype=np.float64)


def numbered(units: pl.DataFrame) -> tuple[Draws, Draws]:
    """The draws by lesson version, and by lesson version and segment (those with one); `units` are `exposed.UNITS`."""
    known = units.with_columns(person=pl.coalesce("user_id", pl.lit("\x00") + pl.col("unit")))
    known = known.with_columns(person=pl.Series(codes(known["person"])))
    known = known.with_columns(_left_over(known))
    everyone = _grouped(known.with_columns(whole=pl.lit(None, pl.String)), "whole")
    return everyone, _grouped(known.filter(pl.col("segment").is_not_null()), "segment")


def faults(draws: Draws) -> list[str | None]:
    """What is wrong with the draws of each comparison, in words: shares, or outcomes that are missing by what was
    served. Both are confidence sequences at level .999."""
    n = draws.total(pl.repeat(1.0, draws.units.height, eager=True))
    served, p = draws.total(draws.units["served"]), draws.total(draws.units["p"])
    spread = draws.total(draws.units["p"] * (1.0 - draws.units["p"]))
    here = draws.units["outcome"].is_not_null().cast(pl.Float64)
    mean_here = draws.total(here) / n
    missing = draws.estimate(here - pl.Series(mean_here[draws.group]))
    low, high = effects.limits(missing, alpha=_BROKEN_AT)
    found: list[str | None] = []
    for place in range(draws.keys.height):
        count = n[place]
        off = abs(served[place] - p[place]) / count
        if count >= _LEAST and off > float(radius(count, spread[place] / count, alpha=_BROKEN_AT)):
            found.append(wrong_shares(served[place] / count, p[place] / count, int(count)))
        elif low[place] > _NEGLIGIBLE or high[place] < -_NEGLIGIBLE:
            found.append(missing_unevenly(float(missing.effect[place])))
        else:
            found.append(None)
    return found


def rates_changed(draws: Draws) -> NDArray[np.bool_]:
    """Whether units of a comparison were served with different probabilities, (comparisons,)."""
    p = draws.units["p"]
    lowest, highest = np.full(draws.keys.height, np.inf), np.full(draws.keys.height, -np.inf)
    np.minimum.at(lowest, draws.group, p.to_numpy())
    np.maximum.at(highest, draws.group, p.to_numpy())
    return np.asarray(highest - lowest > _ROUNDING)


def _left_over(units: pl.DataFrame) -> list[pl.Series]:
    """Each measure minus what was expected of the unit; the outcome model is fitted once a unit, not once a lesson."""
    once = units.select("unit", "person", "segment", "task", "arm", "decided_at", *MEASURES).unique(
        "unit", keep="first", maintain_order=True
    )
    person, levels = once["person"].to_numpy(), contexts(once)
    values = {name: once[name].fill_null(float("nan")).to_numpy() for name in MEASURES}
    guesses = once.select("unit").with_columns(
        pl.Series(f"guess_{name}", expected(y, levels, person, once["decided_at"]), nan_to_null=True)
        for name, y in values.items()
    )
    joined = units.select("unit", *MEASURES).join(guesses, on="unit", how="left", maintain_order="left")
    return [(joined[name] - joined[f"guess_{name}"]).alias(f"left_{name}") for name in MEASURES]


def _grouped(units: pl.DataFrame, segment: str) -> Draws:
    named = units.select("lesson_id", "version", segment=segment)
    keys = named.unique().sort(_KEYS).with_row_index("group")
    group = named.join(keys, on=_KEYS, how="left", nulls_equal=True, maintain_order="left")["group"]
    return Draws(units, group.to_numpy().astype(np.int64), keys.drop("group"), units["person"].to_numpy())
