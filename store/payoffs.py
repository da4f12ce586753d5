"""What lessons pay: the runs of the job `payoffs` and the effects each of them found.

Only the newest run keeps all its rows. Of earlier ones those of a whole lesson stay, so that its history can be drawn.
"""

from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = [
    "HISTORY", "PAYOFFS", "RUNS", "agents", "history", "latest_run", "newest", "of_lesson", "publish", "reward_model",
]  # fmt: skip

PAYOFFS = pl.Schema(
    {
        "agent": pl.String(),
        "kind": pl.String(),  # lesson, playbook (all against none), retry (a second try without any against the first)
        "lesson_id": pl.String(),  # null for the other kinds
        "version": pl.Int32(),
        "segment": pl.String(),  # null: everybody
        "measure": pl.String(),  # outcome, reward, cost_usd, tokens
        "estimator": pl.String(),  # doubly robust, difference, paired
        "served": pl.Int64(),  # decisions
        "withheld": pl.Int64(),
        "units": pl.Int64(),  # independent: users, or sessions where there is no user
        "effect": pl.Float64(),  # served minus withheld
        "lower": pl.Float64(),  # anytime-valid, level .95
        "upper": pl.Float64(),
        "sd": pl.Float64(),  # standard error of the effect
        "posterior": pl.Float64(),  # the effect shrunk towards those of the agent's other lessons
        "posterior_sd": pl.Float64(),
        "verdict": pl.String(),  # better, no worse, worse, can't tell yet
        "reason": pl.String(),
        "minimum_detectable": pl.Float64(),
        "more_decisions": pl.Int64(),
        "fixed": pl.Int64(),
        "broke": pl.Int64(),
        "tokens_per_decision": pl.Float64(),
        "usd_per_decision": pl.Float64(),
    }
)
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "reward_model_id": pl.Int64, "message": pl.String,
    }
)  # fmt: skip
HISTORY = declare(
    {
        "found_at": UTC_TIME, "version": pl.Int32, "measure": pl.String, "estimator": pl.String, "served": pl.Int64,
        "withheld": pl.Int64, "effect": pl.Float64, "lower": pl.Float64, "upper": pl.Float64, "verdict": pl.String,
    }
)  # fmt: skip

_COLUMNS = ", ".join(PAYOFFS)
_NEWEST = "run_id = (SELECT max(run_id) FROM payoff_runs)"
_ORDER = """agent, kind, lesson_id, version DESC NULLS LAST, segment NULLS FIRST,
    list_position(['outcome', 'reward', 'cost_usd', 'tokens'], measure), estimator DESC"""


def publish(
    store: Store,
    rows: pl.DataFrame,
    *,
    message: str,
    data_version: int,
    code_version: str,
    reward_model_id: int | None,
) -> int:
    """Write what a run found (columns `PAYOFFS`) and list the run; returns its number.

    Rows of earlier runs go, but for those of a lesson over all segments.
    """

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            "INSERT INTO payoff_runs VALUES ($run, $now, $data, $code, $model, $message)",
            {
                "run": run, "now": store.clock.now(), "data": data_version, "code": code_version,
                "model": reward_model_id, "message": message,
            },
        )  # fmt: skip

    run = result_rows.publish(store, "payoff_runs", {"lesson_payoffs": rows.select(list(PAYOFFS))}, add)
    result_rows.remove(
        store, "lesson_payoffs", "run_id < $run AND (kind <> 'lesson' OR segment IS NOT NULL)", {"run": run}
    )
    return run


def newest(store: Store, agent: str | None = None) -> pl.DataFrame:
    """Everything the newest run found, of one agent when it is named (columns `PAYOFFS`).

    By agent, kind, lesson, newest version first; within one everybody before segments, outcome before the others.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM lesson_payoffs WHERE {_NEWEST} AND ($agent IS NULL OR agent = $agent)
            ORDER BY {_ORDER}""",
            PAYOFFS,
            {"agent": agent},
        )


def of_lesson(store: Store, lesson_id: str, version: int | None = None) -> pl.DataFrame:
    """What the newest run found of one lesson, of one version when it is given (columns `PAYOFFS`, order of `newest`).

    A lesson for every agent has rows of each agent that it was served to.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM lesson_payoffs WHERE {_NEWEST} AND kind = 'lesson' AND lesson_id = $lesson_id
                AND ($version IS NULL OR version = $version) ORDER BY {_ORDER}""",
            PAYOFFS,
            {"lesson_id": lesson_id, "version": version},
        )


def history(store: Store, lesson_id: str, *, agents: Sequence[str] | None = None) -> pl.DataFrame:
    """What each run found of one lesson over all segments, oldest first (columns `HISTORY`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(HISTORY)} FROM lesson_payoffs JOIN payoff_runs USING (run_id)
            WHERE kind = 'lesson' AND lesson_id = $lesson_id AND segment IS NULL
                AND ($agents IS NULL OR list_contains($agents, agent))
            ORDER BY run_id, version, measure, estimator""",
            HISTORY,
            {"lesson_id": lesson_id, "agents": None if agents is None else list(agents)},
        )


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of the columns `RUNS`; None before the first."""
    return result_rows.newest(store, "payoff_runs", RUNS)


def agents(store: Store) -> list[str]:
    """The agents that have decisions which could serve lessons, in order."""
    with store.read() as reader:
        found = reader.frame("SELECT DISTINCT agent FROM exposures ORDER BY agent", pl.Schema({"agent": pl.String()}))
    return found["agent"].to_list()


def reward_model(store: Store) -> int | None:
    """The version of the reward model in use; None before the first."""
    with store.read() as reader:
        found = reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active")
    return int(found) if isinstance(found, int) else None
