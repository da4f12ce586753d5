"""Reads the groups of rollouts that a model could be asked about, and all that the prompt tells of one of them.

The groups, their best and worst diverse rollouts and the tested patterns are those of the newest contrast
(`store.contrasts`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from pipelines.lessons.drafting.group import ALIASES, Group, Known, Rollout, Step, texts_of
from pipelines.rewards.job import EVIDENCE_KINDS
from pipelines.rewards.observations import observe
from store import contrasts, credit, drafting, failures, lessons, rewards
from store.connection import Store

__all__ = ["MOST_ROLLOUTS", "Candidate", "again", "candidates", "group", "told"]

MOST_ROLLOUTS: Final = 4
_WAITING: Final = ("proposed", "approved")
_SERVED: Final = ("canary", "active")
_UNCOVERED: Final = 0.5
"""Of a task that served lessons cover by more than this, nothing more is asked unless it is named."""

Role = Literal["good", "bad"]


@dataclass(frozen=True)
class Candidate:
    """A group worth asking about: its row of `store.contrasts.GROUPS`, and the rollouts to tell of, best first.

    `rollouts` has the columns `store.drafting.ROLLOUTS` and `role`. `fingerprint` is the same for the same rollouts
    on the same sides.
    """

    row: dict[str, Any]
    rollouts: pl.DataFrame

    @property
    def agent(self) -> str:
        """The group's agent."""
        return str(self.row["agent"])

    @property
    def task(self) -> str:
        """The group's task."""
        return str(self.row["task"])

    @property
    def fingerprint(self) -> str:
        """A hash of the rollouts told of and how they went; estimates that move from day to day are not in it."""
        facts = self.rollouts.select("trace_id", "role").rows()
        return hashlib.sha256(json.dumps([self.agent, self.task, sorted(facts)]).encode()).hexdigest()[:24]


def candidates(
    store: Store,
    *,
    agent: str | None = None,
    task: str | None = None,
    passed: Callable[[Mapping[str, Any]], bool] = lambda row: False,
) -> Iterator[Candidate]:
    """The groups of which no lesson says anything yet, the most valuable first; of an agent and task when named.

    A task that is named is a candidate whatever covers it. Rows of `store.contrasts.GROUPS` for which `passed` says so
    are left out before their rollouts are read.
    """
    groups = contrasts.groups(store, agent=agent)
    if task is not None:
        groups = groups.filter(pl.col("task") == task)
    else:
        library = lessons.library(store, states=(*_WAITING, *_SERVED)).filter(pl.col("task").is_not_null())
        # A hypothesis drafted without a model is no reason not to ask one.
        covering = library.filter(pl.col("state").is_in(_SERVED) | (pl.col("origin") != "contrast"))
        groups = groups.filter(pl.col("uncovered") >= _UNCOVERED)
        groups = groups.join(
            covering.select("agent", "task").unique(), on=["agent", "task"], how="anti", maintain_order="left"
        )
    observed = _Observed(store)
    for row in groups.iter_rows(named=True):
        if not passed(row):
            rollouts = _chosen(store, row, observed)
            if _contrasting(rollouts):
                yield Candidate(row, rollouts)


def group(store: Store, candidate: Candidate) -> Group:
    """All that a prompt tells of a candidate."""
    row = candidate.row
    return Group(
        agent=candidate.agent,
        task=candidate.task,
        size=row["rollouts"],
        mean_outcome=row["mean_outcome"],
        standard_error=row["standard_error"],
        value=row["value"],
        rollouts=_read(store, told(candidate), judged=True),
        divergence=row,
        patterns=tuple(contrasts.patterns(store, agent=candidate.agent).to_dicts()),
        known=_known(store, candidate.agent, candidate.task),
    )


def told(candidate: Candidate) -> list[dict[str, Any]]:
    """Which rollouts a prompt tells of, as `lesson_drafting.chosen` keeps it."""
    return [
        {
            "alias": ALIASES[place], "trace_id": one["trace_id"], "role": one["role"], "outcome": one["outcome"],
            "reward": one["reward"], "reward_sd": one["reward_sd"],
        }
        for place, one in enumerate(candidate.rollouts.iter_rows(named=True))
    ]  # fmt: skip


def again(store: Store, chosen: str) -> tuple[Rollout, ...]:
    """The rollouts of an earlier prompt (`lesson_drafting.chosen`) with their steps as they are now."""
    return _read(store, json.loads(chosen), judged=False)


class _Observed:
    """What signals say of traces whose outcomes the reward model does not tell; read once, when first asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frame: pl.DataFrame | None = None

    def fill(self, rollouts: pl.DataFrame) -> pl.DataFrame:
        """The rollouts (columns `store.drafting.ROLLOUTS`) that have an outcome, the best first."""
        if rollouts["outcome"].null_count():
            if self._frame is None:
                seen = observe(rewards.signals(self._store, EVIDENCE_KINDS)).frame
                self._frame = seen.select("trace_id", observed="outcome")
            filled = rollouts.join(self._frame, on="trace_id", how="left")
            rollouts = filled.with_columns(outcome=pl.coalesce("outcome", "observed")).drop("observed")
        order = ["outcome", "reward", "reward_sd", "trace_id"]
        return rollouts.drop_nulls().sort(order, descending=[True, True, False, False])


def _chosen(store: Store, row: dict[str, Any], observed: _Observed) -> pl.DataFrame:
    """The best and worst diverse rollouts that the contrast chose, filled up from both ends to `MOST_ROLLOUTS`."""
    good = [row["best_trace_id"], *row["good_trace_ids"]]
    bad = [row["worst_trace_id"], *row["bad_trace_ids"]]
    known = observed.fill(drafting.rollouts(store, row["agent"], row["task"]))
    order = list(dict.fromkeys([*good, *reversed(list(dict.fromkeys(bad)))]))
    roles = dict.fromkeys(good, "good") | dict.fromkeys(bad, "bad")
    room = MOST_ROLLOUTS - len(order)
    others = known.filter(~pl.col("trace_id").is_in(order))
    high = others.head((room + 1) // 2)["trace_id"].to_list() if room > 0 else []
    low = others.slice(len(high)).tail(room - len(high))["trace_id"].to_list() if room > 0 else []
    split = len(dict.fromkeys(good))
    order = [*order[:split], *high, *low, *order[split:]]
    places = pl.DataFrame({"trace_id": order}, schema={"trace_id": pl.String()}).with_row_index("place")
    found = known.join(places, on="trace_id").sort("place").drop("place")
    if found.is_empty():
        return found.with_columns(role=pl.lit(None, dtype=pl.String()))
    middle = (pl.col("outcome").min() + pl.col("outcome").max()) / 2
    stated = pl.col("trace_id").replace_strict(roles, default=None, return_dtype=pl.String())
    by_outcome = pl.when(pl.col("outcome") > middle).then(pl.lit("good")).otherwise(pl.lit("bad"))
    return found.with_columns(role=pl.coalesce(stated, by_outcome))


def _contrasting(rollouts: pl.DataFrame) -> bool:
    """Whether both sides are still there: traces may have gone, or been corrected, since they were contrasted."""
    return set(rollouts["role"].to_list()) == {"good", "bad"}


def _read(store: Store, chosen: Sequence[dict[str, Any]], *, judged: bool) -> tuple[Rollout, ...]:
    """The rollouts with their steps; `judged` with failure labels and credit too."""
    steps = drafting.steps(store, [one["trace_id"] for one in chosen]).partition_by("trace_id", as_dict=True)
    return tuple(
        Rollout(
            **one,
            labels=_labels(store, one["trace_id"]) if judged else (),
            steps=_steps(steps.get((one["trace_id"],)), credit.of_trace(store, one["trace_id"]) if judged else None),
        )
        for one in chosen
    )


def _steps(rows: pl.DataFrame | None, credits: pl.DataFrame | None) -> tuple[Step, ...]:
    """The steps of a trace (`rows` of columns `store.drafting.STEPS`) with their `credits` (`store.credit`)."""
    if rows is None:
        return ()
    credited = {row["span_id"]: row for row in credits.iter_rows(named=True)} if credits is not None else {}
    steps = []
    for row in rows.iter_rows(named=True):
        texts, raw = texts_of(row)
        known = credited.get(row["span_id"])
        steps.append(
            Step(
                number=row["step"], span_id=row["span_id"], kind=row["kind"], name=row["name"] or row["kind"],
                status=row["status"], texts=texts, raw=raw, credit=known["credit"] if known else None,
                credit_sd=known["sd"] if known else None,
            )
        )  # fmt: skip
    return tuple(steps)


def _labels(store: Store, trace_id: str) -> tuple[str, ...]:
    return tuple(
        f"{row['axis']} (confidence {row['confidence']:.2f}){': ' + row['detail'] if row['detail'] else ''}"
        for row in failures.of_trace(store, trace_id).head(2).iter_rows(named=True)
    )


def _known(store: Store, agent: str, task: str) -> tuple[Known, ...]:
    """Lessons for the task, for all tasks of the agent, or for every agent: those for the task first."""
    states = (*_WAITING, *_SERVED)
    library = pl.concat([lessons.library(store, agent=one, states=states) for one in (agent, "*")])
    covering = library.filter(pl.col("task").is_null() | (pl.col("task") == task)).sort(
        pl.col("task").is_null(), "lesson_id"
    )
    return tuple(
        Known(row["lesson_id"], row["state"], row["when_text"], row["do_text"])
        for row in covering.iter_rows(named=True)
    )
