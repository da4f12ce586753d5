"""Traces and steps for tests of credit: a decision process whose exact values are known, and frames from plain rows."""

from bisect import bisect
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from pipelines.credit.parallel import PARALLEL
from pipelines.credit.steps import STEPS, TRACES

ACTIONS = ("search", "check", "answer")
LONGEST = 6
NONE = pl.DataFrame(schema=PARALLEL)


@dataclass(frozen=True)
class Process:
    """Simulated traces of the decision process with, per step in order of trace and position, the exact numbers."""

    traces: pl.DataFrame
    steps: pl.DataFrame
    value: np.ndarray
    credit: np.ndarray
    decision: np.ndarray


def policy(step: int, last: int, failed: int, used: int) -> np.ndarray:
    """Probabilities of search, check and answer."""
    if step == LONGEST:
        return np.array([0.0, 0.0, 1.0])
    if step == 1:
        return np.array([0.7, 0.3, 0.0])
    weights = np.array([0.3, 0.35 if not used & 2 else 0.1, 0.35])
    if failed:
        weights = weights * np.array([2.0, 1.0, 0.7])
    if last == 1:
        weights = weights * np.array([0.5, 1.0, 1.5])
    return weights / weights.sum()


@cache
def odds(step: int, last: int, failed: int, used: int) -> tuple[float, float]:
    """Draws below the first number search, below the second check, others answer."""
    search, check, _ = policy(step, last, failed, used)
    return float(search), float(search + check)


def failing(action: int, failed: int) -> float:
    """Probability that a step fails."""
    return (0.15, 0.25, 0.0)[action] + 0.1 * failed


def success(errors: int, used: int) -> float:
    """Probability of a good end when the agent answers."""
    return 0.3 + 0.4 * bool(used & 2) + 0.1 * bool(used & 1) - 0.12 * min(errors, 2)


@cache
def exact(step: int, last: int, failed: int, errors: int, used: int) -> tuple[float, tuple[float, ...]]:
    """V of a state and Q of the three actions, by backward induction."""
    q = []
    for action in range(3):
        if action == 2:
            q.append(success(errors, used))
        elif step == LONGEST:
            q.append(0.0)
        else:
            chance = failing(action, failed)
            ends = [exact(step + 1, action, f, min(errors + f, 2), used | 1 << action)[0] for f in (0, 1)]
            q.append((1.0 - chance) * ends[0] + chance * ends[1])
    return float(policy(step, last, failed, used) @ q), tuple(q)


def process(traces: int, seed: int, users: int = 400) -> Process:
    """Play the decision process; rewards are 0 or 1 and certain."""
    draw = iter(np.random.default_rng(seed).random(traces * (2 * LONGEST + 1)).tolist()).__next__
    rows, rewards = [], []
    for trace in range(traces):
        step, last, failed, errors, used = 1, -1, 0, 0, 0
        while True:
            value, q = exact(step, last, failed, errors, used)
            action = bisect(odds(step, last, failed, used), draw())
            fails = int(draw() < failing(action, failed))
            rows.append((trace, step, ACTIONS[action], bool(fails), value, q[action] - value))
            if action == 2:
                rewards.append(float(draw() < success(errors, used)))
                break
            step, last, failed, errors, used = step + 1, action, fails, min(errors + fails, 2), used | 1 << action
    at, position, name, fails, value, decision = (list(column) for column in zip(*rows, strict=True))
    value_, trace_ = np.array(value), np.array(at)
    final = np.append(trace_[1:] != trace_[:-1], True)
    following = np.where(final, np.array(rewards)[trace_], np.append(value_[1:], 0.0))
    return Process(
        traces=traces_frame(rewards, users=[f"u{n % users}" for n in range(traces)]),
        steps=steps_frame(at, position, name, failed=fails),
        value=value_,
        credit=following - value_,
        decision=np.array(decision),
    )


def traces_frame(rewards, *, users=None, agent="a", task=None, arm=None, sd=0.0, signals=1):
    """A frame of columns TRACES, one row per reward."""
    n = len(rewards)
    return pl.DataFrame(
        {
            "trace_no": np.arange(n, dtype=np.uint32), "trace_id": [f"t{i}" for i in range(n)],
            "agent": agent if isinstance(agent, list) else [agent] * n, "user_id": users if users else [None] * n,
            "task": task if isinstance(task, list) else [task] * n, "arm": arm if isinstance(arm, list) else [arm] * n,
            "reward": [float(r) for r in rewards], "reward_sd": sd if isinstance(sd, list) else [sd] * n,
            "signals": signals if isinstance(signals, list) else [signals] * n,
        },
        schema=TRACES,
    )  # fmt: skip


def steps_frame(traces, positions, names, *, failed=None, call=None, shape=None, kind="tool", tokens=None, times=None):
    """A frame of columns STEPS; span ids are "trace-position"."""
    n = len(traces)
    return pl.DataFrame(
        {
            "trace_no": np.array(traces, dtype=np.uint32), "position": np.array(positions, dtype=np.uint32),
            "span_id": [f"{t}-{p}" for t, p in zip(traces, positions, strict=True)], "kind": [kind] * n, "name": names,
            "failed": failed or [False] * n, "tokens": tokens or [None] * n, "cost_usd": [None] * n,
            "call": call or [None] * n, "shape": shape or [None] * n,
            "started_us": [t[0] for t in times] if times else [None] * n,
            "ended_us": [t[1] for t in times] if times else [None] * n,
        },
        schema=STEPS,
    )  # fmt: skip
