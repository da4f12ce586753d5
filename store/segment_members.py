"""Who is in a segment by rule: counted anew when rules or facts change, and told before a rule is saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import polars as pl

from store import job_runs, meta, result_rows
from store.connection import Store
from store.frames import Reader, declare
from store.segment_conditions import Condition, columns, holds, relative
from store.segments import Rule, checked_rule, in_force, metadata_segments

__all__ = ["MOVED", "Preview", "preview", "recount", "stale"]

MOVED: Final = declare({"before": pl.String, "after": pl.String, "users": pl.Int64})
_MEMBERS: Final = declare({"user_id": pl.String, "segment": pl.String})
_RECOUNT_RELATIVE: Final = "INTERVAL 1 HOUR"


@dataclass(frozen=True)
class Preview:
    """What a rule would change: of `users` with a trace its conditions hold for `matching`, and `taken` come to be in
    its segment by it (the others are taken by an earlier rule); `moved` says who changes segment (MOVED)."""

    users: int
    matching: int
    taken: int
    moved: pl.DataFrame


def preview(store: Store, rule: Rule, *, timeout: float | None = None) -> Preview:
    """How many users a rule would take, and from where, before it is saved in place of the segment's present one.

    Raises: `ActionRefused` for a rule that cannot be; `QueryTimeout`.
    """
    rule = checked_rule(rule)
    with store.read(timeout=timeout) as reader:
        present = in_force(reader)
        proposed = sorted([one for one in present if one.segment != rule.segment] + [rule], key=_order)
        now, parameters = store.clock.now(), dict[str, object]()
        everyone = [condition for one in (*present, *proposed) for condition in one.conditions]
        own = columns(everyone, parameters, segment=True)
        frame = reader.frame(
            f"""WITH own AS ({own}), placed AS (
                SELECT segment, {_case(present, now, parameters)} AS before,
                    {_case(proposed, now, parameters)} AS after,
                    {_all_hold(rule.conditions, now, parameters)} AS matching
                FROM own)
            SELECT coalesce(before, segment) AS before, coalesce(after, segment) AS after,
                after = $proposed_name AS taken, matching, count(*) AS users
            FROM placed GROUP BY ALL""",
            declare(
                {"before": pl.String, "after": pl.String, "taken": pl.Boolean, "matching": pl.Boolean,
                 "users": pl.Int64}
            ),
            {**parameters, "proposed_name": rule.segment},
        )  # fmt: skip
    moved = (
        frame.filter(pl.col("before").ne_missing(pl.col("after")))
        .group_by("before", "after")
        .agg(pl.col("users").sum())
        .sort("users", "before", "after", descending=[True, False, False], nulls_last=True)
    )
    return Preview(
        int(frame["users"].sum()),
        int(frame.filter("matching")["users"].sum()),
        int(frame.filter(pl.col("taken").fill_null(False))["users"].sum()),
        moved.select(list(MOVED)),
    )


def stale(store: Store) -> bool:
    """Whether rules, or what they go by, have changed since they were last applied.

    Rules that count days are applied anew every hour.
    """
    with store.read() as reader:
        ruling = in_force(reader)
        counted = _counted(reader, store)
        if counted is None:
            return bool(ruling)
        facts, versions, recent = counted
        if versions != _versions(reader):
            return True
        if not ruling:
            return False
        days = any(relative(condition) for rule in ruling for condition in rule.conditions)
    return (days and not recent) or facts != job_runs.facts(store)


def recount(store: Store) -> int:
    """Apply the rules to all users; returns how many came into another segment or out of one by it.

    The list of users as last counted shows the new segments from the same moment on.
    """
    facts, now = job_runs.facts(store), store.clock.now()
    with store.read() as reader:
        versions, ruling = _versions(reader), in_force(reader)
        held = reader.frame("SELECT user_id, segment FROM user_segments", _MEMBERS)
        if not ruling and held.is_empty() and versions == 0:
            return 0
        taken = _taken(reader, ruling, now)
        left = held.join(taken, on=["user_id", "segment"], how="anti").select("user_id")
        fresh = taken.join(held, on=["user_id", "segment"], how="anti")
        back = left.join(fresh, on="user_id", how="anti")
        stated = pl.DataFrame(schema=_MEMBERS)
        if back.height:
            stated = reader.frame(f"SELECT user_id, segment FROM {metadata_segments()}", _MEMBERS)
    moved = pl.concat([fresh, back.join(stated, on="user_id", how="left")]).sort("user_id")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        if moved.height:
            connection.register("moved_users", moved)
            try:
                connection.execute("DELETE FROM user_segments WHERE user_id IN (SELECT user_id FROM moved_users)")
                connection.execute(
                    """UPDATE user_summaries SET segment = m.segment FROM moved_users AS m
                    WHERE user_summaries.user_id = m.user_id
                        AND user_run_id = (SELECT max(user_run_id) FROM user_runs)"""
                )
            finally:
                connection.unregister("moved_users")
            result_rows.insert(connection, "user_segments", fresh.sort("user_id"), key={"since": now})
            meta.bump(connection)
        connection.execute("DELETE FROM segment_counts")
        connection.execute(
            "INSERT INTO segment_counts VALUES ($now, $facts, $versions)",
            {"now": now, "facts": facts, "versions": versions},
        )

    store.write(work)
    return moved.height


def _taken(reader: Reader, ruling: Sequence[Rule], now: datetime) -> pl.DataFrame:
    """Whom the rules take, and into which segment."""
    if not ruling:
        return pl.DataFrame(schema=_MEMBERS)
    parameters: dict[str, object] = {}
    own = columns([condition for rule in ruling for condition in rule.conditions], parameters)
    return reader.frame(
        f"""WITH own AS ({own}), placed AS (
            SELECT user_id, {_case(ruling, now, parameters)} AS segment FROM own)
        FROM placed WHERE segment IS NOT NULL""",
        _MEMBERS,
        parameters,
    )


def _versions(reader: Reader) -> int:
    return int(str(reader.value("SELECT count(*) FROM segment_rules")))


def _counted(reader: Reader, store: Store) -> tuple[int, int, bool] | None:
    """Facts and versions of rules when they were last applied, and whether that is within the hour; None: never."""
    frame = reader.frame(
        f"SELECT facts, versions, counted_at > $now - {_RECOUNT_RELATIVE} AS recent FROM segment_counts",
        declare({"facts": pl.Int64, "versions": pl.Int64, "recent": pl.Boolean}),
        {"now": store.clock.now()},
    )
    return None if frame.is_empty() else frame.row(0)


def _order(rule: Rule) -> tuple[int, str]:
    return rule.priority, rule.segment


def _case(ruling: Sequence[Rule], now: datetime, parameters: dict[str, object]) -> str:
    """SQL of the segment by the first rule that holds; null when none does. Adds to the parameters."""
    if not ruling:
        return "NULL::VARCHAR"
    parts = []
    for rule in ruling:
        name = f"p{len(parameters)}"
        parameters[name] = rule.segment
        parts.append(f"WHEN {_all_hold(rule.conditions, now, parameters)} THEN ${name}")
    return f"CASE {' '.join(parts)} END"


def _all_hold(conditions: Sequence[Condition], now: datetime, parameters: dict[str, object]) -> str:
    return "(" + " AND ".join(holds(condition, now, parameters) for condition in conditions) + ")"
