"""Expected reward before each step, and what its choice adds: prefix values and advantages, cross-fitted by user.

V(h) = E[Y | h] with h abstracted (`pipelines.credit.states`) is estimated as in METHODS §4:

    V(h) = m(cell of h) + β z,      A(h, a) = Q(h, a) - V(h)

m is a cell mean of Y - βz, shrunk through the nested cells (`pipelines.credit.shrinkage`); z is what task and arm alone
predict for the trace (the baseline), entering with its slope β within cells (analysis of covariance), so that steps
taken in hard tasks are not blamed for them. A is the mean of what V leaves over, shrunk from (agent, tool) down to the
action in its state and task: return decomposition by differences of predictions (RUDDER, Arjona-Medina et al. 2019)
over shared state signatures (RTMC 2604.11037). The cell means that a trace is valued by come from traces of other
users only; their baselines z are predicted from the folds other than their own, so that β is not inflated by fitting z
to them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.credit.shrinkage import Cells, Sums, dense, shrink, sum_by
from pipelines.credit.states import COARSE, SITUATION, USED, States

__all__ = ["Outcomes", "Values", "baseline", "tabular", "typical_visits"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_NO_SLOPE = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """One entry per trace: reward `mean` and `sd`, whether it has signals of its own (only such traces teach anything),
    its `agent`, `task` and `arm` as codes, and its `fold` of `folds`."""

    mean: Floats
    sd: Floats
    informative: Bools
    agent: Ints
    task: Ints
    arm: Ints
    fold: Ints
    folds: int
    agents: int


@dataclass(frozen=True)
class Values:
    """One entry per step: V before it with its standard deviation, and the advantage Q - V of its choice."""

    value: Floats
    sd: Floats
    advantage: Floats


@dataclass(frozen=True)
class _Moments:
    """Sums per cell over the folds that a fold's model is trained on, shape (cells, folds), of outcome y and z."""

    n: Floats
    y: Floats
    z: Floats
    yy: Floats
    yz: Floats
    zz: Floats

    def adjusted(self, slope: Floats) -> Sums:
        """Of y - slope z; `slope` has shape (cells, folds)."""
        squares = self.yy - 2.0 * slope * self.yz + slope**2 * self.zz
        return Sums(self.n, self.y - slope * self.z, squares)


def baseline(outcomes: Outcomes) -> tuple[Floats, Floats]:
    """What agent and task, and what agent, task and arm, predict for each trace (shape (traces,)), from other folds."""
    rows = outcomes.informative
    group = np.arange(outcomes.agents)
    task, task_agent = dense(outcomes.agent, outcomes.task)
    arm, arm_agent = dense(outcomes.agent, outcomes.arm)
    sums = _sums(task, len(task_agent), outcomes.fold, outcomes.mean, rows, outcomes.folds)
    tasks = shrink(sums, task_agent, _agents(sums.by(task_agent, outcomes.agents)), task_agent, outcomes.agents)
    left = outcomes.mean - tasks.mean[task, outcomes.fold]
    arms = shrink(
        _sums(arm, len(arm_agent), outcomes.fold, left, rows, outcomes.folds),
        arm_agent,
        _zeros(len(group), outcomes.folds),
        arm_agent,
        outcomes.agents,
    )
    by_task = tasks.mean[task, outcomes.fold]
    return np.clip(by_task, 0.0, 1.0), np.clip(by_task + arms.mean[arm, outcomes.fold], 0.0, 1.0)


def typical_visits(states: States, rows: Bools, agents: int) -> Floats:
    """Per agent, how many of the visits `rows` (shape (steps,)) the cell of a typical step has: the median over steps.

    The cell is that of last step, status, what went wrong and the number of the step; NaN for agents without visits.
    """
    codes = states.codes[SITUATION]
    n = np.bincount(codes[rows], minlength=len(states.parents[SITUATION]))[codes]
    found = np.full(agents, np.nan)
    for agent in np.unique(states.codes[0][rows]):
        found[agent] = np.median(n[rows & (states.codes[0] == agent)])
    return found


def tabular(states: States, trace: Ints, rows: Bools, outcomes: Outcomes, z: Floats) -> Values:
    """Values and advantages from shrunk cell means.

    `trace` (shape (steps,)): each step's entry in `outcomes`; `rows` (shape (steps,)): the steps to learn from.
    """
    fold = outcomes.fold[trace]
    y, zs = outcomes.mean[trace], z[trace]
    agents = outcomes.agents
    finest = len(states.codes) - 1
    moments = _moments(states.codes[finest], len(states.parents[finest]), fold, y, zs, rows, outcomes.folds)
    agent_of = states.ancestors(finest, 0)
    slope = _slope(moments, agent_of, agents)
    sums = [moments.adjusted(slope[agent_of])]
    for level in range(finest, 0, -1):
        sums.append(sums[-1].by(states.parents[level], len(states.parents[level - 1])))
    sums.reverse()
    cells = _agents(sums[0])
    for level in range(1, finest + 1):
        cells = shrink(sums[level], states.parents[level], cells, states.ancestors(level, 0), agents)
    code = states.codes[finest]
    value = cells.mean[code, fold] + slope[states.codes[0], fold] * zs
    pair, state_of = dense(code, states.action)
    task_of = np.zeros(len(states.parents[finest]), dtype=np.int64)
    task_of[code] = outcomes.task[trace]
    acted = _moments(pair, len(state_of), fold, y, zs, rows, outcomes.folds).adjusted(slope[agent_of[state_of]])
    advantage = _advantages(states, acted, cells.mean, pair, state_of, states.action, task_of, agents)
    return Values(
        value=np.clip(value, 0.0, 1.0),
        sd=np.sqrt(cells.variance[code, fold]),
        advantage=advantage[pair, fold],
    )


def _advantages(
    states: States, acted: Sums, value: Floats, pair: Ints, state_of: Ints, action: Ints, task_of: Ints, agents: int
) -> Floats:
    """A per (state, action) pair and fold: the mean of y - V, shrunk from the tool to its variant to the state."""
    finest = len(states.codes) - 1
    v = value[state_of]
    left = Sums(acted.n, acted.total - acted.n * v, acted.squares - 2.0 * v * acted.total + acted.n * v**2)
    action_of = np.zeros(len(state_of), dtype=np.int64)
    action_of[pair] = action
    tool = states.tool_of[action_of]
    tools, tool_parent = dense(states.ancestors(finest, 0)[state_of], tool)
    variants, variant_parent = dense(tools, action_of)
    coarse, coarse_parent = dense(variants, states.ancestors(finest, COARSE)[state_of])
    used, used_parent = dense(coarse, states.ancestors(finest, USED)[state_of])
    task, task_parent = dense(used, task_of[state_of])
    folds = left.n.shape[1]
    cells, group = _zeros(agents, folds), np.arange(agents)
    for codes, parent in (
        (tools, tool_parent),
        (variants, variant_parent),
        (coarse, coarse_parent),
        (used, used_parent),
        (task, task_parent),
    ):
        group = group[parent]
        cells = shrink(left.by(codes, len(parent)), parent, cells, group, agents)
    return cells.mean[task]


def _moments(code: Ints, cells: int, fold: Ints, y: Floats, z: Floats, rows: Bools, folds: int) -> _Moments:
    key = code[rows] * folds + fold[rows]
    y, z = y[rows], z[rows]
    columns = (None, y, z, y * y, y * z, z * z)
    return _Moments(*(_others(np.bincount(key, weights=w, minlength=cells * folds), folds) for w in columns))


def _sums(code: Ints, cells: int, fold: Ints, y: Floats, rows: Bools, folds: int) -> Sums:
    key, y = code[rows] * folds + fold[rows], y[rows]
    return Sums(*(_others(np.bincount(key, weights=w, minlength=cells * folds), folds) for w in (None, y, y * y)))


def _others(by_fold: NDArray[np.generic], folds: int) -> Floats:
    """Sums over all folds but each one, from sums per cell and fold."""
    own = by_fold.astype(np.float64).reshape(-1, folds)
    return np.asarray(own @ (1.0 - np.eye(folds)))


def _slope(moments: _Moments, agent_of: Ints, agents: int) -> Floats:
    """β per agent and fold: regression of y on z within cells, kept between 0 and 1.5."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.maximum(moments.n, 1.0)
        covariance = sum_by(agent_of, moments.yz - moments.y * moments.z / n, agents)
        variance = sum_by(agent_of, moments.zz - moments.z**2 / n, agents)
        slope = np.where(variance > _NO_SLOPE, covariance / np.maximum(variance, _NO_SLOPE), 0.0)
    return np.asarray(np.clip(slope, 0.0, 1.5))


def _agents(sums: Sums) -> Cells:
    """Means of agents; of all together where an agent has no visits in the other folds."""
    overall = sums.total.sum(axis=0) / np.maximum(sums.n.sum(axis=0), 1.0)
    mean = np.where(sums.n > 0, sums.total / np.maximum(sums.n, 1.0), overall)
    spread = np.maximum(sums.squares / np.maximum(sums.n, 1.0) - mean**2, 0.0)
    variance = np.where(sums.n > 0, spread / np.maximum(sums.n, 1.0), 0.25)
    return Cells(mean, variance, np.zeros_like(mean))


def _zeros(cells: int, folds: int) -> Cells:
    return Cells(np.zeros((cells, folds)), np.zeros((cells, folds)), np.zeros((cells, folds)))
