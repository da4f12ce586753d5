"""What the customer's system states about each trace: a frame with the columns of the trace layout."""

import numpy as np
import polars as pl

from pipelines.simulate.agents import AGENTS, MODELS
from pipelines.simulate.arrays import Ints
from pipelines.simulate.outcomes import World
from pipelines.simulate.population import FEATURES, SEGMENTS
from pipelines.simulate.requests import Requests
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.sessions import Sessions
from pipelines.simulate.spans import Spans, moments, steering

__all__ = ["write_statements"]


def write_statements(
    world: World,
    sessions: Sessions,
    rollouts: Rollouts,
    requests: Requests,
    answers: list[str],
    spans: Spans,
    start_ms: Ints,
    end_ms: Ints,
) -> pl.DataFrame:
    """One row per trace in order of time. Decisions are stated only where the arm was drawn from a policy."""
    people, arms, context, outcomes = world.people, world.arms, rollouts.context, rollouts.outcomes
    agent = context.agent.tolist()
    arm = outcomes.arm.tolist()
    model = [MODELS[m] for m in arms.model[outcomes.arm].tolist()]
    greedy = sessions.greedy[rollouts.session].tolist()
    frame = pl.DataFrame(
        {
            "trace_id": rollouts.trace_id,
            "agent": [AGENTS[a].name for a in agent],
            "agent_version": [
                AGENTS[a].prompts[p].version for a, p in zip(agent, arms.prompt[arm].tolist(), strict=True)
            ],
            "user_id": [people.user_id[u] for u in context.user.tolist()],
            "session_id": [sessions.session_id[s] for s in rollouts.session.tolist()],
            "task": pl.Series(
                [
                    world.tasks.key[t] if AGENTS[a].explicit_task else None
                    for a, t in zip(agent, context.task.tolist(), strict=True)
                ],
                dtype=pl.String,
            ),
            "arm": [arms.name[a] for a in arm],
            "model": [m.name for m in model],
            "model_fingerprint": [m.fingerprint for m in model],
            "decision_id": pl.Series(
                [
                    sessions.decision_id[s] if g >= 0 else None
                    for s, g in zip(rollouts.session.tolist(), greedy, strict=True)
                ],
                dtype=pl.String,
            ),
            "started_at": moments(world, start_ms),
            "ended_at": moments(world, end_ms),
            "status": np.where(outcomes.failed, "error", "ok").tolist(),
            "input": requests.text,
            "output": answers,
            "input_tokens": spans.input_tokens,
            "output_tokens": spans.output_tokens,
            "cost_usd": spans.cost_usd,
            "metadata": _metadata(world, sessions, rollouts),
        }
    )
    return frame.sort("started_at", "trace_id")


def _metadata(world: World, sessions: Sessions, rollouts: Rollouts) -> list[str]:
    """Segment and profile, the answer's readable features, and the steering attributes, as JSON objects."""
    people, rate = world.people, world.config.solicitation_rate
    profiles = [
        f'{{"segment": "{SEGMENTS[segment].name}", "plan": "{plan}", "region": "{region}", '
        f'"exploration_opt_out": {"true" if out else "false"}, "solicitation.propensity": {rate:g}'
        for segment, plan, region, out in zip(
            people.segment.tolist(), people.plan, people.region, people.opted_out.tolist(), strict=True
        )
    ]
    columns = zip(
        rollouts.context.user.tolist(),
        rollouts.turn.tolist(),
        rollouts.outcomes.features.tolist(),
        steering(world, sessions, rollouts),
        strict=True,
    )
    texts = []
    for user, turn, features, steer in columns:
        listed = ", ".join(f'"{name}": {value:g}' for name, value in zip(FEATURES, features, strict=True))
        tail = f", {steer}" if steer else ""
        texts.append(f'{profiles[user]}, "turn": {turn + 1}, "answer_features": {{{listed}}}{tail}}}')
    return texts
