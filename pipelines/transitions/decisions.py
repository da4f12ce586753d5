"""The abstract chain of an agent as a decision process: the agent chooses what to do next, the world answers.

An action is what the next step is (a tool, a model call, or to finish); whether it fails and where a finished trace
ends is the world's. P(s'|s,a) are the observed shares. Features are readable: a step (the anchor: what one more step
costs), a failed step, the same call again, finishing with success, and one for each of the most used tools.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards.maxent import Decisions
from pipelines.transitions.abstraction import Folded
from pipelines.transitions.episodes import Transitions

__all__ = ["ANCHOR", "MOST_STATES", "decision_process"]

ANCHOR = "one more step"
_MOST_TOOLS = 8
MOST_STATES = 60  # the most visited ones; a larger process would take minutes to bootstrap
_FINISH = "finish"

Ints = NDArray[np.int64]


def decision_process(moves: Transitions, folded: Folded, users: Ints) -> Decisions | None:
    """The decisions in `moves`; `users` (traces,) are codes from 0. None when an agent never had a choice.

    Of more than `MOST_STATES` states the most visited are kept: a step into another one ends the episode.
    """
    size = folded.states.height
    actions = [*folded.states["action"].to_list(), _FINISH]
    names = sorted(set(actions))
    of_state = np.array([names.index(action) for action in actions], dtype=np.int64)
    target_action = np.where(moves.target >= size, of_state[-1], of_state[np.minimum(moves.target, size)])
    kept = moves.source <= MOST_STATES
    source, target, action = moves.source[kept], moves.target[kept], target_action[kept]
    states = min(size, MOST_STATES) + 1
    counts = np.zeros((states, len(names), size + 3))
    code = (source * len(names) + action) * (size + 3) + target
    counts += np.bincount(code, minlength=counts.size).reshape(counts.shape)
    total = counts.sum(axis=2)
    available = total > 0
    if not np.any(available.sum(axis=1) > 1):
        return None
    share = counts / np.maximum(total, 1.0)[:, :, None]
    transition = np.zeros((states, len(names), states))
    transition[:, :, 1:] = share[:, :, : states - 1]
    features, labels = _features(share, folded.states, names, size)
    per_user = pl.DataFrame({"s": source, "a": action, "u": users[moves.trace[kept]]}).group_by("s", "a", "u").len()
    per_user = per_user.sort("u", "s", "a")
    s, a, u, n = (per_user[name].to_numpy() for name in ("s", "a", "u", "len"))
    return Decisions(
        transition, available, features, labels, s.astype(np.int64), a.astype(np.int64), u.astype(np.int64),
        n.astype(np.float64),
    )  # fmt: skip


def _features(
    share: NDArray[np.float64], states: pl.DataFrame, names: list[str], size: int
) -> tuple[NDArray[np.float64], list[str]]:
    finish = names.index(_FINISH)
    step = np.ones(share.shape[:2])
    step[:, finish] = 0.0
    columns = {
        ANCHOR: step,
        "a step that fails": share[:, :, :size] @ states["failed"].to_numpy().astype(np.float64),
        "the same call again": share[:, :, :size] @ states["again"].to_numpy().astype(np.float64),
        "finishing with success": share[:, :, size],
        "finishing with failure": share[:, :, size + 1],
    }
    tools = states.filter(kind="tool").group_by("action").agg(pl.col("visits").sum())
    ranked = tools.sort(["visits", "action"], descending=[True, False])["action"].head(_MOST_TOOLS).to_list()
    # Where every step is one of these tools, their calls add up to the anchor: the most used one is the baseline.
    baseline = ranked[:1] if set(names) <= {*ranked, _FINISH} else []
    for tool in sorted(set(ranked) - set(baseline)):
        of_tool = np.zeros(share.shape[:2])
        of_tool[:, names.index(tool)] = 1.0
        columns[f"calling {tool}"] = of_tool
    return np.stack(list(columns.values()), axis=2), list(columns)
