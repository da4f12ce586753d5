"""Why a segment or a user has the exploration rate that is recommended, in words."""

import polars as pl

from pipelines.exploration.bounds import UnitBounds
from pipelines.exploration.recommend import Rates

__all__ = ["reasons"]

_NOTABLE = 0.02  # of drift, progress and tolerance: what less than that did to a rate is not worth a sentence


def reasons(
    frame: pl.DataFrame,
    found: Rates,
    within: UnitBounds,
    names: list[str],
    explored: pl.Series,
    days: pl.Series,
    *,
    people: bool,
) -> pl.Series:
    """A few sentences each: what there is to learn and what it costs, tolerance, drift, progress, dial, bounds.

    Args: `frame` (columns `units.UNIT_RATES`) with the rates `found` within bounds `within`; `names` of the arms;
    `explored` decisions and `days` since a change (null: none) of each unit; `people`: the units are users.
    """
    who, whose = ("them", "their reward") if people else ("this segment", "its reward")
    told = frame.with_columns(
        arm=pl.Series([names[place] for place in found.greedy], dtype=pl.String),
        value=pl.Series(found.value),
        cost=pl.Series(found.cost),
        factor=pl.Series(found.factor),
        floor=pl.Series(within.floor),
        cap=pl.Series(within.cap),
        explored=explored,
        days=days.cast(pl.Float64),
    )

    def fixed(column: str, digits: int) -> pl.Expr:
        return pl.col(column).round(digits).cast(pl.String)

    def percent(column: str) -> pl.Expr:
        return (pl.col(column) * 100.0).round(1).cast(pl.String) + " %"

    learn = pl.concat_str(
        pl.lit(f"For {who}, "), "arm", pl.lit(" looks best; another arm is better with probability "),
        fixed("doubt", 3), pl.lit(". An exploratory decision is expected to cost "), fixed("cost", 3),
        pl.lit(" reward points and to be worth "),
        pl.when(pl.col("value") < 0.0005).then(pl.lit("next to nothing")).otherwise(fixed("value", 3)),
        pl.lit(" to the decisions ahead."),
    )  # fmt: skip
    told_tolerance = pl.concat_str(
        pl.lit(f" Exploring changed {whose} by "), fixed("tolerance", 3), pl.lit(" ± "),
        fixed("tolerance_sd", 3), pl.lit(" (n "), pl.col("explored").cast(pl.String), pl.lit(" explored), which "),
        pl.when(pl.col("factor") < 1.0).then(pl.lit("lowers")).otherwise(pl.lit("raises")),
        pl.lit(" the rate to "), fixed("factor", 2), pl.lit(" of what it would be."),
    )  # fmt: skip
    tolerance = (
        pl.when((pl.col("explored") > 0) & ((pl.col("factor") - 1.0).abs() > _NOTABLE))
        .then(told_tolerance)
        .when(pl.col("explored") == 0)
        .then(pl.lit(" How exploring is taken was never measured here: the mean of all users stands in."))
        .otherwise(pl.lit(""))
    )
    drift = (
        pl.when(pl.col("drift") > _NOTABLE)
        .then(pl.concat_str(pl.lit(" A change "), fixed("days", 1), pl.lit(" days ago raises it.")))
        .otherwise(pl.lit(""))
    )
    progress = (
        pl.when(pl.col("progress") > _NOTABLE)
        .then(pl.lit(f" {'Their' if people else 'Its'} tasks still teach something, which raises it."))
        .otherwise(pl.lit(""))
    )
    result = pl.concat_str(
        pl.lit(" Between the floor "), percent("floor"), pl.lit(" and the cap "), percent("cap"),
        pl.lit(", with the dial at "), fixed("dial", 2), pl.lit(", this gives "), percent("rate"), pl.lit("."),
    )  # fmt: skip
    dislike = pl.when(pl.Series(found.dislikes)).then(
        pl.lit(" They dislike being explored with a probability of 90 % at least, so the floor does not hold for them.")
    ).otherwise(pl.lit(""))  # fmt: skip
    return told.select(pl.concat_str(learn, tolerance, dislike, drift, progress, result).alias("reason"))["reason"]
