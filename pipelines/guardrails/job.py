"""The job `guardrails`: audits what came since the last time, looks at safety floors, and switches arms off.

Whatever is found is recorded after what follows from it was done, so that a run that is cut short is made up by the
next one. The baseline is never switched off by itself: somebody has to decide what runs instead.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipelines.guardrails.audit import audit
from pipelines.guardrails.floors import look_at_floors
from pipelines.jobs import JobResult
from store import arms, guardrails
from store import guardrail_evidence as evidence
from store.arms import clean_name
from store.connection import Store
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["has_work", "run"]

_BY: Final = "trimtab"
_CHUNK: Final = 20_000  # traces audited at once


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a guardrail is on for which there is anything new."""
    return evidence.pending(store)


def run(context: "JobContext") -> JobResult:
    """Audit and look; `rows` counts new violations and looks."""
    held = guardrails.listed(context.store, state="on")
    if held.is_empty():
        return JobResult(0, "There are no guardrails that are on.")
    context.progress(0.0, "reading what came since the last audit")
    audited, found = _audited(context, held)
    context.progress(0.7, "looking at safety floors")
    looked, broken = look_at_floors(context, held.filter(pl.col("kind") == "safety_floor"))
    told = [f"{audited} traces audited", f"{found.height} new violations", f"{looked} looks at safety floors"]
    return JobResult(found.height + looked, f"{', '.join(told)}. {' '.join(broken)}".strip())


def _audited(context: "JobContext", held: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Audit the traces published since the last time; how many there were, and the violations that are new."""
    store = context.store
    rules = held.filter(pl.col("kind") != "safety_floor")
    after, until = evidence.covered(store)
    if until <= after:
        return 0, pl.DataFrame(schema=guardrails.FOUND)
    new = [pl.DataFrame(schema=guardrails.FOUND)]
    count = done = 0
    if rules.height:
        agents, since = rules["agent"].unique().to_list(), rules["updated_at"].min()
        traces = evidence.traces(store, agents, since=since, after=after, until=until)  # type: ignore[arg-type]
        count = int(traces["fresh"].sum())
        for chunk in _chunks(traces):
            new.append(_recorded(store, context.compute(_audit_chunk, store, rules, chunk)))
            done += chunk.height
            context.progress(0.1 + 0.6 * done / traces.height, f"audited {done} of {traces.height} traces")
    evidence.cover(store, until)
    return count, pl.concat(new)


def _audit_chunk(store: Store, rules: pl.DataFrame, chunk: pl.DataFrame) -> pl.DataFrame:
    """The violations in a chunk of traces, by what the store holds of them."""
    return audit(rules, chunk, *_evidence(store, rules, chunk))


def _evidence(store: Store, rules: pl.DataFrame, chunk: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Actions, starts and costs of a chunk's traces, as far as any rule asks for them."""
    kinds = set(rules["kind"])
    fresh = chunk.filter("fresh")["trace_id"].to_list()
    texts = bool(kinds & {"off_limits_site", "off_limits_action"})
    actions = texts or "off_limits_tool" in kinds
    starts = bool(kinds & {"min_delay_seconds", "max_actions_per_minute"})
    every = chunk["trace_id"].to_list()
    return (
        evidence.actions(store, fresh, texts=texts) if actions else pl.DataFrame(schema=evidence.ACTIONS),
        evidence.starts(store, every) if starts else pl.DataFrame(schema=evidence.STARTS),
        evidence.costs(store, fresh) if "max_spend_usd" in kinds else pl.DataFrame(schema=evidence.COSTS),
    )


def _chunks(traces: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Traces in parts that keep sessions together."""
    parts = -(-traces.height // _CHUNK)
    unit = pl.coalesce("session_id", "trace_id").hash() % max(parts, 1)
    for part in range(parts):
        chunk = traces.filter(unit == part)
        if chunk.height:
            yield chunk


def _recorded(store: Store, found: pl.DataFrame) -> pl.DataFrame:
    """Switch off what is to be switched off for violations that are new, then record them with what was done."""
    new = guardrails.unknown(store, found)
    if new.is_empty():
        return new
    known = {(row["agent"], row["arm"]): row for row in arms.listed(store).to_dicts()}
    done = [_acted(store, row, known) for row in new.to_dicts()]
    return guardrails.add_violations(store, pl.DataFrame(done, schema=guardrails.FOUND))


def _acted(store: Store, row: dict[str, Any], known: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """One violation with the action that was taken; `known` arms are kept up to date."""
    if row["action"] != "switch_off":
        return row
    arm = known.get((row["agent"], clean_name(row["arm"] or "")))
    if arm is None:
        return row | {"action": "alert", "detail": f"{row['detail']}; no arm is known that could be switched off"}
    if arm["baseline"]:
        return row | {"action": "alert", "detail": f"{row['detail']}; the baseline is not switched off by itself"}
    if arm["state"] != "off":
        reason = f"Guardrail {row['guardrail_id']}, trace {row['trace_id']}: {row['detail']}"
        arms.set_state(store, row["agent"], arm["arm"], "off", reason=reason, by=_BY)
        arm["state"] = "off"
    return row
