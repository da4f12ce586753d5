"""A reward for every trace by hierarchical empirical Bayes: agent, then task, then the trace's own signals.

    agent mean  m   Jeffreys posterior from its tasks' means
    cell mean   μ   given m ~ Beta(κ m, κ (1 - m)), one cell per (agent, task), κ by moments (METHODS §4)
    trace       θ   given μ ~ Beta(ν μ, ν (1 - μ)); each class of evidence adds w pseudo-observations of θ

The reward is the posterior mean and standard deviation of θ. The means are linear in μ, so both moments are exact given
the moments of μ (`beta_binomial.update`); the uncertainty of m and of μ is carried into every trace.

Identification. With one observation per trace, ν is not identified: 0/1 outcomes look the same whether each trace
is surely good or surely bad (ν → 0) or all share their task's rate (ν → ∞). So the reliability r of each class of
evidence is stated, not estimated: it is the share of a trace's reward that its own observation takes against its
task's mean. ν = (1 - r*) / r* where r* is the highest stated reliability, whose class counts as exactly one
observation of θ; the others count as w = ν r / (1 - r) of one. In its cell's mean a trace counts as r_i / r* ≤ 1
observations.

Volunteered feedback comes mostly from the unhappy (METHODS §0, finding 4: a true .80 looks like .25). Given what a
person said, that they said it unasked tells nothing more about their trace, so it counts there in full; but it would
bias the means of tasks. So where an agent has `min_fair` traces with verified outcomes or feedback asked for at random,
its cells rest on those alone; where it has not, they rest on everything and the notes say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from pipelines.rewards.observations import DEFAULT_RELIABILITY, SIGNALS, Observations, observe
from pipelines.stats.beta_binomial import MomentsConfig, Prior, fit_prior, update
from pipelines.stats.contract import NOTES, require
from store.reward_rows import COLUMNS as REWARDS

__all__ = [
    "CELLS",
    "METHOD",
    "NOTES",
    "REWARDS",
    "SIGNALS",
    "TRACES",
    "RewardConfig",
    "RewardFit",
    "fit",
    "reward_interval",
]

METHOD = "empirical_bayes"
TRACES = pl.Schema({"trace_id": pl.String(), "agent": pl.String(), "task": pl.String(), "user_id": pl.String()})
CELLS = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),  # null: the agent's traces without a task
        "traces": pl.Int64(),
        "observed": pl.Int64(),  # traces with at least one signal
        "trials": pl.Float64(),  # what those that inform the mean count for, in observations of the surest class
        "raw_mean": pl.Float64(),  # their weighted mean before shrinkage, null without any
        "mean": pl.Float64(),
        "sd": pl.Float64(),
        "shared_sd": pl.Float64(),  # the part of sd that all tasks have in common: the agent's mean is not known
    }
)


@dataclass(frozen=True)
class RewardConfig:
    """Stated reliability per class of evidence (see `observations.observe`), the limits of the fit of κ, and how many
    traces with verified or solicited evidence an agent needs for its task means to rest on those alone.
    """

    reliability: Mapping[str, float] = field(default_factory=lambda: DEFAULT_RELIABILITY)
    moments: MomentsConfig = field(default_factory=MomentsConfig)
    min_fair: int = 30


@dataclass(frozen=True)
class RewardFit:
    """What a fit gives.

    `rewards` (columns REWARDS, one row per trace), `cells` (CELLS), `notes` (NOTES: every reason why an agent's numbers
    are weaker than they look) and `parameters`, which JSON can hold.
    """

    rewards: pl.DataFrame
    cells: pl.DataFrame
    notes: pl.DataFrame
    parameters: dict[str, Any]


def fit(traces: pl.DataFrame, signals: pl.DataFrame, config: RewardConfig | None = None) -> RewardFit:
    """Estimate the reward of every trace of `traces` (columns TRACES) from `signals` (columns SIGNALS).

    Every trace gets exactly one reward with mean in 0..1; `signals` = 0 marks those that rest on their task or agent
    alone. Signals of traces that are not in `traces` are counted in parameters["excluded"]. Rewards keep the order of
    `traces`. Raises ContractError for wrong frames and SettingsError for a reliability outside (0, 1).
    """
    config = config or RewardConfig()
    traces = require(traces, TRACES, "reward traces", not_null=["trace_id"], unique="trace_id")
    observations = observe(signals, config.reliability)
    highest = max(config.reliability.values(), default=0.5)
    within = (1.0 - highest) / highest
    joined = _joined(traces, observations, within, highest, config.min_fair)
    unknown = observations.frame.join(traces, on="trace_id", how="anti")["signals"].sum()
    excluded = dict(observations.excluded) | ({"trace not in the store": int(unknown)} if unknown else {})

    cells = joined.group_by("agent", "task", maintain_order=True).agg(
        traces=pl.len().cast(pl.Int64),
        observed=(pl.col("signals") > 0).sum().cast(pl.Int64),
        trials=pl.col("counts_for").sum(),
        successes=(pl.col("counts_for") * pl.col("counted_outcome").fill_null(0.0)).sum(),
    )
    fitted = [_agent_cells(group, config.moments) for group in cells.partition_by("agent", maintain_order=True)]
    cells = pl.concat([frame for frame, _ in fitted]) if fitted else pl.DataFrame(schema=CELLS)
    priors = [(frame["agent"][0], prior) for frame, prior in fitted]
    return RewardFit(
        rewards=_rewards(joined, cells, within),
        cells=cells.select(list(CELLS)).sort("agent", "task", nulls_last=True),
        notes=_notes(joined, priors),
        parameters={
            "method": METHOD,
            "reliability": dict(config.reliability),
            "within_task_concentration": within,
            "agents": [
                {
                    "agent": agent,
                    "mean": prior.mean,
                    "mean_sd": prior.mean_variance**0.5,
                    "kappa": prior.concentration,
                    "kappa_reason": prior.reason,
                    "tasks_with_signals": prior.cells,
                }
                for agent, prior in priors
            ],
            "excluded": excluded,
        },
    )


def reward_interval(
    mean: NDArray[np.float64], sd: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of each trace's quality: mean ± z sd, cut at 0 and 1.

    Simulated from the model at reliabilities .3 to .9, the 95 % interval covers .94 to .96 of the traces (.93 to .97
    with and without signals apart). A Beta with these moments covers only .92 at .3 and .5, since the quality of a
    trace is a mixture of Betas with heavier ends, and its interval is wider as well.
    """
    margin = float(ndtri(0.5 + level / 2)) * sd
    return np.clip(mean - margin, 0.0, 1.0), np.clip(mean + margin, 0.0, 1.0)


def _joined(
    traces: pl.DataFrame, observations: Observations, within: float, highest: float, min_fair: int
) -> pl.DataFrame:
    """Traces with what was observed of them, its weight w on θ, and what counts for their cell for how many trials."""
    counted_odds = pl.when("fair_cells").then("fair_odds").otherwise("odds")
    reliability = counted_odds / (1.0 + counted_odds)
    return (
        traces.join(observations.frame, on="trace_id", how="left", maintain_order="left")
        .with_columns(
            signals=pl.col("signals").fill_null(0),
            weight=(pl.col("odds") * within).fill_null(0.0),
            fair_cells=(pl.col("fair_odds").fill_null(0.0) > 0.0).sum().over("agent") >= min_fair,
        )
        .with_columns(
            counts_for=(reliability / highest).clip(upper_bound=1.0).fill_null(0.0),
            counted_outcome=pl.when("fair_cells").then("fair_outcome").otherwise("outcome"),
        )
    )


def _agent_cells(cells: pl.DataFrame, moments: MomentsConfig) -> tuple[pl.DataFrame, Prior]:
    """Shrink one agent's cells. The cell without a task mixes tasks: it informs κ only where there is no other."""
    named = cells.filter(pl.col("task").is_not_null())
    informing = named if named["trials"].sum() > 0 else cells
    prior = fit_prior(informing["successes"].to_numpy(), informing["trials"].to_numpy(), moments)
    constant = np.ones(cells.height)
    mean, variance = update(
        prior.mean * constant,
        prior.mean_variance * constant,
        prior.concentration,
        cells["successes"].to_numpy(),
        cells["trials"].to_numpy(),
    )
    shrunk = cells.with_columns(
        mean=pl.Series(mean),
        sd=pl.Series(np.sqrt(variance)),
        shared_sd=prior.mean_variance**0.5 * prior.concentration / (prior.concentration + pl.col("trials")),
        raw_mean=pl.when(pl.col("trials") > 0).then(pl.col("successes") / pl.col("trials")),
    )
    return shrunk, prior


def _rewards(joined: pl.DataFrame, cells: pl.DataFrame, within: float) -> pl.DataFrame:
    """Posterior moments of every trace given its cell's; without signals this is the predictive of its task."""
    priors = cells.select("agent", "task", cell_mean="mean", cell_sd="sd")
    rows = joined.join(priors, on=["agent", "task"], how="left", nulls_equal=True, maintain_order="left")
    weight: NDArray[np.float64] = rows["weight"].to_numpy()
    mean, variance = update(
        rows["cell_mean"].to_numpy(),
        rows["cell_sd"].to_numpy() ** 2,
        within,
        weight * rows["outcome"].fill_null(0.0).to_numpy(),
        weight,
    )
    return rows.select(
        "trace_id", mean=pl.Series(np.clip(mean, 0.0, 1.0)), sd=pl.Series(np.sqrt(variance)), signals="signals"
    ).cast(REWARDS)


def _notes(joined: pl.DataFrame, priors: list[tuple[str | None, Prior]]) -> pl.DataFrame:
    """Per agent, every reason why its rewards say less than they seem to."""
    facts = joined.group_by("agent").agg(
        traces=pl.len(),
        observed=(pl.col("signals") > 0).sum(),
        distinct=pl.col("outcome").drop_nulls().n_unique(),
        constant=pl.col("outcome").drop_nulls().first(),
        users=pl.col("user_id").filter(pl.col("signals") > 0).drop_nulls().n_unique(),
        unknown_users=pl.col("user_id").filter(pl.col("signals") > 0).null_count(),
        volunteered=pl.col("volunteered").fill_null(False).sum(),
        fair=(pl.col("fair_odds").fill_null(0.0) > 0.0).sum(),
        fair_cells=pl.col("fair_cells").first(),
        tasks=pl.col("task").drop_nulls().n_unique(),
    )
    by_agent = {row["agent"]: row for row in facts.iter_rows(named=True)}
    notes = [(agent, *note) for agent, prior in priors for note in _agent_notes(by_agent[agent], prior)]
    return pl.DataFrame(notes, schema=NOTES, orient="row")


def _agent_notes(facts: dict[str, Any], prior: Prior) -> list[tuple[str, str]]:
    if facts["observed"] == 0:
        return [
            (
                "no_signals",
                f"None of the {facts['traces']} traces has a signal that says how good it was: every reward is the "
                "prior's .5 with its wide standard deviation, not an estimate.",
            )
        ]
    notes = []
    if facts["observed"] < facts["traces"]:
        silent = facts["traces"] - facts["observed"]
        text = f"{silent} of {facts['traces']} traces have no signal: their reward is what their task predicts."
        notes.append(("partial_signals", text))
    if facts["distinct"] == 1:
        notes.append(
            (
                "constant_labels",
                f"All {facts['observed']} observed traces have the outcome {facts['constant']:g}: "
                "nothing here separates good from bad.",
            )
        )
    if facts["users"] == 0:
        notes.append(
            ("unknown_users", "No observed trace names its user: differences between users are not in the sd.")
        )
    elif facts["users"] == 1 and facts["unknown_users"] == 0:
        notes.append(("single_user", "All signals are about one user: nothing here says how others see this agent."))
    if facts["volunteered"]:
        notes.append(_volunteered_note(facts))
    if facts["tasks"] == 0:
        notes.append(("no_tasks", "No trace has a task: all are compared with the agent's mean only."))
    if prior.reason is not None:
        notes.append((f"kappa_{prior.reason}", _KAPPA_TEXT[prior.reason].format(kappa=prior.concentration)))
    return notes


def _volunteered_note(facts: dict[str, Any]) -> tuple[str, str]:
    said = f"{facts['volunteered']} of {facts['traces']} traces have feedback that was volunteered"
    if facts["fair_cells"]:
        return (
            "volunteered_set_aside",
            f"{said}: it counts for those traces, but the means of tasks rest on the {facts['fair']} traces with "
            "verified outcomes or feedback asked for at random.",
        )
    return (
        "volunteered_feedback",
        f"{said}: those who speak unasked differ from those who stay silent, and with {facts['fair']} traces with "
        "verified outcomes or feedback asked for at random this cannot be corrected.",
    )


_KAPPA_TEXT = {
    "no_trials": "No signals: the differences between tasks are assumed (kappa {kappa:g}).",
    "too_few_cells": "Too few tasks with signals to estimate how much tasks differ: kappa {kappa:g} is assumed.",
    "constant": "With constant outcomes the differences between tasks cannot be estimated: kappa {kappa:g} is assumed.",
    "single_trials": "No task has two observed traces to tell task from chance: kappa {kappa:g} is assumed.",
    "not_detected": "Tasks do not differ by more than chance: kappa is at its limit of {kappa:g}.",
    "all_or_nothing": "Tasks are nearly always or never solved: kappa is at its limit of {kappa:g}.",
}
