"""Playing the deployment: sessions become traces, one request after the other.

Within a session the next request repeats the task when the user was not content (a retry), so the turns are played in
order; everything else about a trace is drawn beforehand.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pipelines.simulate.agents import AGENTS, KINDS, SUPPORT
from pipelines.simulate.arrays import Bools, Floats, Ints, hex_ids, stream
from pipelines.simulate.outcomes import Context, Outcomes, World, play
from pipelines.simulate.sessions import DAY_MS, TURN_SHARES, Sessions
from pipelines.simulate.slates import Responses, Slates, draw_slates, respond

__all__ = ["RETRY", "Rollouts", "counterfactual", "play_sessions", "without_cause"]

RETRY = {"intercept": -0.9, "loading": -1.0}  # P(next request is a retry | there is one) on the revealed logit


@dataclass(frozen=True)
class Rollouts:
    """All traces, in order of session and turn, one entry each in every array."""

    trace_id: list[str]
    session: Ints
    turn: Ints  # from 0
    previous: Ints  # index of the session's previous trace, -1 for the first
    last: Bools  # of its session
    is_retry: Bools  # of the previous trace
    retried: Bools  # by the next trace
    injection: Bools
    context: Context
    outcomes: Outcomes
    quality: Floats  # 0 to 1, by stated weights
    quality_revealed: Floats
    satisfaction: Floats  # probability that this person, if asked, says yes
    satisfied: Bools  # what this person says if asked
    slates: Slates
    slate_features: Floats  # (traces, SLOTS, features)
    responses: Responses

    def __len__(self) -> int:
        return len(self.trace_id)


def play_sessions(world: World, sessions: Sessions) -> Rollouts:
    """Play every request of every session."""
    rng = stream(world.config.seed, "outcomes")
    session = np.repeat(np.arange(len(sessions.user)), sessions.size)
    n = len(session)
    first = np.concatenate([[0], np.cumsum(sessions.size)[:-1]])
    turn = np.arange(n) - first[session]
    last = turn == sessions.size[session] - 1
    agent = sessions.agent[session]
    slates = draw_slates(world.config, agent)
    shown = np.maximum((slates.variant >= 0).sum(axis=1), 1)
    context = Context(
        user=sessions.user[session],
        agent=agent,
        task=_new_tasks(world, agent, rng),
        day=(sessions.start_ms / DAY_MS)[session],
        greedy=sessions.greedy[session],
        item_features=slates.item_features().sum(axis=1) / shown[:, None],
        style_noise=rng.normal(size=(n, 2)),
        noise=rng.normal(size=n),
        cause_draw=rng.random(n),
        environment_draw=rng.random(n),
        failure_draw=rng.random(n),
        request_draw=rng.random(n),
    )
    retry_draw = rng.random(n)
    is_retry = np.zeros(n, bool)
    retried = np.zeros(n, bool)
    arm = sessions.arm[session].copy()
    for step in range(len(TURN_SHARES)):
        rows = np.flatnonzero(turn == step)
        if step:
            is_retry[rows] = retried[rows - 1]
            context.task[rows] = np.where(is_retry[rows], context.task[rows - 1], context.task[rows])
        here = context.take(rows)
        arm[rows] = np.where(arm[rows] >= 0, arm[rows], _deployed_arm(world, here))
        played = play(world, here, arm[rows])
        chance = expit(RETRY["intercept"] + RETRY["loading"] * played.theta_revealed)
        retried[rows] = ~last[rows] & (retry_draw[rows] < chance)

    outcomes = play(world, context, arm)
    satisfaction = expit(outcomes.theta + world.people.leniency[context.user])
    slate_features = slates.features(outcomes.features[:, :2])
    responses = respond(
        slates,
        slate_features,
        world.people.weights(context.user, context.day, stated=False),
        agent,
        outcomes.failed,
        outcomes.besides_taste,
        world.arms.click_effect[arm],
        rng,
    )
    return Rollouts(
        trace_id=hex_ids(rng, n, 32),
        session=session,
        turn=turn,
        previous=np.where(turn > 0, np.arange(n) - 1, -1),
        last=last,
        is_retry=is_retry,
        retried=retried,
        injection=_injections(world, context, turn, rng),
        context=context,
        outcomes=outcomes,
        quality=expit(outcomes.theta),
        quality_revealed=expit(outcomes.theta_revealed),
        satisfaction=satisfaction,
        satisfied=rng.random(n) < satisfaction,
        slates=slates,
        slate_features=slate_features,
        responses=responses,
    )


def counterfactual(world: World, rollouts: Rollouts, rows: Ints, arm: int, *, settled: bool) -> Floats:
    """Quality of the traces at `rows`, had they been run with `arm` in the very same circumstances."""
    played = play(world, rollouts.context.take(rows), np.full(len(rows), arm), settled=settled)
    return np.asarray(expit(played.theta))


def without_cause(rollouts: Rollouts) -> Floats:
    """Quality of each trace, had the agent not made its planted mistake."""
    return np.asarray(expit(rollouts.outcomes.theta - rollouts.outcomes.cause_effect))


def _new_tasks(world: World, agent: Ints, rng: np.random.Generator) -> Ints:
    task = np.empty(len(agent), dtype=np.int64)
    for index in range(len(AGENTS)):
        rows, own = np.flatnonzero(agent == index), np.flatnonzero(world.tasks.agent == index)
        task[rows] = rng.choice(own, size=len(rows), p=world.tasks.popularity[own])
    return task


def _deployed_arm(world: World, context: Context) -> Ints:
    """The support desk's arm: the prompt in force that day, and the larger model for refunds only."""
    refund = world.tasks.kind[context.task] == KINDS.index("refund")
    prompt = (context.day >= world.config.deployment_day).astype(np.int64)
    return world.arms.index(SUPPORT, prompt, refund.astype(np.int64))


def _injections(world: World, context: Context, turn: Ints, rng: np.random.Generator) -> Bools:
    """Choose where a user message attempts an injection: first requests for a refund, as far as there are any."""
    refund = world.tasks.kind[context.task] == KINDS.index("refund")
    order = rng.permutation(len(turn))
    suitability = (refund & (turn == 0)).astype(int) * 2 + refund
    chosen = order[np.argsort(-suitability[order], kind="stable")][: world.config.injections]
    injected = np.zeros(len(turn), bool)
    injected[chosen] = True
    return injected
