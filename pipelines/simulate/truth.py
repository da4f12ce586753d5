"""What is true of each trace and of each item shown: the yardstick of every estimator."""

import numpy as np
import polars as pl

from pipelines.simulate import slates
from pipelines.simulate.agents import AGENTS, KINDS, SHOP
from pipelines.simulate.arrays import Texts, text_where
from pipelines.simulate.behaviour import Purchases, item_names
from pipelines.simulate.population import FEATURES, SEGMENTS
from pipelines.simulate.rollouts import without_cause
from pipelines.simulate.signals import Scene, objects
from pipelines.simulate.spans import moments

__all__ = ["item_truth", "trace_truth"]


def trace_truth(scene: Scene, purchases: Purchases, mistake_span: Texts) -> pl.DataFrame:
    """One row per trace, in order of time: its true quality and everything that made it so. Effects are in logits."""
    played, outcomes, context = scene.rollouts, scene.rollouts.outcomes, scene.rollouts.context
    world, people = scene.world, scene.world.people
    cause = objects([*(definition.key for definition in world.causes.definitions), ""])[outcomes.cause]
    bought_at = moments(scene.world, purchases.at_ms)
    frame = pl.DataFrame(
        {
            "trace_id": played.trace_id,
            "agent": objects([agent.name for agent in AGENTS])[context.agent].tolist(),
            "user_id": scene.users(np.arange(len(played))),
            "segment": objects([segment.name for segment in SEGMENTS])[people.segment[context.user]].tolist(),
            "session_id": scene.session_ids(np.arange(len(played))),
            "turn": played.turn + 1,
            "day": np.floor(context.day).astype(np.int64),
            "started_at": moments(world, scene.start_ms),
            "ended_at": moments(world, scene.end_ms),
            "task": objects(world.tasks.key)[context.task].tolist(),
            "task_kind": objects(list(KINDS))[world.tasks.kind[context.task]].tolist(),
            "arm": objects(world.arms.name)[outcomes.arm].tolist(),
            "propensity": scene.sessions.propensity[played.session],
            "randomised": scene.sessions.randomised[played.session],
            "explored": outcomes.explored,
            "theta": outcomes.theta,
            "theta_revealed": outcomes.theta_revealed,
            "quality": played.quality,
            "quality_revealed": played.quality_revealed,
            "quality_without_cause": without_cause(played),
            "satisfaction": played.satisfaction,
            "satisfied": played.satisfied,
            "cause": pl.Series(text_where(outcomes.cause >= 0, cause, None).tolist(), dtype=pl.String),
            "cause_effect": outcomes.cause_effect,
            "cause_span_id": pl.Series(mistake_span.tolist(), dtype=pl.String),
            "failure": pl.Series(_failures(scene).tolist(), dtype=pl.String),
            "environment_error": outcomes.environment_error,
            "failed": outcomes.failed,
            "underspecified": outcomes.underspecified,
            "model_changed": outcomes.model_changed,
            "drifted": outcomes.drifted,
            "retry_of_previous": played.is_retry,
            "retried": played.retried,
            "injection": played.injection,
            "bought": purchases.bought,
            "bought_at": bought_at.set(pl.Series(~purchases.bought), None),
            **{f"feature_{name}": outcomes.features[:, at] for at, name in enumerate(FEATURES)},
        }
    )
    return frame.sort("started_at", "trace_id")


def item_truth(scene: Scene) -> pl.DataFrame:
    """One row per item shown. P(click) is examination x attractiveness in the shop, choice on the travel desk."""
    played = scene.rollouts
    rows, slot = np.nonzero(played.responses.shown)
    shop = scene.agent(SHOP)[rows]
    probability = played.responses.probability[rows, slot]
    examination = np.where(shop, np.array(slates.EXAMINATION)[slot], 1.0)
    return pl.DataFrame(
        {
            "trace_id": objects(played.trace_id)[rows].tolist(),
            "item": item_names(scene)[rows, slot].tolist(),
            "position": slot + 1,
            "base_rank": played.slates.base_rank[rows, slot],
            "propensity": played.slates.propensity[rows, slot],
            "examination": examination,
            "attractiveness": pl.Series(probability).set(pl.Series(~shop), None),
            "choice": pl.Series(probability).set(pl.Series(shop), None),
            "click_probability": examination * probability,
            "clicked": played.responses.clicked[rows, slot],
        }
    )


def _failures(scene: Scene) -> Texts:
    """The failure label each trace deserves, None where nothing went wrong: the agent's own mistake comes first."""
    outcomes = scene.rollouts.outcomes
    axes = objects([*(cause.axis for cause in scene.world.causes.definitions), ""])[outcomes.cause]
    explored = text_where(outcomes.explored & ~scene.rollouts.satisfied, "deliberate_exploration", None)
    asked = text_where(outcomes.underspecified, "underspecified_request", explored)
    environment = text_where(outcomes.environment_error, "environment_error", asked)
    return text_where(outcomes.cause >= 0, axes, environment)
