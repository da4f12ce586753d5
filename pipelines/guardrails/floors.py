"""Looks at safety floors: which arms of which agents are due, what each look says, and what follows from it."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipelines.guardrails.safety import DRAWS, SafetyLook, look
from store import arms, guardrail_evidence, guardrails, logged_decisions, safety_measures
from store.connection import Store

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["look_at_floors"]

_BY: Final = "trimtab"
# Reading all decisions of an agent takes a while: with many traces looks wait until so much is new or so long passed.
_FEW: Final = 10_000
_GROWN: Final = 0.01
_LOOK_AGAIN: Final = timedelta(hours=1)
# Rows of these are randomised all the same; other metrics than the reward can be read from them.
_WITHOUT_REWARD: Final = ("no_reward", "too_young")

Row = dict[str, Any]


def look_at_floors(context: "JobContext", floors: pl.DataFrame) -> tuple[int, list[str]]:
    """Look at every enabled arm that a floor is due for; how many looks were recorded, and what is to be said.

    `floors` are the guardrails of that kind that are on (columns `store.guardrails.GUARDRAILS`).
    """
    store = context.store
    seen = {
        (row["agent"], row["guardrail_id"], row["arm"]): row
        for row in guardrails.looks(store, newest=True, limit=100_000).to_dicts()
    }
    broken = {row[:3]: row[3] for row in guardrails.last_broken(store).iter_rows()}
    changed = guardrail_evidence.rewards_changed_at(store)
    added: list[Row] = []
    told: list[str] = []
    for (agent,), own in floors.group_by(["agent"], maintain_order=True):
        held = arms.listed(store, agent=str(agent))
        baseline = held.filter("baseline")["arm"].to_list()
        if not baseline:
            told.append(f"{agent} has no baseline arm to hold safety floors against.")
            continue
        if not _due(context, str(agent), own.to_dicts(), seen, changed):
            continue
        logged = logged_decisions.read(store, str(agent))
        for floor in own.to_dicts():
            measured = safety_measures.measured(store, str(agent), floor["subject"])
            since = _must_follow(floor, changed)
            for arm in _watched(held, floor["arm"]):
                before = seen.get((agent, floor["guardrail_id"], arm))
                anew = broken.get((agent, floor["guardrail_id"], arm))
                found = _one_look(context, logged, measured, floor, arm, baseline[0], anew)
                if before is not None and before["looked_at"] >= since and _same(before, found):
                    continue
                if found.broken:
                    told.append(_broken(store, floor, found, arm, baseline[0]))
                added.append(
                    {
                        "agent": agent, "guardrail_id": floor["guardrail_id"], "arm": arm, "n_arm": found.n_arm,
                        "n_baseline": found.n_baseline, "estimate": found.estimate, "lower": found.lower,
                        "upper": found.upper, "verdict": found.verdict, "basis": found.basis,
                    }
                )  # fmt: skip
    guardrails.add_looks(
        store, pl.DataFrame(added, schema={name: guardrails.LOOKS[name] for name in guardrails.SEEN_LOOK})
    )
    return len(added), told


def _due(
    context: "JobContext",
    agent: str,
    floors: list[Row],
    seen: dict[tuple[str, str, str], Row],
    changed: datetime | None,
) -> bool:
    """Whether an agent's arms are worth looking at now."""
    latest: dict[str, datetime] = {}
    for (_, guardrail_id, _), row in seen.items():
        latest[guardrail_id] = max(row["looked_at"], latest.get(guardrail_id, row["looked_at"]))
    last = [latest.get(floor["guardrail_id"]) for floor in floors]
    if any(at is None or at < _must_follow(floor, changed) for at, floor in zip(last, floors, strict=True)):
        return True
    since = min(at for at in last if at is not None)
    if context.clock.now() - since >= _LOOK_AGAIN:
        return True
    new, held = guardrail_evidence.growth(context.store, agent, since=since)
    return held <= _FEW or new >= _GROWN * held


def _must_follow(floor: Row, changed: datetime | None) -> datetime:
    """What a look must come after to be of the present: the floor's switching on, and the rewards it rests on."""
    on: datetime = floor["updated_at"]
    return on if changed is None or floor["subject"] != "reward" else max(on, changed)


def _watched(held: pl.DataFrame, arm: str | None) -> list[str]:
    rows = held.filter((pl.col("state") == "enabled") & ~pl.col("baseline"))
    return [name for name in rows["arm"].to_list() if arm is None or name == arm]


def _same(before: Row, found: SafetyLook) -> bool:
    """Whether a look has seen nothing that the one before had not."""
    said = (found.n_arm, found.n_baseline, found.estimate)
    return (before["n_arm"], before["n_baseline"], before["estimate"]) == said


def _one_look(
    context: "JobContext",
    logged: pl.DataFrame,
    measured: pl.DataFrame,
    floor: Row,
    arm: str,
    baseline: str,
    anew: datetime | None,
) -> SafetyLook:
    """A look; an arm that was enabled again after the floor had switched it off (`anew`) begins anew."""
    usable = pl.col("dropped").is_null()
    if floor["subject"] != "reward":
        usable = usable | pl.col("dropped").is_in(_WITHOUT_REWARD)
    draws = logged.filter(usable & pl.col("arms").is_not_null() & pl.col("propensities").is_not_null())
    if anew is not None:
        draws = draws.filter(pl.col("decided_at") > anew)
        measured = measured.filter(pl.col("seen_at") > anew)
    return context.compute(
        look, draws.select(list(DRAWS)), measured, arm, baseline, floor["subject"], floor["threshold"]
    )


def _broken(store: Store, floor: Row, found: SafetyLook, arm: str, baseline: str) -> str:
    """Switch the arm off where that is wanted and the evidence is causal; what is to be said of it."""
    reason = found.reason(floor["subject"], floor["threshold"], arm, baseline)
    if floor["on_violation"] == "switch_off" and found.basis == "randomised":
        arms.set_state(store, floor["agent"], arm, "off", reason=f"Safety floor: {reason}", by=_BY)
        return f"Switched off: {reason}"
    return f"Alert: {reason}"
