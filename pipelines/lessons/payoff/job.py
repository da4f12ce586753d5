"""The job `payoffs`: measures what lessons pay, publishes it, and takes measured harm away from agents.

A lesson is retired when the whole interval of its effect at level .99, which holds at every look, is below 0, its
text is still the one that was measured, and its agent's settings allow it (`automatic_demotion`). What an operator
serves again after that stays served: the numbers were known then. The level is for each lesson and agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.jobs import JobResult
from pipelines.lessons import review
from pipelines.lessons.payoff.exposed import EXPOSED
from pipelines.lessons.payoff.measure import HARM, PayoffConfig, measure
from store import exposures, lesson_settings, lessons, logged_decisions, meta, payoffs
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.lesson_reviews import SYSTEM
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["Measured", "measured", "run"]

_SERVED = ("canary", "active")
_HARM = "Measured harm"


@dataclass(frozen=True)
class Measured:
    """What was found, of which state of the data."""

    rows: pl.DataFrame
    harm: pl.DataFrame
    agents: int
    decisions: int
    data_version: int
    reward_model_id: int | None


def run(context: "JobContext") -> JobResult:
    """Measure, publish, demote and render; `rows` counts the lesson versions that were measured."""
    context.progress(0.0, "measuring what lessons pay")
    found = context.compute(measured, context.store, PayoffConfig())
    if found is None:
        return JobResult(0, "No decision could have served a lesson yet.")
    context.progress(0.8, "writing payoffs")
    names = found.rows.filter(pl.col("kind") == "lesson").select("agent", "lesson_id", "version").unique()
    counted = f"{names.height} lesson versions of {found.agents} agents from {found.decisions:,} decisions"
    payoffs.publish(
        context.store, found.rows, message=counted, data_version=found.data_version, code_version=code_version(),
        reward_model_id=found.reward_model_id,
    )  # fmt: skip
    context.progress(0.9, "acting on measured harm")
    demoted = _demote(context.store, found.harm)
    made = review.rerender(context.store, found.rows["agent"].unique().sort().to_list(), cause="payoffs")
    told = [f"Measured {counted}."]
    if demoted:
        told.append(f"Retired on measured harm: {', '.join(demoted)}.")
    if made or not demoted:
        told.append(f"{len(made)} playbooks have new payoffs." if made else "No playbook changed.")
    return JobResult(names.height, " ".join(told))


def measured(store: Store, config: PayoffConfig) -> Measured | None:
    """The payoffs of every agent with exposures; None where there are none."""
    version, model = meta.data_version(store), payoffs.reward_model(store)
    parts, harms, decisions = [], [], 0
    now = store.clock.now()
    for agent in payoffs.agents(store):
        rows = _exposed(exposures.logged(store, agent), now - logged_decisions.outcome_delay(store, agent))
        if rows.is_empty():
            continue
        decisions += rows["decision_id"].n_unique()
        found = measure(agent, rows, config)
        parts.append(found.rows)
        harms.append(found.harm)
    if not parts:
        return None
    harm = pl.concat([pl.DataFrame(schema=HARM), *harms])
    return Measured(pl.concat(parts), harm, len(parts), decisions, version, model)


def _exposed(logged: pl.DataFrame, settled_at: datetime) -> pl.DataFrame:
    """Logged exposures as `measure` wants them; decisions after `settled_at` are young."""
    rows = logged.with_columns(young=pl.col("decided_at") > settled_at)
    if rows["outcome"].null_count() == rows.height:
        # A reward model of before outcomes were kept: its means are drawn towards what was expected.
        rows = rows.with_columns(outcome=pl.col("reward"))
    return rows.select(list(EXPOSED))


def _demote(store: Store, harm: pl.DataFrame) -> list[str]:
    """Retire harmful lessons that are served; returns their titles."""
    demoted = []
    for row in harm.sort("upper").iter_rows(named=True):
        try:
            lesson = lessons.one(store, row["lesson_id"])
        except NotFound:
            continue
        served = lesson["state"] in _SERVED and lesson["version"] == row["version"]
        if not served or not lesson_settings.of(store, row["agent"]).automatic_demotion or _knowingly(store, row):
            continue
        try:
            review.demote(
                store, row["lesson_id"], version=row["version"], to="retired", operator=SYSTEM, reason=harmed(row)
            )
        except ActionRefused:  # someone decided about it meanwhile
            continue
        demoted.append(str(lesson["title"]))
    return demoted


def harmed(row: Mapping[str, Any]) -> str:
    """Why a lesson (a row of `measure.HARM`) was retired, with its numbers."""
    return (
        f"{_HARM} for {row['agent']}: decisions served it went {-row['effect']:.3f} reward points "
        f"worse than those it was withheld from at random ({row['lower']:+.3f} to "
        f"{row['upper']:+.3f} at level .99, at every look; {row['served']:,} served, "
        f"{row['withheld']:,} withheld)."
    )


def _knowingly(store: Store, row: Mapping[str, Any]) -> bool:
    """Whether an operator served this version again after it was retired for harm."""
    own = lessons.reviews(store, lesson_id=row["lesson_id"], limit=1_000).filter(
        pl.col("action") == "demote", pl.col("operator") == SYSTEM, pl.col("version") == row["version"],
        pl.col("reason").str.starts_with(_HARM),
    )  # fmt: skip
    return own.height > 0
