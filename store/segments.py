"""Segments of users: by rules that operators set, else the one that the newest trace with one states in its metadata.

A user's segment is that of the first rule, by priority, whose conditions all hold; a user whom no rule takes has the
segment of their metadata. Whom the rules take is kept in `user_segments` (`segment_members.py`). Everything that needs
a user's segment reads `expression`, or joins `user_segments` where it has what a trace states at hand.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, Reader, declare
from store.segment_conditions import Condition, checked, listed, parsed

__all__ = [
    "HISTORY", "RULES", "Rule", "checked_rule", "expression", "history", "in_force", "metadata_segments", "put",
    "remove", "rules",
]  # fmt: skip

_ACTION: Final = "Save the segment"
_MOST_RULES: Final = 50
_LONGEST_NAME: Final = 200

RULES: Final = declare(
    {
        "segment": pl.String, "version": pl.Int64, "priority": pl.Int64, "conditions": pl.String, "reason": pl.String,
        "set_by": pl.String, "set_at": UTC_TIME, "users": pl.Int64,
    }
)  # fmt: skip
HISTORY: Final = declare(
    {
        "segment": pl.String, "version": pl.Int64, "priority": pl.Int64, "conditions": pl.String, "reason": pl.String,
        "set_by": pl.String, "set_at": UTC_TIME, "removed": pl.Boolean,
    }
)  # fmt: skip

_METADATA: Final = "CASE WHEN json_valid(metadata) THEN metadata END"
# Of each rule the newest version, unless it says that there is none any more.
_CURRENT: Final = """(
    SELECT segment, version, priority, conditions, reason, set_by, set_at FROM segment_rules
    QUALIFY row_number() OVER (PARTITION BY segment ORDER BY version DESC) = 1 AND NOT removed)"""


@dataclass(frozen=True)
class Rule:
    """Who is in a segment: users of whom every condition holds. Of several rules the lowest `priority` decides."""

    segment: str
    priority: int
    conditions: tuple[Condition, ...]


def expression() -> str:
    """SQL of a table (user_id, segment) of all users who have a segment, one row each; in brackets, without a name."""
    return f"""(
        SELECT coalesce(r.user_id, m.user_id) AS user_id, coalesce(r.segment, m.segment) AS segment
        FROM {metadata_segments()} AS m FULL JOIN user_segments AS r ON r.user_id = m.user_id)"""


def metadata_segments() -> str:
    """SQL of a table (user_id, segment): what the newest of a user's traces that state a segment says."""
    return f"""(
        SELECT user_id, arg_max(segment, (seen_at, trace_id)) AS segment FROM (
            SELECT user_id, seen_at, trace_id, nullif(json_extract_string({_METADATA}, '$.segment'), '') AS segment
            FROM traces WHERE user_id IS NOT NULL)
        WHERE segment IS NOT NULL GROUP BY user_id)"""


def rules(store: Store) -> pl.DataFrame:
    """The rules in force by priority (columns `RULES`); `users`: whom each takes, as last counted."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT r.segment, r.version, r.priority, r.conditions, r.reason, r.set_by, r.set_at,
                coalesce(u.users, 0) AS users
            FROM {_CURRENT} AS r LEFT JOIN (
                SELECT segment, count(*) AS users FROM user_segments GROUP BY segment) AS u USING (segment)
            ORDER BY r.priority, r.segment""",
            RULES,
        )


def history(store: Store, *, limit: int = 100) -> pl.DataFrame:
    """Every version of every rule, newest first (columns `HISTORY`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(HISTORY)} FROM segment_rules ORDER BY set_at DESC, version DESC, segment LIMIT $limit",
            HISTORY,
            {"limit": limit},
        )


def in_force(reader: Reader) -> list[Rule]:
    """The rules in force by priority."""
    frame = reader.frame(
        f"SELECT segment, priority, conditions FROM {_CURRENT} ORDER BY priority, segment",
        declare({"segment": pl.String, "priority": pl.Int64, "conditions": pl.String}),
    )
    return [Rule(segment, priority, parsed(text)) for segment, priority, text in frame.iter_rows()]


def put(store: Store, rule: Rule, *, reason: str, operator: str) -> int:
    """Set the rule of a segment; returns its version. It takes effect when the users are counted next.

    Raises: `ActionRefused`.
    """
    audit.person(_ACTION, operator)
    rule, why = checked_rule(rule), reason.strip()
    if not why or len(why) > 500:
        raise ActionRefused(_ACTION, "there is no reason, or one of more than 500 characters.", "Write why, briefly.")

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        others = connection.execute(
            f"SELECT count(*) FROM {_CURRENT} WHERE segment <> $segment", {"segment": rule.segment}
        ).fetchall()
        if others[0][0] >= _MOST_RULES:
            raise ActionRefused(_ACTION, f"there are {_MOST_RULES} rules already.", "Remove one first.")
        detail = {"priority": rule.priority, "conditions": listed(rule.conditions), "reason": why}
        return _version(store, connection, rule, why, operator, removed=False, action="set", detail=detail)

    return store.write(work)


def remove(store: Store, segment: str, *, reason: str, operator: str) -> None:
    """Have no rule for a segment any more; its users get the next rule's, or what their metadata state.

    Raises: `NotFound`; `ActionRefused`.
    """
    audit.person("Remove the segment", operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute(
            f"SELECT priority, conditions FROM {_CURRENT} WHERE segment = $segment", {"segment": segment}
        ).fetchall()
        if not held:
            raise NotFound("segment rule", segment)
        rule = Rule(segment, int(held[0][0]), parsed(held[0][1]))
        detail = {"reason": reason.strip()}
        _version(store, connection, rule, reason.strip(), operator, removed=True, action="remove", detail=detail)

    store.write(work)


def _version(
    store: Store, connection: duckdb.DuckDBPyConnection, rule: Rule, reason: str, operator: str, *, removed: bool,
    action: str, detail: dict[str, Any],
) -> int:  # fmt: skip
    """Add a version of a rule and its row in the audit log."""
    rows = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 FROM segment_rules WHERE segment = $segment", {"segment": rule.segment}
    ).fetchall()
    version, now = int(rows[0][0]), store.clock.now()
    connection.execute(
        """INSERT INTO segment_rules VALUES
        ($segment, $version, $priority, $conditions, $reason, $operator, $now, $removed)""",
        {
            "segment": rule.segment, "version": version, "priority": rule.priority,
            "conditions": json.dumps(listed(rule.conditions), sort_keys=True), "reason": reason,
            "operator": operator, "now": now, "removed": removed,
        },
    )  # fmt: skip
    audit.append(
        connection, now, operator, f"segment {action}", f"segment {rule.segment}", {"version": version, **detail}
    )
    meta.bump(connection)
    return version


def checked_rule(rule: Rule) -> Rule:
    """The rule in its final form. Raises: `ActionRefused`."""
    segment = rule.segment.strip()
    if not segment or len(segment) > _LONGEST_NAME or any(ord(each) < 32 or ord(each) == 127 for each in segment):
        raise ActionRefused(
            _ACTION, f"the name is {segment[:100]!r}.", f"Use 1 to {_LONGEST_NAME} characters on one line."
        )
    if not 0 <= rule.priority <= 10_000:
        raise ActionRefused(_ACTION, f"the priority is {rule.priority}.", "Expected a whole number from 0 to 10000.")
    return Rule(segment, rule.priority, checked(rule.conditions))
