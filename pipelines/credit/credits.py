"""Credit of each step of a trace: how much it moved the expected reward, split into decision and luck (METHODS §4).

    credit_t = V(h_{t+1}) - V(h_t),   V after the last step = Y
    credit_t = [Q(h_t, a_t) - V(h_t)]  +  [V(h_{t+1}) - Q(h_t, a_t)]   = decision + luck

so that over a trace credits sum to its reward minus the baseline V(h_1). A step made twice gets credit for each visit.
Where an agent's rewards cannot tell anything apart its traces get no credit, and a note says why.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.credit.boosted import MOST_ROWS, boosted
from pipelines.credit.parallel import Coalitions, coalitions, extended
from pipelines.credit.states import ENOUGH_VISITS, Choices, States, choices, states
from pipelines.credit.steps import Prefixes, prefixes
from pipelines.credit.values import Outcomes, Values, baseline, tabular, typical_visits
from pipelines.stats.contract import NOTES

__all__ = ["CREDITS", "NOTES", "CreditConfig", "Credited", "assign"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CREDITS = pl.Schema(
    {
        "trace_no": pl.UInt32(),
        "span_id": pl.String(),
        "position": pl.UInt32(),
        "value": pl.Float64(),  # V before the step
        "credit": pl.Float64(),
        "decision": pl.Float64(),
        "luck": pl.Float64(),
        "sd": pl.Float64(),  # of the credit
    }
)


@dataclass(frozen=True)
class CreditConfig:
    """Folds of the cross-fit, traces with signals that an agent needs, and visits below which boosting takes over."""

    folds: int = 5
    min_traces: int = 30
    min_visits: int = ENOUGH_VISITS


@dataclass(frozen=True)
class Credited:
    """`frame` (columns CREDITS) of the traces that got credit, in order of trace and position; `notes` (NOTES).

    The rest is what the means per tool and the shares of parallel spans are computed from: arrays per step (`kept`:
    those in `frame`; entries of `states` and `choices` beyond the steps are of coalitions) and per trace.
    `baseline` is what the task alone predicts for each trace. `cluster` codes each trace's user, or the trace itself
    where no user is known.
    """

    frame: pl.DataFrame
    notes: pl.DataFrame
    prefixes: Prefixes
    states: States
    choices: Choices
    values: Values
    coalitions: Coalitions
    coalition_values: Floats
    outcomes: Outcomes
    baseline: Floats
    cluster: Ints
    kept: Bools
    methods: dict[str, str]


def assign(
    traces: pl.DataFrame,
    steps: pl.DataFrame,
    parallel: pl.DataFrame,
    random: np.random.Generator,
    config: CreditConfig | None = None,
) -> Credited:
    """Credit of every step of every trace whose agent has enough to go by.

    Args: `traces` (`steps.TRACES`, rewards from 0 to 1 with their standard deviations), `steps` (`steps.STEPS`),
    `parallel` (`parallel.PARALLEL`), the spans that ran at once.
    Raises: `ContractError` for other columns.
    """
    config = config or CreditConfig()
    before = prefixes(traces, steps)
    agent = _codes(traces["agent"])
    notes, usable, by_trace = _fitness(traces, before, agent, config)
    cluster = _clusters(traces, agent, by_trace)
    outcomes = Outcomes(
        mean=traces["reward"].to_numpy(),
        sd=traces["reward_sd"].to_numpy(),
        informative=(traces["signals"] > 0).to_numpy() & usable[agent],
        agent=agent,
        task=_codes(traces["task"]),
        arm=_codes(traces["arm"]),
        fold=_folds(cluster, config.folds, random),
        folds=config.folds,
        agents=len(before.agents),
    )
    by_task, z = baseline(outcomes)
    together = coalitions(before, parallel, random)
    every = extended(before, together)
    found = states(every, outcomes.task)
    real = np.arange(len(every)) < len(before)
    telling = outcomes.informative[every.trace] & real
    values = tabular(found, every.trace, telling, outcomes, z)
    visits = typical_visits(found, telling, outcomes.agents)
    methods: dict[str, str] = {}
    for code in np.flatnonzero(usable):
        name = before.agents[code] or "no agent stated"
        methods[name] = "cell means"
        if visits[code] < config.min_visits:
            own = every.agent == code
            values = _replaced(values, own, boosted(every, own, telling, outcomes, z, random))
            methods[name] = "gradient boosting"
            notes.append((before.agents[code], "sparse_states", _SPARSE.format(visits[code], config.min_visits)))
    compared = choices(found, real)
    kept = usable[before.agent]
    forced = compared.share[real] >= 1.0
    own_values = Values(values.value[real], values.sd[real], np.where(forced, 0.0, values.advantage[real]))
    return Credited(
        frame=_frame(before, own_values, outcomes, kept),
        notes=pl.DataFrame(notes, schema=NOTES, orient="row"),
        prefixes=before,
        states=found,
        choices=compared,
        values=own_values,
        coalitions=together,
        coalition_values=values.value[~real],
        outcomes=outcomes,
        baseline=by_task,
        cluster=cluster,
        kept=kept,
        methods=methods,
    )


_SPARSE = (
    "The same situation was met {:.0f} times in a typical step, fewer than {}: values are from gradient boosting "
    f"on features of the steps so far (at most {MOST_ROWS:,} steps a fold), not from counts of like situations."
)


def _frame(before: Prefixes, values: Values, outcomes: Outcomes, kept: Bools) -> pl.DataFrame:
    trace, y = before.trace, outcomes.mean[before.trace]
    following = np.append(values.value[1:], 0.0)[: len(trace)]
    next_value = np.where(before.final, y, following)
    next_sd = np.where(before.final, outcomes.sd[trace], np.append(values.sd[1:], 0.0)[: len(trace)])
    credit = next_value - values.value
    return (
        pl.DataFrame({"trace_no": trace, "span_id": before.span_id, "position": before.position})
        .with_columns(
            value=pl.Series(values.value),
            credit=pl.Series(credit),
            decision=pl.Series(values.advantage),
            luck=pl.Series(credit - values.advantage),
            sd=pl.Series(np.sqrt(values.sd**2 + next_sd**2)),
        )
        .filter(pl.Series(kept))
        .cast(CREDITS)
    )


def _fitness(
    traces: pl.DataFrame, before: Prefixes, agent: Ints, config: CreditConfig
) -> tuple[list[tuple[str | None, str, str]], Bools, Bools]:
    """Notes, which agents can get credit, and for which of them folds are by trace rather than by user."""
    agents = len(before.agents)
    stepped = np.zeros(traces.height, dtype=bool)
    stepped[before.trace] = True
    telling = (traces["signals"] > 0).to_numpy() & stepped
    reward = traces["reward"].to_numpy()
    users = _codes(traces["user_id"])
    nameless = traces["user_id"].is_null().to_numpy()
    notes: list[tuple[str | None, str, str]] = []
    usable, by_trace = np.zeros(agents, dtype=bool), np.zeros(agents, dtype=bool)
    for code, name in enumerate(before.agents):
        own = agent == code
        taught = own & telling
        total, with_steps, n = int(own.sum()), int((own & stepped).sum()), int(taught.sum())
        if with_steps == 0:
            notes.append((name, "no_steps", f"None of the {total:,} traces has steps: there is nothing to credit."))
        elif n == 0:
            text = (
                f"None of the {with_steps:,} traces with steps has a signal of its own: their rewards are predictions."
            )
            notes.append((name, "no_signals", text))
        elif n < config.min_traces:
            text = (
                f"{n:,} of {config.min_traces} traces with steps and signals of their own: too few to tell steps apart."
            )
            notes.append((name, "too_few_traces", text))
        elif np.ptp(reward[taught]) < 1e-9:
            text = f"All {n:,} traces with signals have the reward {reward[taught][0]:.2f}: nothing tells steps apart."
            notes.append((name, "constant_reward", text))
        else:
            usable[code] = True
            if with_steps < total:
                notes.append(
                    (name, "traces_without_steps", f"{total - with_steps:,} of {total:,} traces have no steps.")
                )
            if len(np.unique(users[taught & ~nameless])) == 1 and not nameless[taught].any():
                by_trace[code] = True
                text = "All signals are about one user: intervals hold for this user's traces, not for other people's."
                notes.append((name, "single_user", text))
            elif nameless[taught].all():
                text = "No trace names its user: intervals take traces as independent, which they may not be."
                notes.append((name, "unknown_users", text))
    return notes, usable, by_trace


def _clusters(traces: pl.DataFrame, agent: Ints, by_trace: Bools) -> Ints:
    """Codes of users; of the trace itself where no user is known or an agent has only one."""
    alone = traces["user_id"].is_null().to_numpy() | by_trace[agent]
    users = _codes(traces["user_id"])
    raw = np.where(alone, users.max(initial=0) + 1 + np.arange(traces.height), users)
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def _folds(cluster: Ints, folds: int, random: np.random.Generator) -> Ints:
    """A fold per trace, the same for all traces of a cluster, with equally many clusters in each."""
    clusters = int(cluster.max(initial=-1)) + 1
    return np.asarray((random.permutation(clusters) % folds)[cluster], dtype=np.int64)


def _codes(column: pl.Series) -> Ints:
    """Codes of a column's values in their order, nulls last."""
    distinct = pl.DataFrame({"value": column.unique().sort(nulls_last=True)}).with_row_index("code")
    frame = (
        column.rename("value")
        .to_frame()
        .join(distinct, on="value", how="left", nulls_equal=True, maintain_order="left")
    )
    return frame["code"].to_numpy().astype(np.int64)


def _replaced(values: Values, rows: Bools, own: Values) -> Values:
    columns = []
    for old, new in ((values.value, own.value), (values.sd, own.sd), (values.advantage, own.advantage)):
        merged = old.copy()
        merged[rows] = new
        columns.append(merged)
    return Values(*columns)
