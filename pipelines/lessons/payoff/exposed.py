"""Exposures with outcomes as rows of one draw each: a unit (a session), in which a lesson was served or withheld.

A lesson is drawn once for a unit and the draw holds for all its decisions, so a unit is one row, whatever its number of
decisions: the status is that of the first decision (as assigned), the outcome the mean over those that have one.
The draw of a lesson is its own, given that the playbook is not withheld as a whole: units with an empty playbook belong
to the comparison of playbooks, and in the rest a lesson is served with probability served / (1 - empty).

Decisions that say nothing are counted by reason (REASONS), of several the first.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from pipelines.stats.contract import require
from store.frames import UTC_TIME, declare

__all__ = ["ATTEMPTS", "EMPTY", "EXPOSED", "MEASURES", "REASONS", "SERVED", "UNITS", "WITHHELD", "Exposed", "exposed"]

SERVED: Final = "served"
WITHHELD: Final = "withheld"
EMPTY: Final = "empty"
MEASURES: Final = ("outcome", "reward", "cost_usd", "tokens")

EXPOSED = declare(
    {
        "decision_id": pl.String, "unit": pl.String, "user_id": pl.String, "segment": pl.String, "task": pl.String,
        "arm": pl.String, "lesson_id": pl.String, "version": pl.Int32, "status": pl.String,
        "served_probability": pl.Float64, "empty_probability": pl.Float64, "lesson_tokens": pl.Int64,
        "decided_at": UTC_TIME, "young": pl.Boolean, "traces": pl.Int64, "outcome": pl.Float64, "reward": pl.Float64,
        "cost_usd": pl.Float64, "tokens": pl.Float64,
    }
)  # fmt: skip
"""One row a decision and lesson, of one agent. `status` served, withheld, empty, over_budget; probabilities before the
draws; `lesson_tokens` of the lesson's text; `young` outcomes may still come; `traces` that followed; `outcome` what
their own signals say (0 to 1, unbiased, so perhaps a little outside), `reward` the posterior mean, `cost_usd` and
`tokens` of them; null where there is none."""

UNITS = declare(
    {
        "lesson_id": pl.String, "version": pl.Int32, "unit": pl.String, "user_id": pl.String, "segment": pl.String,
        "task": pl.String, "arm": pl.String, "served": pl.Boolean, "p": pl.Float64, "decided_at": UTC_TIME,
        "lesson_tokens": pl.Float64, **dict.fromkeys(MEASURES, pl.Float64),
        **{f"decisions_{measure}": pl.Int64 for measure in MEASURES},
    }
)  # fmt: skip
"""One row a draw: `p` the probability that it gave served; measures are null where missing, `decisions_...` those
that have one."""

ATTEMPTS = declare(
    {
        "unit": pl.String, "user_id": pl.String, "task": pl.String, "decided_at": UTC_TIME, "outcome": pl.Float64,
        "bare": pl.Boolean,
    }
)  # fmt: skip
"""One row a unit: `bare` where the draws withheld every lesson."""

REASONS: Final = {
    "over_budget": "had no room for it",
    "bad_propensity": "have a logged probability that is missing or impossible",
    "certain": "could only be served or only be withheld",
    "too_young": "are too young: their outcome may still come",
    "no_trace": "were followed by no trace",
    "no_outcome": "have a trace but no outcome",
    "empty": "were served no lesson at all",
}

_SMALL = 1e-9
_EMPTY_AS_A_WHOLE = pl.when(pl.col("status") == EMPTY).then(pl.lit("empty"))


@dataclass(frozen=True)
class Exposed:
    """`lessons` one row a unit and lesson version, `playbook` one a unit (both UNITS; of the playbook `lesson_id` is
    "" and served means not empty), `attempts` one a unit (ATTEMPTS), and `dropped`: lesson_id, version, reason (of
    REASONS), decisions."""

    lessons: pl.DataFrame
    playbook: pl.DataFrame
    attempts: pl.DataFrame
    dropped: pl.DataFrame


def exposed(rows: pl.DataFrame) -> Exposed:
    """Draws from decisions (columns EXPOSED, of one agent, any order). Raises: ContractError."""
    rows = require(
        rows, EXPOSED, "exposures", not_null=["unit", "lesson_id", "version", "status", "decided_at", "young"]
    )
    marked = (
        rows.with_columns(pl.col(MEASURES).fill_nan(None))
        .with_columns(dropped=_dropped())
        .sort("decided_at", "decision_id", maintain_order=True)
    )
    counted = (
        marked.with_columns(reason=pl.coalesce("dropped", _EMPTY_AS_A_WHOLE))
        .drop_nulls("reason")
        .group_by("lesson_id", "version", "reason")
        .agg(decisions=pl.len().cast(pl.Int64))
        .sort("lesson_id", "version", "reason")
    )
    # Units without outcomes stay: whether outcomes are missing evenly is looked at.
    silent = ["no_trace", "no_outcome"]
    usable = marked.filter(
        pl.col("dropped").is_null() | pl.col("dropped").is_in(silent), pl.col("status") != EMPTY
    ).with_columns(
        served=pl.col("status") == SERVED, p=pl.col("served_probability") / (1.0 - pl.col("empty_probability"))
    )  # fmt: skip
    lessons = _draws(usable, ["lesson_id", "version", "unit"])
    of_playbook = marked.filter(
        pl.col("dropped").is_null() | pl.col("dropped").is_in([*silent, "certain"]),
        ~pl.col("young"),
        pl.col("empty_probability").is_between(_SMALL, 1.0 - _SMALL),
    ).with_columns(served=pl.col("status") != EMPTY, p=1.0 - pl.col("empty_probability"))
    # Once a decision: each of its lessons repeats the outcome.
    tokens = pl.col("lesson_tokens").sum().over("decision_id")
    once = of_playbook.with_columns(lesson_tokens=tokens, lesson_id=pl.lit(""), version=pl.lit(0, pl.Int32)).unique(
        "decision_id", keep="first", maintain_order=True
    )
    attempts = (
        marked.filter(pl.col("dropped").ne_missing("too_young"))
        .group_by("unit", maintain_order=True)
        .agg(
            pl.col("user_id", "task", "decided_at").first(),
            outcome=pl.col("outcome").mean(),
            bare=(pl.col("status") != SERVED).all(),
        )
    )
    return Exposed(lessons, _draws(once, ["lesson_id", "version", "unit"]), attempts, counted)


def _dropped() -> pl.Expr:
    served, empty = pl.col("served_probability"), pl.col("empty_probability")
    possible = served.is_between(0.0, 1.0) & empty.is_between(0.0, 1.0) & (served <= 1.0 - empty + _SMALL)
    own = served / (1.0 - empty)
    return (
        pl.when(pl.col("status") == "over_budget").then(pl.lit("over_budget"))
        .when(~possible.fill_null(False) | ~pl.col("status").is_in([SERVED, WITHHELD, EMPTY]))
        .then(pl.lit("bad_propensity"))
        .when(~(own.is_between(_SMALL, 1.0 - _SMALL)).fill_null(False)).then(pl.lit("certain"))
        .when("young").then(pl.lit("too_young"))
        .when(pl.col("outcome").is_null() & (pl.col("traces").fill_null(0) == 0)).then(pl.lit("no_trace"))
        .when(pl.col("outcome").is_null()).then(pl.lit("no_outcome"))
    )  # fmt: skip


def _draws(rows: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    first = [pl.col(name).first() for name in ("user_id", "segment", "task", "arm", "served", "p", "decided_at")]
    return (
        rows.group_by(key, maintain_order=True)
        .agg(
            *first,
            lesson_tokens=pl.col("lesson_tokens").mean(),
            **{measure: pl.col(measure).mean() for measure in MEASURES},
            **{f"decisions_{measure}": pl.col(measure).count() for measure in MEASURES},
        )
        .select(list(UNITS))
        .cast(UNITS)
    )
