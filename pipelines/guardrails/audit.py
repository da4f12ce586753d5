"""What traces did against the guardrails that were in force when they began. A pure function of frames.

An action is a call of a tool. Delays and rates are of the actions of one session of an agent, or of one trace where no
session is known, from start to start; a rate is the count of actions in any 60 seconds, the earlier end excluded. Each
forbidden call is a violation of its own; of delays, rates and spending a trace has one, with the call that shows it.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from pipelines.guardrails.actions import composed, matches
from pipelines.guardrails.addresses import sites
from pipelines.stats.contract import require
from store.guardrail_evidence import ACTIONS, COSTS, STARTS, TRACES
from store.guardrail_subjects import Site, action_pattern, site, text_pattern
from store.guardrails import FOUND, GUARDRAILS

__all__ = ["audit"]

MINUTE: Final = 60_000_000  # microseconds


def audit(
    guardrails: pl.DataFrame, traces: pl.DataFrame, actions: pl.DataFrame, starts: pl.DataFrame, costs: pl.DataFrame
) -> pl.DataFrame:
    """Violations (columns `FOUND`) of the guardrails that are on, by trace.

    `guardrails`, `traces`, `actions`, `starts` and `costs` have the columns GUARDRAILS, TRACES, ACTIONS, STARTS and
    COSTS of `store`; a guardrail is in force from when it was last switched on (`updated_at`), for traces that begin
    then or later, of its arm where it has one. Raises: ContractError.
    """
    guardrails = require(guardrails, GUARDRAILS, "guardrails", not_null=["agent", "guardrail_id", "kind", "state"])
    traces = require(traces, TRACES, "audited traces", not_null=["trace_id", "seen_at"], unique="trace_id")
    actions = require(actions, ACTIONS, "actions", not_null=["trace_id", "span_id", "kind"])
    starts = _with_rates(require(starts, STARTS, "starts of actions", not_null=["unit", "trace_id", "started_at"]))
    costs = require(costs, COSTS, "costs", not_null=["trace_id", "cost_usd"])
    found = [pl.DataFrame(schema=FOUND)]
    for guardrail in guardrails.filter((pl.col("state") == "on") & (pl.col("kind") != "safety_floor")).to_dicts():
        covered = traces.filter(
            (pl.col("agent") == guardrail["agent"])
            & (pl.col("seen_at") >= guardrail["updated_at"])
            & (pl.lit(guardrail["arm"] is None) | (pl.col("arm") == (guardrail["arm"] or "")))
        )
        if covered.height:
            rows = _found(guardrail, covered, actions, starts, costs)
            found.append(_reported(guardrail, covered, rows))
    return pl.concat(found).sort("trace_id", "guardrail_id", "occurred_at", "span_id", nulls_last=True)


# What a rule finds: trace_id, span_id, occurred_at, observed, detail.
_ROWS: Final = {name: FOUND[name] for name in ("trace_id", "span_id", "occurred_at", "observed", "detail")}


def _found(
    guardrail: dict[str, object],
    covered: pl.DataFrame,
    actions: pl.DataFrame,
    starts: pl.DataFrame,
    costs: pl.DataFrame,
) -> pl.DataFrame:
    kind, subject = str(guardrail["kind"]), str(guardrail["subject"])
    limit = guardrail["threshold"]
    number = float(limit) if isinstance(limit, (int, float)) else 0.0
    if kind == "min_delay_seconds":
        return _too_soon(_of(starts, covered), number)
    if kind == "max_actions_per_minute":
        return _too_many(_of(starts, covered), number)
    if kind == "max_spend_usd":
        return _too_dear(covered, costs, number)
    return _forbidden(_of(actions, covered), kind, subject)


def _forbidden(calls: pl.DataFrame, kind: str, subject: str) -> pl.DataFrame:
    """Calls that a tool, a site or an action forbids; equal calls are looked at once."""
    if kind != "off_limits_site":
        calls = calls.filter(pl.col("kind") == "tool")
    columns = ["name"] if kind == "off_limits_tool" else ["name", "input", "attributes"]
    distinct = calls.select(columns).unique()
    said = pl.Series("said", list(_sayings(distinct, kind, subject)), dtype=pl.String)
    told = distinct.with_columns(said).filter(pl.col("said").is_not_null())
    return _rows(
        calls.join(told, on=columns, how="inner", nulls_equal=True),
        at=pl.col("started_at"),
        observed=pl.lit(None, dtype=pl.Float64),
        detail=pl.col("said"),
    )


def _sayings(distinct: pl.DataFrame, kind: str, subject: str) -> Iterator[str | None]:
    """What is to be said of each distinct call; None where it is allowed."""
    if kind == "off_limits_tool":
        tool = text_pattern(subject)
        for (name,) in distinct.iter_rows():
            hit = name is not None and tool.fullmatch(composed(name.strip())) is not None
            yield f"expected no call of the tool {subject}; {_short(name)} was called" if hit else None
        return
    if kind == "off_limits_site":
        forbidden = site(subject)
        for name, arguments, attributes in distinct.iter_rows():
            asked = {each for each in sites(arguments, attributes) if forbidden is not None and forbidden.covers(each)}
            yield _asked_for(subject, name, asked) if asked else None
        return
    pattern = action_pattern(subject)
    for name, arguments, attributes in distinct.iter_rows():
        hit = pattern is not None and matches(pattern, name, arguments, attributes)
        yield _acted(subject, name, arguments) if hit else None


def _asked_for(subject: str, name: str | None, asked: set[Site]) -> str:
    hosts = _short(", ".join(sorted(map(str, asked))))
    return f"expected no request to the site {subject}; {_short(name)} asked for {hosts}"


def _acted(subject: str, name: str | None, arguments: str | None) -> str:
    return f"expected no action {subject}; {_short(name)} was called with {_short(arguments or 'no arguments')}"


def _too_soon(starts: pl.DataFrame, seconds: float) -> pl.DataFrame:
    least = round(seconds * 1e6)
    timed = starts.filter(pl.col("gap").is_not_null())
    early = timed.filter(pl.col("gap") < least)
    worst = early.sort("trace_id", "gap", "started_at", "span_id").group_by("trace_id", maintain_order=True).first()
    counted = early.group_by("trace_id").len("early")
    rows = worst.join(counted, on="trace_id", maintain_order="left")
    gap = pl.col("gap") / 1e6
    return _rows(
        rows,
        at=pl.col("started_at"),
        observed=gap,
        detail=pl.format(
            "expected at least {} s between actions; {} began {} s after {}; actions that came too soon: {}",
            pl.lit(f"{seconds:g}"), _named("name"), gap.round(3), _named("before"), "early",
        ),
    )  # fmt: skip


def _too_many(starts: pl.DataFrame, most: float) -> pl.DataFrame:
    over = starts.filter(pl.col("within_minute") > most).sort("trace_id", "started_at", "span_id")
    rows = over.group_by("trace_id", maintain_order=True).agg(
        pl.first("span_id", "started_at", "name"), peak=pl.col("within_minute").max()
    )
    return _rows(
        rows,
        at=pl.col("started_at"),
        observed=pl.col("peak").cast(pl.Float64),
        detail=pl.format(
            "expected at most {} actions in any minute; there were {}, the first too many was {}",
            pl.lit(f"{most:g}"), "peak", _named("name"),
        ),
    )  # fmt: skip


def _too_dear(covered: pl.DataFrame, costs: pl.DataFrame, cap: float) -> pl.DataFrame:
    """Traces above the cap; the evidence is the span with which their spans' costs passed it, where they do."""
    dear = covered.filter(pl.col("cost_usd") > cap * (1.0 + 1e-12))
    passed = (
        costs.join(dear.select("trace_id"), on="trace_id", how="semi")
        .with_columns(so_far=pl.col("cost_usd").cum_sum().over("trace_id"))
        .filter(pl.col("so_far") > cap)
        .group_by("trace_id", maintain_order=True)
        .first()
        .select("trace_id", "span_id", "spent_at")
    )
    return _rows(
        dear.join(passed, on="trace_id", how="left"),
        at=pl.coalesce("spent_at", "seen_at"),
        observed=pl.col("cost_usd"),
        detail=pl.format(
            "expected at most {} USD a trace; {} USD were spent", pl.lit(f"{cap:g}"), pl.col("cost_usd").round(6)
        ),
    )


def _with_rates(starts: pl.DataFrame) -> pl.DataFrame:
    """Each action with the `gap` since the one before (microseconds, null for the first), the name of that one as
    `before`, and how many began in the 60 seconds up to it (`within_minute`, itself and simultaneous ones included)."""
    unit = ["agent", "unit"]
    ordered = starts.sort(*unit, "started_at", maintain_order=True).with_columns(
        time=pl.col("started_at").dt.epoch("us")
    )
    ordered = ordered.with_columns(
        gap=pl.col("time").diff().over(unit),
        before=pl.col("name").shift(1).over(unit),
        new=~pl.struct(unit).eq_missing(pl.struct(unit).shift(1)),
        since=pl.col("time") - pl.col("time").first().over(unit),
    )
    # All units on one line, further apart than a minute, so that one search serves them all.
    since = ordered["since"].to_numpy().astype(np.int64)
    first = ordered["new"].fill_null(True).to_numpy()
    last = np.concatenate([[0], since[:-1]])[first] if since.size else since
    offsets = np.cumsum(last + 2 * MINUTE)
    line = since + offsets[np.cumsum(first) - 1] if since.size else since
    within = np.searchsorted(line, line, side="right") - np.searchsorted(line, line - MINUTE, side="right")
    return ordered.with_columns(within_minute=pl.Series(within, dtype=pl.Int64)).drop("time", "new", "since")


def _of(frame: pl.DataFrame, covered: pl.DataFrame) -> pl.DataFrame:
    return frame.join(covered.select("trace_id"), on="trace_id", how="semi")


def _rows(frame: pl.DataFrame, *, at: pl.Expr, observed: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    return frame.select("trace_id", "span_id", occurred_at=at, observed=observed, detail=detail).cast(_ROWS)  # type: ignore[arg-type]


def _reported(guardrail: dict[str, object], covered: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.join(covered.select("trace_id", "arm", "decision_id"), on="trace_id").select(
        agent=pl.lit(guardrail["agent"]),
        guardrail_id=pl.lit(guardrail["guardrail_id"]),
        trace_id="trace_id",
        span_id="span_id",
        decision_id="decision_id",
        arm="arm",
        occurred_at="occurred_at",
        observed="observed",
        detail="detail",
        action=pl.lit(guardrail["on_violation"]),
    )


def _named(column: str) -> pl.Expr:
    return pl.col(column).fill_null("a tool without a name").str.head(100)


def _short(text: str | None, most: int = 120) -> str:
    stated = "a tool without a name" if text is None else " ".join(text.split())
    return stated if len(stated) <= most else stated[:most] + "…"
