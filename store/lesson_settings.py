"""How lessons are approved and served: settings of each agent, kill switches, and time travel to an earlier playbook.

What an agent leaves open comes from agent '*', and from `DEFAULTS` in the end. Two are no matter of inheriting: a kill
switch of '*' holds for every agent whatever its own row says, and a pin is of one agent. Every change is one
transaction with its audit row and the playbooks that follow from it, which the caller renders (`store.lesson_serving`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, lesson_serving, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound, SettingsError
from store.frames import UTC_TIME, declare
from store.lesson_rules import LessonSettings, resolve
from store.lesson_serving import Render
from store.lesson_versions import EVERY_AGENT

__all__ = [
    "ROWS", "SETTABLE", "LessonSettings", "kill", "listed", "of", "pin", "put", "restore_serving", "unpin",
]  # fmt: skip

ROWS = declare(
    {
        "agent": pl.String, "two_person": pl.Boolean, "canary_holdout": pl.Float64, "active_holdout": pl.Float64,
        "empty_share": pl.Float64, "token_budget": pl.Int32, "automatic_demotion": pl.Boolean, "serving_off": pl.String,
        "pinned_playbook": pl.Int32, "updated_by": pl.String, "updated_at": UTC_TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Settable:
    """What a setting may be: its type, its range, and both in words."""

    kind: type
    lowest: float
    highest: float
    expected: str


SETTABLE: Final[Mapping[str, _Settable]] = {
    "two_person": _Settable(bool, 0, 1, "true or false"),
    # Never 0: what is never withheld is never measured again.
    "canary_holdout": _Settable(float, 0.02, 0.9, "a number from 0.02 to 0.9"),
    "active_holdout": _Settable(float, 0.02, 0.9, "a number from 0.02 to 0.9"),
    "empty_share": _Settable(float, 0.0, 0.5, "a number from 0 to 0.5"),
    "token_budget": _Settable(int, 100, 100_000, "a whole number from 100 to 100000"),
    "automatic_demotion": _Settable(bool, 0, 1, "true or false"),
}


def of(store: Store, agent: str) -> LessonSettings:
    """The settings in force for an agent."""
    with store.read() as reader:
        rows = reader.frame(f"SELECT {', '.join(ROWS.names())} FROM lesson_settings", ROWS).to_dicts()
    return resolve(rows, agent)


def listed(store: Store) -> pl.DataFrame:
    """What was set for whom, null where it is inherited: agent '*' first, then by agent (columns `ROWS`)."""
    with store.read() as reader:
        return reader.frame(f"SELECT {', '.join(ROWS.names())} FROM lesson_settings ORDER BY agent <> '*', agent", ROWS)


def put(store: Store, agent: str, *, by: str, render: Render, **changed: object) -> dict[str, int]:
    """Set some of `SETTABLE` for an agent or for '*'; None inherits again. Returns the playbooks made, by agent.

    Raises: `SettingsError` naming the setting; `ActionRefused` when `by` is no person.
    """
    values = {name: _checked(name, value) for name, value in changed.items()}
    return _change(store, agent, values, by=by, action="set", detail={}, cause="settings", render=render)


def kill(store: Store, agent: str, *, reason: str, by: str, render: Render) -> dict[str, int]:
    """Serve an agent no lessons from now on, or every agent ('*'). Returns the playbook versions made, by agent.

    Raises: `ActionRefused` without a reason.
    """
    why = " ".join(reason.split())
    if not why or len(why) > 1_000:
        raise ActionRefused(
            "Stop serving", f"the reason has {len(why)} characters.", "Write in 1 to 1,000 why, for those who ask."
        )
    return _change(
        store, agent, {"serving_off": why}, by=by, action="kill", detail={"reason": why}, cause="serving off",
        render=render,
    )  # fmt: skip


def restore_serving(store: Store, agent: str, *, by: str, render: Render) -> dict[str, int]:
    """Take back `kill`. Raises: `ActionRefused` when serving is on, or is off for every agent and not for this one."""

    def check(connection: duckdb.DuckDBPyConnection) -> None:
        held = _row(connection, agent)
        if held.get("serving_off") is not None:
            return
        whole = _row(connection, EVERY_AGENT).get("serving_off")
        if whole is not None:
            raise ActionRefused(
                "Serve again", f"serving is off for every agent ({whole}).", "Restore it for every agent ('*')."
            )
        raise ActionRefused("Serve again", "serving is on.", "Nothing is left to do.")

    return _change(
        store, agent, {"serving_off": None}, by=by, action="restore serving", detail={}, cause="serving on",
        render=render, check=check,
    )  # fmt: skip


def pin(store: Store, agent: str, playbook_version: int, *, by: str, render: Render) -> dict[str, int]:
    """Serve exactly the lessons, versions and settings of an earlier playbook until `unpin`.

    Lessons that were paused or demoted since, or have expired, are left out and named in the new version's settings.
    Returns the playbook version made. Raises: `ActionRefused` for agent '*'; `NotFound`.
    """
    if agent == EVERY_AGENT:
        raise ActionRefused("Pin", "a playbook belongs to one agent.", "Pin that of each agent.")

    def check(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "SELECT settings ->> 'pinned' FROM playbooks WHERE agent = $agent AND version = $version",
            {"agent": agent, "version": playbook_version},
        ).fetchall()
        if not rows:
            raise NotFound("playbook version", f"{agent} {playbook_version}")

    return _change(
        store, agent, {"pinned_playbook": playbook_version}, by=by, action="pin", detail={},
        cause=f"pin {playbook_version}", render=render, check=check,
    )  # fmt: skip


def unpin(store: Store, agent: str, *, by: str, render: Render) -> dict[str, int]:
    """Serve again what the states of the lessons say. Raises: `ActionRefused` when nothing is pinned."""

    def check(connection: duckdb.DuckDBPyConnection) -> None:
        if _row(connection, agent).get("pinned_playbook") is None:
            raise ActionRefused("Unpin", "no playbook is pinned.", "Nothing is left to do.")

    return _change(
        store, agent, {"pinned_playbook": None}, by=by, action="unpin", detail={}, cause="unpin", render=render,
        check=check,
    )  # fmt: skip


def _change(
    store: Store,
    agent: str,
    values: Mapping[str, object],
    *,
    by: str,
    action: str,
    detail: Mapping[str, object],
    cause: str,
    render: Render,
    check: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> dict[str, int]:
    """Write the row, the playbooks and the audit row."""
    if not agent.strip():
        raise SettingsError("agent", agent, "the name of an agent, or '*' for every agent")
    audit.person("Change settings of lessons", by)

    def work(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
        now = store.clock.now()
        if check is not None:
            check(connection)
        held = _row(connection, agent)
        before = {name: held.get(name) for name in values}
        if before == dict(values):
            return {}
        _write(connection, now, agent, by, values, new=not held)
        made = lesson_serving.refresh(connection, now, [agent], render, cause)
        told = {"before": before, "after": dict(values), "playbooks": made, **detail}
        audit.append(connection, now, by, f"lesson {action}", f"lessons of {agent}", told)
        meta.bump(connection)
        return made

    return store.write(work)


def _write(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    agent: str,
    by: str,
    values: Mapping[str, object],
    *,
    new: bool,
) -> None:
    params = {**values, "agent": agent, "by": by, "now": now}
    # No ON CONFLICT: see `publications.begin`.
    if new:
        columns, given = ", ".join(values), ", ".join(f"${name}" for name in values)
        connection.execute(
            f"""INSERT INTO lesson_settings (agent, {columns}, updated_by, updated_at)
            VALUES ($agent, {given}, $by, $now)""",
            params,
        )
    else:
        assignments = ", ".join(f"{name} = ${name}" for name in values)
        connection.execute(
            f"UPDATE lesson_settings SET {assignments}, updated_by = $by, updated_at = $now WHERE agent = $agent",
            params,
        )


def _row(connection: duckdb.DuckDBPyConnection, agent: str) -> dict[str, Any]:
    rows = connection.execute(
        f"SELECT {', '.join(ROWS.names())} FROM lesson_settings WHERE agent = $agent", {"agent": agent}
    ).fetchall()
    return dict(zip(ROWS.names(), rows[0], strict=True)) if rows else {}


def _checked(name: str, value: object) -> object:
    settable = SETTABLE.get(name)
    if settable is None:
        raise SettingsError(name, value, f"one of {', '.join(SETTABLE)}")
    if value is None:
        return None
    if settable.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not settable.kind or not settable.lowest <= value <= settable.highest:  # type: ignore[operator]
        raise SettingsError(name, value, settable.expected)
    return value
