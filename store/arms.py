"""Arms: the alternatives of each agent, in which state each is and who put it there.

Names are kept trimmed and in Unicode's composed form (NFC), so that two names that look the same are the same arm. One
arm of an agent is its baseline, the first that is enabled until another is made it: what runs when no arm is enabled.
What an operator decided is never changed by what traces show.
"""

import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from store import audit, meta, notice_sources
from store.audit import SYSTEM
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "ARMS", "FOUND", "KINDS", "MAX_ARMS", "MAX_NAME", "STATES", "change", "clean_name", "define", "discover", "listed",
    "set_baseline", "set_state", "unusable",
]  # fmt: skip

KINDS = ("prompt", "model", "tools", "lesson", "mixed")
STATES = ("enabled", "shadow", "off")
MAX_NAME = 200
MAX_ARMS = 50  # of an agent, those switched off included
MAX_DESCRIPTION = 2_000
MAX_DEFINITION = 16_000  # characters of JSON

ARMS = declare(
    {
        "agent": pl.String, "arm": pl.String, "kind": pl.String, "state": pl.String, "baseline": pl.Boolean,
        "description": pl.String, "definition": pl.String, "origin": pl.String, "state_reason": pl.String,
        "state_by": pl.String, "created_at": UTC_TIME, "updated_at": UTC_TIME,
    }
)  # fmt: skip
FOUND = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "kind": pl.String(),
        "definition": pl.String(),  # JSON: what its traces ran
        "usual": pl.Boolean(),  # the agent's most used arm
    }
)

_COLUMNS = ", ".join(ARMS.names())
# Control and format characters (bidirectional marks, zero widths), lone surrogates, unassigned, line separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})


def clean_name(text: str) -> str:
    """The name under which an arm is kept: trimmed and in composed form (NFC). Any text is taken; see `unusable`."""
    return unicodedata.normalize("NFC", text).strip()


def unusable(name: str) -> str | None:
    """Why a cleaned name cannot be an arm's or agent's, None when it can."""
    if not name:
        return "its name is empty."
    if len(name) > MAX_NAME:
        return f"its name has {len(name)} characters, at most {MAX_NAME} are possible."
    bad = next((each for each in name if unicodedata.category(each) in _REFUSED_CATEGORIES), None)
    return None if bad is None else f"its name holds the character U+{ord(bad):04X}, which nobody can see."


def listed(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """All arms, or one agent's: by agent, baseline first, then by name (columns `ARMS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM arms WHERE $agent IS NULL OR agent = $agent
            ORDER BY agent, baseline DESC, arm""",
            ARMS,
            {"agent": agent},
        )


def define(
    store: Store,
    agent: str,
    arm: str,
    *,
    kind: str,
    definition: Mapping[str, Any],
    description: str | None = None,
    baseline: bool = False,
    state: str = "enabled",
    origin: str,
    by: str,
) -> None:
    """Add an arm.

    Args: `kind` of `KINDS`; `definition` that JSON can hold: what the agent needs to run the arm; `baseline` makes it
    the agent's baseline in place of the present one (the first enabled arm is it anyway); `state` of `STATES`; `origin`
    "operator" or "api"; `by` whom.
    Raises: `ActionRefused` when one of these cannot be used, the agent has an arm of this name, or too many.
    """
    action = "Define an arm"
    name, text, described = _checked(action, agent, arm, kind, definition, description)
    if state not in STATES:
        raise ActionRefused(action, f"there is no state {state!r}.", f"States: {', '.join(STATES)}.")
    if baseline and state != "enabled":
        raise _not_enabled(action, name, state)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        if _row(connection, agent, name) is not None:
            raise ActionRefused(
                action, f"{agent} already has an arm {name!r}.", "Change that one, or take another name."
            )
        held = connection.execute("SELECT count(*) FROM arms WHERE agent = $agent", {"agent": agent}).fetchall()
        if held[0][0] >= MAX_ARMS:
            raise ActionRefused(action, f"{agent} has {held[0][0]} arms.", f"At most {MAX_ARMS} can be told apart.")
        first = state == "enabled" and not _has_baseline(connection, agent)
        before = _take_baseline(connection, agent) if baseline else None
        _insert(
            connection,
            {
                "agent": agent, "arm": name, "kind": kind, "state": state, "baseline": baseline or first,
                "description": described, "definition": text, "origin": origin, "by": by, "reason": None, "now": now,
            },
        )  # fmt: skip
        detail: dict[str, object] = {"kind": kind, "state": state, "definition": json.loads(text)}
        if baseline or first:
            detail["baseline"] = {"before": before}
        _record(connection, now, by, "define", agent, name, detail)

    store.write(work)


def change(
    store: Store,
    agent: str,
    arm: str,
    *,
    kind: str,
    definition: Mapping[str, Any],
    description: str | None = None,
    by: str,
) -> None:
    """Give an arm another kind, definition and description; its state and whether it is the baseline stay.

    Raises: `ActionRefused` as `define`; `NotFound`.
    """
    name, text, described = _checked("Change an arm", agent, arm, kind, definition, description)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        row = _known(connection, agent, name)
        if (row["kind"], row["definition"], row["description"]) == (kind, text, described):
            return
        _update(
            connection, agent, name, now, kind=kind, definition=text, description=described, origin="operator"
            if row["origin"] == "traces" else row["origin"],
        )  # fmt: skip
        detail = {
            "kind": kind, "definition": json.loads(text), "description": described,
            "before": {"kind": row["kind"], "definition": json.loads(row["definition"])},
        }  # fmt: skip
        _record(connection, now, by, "change", agent, name, detail)

    store.write(work)


def set_state(store: Store, agent: str, arm: str, state: str, *, reason: str, by: str) -> None:
    """Enable an arm, run it as a shadow, or switch it off; nothing happens when it is in that state already.

    The baseline may be switched off too: it stays the baseline for when it comes back. `by` is an operator, a key, or
    "trimtab" for a guardrail.
    Raises: `NotFound`; `ActionRefused` for an unknown state, or when an arm is switched off without a reason.
    """
    action, name = "Set the state of an arm", clean_name(arm)
    if state not in STATES:
        raise ActionRefused(action, f"there is no state {state!r}.", f"States: {', '.join(STATES)}.")
    why = reason.strip()
    if state == "off" and not why:
        raise ActionRefused(action, "no reason was given.", "Write why it is switched off, so that nobody has to ask.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        row = _known(connection, agent, name)
        if row["state"] == state:
            return
        first = state == "enabled" and not _has_baseline(connection, agent)
        _update(
            connection, agent, name, now, state=state, state_reason=why or None, state_by=by,
            baseline=row["baseline"] or first,
        )  # fmt: skip
        detail = {"state": state, "before": row["state"], "reason": why}
        _record(connection, now, by, "state", agent, name, detail | ({"baseline": {"before": None}} if first else {}))
        if state == "off" and by == SYSTEM:
            notice_sources.arm_switched_off(connection, now, agent, name, why)
        elif row["state"] == "off":
            notice_sources.arm_came_back(connection, now, agent, name)

    store.write(work)


def set_baseline(store: Store, agent: str, arm: str, *, by: str) -> None:
    """Make an enabled arm the agent's baseline in place of the present one.

    Raises: `NotFound`; `ActionRefused` when the arm is not enabled.
    """
    name = clean_name(arm)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        row = _known(connection, agent, name)
        if row["baseline"]:
            return
        if row["state"] != "enabled":
            raise _not_enabled("Make an arm the baseline", name, row["state"])
        before = _take_baseline(connection, agent)
        _update(connection, agent, name, now, baseline=True)
        _record(connection, now, by, "baseline", agent, name, {"before": before})

    store.write(work)


def discover(store: Store, found: pl.DataFrame) -> int:
    """Add the arms seen in traces (columns `FOUND`, names cleaned) that are not there; returns how many.

    They wait as shadows until an operator enables them. Only for an agent without any arm, the `usual` one is enabled
    and the baseline: that is what the agent does already. Arms that are there are not touched, whoever put them there.
    """
    rows = found.select(list(FOUND)).sort("agent", "usual", "arm", descending=[False, True, False]).to_dicts()

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        held: dict[str, set[str]] = {}
        for agent, arm in connection.execute("SELECT agent, arm FROM arms").fetchall():
            held.setdefault(agent, set()).add(arm)
        started = set(held)
        added = 0
        for row in rows:
            names = held.setdefault(row["agent"], set())
            if row["arm"] in names or len(names) >= MAX_ARMS:
                continue
            names.add(row["arm"])
            usual = row["usual"] and row["agent"] not in started
            reason = "the most used arm in traces" if usual else "seen in traces; an operator has to enable it"
            _insert(
                connection,
                {
                    "agent": row["agent"], "arm": row["arm"], "kind": row["kind"], "baseline": usual,
                    "state": "enabled" if usual else "shadow", "description": None, "definition": row["definition"],
                    "origin": "traces", "by": SYSTEM, "reason": reason, "now": now,
                },
            )  # fmt: skip
            detail = {"state": "enabled" if usual else "shadow", "baseline": usual, "reason": reason}
            _record(connection, now, SYSTEM, "discover", row["agent"], row["arm"], detail)
            added += 1
        return added

    return store.write(work)


def _checked(
    action: str, agent: str, arm: str, kind: str, definition: Mapping[str, Any], description: str | None
) -> tuple[str, str, str | None]:
    """The cleaned name, the definition as JSON, and the description. Raises: `ActionRefused`."""
    name = clean_name(arm)
    for what, text in (("agent", agent.strip()), ("arm", name)):
        if why := unusable(text):
            raise ActionRefused(action, f"for the {what}, {why}", f"Give 1 to {MAX_NAME} visible characters.")
    if agent != agent.strip():
        raise ActionRefused(action, "the agent's name begins or ends with a space.", "Give it as its traces do.")
    if kind not in KINDS:
        raise ActionRefused(action, f"there is no kind {kind!r}.", f"Kinds: {', '.join(KINDS)}.")
    try:
        text = json.dumps(dict(definition), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ActionRefused(
            action, f"JSON cannot hold its definition ({error}).", "Give an object of texts and numbers."
        ) from error
    if len(text) > MAX_DEFINITION:
        raise ActionRefused(
            action, f"its definition has {len(text):,} characters.", f"At most {MAX_DEFINITION:,}: name what is long."
        )
    described = (description or "").strip() or None
    if described is not None and any(unicodedata.category(each) == "Cs" for each in described):
        raise ActionRefused(action, "its description holds half a character.", "Write it anew.")
    if described is not None and len(described) > MAX_DESCRIPTION:
        raise ActionRefused(
            action, f"its description has {len(described):,} characters.", f"At most {MAX_DESCRIPTION:,}."
        )
    return name, text, described


def _not_enabled(action: str, arm: str, state: str) -> ActionRefused:
    return ActionRefused(action, f"{arm!r} is {state}, and the baseline has to run.", "Enable it first.")


def _row(connection: duckdb.DuckDBPyConnection, agent: str, arm: str) -> dict[str, Any] | None:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM arms WHERE agent = $agent AND arm = $arm", {"agent": agent, "arm": arm}
    ).fetchall()
    return dict(zip(ARMS.names(), rows[0], strict=True)) if rows else None


def _known(connection: duckdb.DuckDBPyConnection, agent: str, arm: str) -> dict[str, Any]:
    row = _row(connection, agent, arm)
    if row is None:
        raise NotFound("arm", f"{agent} {arm}")
    return row


def _has_baseline(connection: duckdb.DuckDBPyConnection, agent: str) -> bool:
    found = connection.execute("SELECT 1 FROM arms WHERE agent = $agent AND baseline", {"agent": agent}).fetchall()
    return bool(found)


def _take_baseline(connection: duckdb.DuckDBPyConnection, agent: str) -> str | None:
    """No arm of the agent is the baseline any more; returns the one that was."""
    rows = connection.execute("SELECT arm FROM arms WHERE agent = $agent AND baseline", {"agent": agent}).fetchall()
    connection.execute("UPDATE arms SET baseline = false WHERE agent = $agent AND baseline", {"agent": agent})
    return str(rows[0][0]) if rows else None


def _insert(connection: duckdb.DuckDBPyConnection, values: dict[str, object]) -> None:
    connection.execute(
        """INSERT INTO arms (agent, arm, kind, state, baseline, description, definition, origin, state_reason,
            state_by, created_at, updated_at)
        VALUES ($agent, $arm, $kind, $state, $baseline, $description, $definition, $origin, $reason, $by, $now,
            $now)""",
        values,
    )


def _update(connection: duckdb.DuckDBPyConnection, agent: str, arm: str, now: datetime, **values: object) -> None:
    """Set columns of ours to these values."""
    assignments = ", ".join(f"{column} = ${column}" for column in values)
    connection.execute(
        f"UPDATE arms SET {assignments}, updated_at = $now WHERE agent = $agent AND arm = $arm",
        {"agent": agent, "arm": arm, "now": now, **values},
    )


def _record(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    by: str,
    action: str,
    agent: str,
    arm: str,
    detail: Mapping[str, object],
) -> None:
    audit.append(connection, now, by, f"arm {action}", f"agent {agent} arm {arm}", detail)
    meta.bump(connection)
