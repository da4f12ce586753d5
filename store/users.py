"""Users: one row each, counted by the job `preferences`, so that a page of 100,000 users is one short query.

One user's own page counts afresh: it shows what arrived since.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb
import polars as pl

from store import result_rows, segment_members
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS, EXPLICIT_KINDS

WEEKS = 12  # of the small chart of rewards
MINIMUM_REWARDS = 10  # traces whose reward has signals of its own, below which a mean is not shown, nor sorted by

Sort = Literal[
    "latest", "most traces", "lowest reward", "highest reward", "most feedback", "contradicts what they say", "changed",
    "name",
]  # fmt: skip

_COUNTED: dict[str, pl.DataType | type[pl.DataType]] = {
    "user_id": pl.String, "segment": pl.String, "traces": pl.Int64, "agents": pl.Int64, "signals": pl.Int64,
    "explicit": pl.Int64, "rewarded": pl.Int64, "reward": pl.Float64,
    "reward_variance": pl.Float64, "reward_sd2": pl.Float64, "weeks": pl.List(pl.Float64), "first_at": UTC_TIME,
    "latest_at": UTC_TIME,
}  # fmt: skip
SUMMARY = declare(_COUNTED)
LISTED = declare({**_COUNTED, "contradicts": pl.Boolean, "angle": pl.Float64, "q_value": pl.Float64})
BY_KIND = declare(
    {
        "kind": pl.String, "name": pl.String, "signals": pl.Int64, "with_value": pl.Int64, "mean": pl.Float64,
        "traces": pl.Int64, "latest": UTC_TIME,
    }
)  # fmt: skip
REWARD_PER_WEEK = declare(
    {"bucket": UTC_TIME, "rewarded": pl.Int64, "reward": pl.Float64, "reward_variance": pl.Float64,
     "reward_sd2": pl.Float64}
)  # fmt: skip

# An order without ties, so that pages of the list never overlap.
_ORDERS: dict[Sort, str] = {
    "latest": "u.latest_at DESC NULLS LAST",
    "most traces": "u.traces DESC",
    "lowest reward": f"CASE WHEN u.rewarded >= {MINIMUM_REWARDS} THEN u.reward END NULLS LAST",
    "highest reward": f"CASE WHEN u.rewarded >= {MINIMUM_REWARDS} THEN u.reward END DESC NULLS LAST",
    "most feedback": "u.explicit DESC",
    "contradicts what they say": "(a.contradicts IS TRUE) DESC, a.q_value NULLS LAST",
    "changed": "d.changed_at DESC NULLS LAST, u.latest_at DESC NULLS LAST",
    "name": "u.user_id",
}
SORTS: tuple[Sort, ...] = tuple(_ORDERS)

_NEWEST = "(SELECT max(user_run_id) FROM user_runs)"
_NEWEST_WEEK = "(SELECT date_trunc('week', max(seen_at)) FROM traces)"

_ABOUT = """(
    SELECT coalesce(s.user_id, t.user_id) AS user_id, s.kind, s.name, s.value, s.occurred_at, t.trace_id
    FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
        LEFT JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id))"""

# The same rows for one user ($user): each part finds its few signals before it joins anything.
_ABOUT_ONE = """(
    WITH mine AS MATERIALIZED (SELECT trace_id FROM traces WHERE user_id = $user),
    linked AS MATERIALIZED (FROM signal_links SEMI JOIN mine USING (trace_id)),
    found AS (
        SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
        FROM (FROM signals WHERE user_id = $user) AS s LEFT JOIN signal_links AS l USING (signal_id)
        UNION ALL BY NAME
        SELECT s.*, s.trace_id AS about FROM (FROM signals WHERE user_id IS NULL) AS s SEMI JOIN mine USING (trace_id)
        UNION ALL BY NAME
        SELECT s.*, l.trace_id AS about FROM (FROM signals WHERE user_id IS NULL AND trace_id IS NULL) AS s
            JOIN linked AS l USING (signal_id))
    SELECT $user AS user_id, f.kind, f.name, f.value, f.occurred_at, t.trace_id
    FROM found AS f LEFT JOIN traces AS t ON t.trace_id = f.about)"""


@dataclass(frozen=True)
class UserRun:
    """When the list was counted, how many users it has, and by which reward model (None: there was none)."""

    counted_at: datetime
    data_version: int
    users: int
    reward_model_id: int | None


@dataclass(frozen=True)
class UserPage:
    """Rows of one page (LISTED) and how many users pass the search."""

    rows: pl.DataFrame
    total: int


def count(store: Store) -> int:
    """Apply the rules of segments, count every user anew and keep the rows; returns how many users there are."""
    segment_members.recount(store)
    with store.read() as reader:
        counted = reader.frame(_counted(_ABOUT), SUMMARY, {"explicit": list(EXPLICIT_KINDS)})
        about = {
            "version": reader.value("SELECT value FROM store_meta WHERE key = 'data_version'"),
            "model": reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active"),
            "users": counted.height,
        }

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            "INSERT INTO user_runs VALUES ($run, $now, $version, $users, $model)",
            {**about, "run": run, "now": store.clock.now()},
        )

    result_rows.publish(store, "user_runs", {"user_summaries": counted}, add, number="user_run_id")
    result_rows.remove(store, "user_summaries", f"user_run_id < {_NEWEST}")
    return counted.height


def latest_run(store: Store) -> UserRun | None:
    """The newest count; None before the first."""
    schema = declare({"counted_at": UTC_TIME, "data_version": pl.Int64, "users": pl.Int64, "reward_model_id": pl.Int64})
    row = result_rows.newest(store, "user_runs", schema, number="user_run_id")
    return None if row is None else UserRun(**row)


def page(
    store: Store,
    *,
    search: str = "",
    segment: str | None = None,
    sort: Sort = "latest",
    limit: int = 50,
    offset: int = 0,
    timeout: float | None = None,
) -> UserPage:
    """One page of the users whose id holds `search`, capitals or not, and of one segment. Raises: `QueryTimeout`."""
    condition = f"""u.user_run_id = {_NEWEST} AND ($search = '' OR contains(lower(u.user_id), lower($search)))
        AND ($segment IS NULL OR u.segment = $segment)"""
    params: dict[str, object] = {"search": search, "segment": segment}
    columns = ", ".join(f"u.{column}" for column in _COUNTED)
    with store.read(timeout=timeout) as reader:
        total = reader.value(f"SELECT count(*) FROM user_summaries AS u WHERE {condition}", params)
        rows = reader.frame(
            f"""SELECT {columns}, a.contradicts, a.angle, a.q_value
            FROM user_summaries AS u LEFT JOIN (
                SELECT user_id, contradicts, angle, q_value FROM stated_revealed
                WHERE scope = 'user'
                    AND preference_run_id = (SELECT max(preference_run_id) FROM preference_runs)
            ) AS a USING (user_id) LEFT JOIN (
                SELECT user_id, max(changed_at) AS changed_at FROM drift_findings
                WHERE level = 'user' AND flagged AND run_id = (SELECT max(run_id) FROM drift_runs) GROUP BY user_id
            ) AS d USING (user_id)
            WHERE {condition} ORDER BY {_ORDERS[sort]}, u.user_id LIMIT $limit OFFSET $offset""",
            LISTED,
            {**params, "limit": limit, "offset": offset},
        )
    return UserPage(rows, int(str(total)))


def segments(store: Store, *, limit: int = 50) -> list[str]:
    """The segments that users belong to, the largest first."""
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT segment, count(*) AS users FROM user_summaries
            WHERE user_run_id = {_NEWEST} AND segment IS NOT NULL
            GROUP BY segment ORDER BY users DESC, segment LIMIT $limit""",
            pl.Schema({"segment": pl.String(), "users": pl.Int64()}),
            {"limit": limit},
        )
    return frame["segment"].to_list()


def one(store: Store, user_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """One user, counted now, as a frame of one row (SUMMARY). Raises: `NotFound`; `QueryTimeout`."""
    with store.read(timeout=timeout) as reader:
        frame = reader.frame(
            _counted(_ABOUT_ONE, "WHERE user_id = $user"),
            SUMMARY,
            {"user": user_id, "explicit": list(EXPLICIT_KINDS)},
        )
    if frame.is_empty():
        raise NotFound("user", user_id)
    return frame


def by_kind(store: Store, user_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """A user's signals by kind and name, the most frequent first (BY_KIND). Raises: `QueryTimeout`.

    `mean` is over values from 0 to 1, but not of stated goals, which have a scale of their own.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT kind, name, count(*) AS signals, count(value) AS with_value,
                CASE WHEN kind <> 'preference' THEN avg(value) FILTER (value BETWEEN 0 AND 1) END AS mean,
                count(DISTINCT trace_id) AS traces, max(occurred_at) AS latest
            FROM {_ABOUT_ONE} GROUP BY kind, name
            ORDER BY signals DESC, kind, name NULLS FIRST LIMIT 100""",
            BY_KIND,
            {"user": user_id},
        )


def reward_per_week(store: Store, user_id: str, *, timeout: float | None = None) -> pl.DataFrame:
    """Rewards of a user's traces with signals of their own by week, from Monday, UTC (REWARD_PER_WEEK).

    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT date_trunc('week', t.seen_at) AS bucket, count(*) AS rewarded, avg(r.mean) AS reward,
                var_samp(r.mean) AS reward_variance, avg(r.sd * r.sd) AS reward_sd2
            FROM traces AS t JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
            WHERE t.user_id = $user AND r.signals > 0 GROUP BY bucket ORDER BY bucket""",
            REWARD_PER_WEEK,
            {"user": user_id},
        )


def _counted(about: str, condition: str = "") -> str:
    """SQL of the rows of SUMMARY from the signals `about` and the traces that pass `condition`. Needs $explicit."""
    weeks = ", ".join(f"avg(r.mean) FILTER (r.signals > 0 AND t.weeks_ago = {ago})" for ago in reversed(range(WEEKS)))
    return f"""
        WITH own AS (
            SELECT trace_id, user_id, agent, seen_at,
                nullif(json_extract_string(CASE WHEN json_valid(metadata) THEN metadata END, '$.segment'), '')
                    AS segment,
                date_diff('week', date_trunc('week', seen_at), {_NEWEST_WEEK}) AS weeks_ago
            FROM (FROM traces WHERE user_id IS NOT NULL) {condition}
        ), traced AS (
            SELECT t.user_id, arg_max(t.segment, (t.seen_at, t.trace_id)) FILTER (t.segment IS NOT NULL) AS segment,
                count(*) AS traces,
                count(DISTINCT t.agent) AS agents, count(*) FILTER (r.signals > 0) AS rewarded,
                avg(r.mean) FILTER (r.signals > 0) AS reward,
                var_samp(r.mean) FILTER (r.signals > 0) AS reward_variance,
                avg(r.sd * r.sd) FILTER (r.signals > 0) AS reward_sd2, [{weeks}] AS weeks,
                min(t.seen_at) AS first_at, max(t.seen_at) AS latest_at
            FROM own AS t LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id) GROUP BY t.user_id
        ), signalled AS (
            SELECT user_id, count(*) AS signals, count(*) FILTER (kind IN $explicit) AS explicit,
                min(occurred_at) AS first_at, max(occurred_at) AS latest_at
            FROM {about} WHERE user_id IS NOT NULL GROUP BY user_id
        )
        SELECT coalesce(t.user_id, s.user_id) AS user_id, coalesce(g.segment, t.segment) AS segment,
            coalesce(t.traces, 0) AS traces,
            coalesce(t.agents, 0) AS agents, coalesce(s.signals, 0) AS signals, coalesce(s.explicit, 0) AS explicit,
            coalesce(t.rewarded, 0) AS rewarded, t.reward, t.reward_variance, t.reward_sd2, 
            coalesce(t.weeks, []) AS weeks, coalesce(t.first_at, s.first_at) AS first_at,
            coalesce(t.latest_at, s.latest_at) AS latest_at
        FROM traced AS t FULL JOIN signalled AS s USING (user_id)
            LEFT JOIN user_segments AS g ON g.user_id = coalesce(t.user_id, s.user_id)"""
