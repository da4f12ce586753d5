"""Operators: who may sign in, with which role, and which sign-ins were ended before their time.

A role includes the ones before it: a viewer reads, a reviewer also decides what agents learn and try, an admin also
decides who may come in and what the server is allowed. Rows are kept when an operator is removed, so that the list of
allowed domains does not let them in again.

One process holds the store, so every change passes through here and `role_of` may answer from memory: a change is seen
by the next question.
"""

import re
from datetime import datetime, timedelta
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, operator_memory
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare
from store.operator_memory import Role

ROLES: Final[dict[Role, str]] = {
    "viewer": "reads every page, changes nothing",
    "reviewer": "also decides on lessons, exploration, rewards and incidents, uploads files and runs jobs",
    "admin": "also decides on operators, keys, sources, settings, privacy and backups",
}
_RANK = {role: rank for rank, role in enumerate(ROLES)}

OPERATORS = declare(
    {
        "email": pl.String, "role": pl.String, "state": pl.String, "invited_by": pl.String, "invited_at": UTC_TIME,
        "changed_by": pl.String, "changed_at": UTC_TIME, "last_seen_at": UTC_TIME,
    }
)  # fmt: skip

_COLUMNS = ", ".join(OPERATORS.names())
# Addresses are compared as text. Other alphabets have signs that look like these, so they are not taken.
_ADDRESS = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9-]+(\.[a-z0-9-]+)*")
_MAX_ADDRESS = 254
_SEEN_EVERY = timedelta(minutes=5)


def allows(held: Role | None, needed: Role) -> bool:
    """Whether somebody with the role `held` may do what takes `needed`."""
    return held is not None and _RANK[held] >= _RANK[needed]


def normal(address: str) -> str | None:
    """An address as it is stored and compared, None when it is not one."""
    # Only ASCII letters are lowered: the Kelvin sign, for one, would become a plain k.
    text = address.strip()
    text = text.lower() if text.isascii() else text
    return text if len(text) <= _MAX_ADDRESS and _ADDRESS.fullmatch(text) else None


def listed(store: Store) -> pl.DataFrame:
    """All operators, those removed last (columns `OPERATORS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM operators ORDER BY state = 'removed', role, email",
            OPERATORS,
        )


def count_admins(store: Store) -> int:
    """How many admins there are, those who have yet to sign in included."""
    with store.read() as reader:
        held = reader.value("SELECT count(*) FROM operators WHERE role = 'admin' AND state <> 'removed'")
    return held if isinstance(held, int) else 0


def role_of(store: Store, email: str) -> Role | None:
    """The role that an address has at this moment; None when it has none, was removed, or has not signed in."""
    return operator_memory.roles(store).get(email)


def enter(store: Store, email: str, *, listed: bool) -> Role | None:
    """Let somebody whose address was proven in, if they were invited or are `listed` by the settings: as a viewer then.

    Returns their role, None when they may not come in.
    """
    seen = operator_memory.seen(store)
    held, now = role_of(store, email), store.clock.now()
    if held is not None and email in seen and now - seen[email] < _SEEN_EVERY:
        return held
    if held is None and not _may_enter(store, email, listed):
        return None

    def work(connection: duckdb.DuckDBPyConnection) -> Role | None:
        row = _row(connection, email)
        if row is None:
            if not listed:
                return None
            _insert(connection, email, "viewer", "active", audit.SYSTEM, now)
            after = {"role": "viewer", "state": "active"}
            audit.append(
                connection, now, audit.SYSTEM, "operator join", _subject(email), {"before": None, "after": after}
            )
        elif row["state"] == "removed":
            return None
        connection.execute(
            "UPDATE operators SET state = 'active', last_seen_at = $now WHERE email = $email",
            {"now": now, "email": email},
        )
        return "viewer" if row is None else row["role"]

    role = store.write(work)
    operator_memory.forget(store)
    if role is not None:
        seen[email] = now
    return role


def appoint(store: Store, emails: tuple[str, ...]) -> None:
    """Invite the first admins, whom the settings name; addresses that the store knows stay what they are there."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        for email in emails:
            if _row(connection, email) is not None:
                continue
            _insert(connection, email, "admin", "invited", audit.SYSTEM, now)
            after = {"role": "admin", "state": "invited"}
            audit.append(
                connection, now, audit.SYSTEM, "operator invite", _subject(email), {"before": None, "after": after}
            )

    store.write(work)
    operator_memory.forget(store)


def invite(store: Store, email: str, role: Role, *, operator: str) -> str:
    """Let an address in from now on, also one that was removed before; returns it as it is stored.

    Raises: `ActionRefused` when it cannot be used or is an operator's already.
    """
    action = "Inviting an operator"
    address = normal(email)
    if address is None:
        raise ActionRefused(action, f"{email.strip()[:100]!r} is no address.", "Expected one such as ana@example.com.")
    _checked_role(action, role)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now, row = store.clock.now(), _row(connection, address)
        before = None if row is None else {"role": row["role"], "state": row["state"]}
        if row is None:
            _insert(connection, address, role, "invited", operator, now)
        elif row["state"] != "removed":
            raise ActionRefused(action, f"{address} has the role {row['role']} already.", "Change the role instead.")
        else:
            connection.execute(
                """UPDATE operators SET role = $role, state = 'invited', invited_by = $by, invited_at = $now,
                changed_by = $by, changed_at = $now WHERE email = $email""",
                {"role": role, "by": operator, "now": now, "email": address},
            )
        detail = {"before": before, "after": {"role": role, "state": "invited"}}
        audit.append(connection, now, operator, "operator invite", _subject(address), detail)

    store.write(work)
    operator_memory.forget(store)
    return address


def change(store: Store, email: str, role: Role, *, operator: str) -> None:
    """Give an operator another role, in force with the next thing that they do.

    Raises: `NotFound`; `ActionRefused` when the last admin would be none.
    """
    action = "Changing a role"
    _checked_role(action, role)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        row = _standing(connection, email)
        if row["role"] == role:
            return
        _keep_an_admin(connection, action, row)
        _set(connection, email, {"role": role, "state": row["state"]}, row, operator, store.clock.now())

    store.write(work)
    operator_memory.forget(store)


def remove(store: Store, email: str, *, operator: str) -> None:
    """Take an operator's rights, in open sessions too. Raises: `NotFound`; `ActionRefused` for the last admin."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        row = _standing(connection, email)
        _keep_an_admin(connection, "Removing an operator", row)
        _set(connection, email, {"role": row["role"], "state": "removed"}, row, operator, store.clock.now())

    store.write(work)
    operator_memory.forget(store)


def end_session(store: Store, session: str, email: str, *, expires_at: datetime) -> None:
    """Have a sign-in be over for good, also for whoever copied its cookie; it would have been over at `expires_at`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute("DELETE FROM ended_sessions WHERE expires_at <= $now", {"now": now})
        connection.execute(
            "INSERT INTO ended_sessions VALUES ($session, $email, $now, $expires_at)",
            {"session": session, "email": email, "now": now, "expires_at": expires_at},
        )
        audit.append(connection, now, email, "sign out", _subject(email), {})

    store.write(work)
    operator_memory.forget(store)


def is_ended(store: Store, session: str) -> bool:
    """Whether a sign-in was ended before its time."""
    return session in operator_memory.ended(store)


def _may_enter(store: Store, email: str, listed: bool) -> bool:
    """Asked before anything is written: whoever may not come in cannot keep the writer busy."""
    with store.read() as reader:
        state = reader.value("SELECT any_value(state) FROM operators WHERE email = $email", {"email": email})
    return listed if state is None else state != "removed"


def _row(connection: duckdb.DuckDBPyConnection, email: str) -> dict[str, Any] | None:
    rows = connection.execute("SELECT email, role, state FROM operators WHERE email = $email", {"email": email})
    held = rows.fetchall()
    return dict(zip(("email", "role", "state"), held[0], strict=True)) if held else None


def _standing(connection: duckdb.DuckDBPyConnection, email: str) -> dict[str, Any]:
    """The row of an operator who is not removed. Raises: `NotFound`."""
    row = _row(connection, email)
    if row is None or row["state"] == "removed":
        raise NotFound("operator", email)
    return row


def _insert(connection: duckdb.DuckDBPyConnection, email: str, role: Role, state: str, by: str, now: datetime) -> None:
    connection.execute(
        """INSERT INTO operators (email, role, state, invited_by, invited_at)
        VALUES ($email, $role, $state, $by, $now)""",
        {"email": email, "role": role, "state": state, "by": by, "now": now},
    )


def _set(
    connection: duckdb.DuckDBPyConnection,
    email: str,
    after: dict[str, str],
    row: dict[str, Any],
    by: str,
    now: datetime,
) -> None:
    connection.execute(
        """UPDATE operators SET role = $role, state = $state, changed_by = $by, changed_at = $now
        WHERE email = $email""",
        {**after, "by": by, "now": now, "email": email},
    )
    action = "operator remove" if after["state"] == "removed" else "operator role"
    before = {"role": row["role"], "state": row["state"]}
    audit.append(connection, now, by, action, _subject(email), {"before": before, "after": after})


def _keep_an_admin(connection: duckdb.DuckDBPyConnection, action: str, row: dict[str, Any]) -> None:
    """Refuse to take the last admin. One who never signed in cannot stand in for one who has.

    Inside the writing transaction: of two admins who demote each other at once, the second is refused.
    """
    if row["role"] != "admin":
        return
    states = ("active",) if row["state"] == "active" else ("active", "invited")
    others = connection.execute(
        "SELECT count(*) FROM operators WHERE role = 'admin' AND email <> $email AND list_contains($states, state)",
        {"email": row["email"], "states": list(states)},
    ).fetchall()
    if not others[0][0]:
        raise ActionRefused(
            action,
            f"{row['email']} is the last admin who has signed in.",
            "Make somebody else an admin first, and have them sign in.",
        )


def _checked_role(action: str, role: str) -> None:
    if role not in ROLES:
        raise ActionRefused(action, f"there is no role {role[:50]!r}.", f"Roles: {', '.join(ROLES)}.")


def _subject(email: str) -> str:
    return f"operator {email}"
