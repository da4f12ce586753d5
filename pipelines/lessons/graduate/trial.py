"""Does a trained model still need the lesson? It is withheld at random from half of the decisions, and measured.

Only decisions that ran the trained model (or arm) count, of the version of the lesson that began with the trial. The
interval of the lesson's effect (served minus withheld; `pipelines.lessons.payoff.measure`: doubly robust, on the
outcome, anytime-valid at .95) decides against the region of practical equivalence, ± margin reward points:

    not absorbed     lower limit above 0: with the lesson it is still better
    harms            upper limit below 0: with the lesson it is worse now
    absorbed         the interval holds 0 and lies within ± margin: the lesson makes no difference that matters
    running          otherwise

Absorbed is a proposal: an operator graduates the lesson, which can be undone.
"""

from typing import Any, Final

import polars as pl

from pipelines.lessons import review
from pipelines.lessons.payoff.exposed import EXPOSED
from pipelines.lessons.payoff.measure import DOUBLY_ROBUST, PayoffConfig, measure
from store import exposures, fine_tunings, graduation, graduation_trials, lessons, logged_decisions
from store.connection import Store
from store.errors import ActionRefused
from store.graduation_trials import Basis, State
from store.lesson_reviews import Reviewed
from store.lesson_versions import EVERY_AGENT

__all__ = ["HOLDOUT", "begin", "decide", "end", "graduate", "look", "measured"]

HOLDOUT: Final = 0.5


def begin(
    store: Store,
    agent: str,
    lesson_id: str,
    *,
    version: int,
    basis: Basis,
    name: str,
    operator: str,
    tuning_id: int | None = None,
    holdout: float = HOLDOUT,
    margin: float = PayoffConfig.margin,
) -> int:
    """An operator says that the agent runs the trained model: withhold the lesson at `holdout` and measure.

    Args: `basis` and `name` by what its decisions are known: the model or the arm that traces name. Returns the trial's
    number. Raises: `NotFound`; `ActionRefused`, as `review.edit`, and while a trial of the lesson is open.
    """
    action = "Try without"
    lesson = lessons.one(store, lesson_id)
    if lesson["state"] not in ("canary", "active"):
        raise ActionRefused(action, f"the lesson is {lesson['state']}.", "Only served lessons can be withheld.")
    if lesson["agent"] != agent:
        whose = "for every agent" if lesson["agent"] == EVERY_AGENT else f"of {lesson['agent']}"
        raise ActionRefused(
            action, f"the lesson is {whose}, and a trial withholds it wherever it is served.",
            f"Edit its scope to {agent} first, or name its agent.",
        )  # fmt: skip
    if basis not in ("model", "arm") or not name.strip():
        raise ActionRefused(action, "no model or arm was named.", "Name the one that was trained, as traces name it.")
    if not 0.2 <= holdout <= 0.8:
        raise ActionRefused(action, f"{holdout} is no rate for a comparison.", "Withhold between .2 and .8.")
    if not 0.0 < margin <= 0.5:
        raise ActionRefused(action, f"{margin} is no margin.", "Use reward points above 0, .5 at most.")
    if tuning_id is not None and fine_tunings.one(store, tuning_id)["state"] != "succeeded":
        raise ActionRefused(action, f"fine-tuning {tuning_id} has not succeeded.", "Wait for its end.")
    if graduation_trials.running(store).filter(pl.col("lesson_id") == lesson_id).height:
        raise ActionRefused(action, "a trial of this lesson is open.", "End that one first.")
    held = lesson["holdout"]
    if held != holdout:
        version = review.edit(store, lesson_id, version=version, operator=operator, holdout=holdout).version
    return graduation_trials.begin(
        store, agent, lesson_id, version=version, basis=basis, name=name.strip(), tuning_id=tuning_id, holdout=holdout,
        holdout_before=held, margin=margin, by=operator,
    )  # fmt: skip


def measured(store: Store, trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial (a row of `store.graduation_trials.ROWS`) has shown: served, withheld, effect, lower, upper, reason.

    Numbers are null below the minimum sample.
    """
    agent, basis = trial["agent"], trial["basis"]
    rows = exposures.logged(store, agent, trial["started_at"])
    settled = store.clock.now() - logged_decisions.outcome_delay(store, agent)
    ran = graduation.ran(store, agent, trial["started_at"]).filter(pl.col(basis) == trial["name"])
    rows = rows.filter(pl.col("lesson_id") == trial["lesson_id"], pl.col("version") == trial["version"])
    # A session that ran more than one model says nothing about either: its one draw held for both.
    other = rows.join(ran, on="decision_id", how="anti").filter(pl.col("traces") > 0)["unit"].unique()
    rows = rows.join(ran, on="decision_id", how="semi").filter(~pl.col("unit").is_in(other.to_list()))
    rows = rows.with_columns(young=pl.col("decided_at") > settled)
    if rows["outcome"].null_count() == rows.height:
        # A reward model of before outcomes were kept.
        rows = rows.with_columns(outcome=pl.col("reward"))
    found = measure(agent, rows.select(list(EXPOSED)), PayoffConfig(margin=trial["margin"])).rows.filter(
        pl.col("kind") == "lesson", pl.col("lesson_id") == trial["lesson_id"], pl.col("segment").is_null(),
        pl.col("measure") == "outcome", pl.col("estimator") == DOUBLY_ROBUST,
    )  # fmt: skip
    names = ("served", "withheld", "effect", "lower", "upper", "reason")
    if found.is_empty():
        return {**dict.fromkeys(names), "served": 0, "withheld": 0, "reason": "No decision ran it yet."}
    row = found.row(0, named=True)
    return {name: row[name] for name in names}


def decide(lower: float | None, upper: float | None, margin: float) -> State:
    """The state of a trial by the interval of the effect and the margin; see above."""
    if lower is None or upper is None:
        return "running"
    if lower > 0.0:
        return "not absorbed"
    if upper < 0.0:
        return "harms"
    return "absorbed" if -margin < lower and upper < margin else "running"


def look(store: Store, trial: dict[str, Any], found: dict[str, Any]) -> State:
    """Record what was `measured` of a trial; returns its state."""
    state = decide(found["lower"], found["upper"], trial["margin"])
    if found["effect"] is None:
        said = found["reason"] or "It cannot be told yet."
    else:
        interval = f"{found['effect']:+.3f} ({found['lower']:+.3f} to {found['upper']:+.3f})"
        said = {
            "absorbed": f"Serving the lesson makes no difference above {trial['margin']:g} reward points: {interval}.",
            "not absorbed": f"With the lesson it is still better: {interval} reward points.",
            "harms": f"With the lesson it is worse now: {interval} reward points.",
            "running": f"It cannot be told yet: {interval} reward points.",
        }[state]
    graduation_trials.look(store, trial["trial_id"], state, said, found)  # type: ignore[arg-type]
    return state


def graduate(store: Store, trial_id: int, *, operator: str) -> Reviewed:
    """An operator confirms that the lesson was absorbed: it is served no more. Raises: `NotFound`; `ActionRefused`."""
    trial = graduation_trials.one(store, trial_id)
    if trial["state"] not in ("absorbed", "harms"):
        raise ActionRefused("Graduate", f"the trial is {trial['state']}: {trial['message']}", "Wait, or end the trial.")
    # The state of the lesson first: it is what agents are served by.
    done = review.graduate(
        store, trial["lesson_id"], version=trial["version"], operator=operator,
        reason=f"Absorbed by {trial['basis']} {trial['name']}. {trial['message']}",
    )  # fmt: skip
    graduation_trials.close(store, trial_id, "graduated", by=operator)
    return done


def end(store: Store, trial_id: int, *, operator: str) -> Reviewed | None:
    """End a trial and withhold the lesson as before; None where the lesson has changed since and is left as it is.

    Raises: `NotFound`; `ActionRefused`.
    """
    trial = graduation_trials.one(store, trial_id)
    lesson = lessons.one(store, trial["lesson_id"])
    graduation_trials.close(store, trial_id, "ended", by=operator)
    before = trial["holdout_before"]
    if lesson["version"] != trial["version"] or lesson["holdout"] == before or lesson["state"] not in _SERVED:
        return None
    return review.edit(
        store, lesson["lesson_id"], version=lesson["version"], operator=operator,
        holdout="inherit" if before is None else before,
    )  # fmt: skip


_SERVED: Final = ("canary", "active")
