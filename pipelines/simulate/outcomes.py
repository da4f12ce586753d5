"""How good an answer is: one logit per trace, the sum of known effects.

theta = agent + task + arm + silent model change + taste (features x weights) + planted cause + environment + request
        + tolerance of exploration + drift of satisfaction + noise;      quality = 1 / (1 + exp(-theta)).

Everything random about a trace is drawn beforehand, so the same trace can be played again with another arm or without
its cause: values of arms and costs of causes are counterfactuals, not estimates.
"""

from dataclasses import dataclass, fields

import numpy as np

from pipelines.simulate.agents import (
    AGENTS,
    CHANGE_SHIFT,
    CHANGE_STYLE,
    CHANGED_MODEL,
    ENVIRONMENT_RATE,
    ENVIRONMENT_SHIFT,
    FAILED_SHIFT,
    FAILURE_SHARE,
    UNDERSPECIFIED_RATE,
    UNDERSPECIFIED_SHIFT,
)
from pipelines.simulate.arms import Arms, Causes
from pipelines.simulate.arrays import Bools, Floats, Ints, pick
from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.population import Population
from pipelines.simulate.tasks import Tasks

__all__ = ["NOISE_SD", "STYLE_SD", "Context", "Outcomes", "World", "play"]

NOISE_SD = 0.25  # of quality, logits: what nothing observable explains
STYLE_SD = 0.5  # of an answer's brevity and explanation around its arm's


@dataclass(frozen=True)
class World:
    """All that is fixed before the first request."""

    config: SimulationConfig
    people: Population
    tasks: Tasks
    arms: Arms
    causes: Causes


@dataclass(frozen=True)
class Context:
    """What a trace is about and the chance in it, one entry per trace; independent of the arm."""

    user: Ints
    agent: Ints
    task: Ints
    day: Floats  # of the session, since the start of the period
    greedy: Ints  # arm that the logging policy prefers, -1 where arms are not randomised
    item_features: Floats  # (traces, 3): mean price, novelty, health of the items shown
    style_noise: Floats  # (traces, 2)
    noise: Floats
    cause_draw: Floats
    environment_draw: Floats
    failure_draw: Floats
    request_draw: Floats

    def take(self, rows: Ints) -> "Context":
        """The entries at `rows`."""
        return Context(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Outcomes:
    """What became of each trace with one arm; logits unless said otherwise."""

    arm: Ints
    features: Floats  # (traces, features), from -1 to 1
    cause: Ints  # index into the causes, or -1
    environment_error: Bools
    failed: Bools  # the platform failed twice: there is no answer
    underspecified: Bools
    explored: Bools
    model_changed: Bools
    drifted: Bools
    theta: Floats  # by stated weights: what people would report
    theta_revealed: Floats  # by revealed weights: what people act on
    besides_taste: Floats
    cause_effect: Floats


def play(world: World, context: Context, arm: Ints, *, settled: bool = False) -> Outcomes:
    """Run every trace with the given arm. `settled`: the arm is the routine one, so nobody is being explored with."""
    people, arms, causes = world.people, world.arms, world.causes
    kind = world.tasks.kind[context.task]
    rates = causes.rate * arms.cause_factor[arm] * causes.eligible[kind]
    cause = pick(context.cause_draw, rates)
    cause_effect = np.where(cause >= 0, causes.effect[cause], 0.0)

    # A trace shows at most one story about failing tools: its planted cause, or the platform's fault.
    environment = context.environment_draw < ENVIRONMENT_RATE
    for key in (
        "ignored_tool_error",
        "answer_without_article",
        "articles_for_order",
        "repeated_search",
        "repeated_lookup",
    ):
        environment &= cause != causes.index(key)
    misshapen = (cause == causes.index("price_as_text")) | (cause == causes.index("date_as_text"))
    failed = environment & (context.failure_draw < FAILURE_SHARE) & ((cause < 0) | misshapen)
    underspecified = context.request_draw < UNDERSPECIFIED_RATE
    explored = (context.greedy >= 0) & (arm != context.greedy) & (not settled)
    changed = (arms.model[arm] == CHANGED_MODEL) & (context.day >= world.config.change_day)

    style = arms.style[arm] + STYLE_SD * context.style_noise
    style += changed[:, None] * np.array([CHANGE_STYLE["brevity"], CHANGE_STYLE["explanation"]])
    items = np.where(failed[:, None], 0.0, context.item_features)
    features = np.round(np.concatenate([np.clip(style, -1.0, 1.0), items], axis=1), 3)

    besides_taste = (
        np.array([agent.base for agent in AGENTS])[context.agent]
        + world.tasks.difficulty[context.task]
        + arms.effect[arm]
        + np.where(changed, CHANGE_SHIFT, 0.0)
        + cause_effect
        + np.where(environment, ENVIRONMENT_SHIFT, 0.0)
        + np.where(failed, FAILED_SHIFT, 0.0)
        + np.where(underspecified, UNDERSPECIFIED_SHIFT, 0.0)
        + np.where(explored, people.tolerance[context.user], 0.0)
        + people.shift(context.user, context.day)
        + NOISE_SD * context.noise
    )
    stated = (features * people.weights(context.user, context.day, stated=True)).sum(axis=1)
    revealed = (features * people.weights(context.user, context.day, stated=False)).sum(axis=1)
    return Outcomes(
        arm=arm,
        features=features,
        cause=cause,
        environment_error=environment,
        failed=failed,
        underspecified=underspecified,
        explored=explored,
        model_changed=changed,
        drifted=context.day >= people.drift_day[context.user],
        theta=besides_taste + stated,
        theta_revealed=besides_taste + revealed,
        besides_taste=besides_taste,
        cause_effect=cause_effect,
    )
