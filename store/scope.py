"""Which traces a page looks at: a time range and a segment, and the finer filters of the Traces page, as bound SQL."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

# Signals in which a person says what they think of an answer, as against what they do with it.
EXPLICIT_KINDS = ("thumb", "rating", "comment", "correction", "preference", "annotation")

# The trace of every signal: the one it names, else the one it was linked to.
SIGNAL_TRACES = """(
    SELECT trace_id, signal_id, kind FROM signals WHERE trace_id IS NOT NULL
    UNION ALL
    SELECT l.trace_id, s.signal_id, s.kind FROM signal_links AS l JOIN signals AS s USING (signal_id)
    WHERE s.trace_id IS NULL)"""

# Traces with at least one explicit signal; needs the parameter $explicit.
FEEDBACK_TRACES = f"(SELECT DISTINCT trace_id FROM {SIGNAL_TRACES} WHERE kind IN $explicit)"

# Rewards as the active model sees them: one row a trace.
ACTIVE_REWARDS = """(
    SELECT trace_id, mean, sd, signals, outcome FROM rewards
    WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active))"""

# What a trace's own signals say of its reward, for comparing groups of traces; mean and sd of its reward where the
# version in use knows no outcomes. A mean of rewards would be drawn towards what was expected beforehand.
ACTIVE_OUTCOMES = """(
    SELECT trace_id, coalesce(outcome, mean) AS mean, coalesce(outcome_sd, sd) AS sd, signals FROM rewards
    WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
        AND (outcome IS NOT NULL OR signals > 0 AND NOT (
            SELECT coalesce(bool_or(outcome IS NOT NULL), false) FROM rewards
            WHERE reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active))))"""

Params = dict[str, object]


@dataclass(frozen=True)
class Scope:
    """A range of time (`since` inclusive, `until` exclusive, None for open) and a segment; empty tuples mean all."""

    since: datetime | None = None
    until: datetime | None = None
    agents: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def previous(self) -> "Scope | None":
        """The range of equal length just before this one; None when this one is open at either end."""
        if self.since is None or self.until is None:
            return None
        return Scope(self.since - (self.until - self.since), self.since, self.agents, self.arms, self.models)


@dataclass(frozen=True)
class TraceFilter:
    """What a trace must be to be listed; None means any.

    In `user_id`, `session_id` and `task` a `*` stands for any text. `tool_error` and `feedback` ask for a failed tool
    call and for an explicit signal. `trace_ids` are the only ones considered, as a text search found them.
    """

    scope: Scope = field(default_factory=Scope)
    user_id: str | None = None
    session_id: str | None = None
    task: str | None = None
    status: Literal["ok", "error", "unknown"] | None = None
    min_cost_usd: float | None = None
    min_seconds: float | None = None
    tool_error: bool = False
    feedback: bool = False
    reward_below: float | None = None
    trace_ids: tuple[str, ...] | None = None


# Subtracting TIMESTAMPTZ makes a calendar interval, which is a hundred times slower than microseconds.
SECONDS = "((epoch_us(t.ended_at) - epoch_us(t.started_at)) / 1e6)"


def scope_conditions(scope: Scope) -> tuple[list[str], Params]:
    """Conditions on the table alias `t` of traces, and their parameters."""
    conditions: list[str] = []
    params: Params = {}
    if scope.since is not None:
        conditions.append("t.seen_at >= $since")
        params["since"] = scope.since
    if scope.until is not None:
        conditions.append("t.seen_at < $until")
        params["until"] = scope.until
    for column, name, wanted in (
        ("agent", "agents", scope.agents),
        ("arm", "arms", scope.arms),
        ("model", "models", scope.models),
    ):
        if wanted:
            conditions.append(f"t.{column} IN ${name}")
            params[name] = list(wanted)
    return conditions, params


def filter_conditions(wanted: TraceFilter) -> tuple[list[str], Params]:
    """As `scope_conditions`, with the finer filters; they speak of the tables that `source` gives."""
    conditions, params = scope_conditions(wanted.scope)
    for column, pattern in (("user_id", wanted.user_id), ("session_id", wanted.session_id), ("task", wanted.task)):
        if pattern:
            operator = "LIKE" if "*" in pattern else "="
            escape = " ESCAPE '!'" if operator == "LIKE" else ""
            conditions.append(f"t.{column} {operator} ${column}{escape}")
            params[column] = like_pattern(pattern) if operator == "LIKE" else pattern
    if wanted.status is not None:
        conditions.append("t.status = $status")
        params["status"] = wanted.status
    if wanted.min_cost_usd is not None:
        conditions.append("t.cost_usd >= $min_cost_usd")
        params["min_cost_usd"] = wanted.min_cost_usd
    if wanted.min_seconds is not None:
        conditions.append(f"{SECONDS} >= $min_seconds")
        params["min_seconds"] = wanted.min_seconds
    if wanted.tool_error:
        conditions.append("t.error_count > 0 AND t.tool_count > 0")
        conditions.append("t.trace_id IN (SELECT trace_id FROM spans WHERE kind = 'tool' AND status = 'error')")
    if wanted.feedback:
        conditions.append(f"t.trace_id IN {FEEDBACK_TRACES}")
        params["explicit"] = list(EXPLICIT_KINDS)
    if wanted.reward_below is not None:
        conditions.append("r.mean < $reward_below")
        params["reward_below"] = wanted.reward_below
    if wanted.trace_ids is not None:
        conditions.append("t.trace_id IN (SELECT unnest($trace_ids::VARCHAR[]))")
        params["trace_ids"] = list(wanted.trace_ids)
    return conditions, params


def source(wanted: TraceFilter, *, rewarded: bool = False) -> str:
    """The tables that the filter's conditions speak of: traces as `t`, with rewards as `r` where they are needed."""
    if rewarded or wanted.reward_below is not None:
        return f"traces AS t LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)"
    return "traces AS t"


def where(conditions: list[str]) -> str:
    """The conditions as a WHERE clause; empty when there are none."""
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def like_pattern(pattern: str) -> str:
    """A LIKE pattern (escape character `!`) in which only `*` is special."""
    for character in "!%_":
        pattern = pattern.replace(character, "!" + character)
    return pattern.replace("*", "%")
