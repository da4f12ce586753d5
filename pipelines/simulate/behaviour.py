"""What people do: clicks, choices, purchases that come late, copies, edits, retries, and leaving."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from pipelines.simulate.agents import SHOP, SUPPORT, TRAVEL
from pipelines.simulate.arrays import Bools, Floats, Ints, Texts, text_where
from pipelines.simulate.catalogue import OFFERS, ROUTES, STAPLES, VARIANTS
from pipelines.simulate.population import FEATURES
from pipelines.simulate.shop import item_id, item_price
from pipelines.simulate.signals import Scene, objects
from pipelines.simulate.travel import offer_id, offer_price

__all__ = [
    "ABANDON",
    "CLICK_LOG",
    "COPY",
    "EDIT",
    "PURCHASE",
    "Purchases",
    "decide_purchases",
    "item_names",
    "write_behaviour",
    "write_click_log",
]

# Each is P(event) = 1 / (1 + exp(-(intercept + loading * revealed theta))), among the traces at risk.
PURCHASE: dict[str, Any] = {"intercept": -2.2, "loading": 0.8, "delay_shape": 0.8, "delay_scale_hours": 36.0}
ABANDON = {"intercept": -2.4, "loading": -0.9}  # among last requests of a session
COPY = {"intercept": -2.6, "loading": 0.5}  # among answers of the travel and support desks
# Share of a draft kept: 1 / (1 + exp(-(intercept + loading * theta + noise))), for the share of answers that are one.
EDIT = {"intercept": 1.0, "loading": 0.9, "noise_sd": 0.5, "share": 0.15}

# The shop's own click log: other names than ours, times as milliseconds, no trace ids.
CLICK_LOG = pl.Schema(
    {
        "user": pl.String(),
        "session": pl.String(),
        "item": pl.String(),
        "position": pl.Int64(),
        "clicked": pl.Int64(),
        "ts": pl.Int64(),
        "propensity": pl.Float64(),
        "base_rank": pl.Int64(),
        "brevity": pl.Float64(),
        "explanation": pl.Float64(),
        "cheapness": pl.Float64(),
        "novelty": pl.Float64(),
        "health": pl.Float64(),
    }
)
_SHOWN_AFTER_MS = 300


@dataclass(frozen=True)
class Purchases:
    """Whether and when each trace leads to a purchase; time -1 where it does not. Some times lie after the period."""

    bought: Bools
    at_ms: Ints


def item_names(scene: Scene) -> Texts:
    """Ids of the items of each trace, (traces, slots); None in empty slots."""
    rollouts = scene.rollouts
    subject = scene.world.tasks.subject[rollouts.context.task][:, None]
    variant, agent = rollouts.slates.variant, rollouts.context.agent[:, None]
    shop = objects([item_id(s, v) for s in range(len(STAPLES)) for v in range(len(VARIANTS))])
    travel = objects([offer_id(r, v) for r in range(len(ROUTES)) for v in range(len(OFFERS))])
    code = np.where(variant >= 0, subject * len(VARIANTS) + variant, 0)
    code = np.where(agent == SUPPORT, 0, code)
    return text_where(variant < 0, None, text_where(agent == SHOP, shop[code], travel[code]))


def decide_purchases(scene: Scene, rng: np.random.Generator) -> Purchases:
    """Draw purchases: from the last answer of a session, with a Weibull delay."""
    rollouts = scene.rollouts
    at_risk = rollouts.last & (rollouts.context.agent != SUPPORT) & ~rollouts.outcomes.failed
    chance = _chance(PURCHASE, rollouts.outcomes.theta_revealed)
    bought = at_risk & (rng.random(len(rollouts)) < chance)
    hours = PURCHASE["delay_scale_hours"] * rng.weibull(PURCHASE["delay_shape"], len(rollouts))
    at_ms = scene.end_ms + 10_000 + (hours * 3_600_000).astype(np.int64)
    return Purchases(bought, np.where(bought, at_ms, -1))


def write_behaviour(scene: Scene, purchases: Purchases, rng: np.random.Generator) -> list[pl.DataFrame]:
    """All implicit signals in our own layout: everything but the shop's click log."""
    rollouts, outcomes = scene.rollouts, scene.rollouts.outcomes
    n = len(rollouts)
    frames = [*_offers(scene, rng), _bought(scene, purchases)]

    rows = np.flatnonzero(rollouts.retried)
    frames.append(scene.signals(rows, "retry", scene.start_ms[rows + 1], value=0.0, annotator_kind="user"))
    left = rollouts.last & (rng.random(n) < _chance(ABANDON, outcomes.theta_revealed))
    rows = np.flatnonzero(left)
    frames.append(scene.signals(rows, "abandon", scene.end_ms[rows] + 60_000, value=0.0, annotator_kind="user"))
    copied = ~scene.agent(SHOP) & ~outcomes.failed & (rng.random(n) < _chance(COPY, outcomes.theta_revealed))
    rows = np.flatnonzero(copied)
    at_ms = scene.end_ms[rows] + rng.integers(3_000, 60_000, size=len(rows))
    frames.append(scene.signals(rows, "copy", at_ms, value=1.0, annotator_kind="user"))

    rows = np.flatnonzero(scene.agent(SUPPORT) & ~outcomes.failed & (rng.random(n) < EDIT["share"]))
    noise = rng.normal(0.0, EDIT["noise_sd"], len(rows))
    kept = expit(EDIT["intercept"] + EDIT["loading"] * outcomes.theta[rows] + noise)
    frames.append(
        scene.signals(
            rows,
            "edit",
            scene.end_ms[rows] + rng.integers(30_000, 600_000, size=len(rows)),
            name="draft_kept",
            value=np.round(kept, 4),
            annotator_kind="operator",
            annotator_id=[f"staff-{number}" for number in rng.integers(1, 9, size=len(rows)).tolist()],
        )
    )
    return frames


def write_click_log(scene: Scene) -> pl.DataFrame:
    """The shop's impressions and clicks as its web shop logs them (columns CLICK_LOG), in order of time."""
    rollouts = scene.rollouts
    shown = rollouts.responses.shown & scene.agent(SHOP)[:, None]
    rows, slot = np.nonzero(shown)
    start = int(scene.world.config.start.timestamp()) * 1000
    features = rollouts.slate_features[rows, slot]
    return pl.DataFrame(
        {
            "user": scene.users(rows),
            "session": scene.session_ids(rows),
            "item": item_names(scene)[rows, slot].tolist(),
            "position": slot + 1,
            "clicked": rollouts.responses.clicked[rows, slot].astype(np.int64),
            "ts": scene.end_ms[rows] + _SHOWN_AFTER_MS + start,
            "propensity": np.round(rollouts.slates.propensity[rows, slot], 6),
            "base_rank": rollouts.slates.base_rank[rows, slot],
            **{name: features[:, at] for at, name in enumerate(CLICK_LOG.names()[-len(FEATURES) :])},
        },
        schema=CLICK_LOG,
    ).sort("ts", "session", "position")


def _offers(scene: Scene, rng: np.random.Generator) -> list[pl.DataFrame]:
    """Trip offers shown, and the one chosen."""
    rollouts = scene.rollouts
    shown = rollouts.responses.shown & scene.agent(TRAVEL)[:, None]
    items = item_names(scene)
    rows, slot = np.nonzero(shown)
    metadata = [
        "{" + ", ".join(f'"{name}": {value:g}' for name, value in zip(FEATURES, features, strict=True)) + "}"
        for features in rollouts.slate_features[rows, slot].tolist()
    ]
    impressions = scene.signals(
        rows,
        "impression",
        scene.end_ms[rows] + _SHOWN_AFTER_MS,
        name="offer",
        item=items[rows, slot],
        position=slot + 1,
        propensity=rollouts.slates.propensity[rows, slot],
        annotator_kind="user",
        metadata=metadata,
    )
    rows, slot = np.nonzero(shown & rollouts.responses.clicked)
    clicks = scene.signals(
        rows,
        "click",
        scene.end_ms[rows] + rng.integers(2_000, 120_000, size=len(rows)),
        name="select",
        item=items[rows, slot],
        value=1.0,
        position=slot + 1,
        annotator_kind="user",
    )
    return [impressions, clicks]


def _bought(scene: Scene, purchases: Purchases) -> pl.DataFrame:
    """Purchases as the billing system sends them: it knows the session, not the trace."""
    rollouts = scene.rollouts
    rows = np.flatnonzero(purchases.bought)
    clicked = rollouts.responses.clicked[rows]
    slot = np.where(clicked.any(axis=1), clicked.argmax(axis=1), 0)
    subject = scene.world.tasks.subject[rollouts.context.task[rows]].tolist()
    shop = scene.agent(SHOP)[rows].tolist()
    variant = rollouts.slates.variant[rows, slot].tolist()
    prices = [
        item_price(of, v) if in_shop else offer_price(of, v)
        for of, v, in_shop in zip(subject, variant, shop, strict=True)
    ]
    return scene.signals(
        rows,
        "purchase",
        purchases.at_ms[rows],
        by_session=True,
        name="order",
        item=item_names(scene)[rows, slot],
        value=1.0,
        annotator_kind="user",
        metadata=[f'{{"amount": {price:.2f}, "currency": "EUR"}}' for price in prices],
    )


def _chance(model: dict[str, Any], theta: Floats) -> Floats:
    return np.asarray(expit(model["intercept"] + model["loading"] * theta))
