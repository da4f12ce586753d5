"""Mean rewards of agents and arms as a reward model's version keeps them, with 95 % intervals."""

from typing import Any, Final

import polars as pl

from dashboard.learn.figures import Z95
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe

__all__ = ["MEANS", "for_figure", "means"]

MEANS: Final = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "mean": pl.Float64(),  # null without signals
        "sd": pl.Float64(),  # of the mean; null with fewer than two traces
        "n": pl.Int64(),
        "traces": pl.Int64(),
        "users": pl.Int64(),
        "clustered": pl.Boolean(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
    }
)


def means(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as `pipelines.rewards.means.mean_rewards` gives them, with their intervals inside 0 to 1 (columns MEANS)."""
    own = [name for name in MEANS if name not in ("lower", "upper")]
    frame = pl.DataFrame(rows, schema={name: MEANS[name] for name in own})
    return frame.with_columns(
        lower=(pl.col("mean") - Z95 * pl.col("sd")).clip(0.0, 1.0),
        upper=(pl.col("mean") + Z95 * pl.col("sd")).clip(0.0, 1.0),
    )


def for_figure(frame: pl.DataFrame, *, label: str) -> pl.DataFrame:
    """Those with enough traces (`fmt.MINIMUM_MEAN`) as `figures.intervals` wants them, the best one on top."""
    enough = frame.filter((pl.col("n") >= fmt.MINIMUM_MEAN) & pl.col("sd").is_not_null())
    hover = [
        f"{plotly_safe(name, 60)}: {mean:.3f} ({lower:.3f} to {upper:.3f}), n {n:,}"
        for name, mean, lower, upper, n in enough.select(label, "mean", "lower", "upper", "n").iter_rows()
    ]
    return (
        enough.with_columns(label=pl.col(label), hover=pl.Series("hover", hover, pl.String))
        .select("label", "mean", "lower", "upper", "hover")
        .sort("mean", descending=True)
    )
