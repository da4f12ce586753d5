"""What people say: thumbs given mostly by the unhappy, thumbs asked for at random, ratings, comments, stated goals."""

from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from pipelines.simulate.agents import TRAVEL
from pipelines.simulate.arrays import Bools, Floats, Ints, Texts, text_where
from pipelines.simulate.population import FEATURES
from pipelines.simulate.sessions import DAY_MS
from pipelines.simulate.signals import Scene, columns_of, conform, objects
from pipelines.simulate.spans import moments

__all__ = ["GOAL_SD", "RATING", "VOLUNTARY", "write_feedback"]

VOLUNTARY = {"rate_if_satisfied": 0.03, "rate_if_not": 0.22}  # P(a thumb is volunteered | satisfied or not)
# P(rating <= j) = 1 / (1 + exp(-(cutpoint_j - loading * theta - leniency))), j = 1 to 4 of 5 stars.
RATING: dict[str, Any] = {
    "cutpoints": (-1.6, -0.5, 0.6, 1.9),
    "loading": 1.0,
    "rate_if_satisfied": 0.06,
    "rate_if_not": 0.14,
}
COMMENT_SHARE = 0.4  # of thumbs that come with a comment
GOAL_SD = 0.25  # error of one answer about one's goals
_GOAL_SURVEYS = 3
_GOAL_HOUR = 5  # UTC, before anyone visits

_PRAISE = (
    "Exactly what I was looking for.",
    "Quick and helpful, thank you.",
    "Good choice, I will come back.",
    "That solved it.",
    "Clear answer and friendly.",
)
_COMPLAINTS = ("Not what I asked for.", "This was no help.", "I expected better.", "Too generic for me.", "I gave up.")
_COMPLAINTS_ABOUT = {
    "repeated_search": "It took ages and kept looking for the same thing.",
    "price_as_text": "Everything it showed was over my budget.",
    "skipped_stock_check": "It said in stock, but half of it was sold out.",
    "book_without_availability": "The trip it held for me turned out to be sold out.",
    "date_as_text": "The dates were wrong, I said when I want to leave.",
    "ignored_tool_error": "It said the hold was placed. There is no hold on my account.",
    "refund_without_identity": "Somebody could refund my orders without being asked who they are?",
    "repeated_lookup": "It searched and searched and then gave the same text.",
    "answer_without_article": "That is not what your terms say.",
    "articles_for_order": "It sent me a help page instead of looking at my order.",
}
_COMPLAINT_ENVIRONMENT = "Your system was down again."


def write_feedback(scene: Scene, rng: np.random.Generator) -> list[pl.DataFrame]:
    """All explicit feedback of people."""
    rollouts = scene.rollouts
    asked = rng.random(len(rollouts)) < scene.world.config.solicitation_rate
    rate = np.where(rollouts.satisfied, VOLUNTARY["rate_if_satisfied"], VOLUNTARY["rate_if_not"])
    volunteered = (rng.random(len(rollouts)) < rate) & ~asked
    frames = []
    for given, solicited in ((asked, True), (volunteered, False)):
        rows = np.flatnonzero(given)
        frames.append(
            scene.signals(
                rows,
                "thumb",
                scene.end_ms[rows] + _delay(rng, len(rows), 40_000.0),
                name="satisfied",
                value=rollouts.satisfied[rows].astype(float),
                propensity=scene.world.config.solicitation_rate if solicited else None,
                solicited=solicited,
                annotator_kind="user",
                annotator_id=scene.users(rows),
            )
        )
    rows = np.flatnonzero((asked | volunteered) & (rng.random(len(rollouts)) < COMMENT_SHARE))
    frames.append(
        scene.signals(
            rows,
            "comment",
            scene.end_ms[rows] + _delay(rng, len(rows), 90_000.0),
            text=_comments(scene, rows, rng).tolist(),
            solicited=asked[rows],
            propensity=[scene.world.config.solicitation_rate if one else None for one in asked[rows].tolist()],
            annotator_kind="user",
            annotator_id=scene.users(rows),
        )
    )
    frames.append(_ratings(scene, rng))
    frames.append(_stated_goals(scene, rng))
    return frames


def rating_probabilities(theta: Floats, leniency: Floats) -> Floats:
    """Probability of 1 to 5 stars, (traces, 5): a cumulative logit (McCullagh 1980)."""
    cutpoints = np.array(RATING["cutpoints"])
    below = expit(cutpoints[None, :] - (RATING["loading"] * theta + leniency)[:, None])
    return np.diff(np.concatenate([np.zeros((len(theta), 1)), below, np.ones((len(theta), 1))], axis=1), axis=1)


def _ratings(scene: Scene, rng: np.random.Generator) -> pl.DataFrame:
    rollouts = scene.rollouts
    rate = np.where(rollouts.satisfied, RATING["rate_if_satisfied"], RATING["rate_if_not"])
    rows = np.flatnonzero(scene.agent(TRAVEL) & (rng.random(len(rollouts)) < rate))
    leniency = scene.world.people.leniency[rollouts.context.user[rows]]
    cumulative = np.cumsum(rating_probabilities(rollouts.outcomes.theta[rows], leniency), axis=1)
    stars = 1 + (rng.random((len(rows), 1)) >= cumulative[:, :4]).sum(axis=1)
    return scene.signals(
        rows,
        "rating",
        scene.end_ms[rows] + rng.integers(1, 12 * 3600, size=len(rows)) * 1000,
        name="stars",
        value=(stars - 1) / 4.0,
        solicited=False,
        annotator_kind="user",
        annotator_id=scene.users(rows),
        metadata=[f'{{"scale": "1-5", "stars": {number}}}' for number in stars.tolist()],
    )


def _comments(scene: Scene, rows: Ints, rng: np.random.Generator) -> Texts:
    rollouts = scene.rollouts
    causes = scene.world.causes.definitions
    about = objects([_COMPLAINTS_ABOUT[cause.key] for cause in causes])[rollouts.outcomes.cause[rows]]
    wording = rng.integers(len(_PRAISE), size=len(rows))
    complaint = text_where(
        rollouts.outcomes.cause[rows] >= 0,
        about,
        text_where(
            rollouts.outcomes.environment_error[rows], _COMPLAINT_ENVIRONMENT, objects(list(_COMPLAINTS))[wording]
        ),
    )
    happy: Bools = rollouts.satisfied[rows]
    return text_where(happy, objects(list(_PRAISE))[wording], complaint)


def _stated_goals(scene: Scene, rng: np.random.Generator) -> pl.DataFrame:
    """How important each feature is to a person, as they say in a survey by e-mail; linked to no trace."""
    people, config = scene.world.people, scene.world.config
    frames = []
    everyone = np.arange(config.users)
    for day in np.linspace(0, config.days - 1, _GOAL_SURVEYS).astype(int).tolist():
        said = people.weights(everyone, np.full(config.users, float(day)), stated=True)
        said = np.round(said + rng.normal(0.0, GOAL_SD, said.shape), 2)
        at_ms = np.full(said.size, day * DAY_MS + _GOAL_HOUR * 3_600_000)
        users = np.repeat(objects(people.user_id), len(FEATURES)).tolist()
        frame = pl.DataFrame({"user_id": users, "occurred_at": moments(scene.world, at_ms)})
        columns = {
            "kind": "preference",
            "name": "stated_goal",
            "item": list(FEATURES) * config.users,
            "value": said.ravel(),
            "solicited": False,
            "annotator_kind": "user",
            "annotator_id": users,
        }
        frames.append(conform(frame.with_columns(columns_of(columns))))
    return pl.concat(frames)


def _delay(rng: np.random.Generator, count: int, mean_ms: float) -> Ints:
    return (2_000 + np.minimum(rng.exponential(mean_ms, count), 900_000.0)).astype(np.int64)
