"""What separates good from bad rollouts of the same task (LESSONS A.21, steps 1 and 2, without a model).

Three frames come out. Groups: tasks whose rollouts differ in outcome, by how much there is to learn. Patterns: step
patterns tested within task over all tasks of an agent, with Benjamini-Hochberg per agent; an effect is the average over
every task where some rollouts did it and others did not, so tasks that always or never succeed count as they should.
Divergences: per group, the first step at which the best and the worst rollout differ.

An effect here is predictive, not causal: nobody assigned the steps at random.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.lessons.divergence import DIVERGENCES, first_differences
from pipelines.lessons.patterns import Pattern, extract
from pipelines.stats.contract import require
from pipelines.stats.false_discovery import adjust
from pipelines.stats.stratified import StratifiedTest, compare
from store.errors import SettingsError
from store.lessons import STEPS

__all__ = [
    "ACTIONS",
    "DIVERGENCES",
    "GROUPS",
    "PATTERNS",
    "PRESENCE",
    "ROLLOUTS",
    "STEPS",
    "Contrast",
    "ContrastConfig",
    "actions",
    "contrast",
    "mixed_groups",
]

ROLLOUTS = pl.Schema(
    {
        "trace_id": pl.String(),
        "agent": pl.String(),
        "task": pl.String(),
        "outcome": pl.Float64(),  # what was observed, 0 to 1; null without signals
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
    }
)
ACTIONS = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "step": pl.Int64(),  # 1, 2, ... among the actions of the trace
        "name": pl.String(),
        "failed": pl.Boolean(),
        "arguments": pl.String(),  # the input without white space, to tell whether two calls are the same
        "input": pl.String(),
        "output": pl.String(),
    }
)
GROUPS = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "rollouts": pl.Int64(),
        "mean_outcome": pl.Float64(),
        "standard_error": pl.Float64(),  # of the mean: sample sd / √rollouts
        "sd_outcome": pl.Float64(),  # population sd
        "value": pl.Float64(),  # rollouts x sd_outcome
        "best_trace_id": pl.String(),
        "worst_trace_id": pl.String(),
    }
)
PATTERNS = pl.Schema(
    {
        "agent": pl.String(),
        "pattern": pl.String(),
        "kind": pl.String(),  # used, order, repeated, error_then_continue
        "tool": pl.String(),
        "other_tool": pl.String(),
        "effect": pl.Float64(),  # mean outcome with minus without, within task
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
        "survives": pl.Boolean(),
        "exact": pl.Boolean(),
        "rollouts_with": pl.Int64(),
        "rollouts_without": pl.Int64(),
        "tasks": pl.Int64(),
        "informative_tasks": pl.Int64(),  # those that also differ in outcome
        "family": pl.Int64(),  # patterns tested for this agent
        "same_as": pl.List(pl.String()),
    }
)
PRESENCE = pl.Schema({"agent": pl.String(), "pattern": pl.String(), "trace_id": pl.String(), "present": pl.Boolean()})


@dataclass(frozen=True)
class ContrastConfig:
    """Which span kinds are actions, the false-discovery rate, and which patterns are worth a test or a lesson."""

    action_kinds: tuple[str, ...] = ("tool", "retriever", "guardrail")
    false_discovery_rate: float = 0.05
    min_rollouts: int = 5  # on each side, in tasks that have both sides
    min_effect: float = 0.05
    max_tools: int = 40

    def __post_init__(self) -> None:
        if not 0.0 < self.false_discovery_rate < 1.0:
            raise SettingsError("lessons false_discovery_rate", self.false_discovery_rate, "a number in (0, 1)")
        if not self.action_kinds or self.min_rollouts < 1 or self.max_tools < 1:
            limits = (self.action_kinds, self.min_rollouts, self.max_tools)
            raise SettingsError("lessons action_kinds, min_rollouts, max_tools", limits, "some kinds, numbers from 1")


@dataclass(frozen=True)
class Contrast:
    """Frames of columns GROUPS, PATTERNS and DIVERGENCES, and PRESENCE of the patterns that survive."""

    groups: pl.DataFrame
    patterns: pl.DataFrame
    presence: pl.DataFrame
    divergences: pl.DataFrame


def mixed_groups(rollouts: pl.DataFrame) -> pl.DataFrame:
    """Tasks with 0 < mean outcome < 1 over two or more rollouts that differ (columns GROUPS), most valuable first.

    Best and worst rollout are by outcome, then reward, then the smaller reward sd, then trace_id. Rollouts (columns
    ROLLOUTS) without outcome, agent or task are left out.
    """
    observed = _observed(rollouts)
    best = ["outcome", "reward", "reward_sd", "trace_id"]
    return (
        observed.sort(best, descending=[True, True, False, False])
        .group_by("agent", "task", maintain_order=True)
        .agg(
            rollouts=pl.len().cast(pl.Int64),
            mean_outcome=pl.col("outcome").mean(),
            standard_error=pl.col("outcome").std() / pl.len().sqrt(),
            sd_outcome=pl.col("outcome").std(ddof=0),
            best_trace_id=pl.col("trace_id").first(),
            worst_trace_id=pl.col("trace_id").sort_by(best, descending=[False, False, False, False]).first(),
        )
        .filter((pl.col("rollouts") > 1) & pl.col("mean_outcome").is_between(0.0, 1.0, closed="none"))
        .filter(pl.col("sd_outcome") > 1e-9)
        .with_columns(value=pl.col("rollouts") * pl.col("sd_outcome"))
        .select(list(GROUPS))
        .sort(["value", "agent", "task"], descending=[True, False, False])
    )


def actions(steps: pl.DataFrame, config: ContrastConfig | None = None) -> pl.DataFrame:
    """The spans that are actions (columns ACTIONS), renumbered from 1 within each trace in the order of `step`.

    `steps` has the columns STEPS. A span without a name is called by its kind; a call failed if its status is error.
    """
    config = config or ContrastConfig()
    steps = require(steps, STEPS, "lesson steps", not_null=["trace_id", "span_id", "step", "kind"])
    return (
        steps.filter(pl.col("kind").is_in(list(config.action_kinds)))
        .sort("trace_id", "step", "span_id")
        .select(
            "trace_id",
            "span_id",
            step=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("trace_id"),
            name=pl.coalesce("name", "kind"),
            failed=(pl.col("status") == "error").fill_null(False),
            arguments=pl.col("input").str.replace_all(r"\s+", ""),
            input="input",
            output="output",
        )
    )


def contrast(rollouts: pl.DataFrame, steps: pl.DataFrame, config: ContrastConfig | None = None) -> Contrast:
    """Compare rollouts within task: groups, tested patterns and first divergences, of all agents.

    `rollouts` has the columns ROLLOUTS, `steps` STEPS. Raises ContractError for wrong frames.
    """
    config = config or ContrastConfig()
    observed, acted = _observed(rollouts), actions(steps, config)
    groups = mixed_groups(rollouts)
    tested = [_tested(own, acted, config) for own in observed.partition_by("agent", maintain_order=True)]
    patterns = pl.concat([pl.DataFrame(schema=PATTERNS), *(frame for frame, _ in tested)])
    presence = pl.concat([pl.DataFrame(schema=PRESENCE), *(frame for _, frame in tested)])
    return Contrast(
        groups=groups,
        patterns=patterns.sort("agent", "p_value", "pattern", nulls_last=True),
        presence=presence,
        divergences=first_differences(groups, acted),
    )


def _observed(rollouts: pl.DataFrame) -> pl.DataFrame:
    rollouts = require(
        rollouts, ROLLOUTS, "rollouts", not_null=["trace_id"], unique="trace_id", unit_interval=["outcome", "reward"]
    )
    return rollouts.drop_nulls().sort("agent", "task", "trace_id")


def _tested(observed: pl.DataFrame, acted: pl.DataFrame, config: ContrastConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Patterns of one agent with their tests, and where the surviving ones are present."""
    trace_ids = observed["trace_id"].to_list()
    outcome = observed["outcome"].to_numpy()
    strata = observed["task"].rank("dense").to_numpy().astype(np.int64)
    results: list[tuple[Pattern, StratifiedTest]] = []
    for pattern in extract(acted, trace_ids, config.max_tools):
        asked = pattern.defined
        test = compare(pattern.present[asked], outcome[asked], strata[asked])
        if min(test.rows_with, test.rows_without) >= config.min_rollouts and test.informative:
            results.append((pattern, test))
    q_values = adjust(np.array([test.p_value for _, test in results], dtype=np.float64))
    agent = observed["agent"][0]
    rows, presence = [], [pl.DataFrame(schema=PRESENCE)]
    for (pattern, test), q in zip(results, q_values, strict=True):
        survives = bool(q <= config.false_discovery_rate and abs(test.effect) >= config.min_effect)
        rows.append(_row(agent, pattern, test, float(q), survives, len(results)))
        if survives:
            present = {"agent": agent, "pattern": pattern.name, "trace_id": trace_ids, "present": pattern.present}
            presence.append(pl.DataFrame(present, schema=PRESENCE).filter(pl.Series(pattern.defined)))
    return pl.DataFrame(rows, schema=PATTERNS, orient="row"), pl.concat(presence)


def _row(
    agent: str, pattern: Pattern, test: StratifiedTest, q: float, survives: bool, family: int
) -> dict[str, object]:
    known = np.isfinite(test.lower)
    return {
        "agent": agent,
        "pattern": pattern.name,
        "kind": pattern.kind,
        "tool": pattern.tool,
        "other_tool": pattern.other_tool,
        "effect": test.effect,
        "lower": test.lower if known else None,
        "upper": test.upper if known else None,
        "p_value": test.p_value,
        "q_value": q,
        "survives": survives,
        "exact": test.exact,
        "rollouts_with": test.rows_with,
        "rollouts_without": test.rows_without,
        "tasks": test.strata,
        "informative_tasks": test.informative,
        "family": family,
        "same_as": list(pattern.same_as),
    }
