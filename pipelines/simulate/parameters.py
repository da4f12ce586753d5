"""The parameters of a simulated deployment, as they are written to truth.json.

Values of arms and costs of causes are computed by playing the very same requests again with another arm or without the
mistake, so they are exact for this deployment rather than estimates of it.
"""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate import agents, behaviour, checks, feedback, population, rollouts, slates
from pipelines.simulate.agents import AGENTS, KINDS, MODELS, SHOP, SUPPORT
from pipelines.simulate.arrays import Floats, Ints
from pipelines.simulate.outcomes import NOISE_SD, STYLE_SD
from pipelines.simulate.population import FEATURES, NO_DRIFT, SATISFACTION, SEGMENTS
from pipelines.simulate.requests import INJECTION
from pipelines.simulate.rollouts import counterfactual, without_cause
from pipelines.simulate.sessions import TURN_SHARES
from pipelines.simulate.signals import Scene
from pipelines.simulate.spans import CHARACTERS_PER_TOKEN, POLICY_VERSION
from pipelines.simulate.tasks import DIFFICULTY_SD

__all__ = ["parameters"]


def parameters(scene: Scene, signals: pl.DataFrame) -> dict[str, Any]:
    """Everything but the rows: configuration, people, tasks, agents, arms, causes, measurement, change and attacks."""
    config, people = scene.world.config, scene.world.people
    injected = np.flatnonzero(scene.rollouts.injection).tolist()
    change = config.start + timedelta(days=config.change_day)
    deployed = config.start + timedelta(days=config.deployment_day)
    return {
        "config": {name: value.isoformat() if name == "end" else value for name, value in vars(config).items()},
        "period": {"start": config.start.isoformat(), "until": config.until.isoformat()},
        "features": list(FEATURES),
        "segments": [
            {"name": s.name, "share": s.share, "weights": list(s.weights), "tolerance": s.tolerance} for s in SEGMENTS
        ],
        "agents": _agents(scene, signals),
        "causes": _causes(scene),
        "decoys": [{"agent": agent.name, "tool": agent.decoy.tool, "rate": agent.decoy.rate} for agent in AGENTS],
        "tasks": _tasks(scene),
        "users": _users(scene),
        "drift": [
            {
                "user_id": people.user_id[user],
                "kind": "satisfaction" if people.drift[user] == SATISFACTION else "preference",
                "day": int(people.drift_day[user]),
                "at": (config.start + timedelta(days=people.drift_day[user])).isoformat(),
            }
            for user in np.flatnonzero(people.drift != NO_DRIFT).tolist()
        ],
        "contradictions": [people.user_id[user] for user in np.flatnonzero(people.contradicts).tolist()],
        "opted_out": [people.user_id[user] for user in np.flatnonzero(people.opted_out).tolist()],
        "dislike_exploration": [people.user_id[u] for u in np.flatnonzero(people.dislikes_exploration).tolist()],
        "model_change": {
            "model": MODELS[agents.CHANGED_MODEL].name,
            "fingerprint": MODELS[agents.CHANGED_MODEL].fingerprint,
            "fingerprint_changed": False,
            "day": config.change_day,
            "at": change.isoformat(),
            "effect": agents.CHANGE_SHIFT,
            "style": agents.CHANGE_STYLE,
        },
        "interventions": [
            {
                "agent": AGENTS[SUPPORT].name,
                "what": "prompt v7 replaced by v8",
                "day": config.deployment_day,
                "at": deployed.isoformat(),
            }
        ],
        "reward_hacking": {"agent": AGENTS[SHOP].name, "prompt": "v5", "click_effect": 0.7, "effect": -0.45},
        "injections": [{"trace_id": scene.rollouts.trace_id[row], "text": INJECTION.strip()} for row in injected],
        "policy": {"version": POLICY_VERSION, "exploration_rate": config.exploration_rate, "sticky": "session"},
        "measurement": _measurement(scene),
    }


def _measurement(scene: Scene) -> dict[str, Any]:
    """How quality and taste show in each kind of signal, and the constants of quality itself."""
    config = scene.world.config
    return {
        "quality": {
            "noise_sd": NOISE_SD,
            "style_sd": STYLE_SD,
            "difficulty_sd": DIFFICULTY_SD,
            "deviation_sd": population.DEVIATION_SD,
            "leniency_sd": population.LENIENCY_SD,
            "satisfaction_drift": population.SATISFACTION_SHIFT,
            "environment": {"rate": agents.ENVIRONMENT_RATE, "effect": agents.ENVIRONMENT_SHIFT},
            "failed": {"share_of_environment": agents.FAILURE_SHARE, "effect": agents.FAILED_SHIFT},
            "underspecified": {"rate": agents.UNDERSPECIFIED_RATE, "effect": agents.UNDERSPECIFIED_SHIFT},
        },
        "turn_shares": list(TURN_SHARES),
        "thumb": {**feedback.VOLUNTARY, "solicitation_rate": config.solicitation_rate},
        "rating": {**feedback.RATING, "cutpoints": list(feedback.RATING["cutpoints"])},
        "comment": {"share_of_thumbs": feedback.COMMENT_SHARE},
        "stated_goal": {"sd": feedback.GOAL_SD},
        "click": {
            "examination": list(slates.EXAMINATION),
            "intercept": slates.CLICK_CONSTANT,
            "loading_besides_taste": slates.QUALITY_LOADING,
            "swap_rate": config.swap_rate,
        },
        "choice": {"intercept": slates.CHOICE_CONSTANT, "loading_besides_taste": slates.QUALITY_LOADING},
        "purchase": behaviour.PURCHASE,
        "abandon": behaviour.ABANDON,
        "copy": behaviour.COPY,
        "edit": behaviour.EDIT,
        "retry": rollouts.RETRY,
        "outcome": checks.OUTCOME,
        "judge": {**checks.JUDGE, "rate": config.judge_rate},
        "cost": {
            "characters_per_token": CHARACTERS_PER_TOKEN,
            "usd_per_million": {m.name: {"input": m.input_usd, "output": m.output_usd} for m in MODELS},
        },
    }


def _agents(scene: Scene, signals: pl.DataFrame) -> list[dict[str, Any]]:
    played = scene.rollouts
    thumbs = signals.filter((pl.col("kind") == "thumb") & ~pl.col("solicited")).select("trace_id", "value")
    known = pl.DataFrame({"trace_id": played.trace_id, "agent": played.context.agent})
    naive = {
        agent: (count, share)
        for agent, count, share in thumbs.join(known, on="trace_id")
        .group_by("agent")
        .agg(pl.len(), pl.col("value").mean())
        .iter_rows()
    }
    rows = []
    for index, agent in enumerate(AGENTS):
        own = np.flatnonzero(scene.agent(index))
        count, share = naive.get(index, (0, None))
        rows.append(
            {
                "name": agent.name,
                "base": agent.base,
                "explicit_task": agent.explicit_task,
                "randomised": agent.greedy is not None,
                "traces": len(own),
                "mean_quality": _mean(played.quality[own]),
                "satisfaction_rate": _mean(played.satisfaction[own]),
                "satisfied_share": _mean(played.satisfied[own].astype(float)),
                "voluntary_thumbs": {"count": count, "share_up": share},
                "arms": _arms(scene, index, own),
            }
        )
    return rows


def _arms(scene: Scene, index: int, own: Ints) -> list[dict[str, Any]]:
    """Arms of one agent.

    `value` is the mean quality if all traces of people who did not opt out ran the arm, with the response to exploring
    that the log shows where the arm is not the greedy one: what off-policy estimates from the log aim at.
    `settled_value` is the mean over all traces without that response, once the arm has become routine.
    """
    arms, people = scene.world.arms, scene.world.people
    user = scene.rollouts.context.user
    eligible = own[~people.opted_out[user[own]]]
    segment, eligible_segment = people.segment[user[own]], people.segment[user[eligible]]
    rows = []
    for arm in arms.of(index).tolist():
        value = counterfactual(scene.world, scene.rollouts, eligible, arm, settled=False)
        settled = counterfactual(scene.world, scene.rollouts, own, arm, settled=True)
        definition = AGENTS[index].prompts[arms.prompt[arm]]
        rows.append(
            {
                "name": arms.name[arm],
                "prompt": definition.version,
                "model": MODELS[arms.model[arm]].name,
                "effect": float(arms.effect[arm]),
                "click_effect": definition.click_effect,
                "style": {"brevity": definition.brevity, "explanation": definition.explanation},
                "cause_factors": definition.cause_factors,
                "traces": int((scene.rollouts.outcomes.arm == arm).sum()),
                "value": _mean(value),
                "settled_value": _mean(settled),
                "value_by_segment": {s.name: _mean(value[eligible_segment == at]) for at, s in enumerate(SEGMENTS)},
                "settled_value_by_segment": {s.name: _mean(settled[segment == at]) for at, s in enumerate(SEGMENTS)},
                "greedy_for": [
                    s.name
                    for s, (prompt, model) in zip(SEGMENTS, AGENTS[index].greedy or (), strict=False)
                    if (prompt, model) == (arms.prompt[arm], arms.model[arm])
                ],
            }
        )
    return rows


def _causes(scene: Scene) -> list[dict[str, Any]]:
    """Planted causes; `payoff` is what removing the cause would add to mean quality per trace of its kinds of task."""
    played, causes = scene.rollouts, scene.world.causes
    drop = without_cause(played) - played.quality
    kind = scene.world.tasks.kind[played.context.task]
    rows = []
    for index, cause in enumerate(causes.definitions):
        made = played.outcomes.cause == index
        eligible = causes.eligible[kind, index]
        rows.append(
            {
                "key": cause.key,
                "agent": AGENTS[causes.agent[index]].name,
                "task_kinds": list(cause.kinds),
                "failure": cause.axis,
                "pattern": cause.pattern,
                "remedy": cause.remedy,
                "rate": cause.rate,
                "effect": cause.effect,
                "traces": int(made.sum()),
                "eligible_traces": int(eligible.sum()),
                "mean_quality_drop": _mean(drop[made]),
                "payoff": _mean(np.where(made, drop, 0.0)[eligible]),
            }
        )
    return rows


def _tasks(scene: Scene) -> list[dict[str, Any]]:
    tasks = scene.world.tasks
    counts = np.bincount(scene.rollouts.context.task, minlength=len(tasks.key)).tolist()
    columns = zip(tasks.key, tasks.agent.tolist(), tasks.kind.tolist(), tasks.difficulty.tolist(), counts, strict=True)
    return [
        {
            "key": key,
            "agent": AGENTS[agent].name,
            "kind": KINDS[kind],
            "difficulty": difficulty,
            "traces": count,
        }
        for key, agent, kind, difficulty, count in columns
    ]


def _users(scene: Scene) -> list[dict[str, Any]]:
    people = scene.world.people
    counts = np.bincount(scene.rollouts.context.user, minlength=len(people.user_id)).tolist()
    return [
        {
            "user_id": people.user_id[user],
            "segment": SEGMENTS[people.segment[user]].name,
            "leniency": float(people.leniency[user]),
            "tolerance": float(people.tolerance[user]),
            "weights_revealed": people.revealed[user].tolist(),
            "weights_stated": people.stated[user].tolist(),
            "weights_revealed_after": people.revealed_after[user].tolist() if drifts else None,
            "weights_stated_after": people.stated_after[user].tolist() if drifts else None,
            "traces": counts[user],
        }
        for user, drifts in enumerate((people.drift != NO_DRIFT).tolist())
    ]


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
