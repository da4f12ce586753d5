"""Shown sets of the simulated deployment without a database, as `store.preferences.shown_sets` gives them."""

import json

import polars as pl

from pipelines.simulate import Deployment

SHOP_FEATURES = ["brevity", "explanation", "cheapness", "novelty", "health"]
TRAVEL_FEATURES = ["brevity", "explanation", "price", "novelty", "health"]
AVAILABLE = {
    "brevity": ["shop-assistant", "travel-desk"],
    "explanation": ["shop-assistant", "travel-desk"],
    "cheapness": ["shop-assistant"],
    "health": ["shop-assistant", "travel-desk"],
    "novelty": ["shop-assistant", "travel-desk"],
    "price": ["travel-desk"],
}


def shown_sets(deployment: Deployment) -> pl.DataFrame:
    """Rows of the shop's click log and of the travel desk's offers, each with its trace."""
    traces = deployment.traces.select("trace_id", "session_id", "user_id", "agent", "arm", "ended_at")
    shop = deployment.clicks.with_columns(
        ended_at=pl.from_epoch(pl.col("ts") - 300, "ms").dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    )
    shop = shop.join(
        traces.with_columns(pl.col("ended_at").dt.cast_time_unit("us")),
        left_on=["session", "ended_at"], right_on=["session_id", "ended_at"], how="inner",
    ).select(
        "trace_id", "user_id", "agent", "arm", "item", pl.col("position").cast(pl.Int32), "propensity",
        pl.col("clicked").cast(pl.Boolean).alias("chosen"), *SHOP_FEATURES,
    )  # fmt: skip
    signals = deployment.signals.filter(pl.col("kind").is_in(["impression", "click"]))
    clicked = signals.filter(kind="click").select("trace_id", "item", chosen=pl.lit(True)).unique()
    offers = (
        signals.filter(kind="impression")
        .drop("user_id")
        .join(traces, on="trace_id", how="inner")
        .join(clicked, on=["trace_id", "item"], how="left")
    )
    stated = pl.DataFrame([json.loads(row) for row in offers["metadata"]]).select(
        pl.col(name).cast(pl.Float64) for name in TRAVEL_FEATURES
    )
    travel = offers.select(
        "trace_id", "user_id", "agent", "arm", "item", pl.col("position").cast(pl.Int32), "propensity",
        pl.col("chosen").fill_null(False),
    ).hstack(stated)  # fmt: skip
    both = pl.concat([shop, travel], how="diagonal").sort("user_id", "trace_id", "position")
    return both.rename({name: f"feature_{place}" for place, name in enumerate(AVAILABLE)})


def segments(deployment: Deployment) -> pl.DataFrame:
    """The segment of each user."""
    users = deployment.truth["users"]
    return pl.DataFrame({"user_id": [u["user_id"] for u in users], "segment": [u["segment"] for u in users]})


def statements(deployment: Deployment) -> pl.DataFrame:
    """Stated goals."""
    return deployment.signals.filter(kind="preference", name="stated_goal").select(
        "user_id", pl.col("item").alias("feature"), "value", "occurred_at"
    )
