"""What separates good from bad rollouts of the same task (LESSONS A.21, steps 1 and 2, without a model).

Groups: tasks whose rollouts differ in outcome, by what a lesson there could be worth. Patterns: step patterns tested
within task over all tasks of an agent, with Benjamini-Hochberg per agent; an effect is the average over every task
where some rollouts did it and others did not, so tasks that always or never succeed count as they should. Rollouts that
went badly through no fault of the agent are set aside first (`pipelines.lessons.set_aside`).

All agents are contrasted at once: rollouts are rows of arrays, what they did is counted into sums per pattern and task
(`pipelines.lessons.patterns`), and only patterns that survive are looked at rollout by rollout.

An effect here is predictive, not causal: nobody assigned the steps at random.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.lessons import patterns
from pipelines.lessons.actions import ACTION_KINDS, CALLS
from pipelines.lessons.findings import Candidate, explained
from pipelines.lessons.groups import GROUPS, mixed_groups
from pipelines.lessons.patterns import KINDS, Facts, Rows
from pipelines.lessons.set_aside import REASONS, set_aside
from pipelines.lessons.tested import assess
from pipelines.stats.contract import require
from pipelines.stats.false_discovery import adjust
from store.contrasts import AGENTS, ROLLOUTS
from store.contrasts import PATTERNS as STORED_PATTERNS
from store.errors import SettingsError

__all__ = ["GROUPS", "PATTERNS", "PRESENCE", "ROLLOUTS", "USED", "Contrast", "ContrastConfig", "contrast"]

PATTERNS: Final = pl.Schema(
    {name: kind for name, kind in STORED_PATTERNS.items() if name not in ("lesson_id", "escalate")}
)
# Of the patterns that are findings: in which of the rollouts that can be asked they are present.
PRESENCE: Final = pl.Schema(
    {"agent": pl.String(), "pattern": pl.String(), "trace_id": pl.String(), "present": pl.Boolean()}
)
USED: Final = pl.Schema(
    {
        "trace_id": pl.String(),
        "agent": pl.String(),
        "task": pl.String(),
        "outcome": pl.Float64(),
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
        "aside": pl.String(),  # one of pipelines.lessons.set_aside.REASONS; null: compared
    }
)

Bools = NDArray[np.bool_]
_EXPLAINED: Final = pl.Schema({"agent": pl.String(), "pattern": pl.String(), "explained_by": pl.String()})


@dataclass(frozen=True)
class ContrastConfig:
    """Which span kinds are actions, the false-discovery rate, and which patterns are worth a test or a lesson."""

    action_kinds: tuple[str, ...] = ACTION_KINDS
    false_discovery_rate: float = 0.05
    min_rollouts: int = 5  # on each side, in tasks that have both sides
    min_effect: float = 0.05
    max_tools: int = 40  # of an agent, those that most rollouts call

    def __post_init__(self) -> None:
        if not 0.0 < self.false_discovery_rate < 1.0:
            raise SettingsError("lessons false_discovery_rate", self.false_discovery_rate, "a number in (0, 1)")
        if not self.action_kinds or self.min_rollouts < 1 or self.max_tools < 1:
            limits = (self.action_kinds, self.min_rollouts, self.max_tools)
            raise SettingsError("lessons action_kinds, min_rollouts, max_tools", limits, "some kinds, numbers from 1")


@dataclass(frozen=True)
class Contrast:
    """Frames of columns AGENTS (`store.contrasts`), GROUPS (by agent and task), PATTERNS, PRESENCE and USED."""

    agents: pl.DataFrame
    groups: pl.DataFrame
    patterns: pl.DataFrame
    presence: pl.DataFrame
    used: pl.DataFrame


def contrast(rollouts: pl.DataFrame, calls: pl.DataFrame, config: ContrastConfig | None = None) -> Contrast:
    """Compare rollouts within task: counts per agent, groups and tested patterns, of all agents.

    `rollouts` has the columns ROLLOUTS, `calls` the columns CALLS (`pipelines.lessons.actions.compact`). Raises
    ContractError for wrong frames.
    """
    config = config or ContrastConfig()
    rollouts = require(rollouts, ROLLOUTS, "rollouts", not_null=["trace_id", "trace_key"], unique="trace_id")
    calls = require(calls, CALLS, "calls", not_null=["trace_key", "position", "name"])
    known = rollouts.drop_nulls(["agent", "task"]).sort("agent", "task", "trace_id")
    observed = known.filter(pl.col("outcome").is_finite() & pl.col("reward").is_not_null())
    marked = set_aside(observed, calls)
    coded = marked.with_columns(
        stratum=pl.struct("agent", "task").rle_id(),
        code=pl.col("agent").rle_id(),
        row=pl.int_range(pl.len(), dtype=pl.UInt32),
    )
    groups = mixed_groups(known, coded, calls)
    found, presence = _patterns(coded, calls, config)
    return Contrast(
        agents=_counted(known, coded, groups, found),
        groups=groups,
        patterns=found,
        presence=presence,
        used=coded.select(list(USED)),
    )


def _patterns(coded: pl.DataFrame, calls: pl.DataFrame, config: ContrastConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All tested patterns, and where the findings among them are present."""
    if coded.is_empty():
        return pl.DataFrame(schema=PATTERNS), pl.DataFrame(schema=PRESENCE)
    lone = (pl.len().over("stratum") > 1) & pl.col("aside").fill_null("environment").eq("environment")
    tried = coded.filter(lone).with_columns(
        y=pl.col("outcome") - pl.col("outcome").mean().over("stratum"),
        success=pl.col("outcome") > pl.col("outcome").min().over("code"),
        two=pl.col("outcome").n_unique().over("code") <= 2,
    )
    if tried.is_empty():
        return pl.DataFrame(schema=PATTERNS), pl.DataFrame(schema=PRESENCE)
    rows = Rows(
        key=tried["trace_key"].to_numpy(),
        stratum=tried["stratum"].to_numpy(),
        agent=tried["code"].to_numpy(),
        y=tried["y"].to_numpy(),
        success=tried["success"].to_numpy(),
        main=tried["aside"].is_null().to_numpy(),
    )
    facts = patterns.facts(calls, rows, config.max_tools)
    binary = np.zeros(int(rows.stratum.max()) + 1, dtype=bool)
    binary[rows.stratum] = tried["two"].to_numpy()
    tests = assess(patterns.cells(facts, rows), binary)
    names = tried.select("code", "agent").unique()
    tests = _distinct(_named(tests, facts).join(names, left_on="agent_code", right_on="code"), config)
    tests = _judged(tests, config)
    return _explained(tests, facts, rows, tried, config)


def _named(tests: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Tests with the names of their tools and arguments, and of the pattern itself."""
    tools = facts.tools.select("tool", "rank", agent_code="agent", tool_name="name", early="place")
    others = facts.tools.select(other="tool", other_rank="rank", other_name="name")
    codes = facts.arguments.select(other="code", argument="text", shape="type")
    kind = pl.col("kind").replace_strict(dict(enumerate(KINDS)), return_dtype=pl.String)
    of_tools = kind.is_in(["precedes", "order"])
    of_arguments = kind.is_in(["given", "shape"])
    named = (
        tests.join(tools, on="tool")
        .with_columns(
            place="kind", kind=kind, second=pl.when(of_tools).then("other"), detail=pl.when(of_arguments).then("other")
        )
        .join(others, left_on="second", right_on="other", how="left")
        .join(codes, left_on="detail", right_on="other", how="left")
    )
    pattern = (
        pl.when(pl.col("second").is_not_null())
        .then(pl.format("{}:{}>{}", "kind", "tool_name", "other_name"))
        .when(pl.col("shape").is_not_null())
        .then(pl.format("{}:{}.{}={}", "kind", "tool_name", "argument", "shape"))
        .when(pl.col("argument").is_not_null())
        .then(pl.format("{}:{}.{}", "kind", "tool_name", "argument"))
        .otherwise(pl.format("{}:{}", "kind", "tool_name"))
    )
    return named.with_columns(pattern=pattern, weight=pl.col("rank") + pl.col("other_rank").fill_null(0))


def _distinct(tests: pl.DataFrame, config: ContrastConfig) -> pl.DataFrame:
    """Patterns worth a test, of those that hold for the same or for all other rollouts one, with `same_as`."""
    enough = pl.min_horizontal("rollouts_with", "rollouts_without") >= config.min_rollouts
    low, high = pl.min_horizontal("holds", "lacks"), pl.max_horizontal("holds", "lacks")
    kept = (
        tests.filter(enough & pl.col("p_value").is_not_null())
        .with_columns(low=low, high=high, turned=_turned())
        .sort("agent", "low", "high", "weight", "place", "turned", "early", "pattern")
    )
    same = ["agent", "low", "high"]
    opposite = pl.col("holds") != pl.col("holds").first()
    other = pl.when(opposite).then(pl.format("not {}", "pattern")).otherwise("pattern")
    groups = kept.group_by(same, maintain_order=True).agg(pattern=pl.col("pattern").first(), same_as=other.slice(1))
    return kept.join(groups.select("agent", "pattern", "same_as"), on=["agent", "pattern"])


def _turned() -> pl.Expr:
    """Whether a pattern is told from its worse side: that A should not come before B says less than that B should."""
    return (pl.col("kind") == "precedes") & (pl.col("effect") < 0.0)


def _judged(tests: pl.DataFrame, config: ContrastConfig) -> pl.DataFrame:
    """With q-values within each agent, whether they survive, and the family's size."""
    judged = []
    for _, own in tests.sort("agent", "p_value", "place", "pattern").group_by("agent", maintain_order=True):
        q_value = adjust(own["p_value"].to_numpy())
        judged.append(own.with_columns(q_value=pl.Series(q_value), family=pl.lit(own.height, pl.Int64)))
    if not judged:
        return tests.with_columns(
            q_value=pl.lit(None, pl.Float64), family=pl.lit(None, pl.Int64), survives=pl.lit(None, pl.Boolean)
        )
    holds = (pl.col("q_value") <= config.false_discovery_rate) & (pl.col("effect").abs() >= config.min_effect)
    return pl.concat(judged).with_columns(survives=holds)


def _explained(
    tests: pl.DataFrame, facts: Facts, rows: Rows, tried: pl.DataFrame, config: ContrastConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    reasons: list[pl.DataFrame] = []
    presence = [pl.DataFrame(schema=PRESENCE)]
    for (agent, code), own in tests.filter("survives").group_by("agent", "agent_code", maintain_order=True):
        mine = rows.agent == code
        candidates = []
        for row in own.iter_rows(named=True):
            present, defined = patterns.present(facts, rows, row["kind"], row["tool"], row["other"])
            if row["kind"] in ("missing", "used"):
                defined &= _asked(present, mine & rows.main, rows, usual=row["kind"] == "missing")
            rank = (row["weight"], row["place"], row["turned"], row["early"])
            candidates.append(Candidate(row["effect"], row["z"], rank, present[mine], defined[mine]))
        # Where Benjamini-Hochberg cut the family: a p-value up to this would have survived.
        rejected = tests.filter((pl.col("agent") == agent) & (pl.col("q_value") <= config.false_discovery_rate)).height
        cut = config.false_discovery_rate * rejected / int(own["family"][0])
        by = explained(candidates, rows.y[mine], rows.stratum[mine].astype(np.int64), cut, config.min_rollouts)
        names = own["pattern"].to_list()
        told = [None if at is None else names[at] for at in by]
        reasons.append(pl.DataFrame({"agent": agent, "pattern": names, "explained_by": told}, schema=_EXPLAINED))
        trace_ids = tried["trace_id"].filter(pl.Series(mine))
        for name, at, one in zip(names, by, candidates, strict=True):
            if at is None:
                frame = {"agent": agent, "pattern": name, "trace_id": trace_ids, "present": one.present}
                presence.append(pl.DataFrame(frame, schema=PRESENCE).filter(pl.Series(one.defined)))
    known = pl.concat([pl.DataFrame(schema=_EXPLAINED), *reasons])
    joined = tests.join(known, on=["agent", "pattern"], how="left").with_columns(
        tool="tool_name", other_tool="other_name"
    )
    return joined.select(list(PATTERNS)).cast(PATTERNS).sort("agent", "p_value", "pattern"), pl.concat(presence)


def _asked(
    present: Bools,
    mine: Bools,
    rows: Rows,
    *,
    usual: bool,
) -> Bools:
    """Rollouts of the tasks in which at least half of the rollouts call the tool (`usual`), or fewer do."""
    calls = ~present if usual else present
    size = int(rows.stratum.max()) + 1
    n = np.bincount(rows.stratum[mine], minlength=size)
    n1 = np.bincount(rows.stratum[mine & calls], minlength=size)
    most = (2 * n1 >= n) & (n1 > 0)
    return np.asarray(mine & (most if usual else ~most)[rows.stratum], dtype=bool)


def _counted(known: pl.DataFrame, coded: pl.DataFrame, groups: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    everything = known.group_by("agent").agg(traces=pl.len(), tasks=pl.col("task").n_unique())
    compared = coded.group_by("agent").agg(
        used=pl.col("aside").is_null().sum(),
        **{f"set_aside_{reason}": (pl.col("aside") == reason).sum() for reason in REASONS},
    )
    mixed = groups.group_by("agent").agg(mixed=pl.len())
    own = pl.col("survives") & pl.col("explained_by").is_null()
    judged = found.group_by("agent").agg(
        tested=pl.len(), survive=pl.col("survives").sum(), findings=own.sum(), best_q=pl.col("q_value").min()
    )
    counted = everything.join(compared, on="agent", how="left").join(mixed, on="agent", how="left")
    aside = [f"set_aside_{reason}" for reason in REASONS]
    counts = [name for name, kind in AGENTS.items() if kind == pl.Int64()]
    present = [name for name in counts if name != "without_outcome"]
    return (
        counted.join(judged, on="agent", how="left")
        .with_columns(pl.col(present).fill_null(0).cast(pl.Int64))
        .with_columns(
            without_outcome=pl.col("traces") - pl.sum_horizontal("used", *aside),
            note=pl.lit(None, pl.String),
        )
        .sort("agent")
        .select(list(AGENTS))
        .cast(AGENTS)
    )
