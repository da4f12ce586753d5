"""What is measured for drift: the values of every user by every metric in order of time, one for each session.

What happens within a session hangs together, and a test that takes it for separate events sees changes where there are
none, so a session is one event: its mean, of yes/no values what most of its traces say (yes where they tie), of
categories that of its first trace, of texts all of them: the category of texts is the text itself, their value a number
from 0 to 1 that its words make. A trace without a session is a session of its own. Times are UTC.

Only traces with a user and a start count. Signals come after what they are about, some of them days after: traces so
new that a twentieth of a kind's signals would still be to come are left out of the share of that kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from store import preferences
from store.connection import Store
from store.drift_language import language
from store.errors import NotFound
from store.frames import UTC_TIME, Reader, Schema, declare, packed, texts_in
from store.scope import ACTIVE_OUTCOMES, SECONDS
from store.trace_paths import ABSTRACTION

__all__ = [
    "EVENTS", "IMPLICIT", "MEASURES", "OF_AGENT", "PREFERENCE", "REWARD", "SCANNED", "SEGMENTS", "STATED", "WORDS",
    "Measure", "by_week", "counts", "features", "measure_of", "newest", "of_user", "of_users", "sessions", "slice_of",
    "touched",
]  # fmt: skip

STATED: Final = "stated satisfaction"
REWARD: Final = "reward"
WORDS: Final = "what users ask about"
PREFERENCE: Final = "preference: "  # before the name of what people choose by
# What the agent does rather than the user.
OF_AGENT: Final = ("output length", "tool use", "first tool", "repeated calls", "latency", "cost", "surprise")
IMPLICIT: Final = ("click", "copy", "edit", "retry", "abandon", "purchase")

EVENTS = declare(
    {
        "user_id": pl.String, "metric": pl.String, "occurred_at": UTC_TIME, "value": pl.Float64,
        "category": pl.String, "agent": pl.String, "task": pl.String, "model": pl.String,
    }
)  # fmt: skip
SCANNED = declare(
    {
        "user_id": pl.String, "segment": pl.String, "agent": pl.String, "task": pl.String, "model": pl.String,
        "agent_version": pl.String, "block": pl.String, "occurred_at": UTC_TIME, "value": pl.Float64,
        "category": pl.String, "draw": pl.Float64,
    }
)  # fmt: skip
WEEKS = declare(
    {
        "user_id": pl.String, "week": UTC_TIME, "mean": pl.Float64, "n": pl.Int64, "z": pl.Float64,
        "category": pl.String,
    }
)  # fmt: skip

# Traces of `{who}`, with what is compared (`{columns}`).
_TRACES: Final = """
    SELECT t.trace_id, t.user_id, t.agent, t.task, t.model, t.agent_version, t.publication, t.started_at AS occurred_at,
        coalesce(nullif(t.session_id, ''), t.trace_id) AS block, {columns}
    FROM {tables} WHERE t.user_id IS NOT NULL AND t.started_at IS NOT NULL AND {who}"""

_ABOUT: Final = """(
    SELECT s.signal_id, coalesce(s.trace_id, l.trace_id) AS trace_id, s.kind, s.value, s.occurred_at, s.publication
    FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id))"""


@dataclass(frozen=True)
class Measure:
    """How a metric is read: `sql` of its values (with the gap `{who}` for a condition on user_id), and their nature."""

    sql: str
    nature: Literal["yes or no", "number", "category", "text"]


def _of_traces(columns: str, tables: str = "traces AS t", also: str = "true") -> str:
    return _TRACES.format(columns=columns, tables=tables, who=f"{also} AND {{who}}")


_STATED_VALUES: Final = """
    SELECT t.trace_id, coalesce(s.user_id, t.user_id) AS user_id, t.agent, t.task, t.model, t.agent_version,
        s.publication, coalesce(s.occurred_at, t.started_at) AS occurred_at,
        coalesce(nullif(s.session_id, ''), nullif(t.session_id, ''), t.trace_id, s.signal_id) AS block,
        (s.value > 0.5)::DOUBLE AS value
    FROM {about} AS s LEFT JOIN traces AS t ON t.trace_id = s.about
    WHERE coalesce(s.user_id, t.user_id) IS NOT NULL AND coalesce(s.occurred_at, t.started_at) IS NOT NULL
        AND {who}"""

_SAID: Final = """(
    FROM signals WHERE kind IN ('thumb', 'rating') AND value BETWEEN 0 AND 1 AND annotator_kind IS DISTINCT FROM 'llm'
    )"""

_STATED_ABOUT: Final = f"""(
    SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
    FROM {_SAID} AS s LEFT JOIN signal_links AS l USING (signal_id))"""

# The same rows for one user ($user): each part finds its few signals before it joins anything.
_STATED_ABOUT_ONE: Final = f"""(
    WITH mine AS MATERIALIZED (SELECT trace_id FROM traces WHERE user_id = $user),
    linked AS MATERIALIZED (FROM signal_links SEMI JOIN mine USING (trace_id))
    SELECT s.*, coalesce(s.trace_id, l.trace_id) AS about
    FROM (FROM {_SAID} WHERE user_id = $user) AS s LEFT JOIN signal_links AS l USING (signal_id)
    UNION ALL BY NAME
    SELECT s.*, s.trace_id AS about FROM (FROM {_SAID} WHERE user_id IS NULL) AS s SEMI JOIN mine USING (trace_id)
    UNION ALL BY NAME
    SELECT s.*, l.trace_id AS about FROM (FROM {_SAID} WHERE user_id IS NULL AND trace_id IS NULL) AS s
        JOIN linked AS l USING (signal_id))"""


def _kind(kind: str) -> str:
    """Whether a trace has a signal of a kind, of the agents that ever have one; without the traces too new to tell."""
    about = f"SELECT * FROM {_ABOUT} WHERE kind = '{kind}' AND coalesce(value, 1) > 0 AND trace_id IS NOT NULL"
    delays = """(
        SELECT t.agent, coalesce(quantile_disc(epoch_us(s.occurred_at) - epoch_us(t.started_at), 0.95)
            FILTER (s.occurred_at >= t.started_at), 0) AS delay
        FROM about AS s JOIN traces AS t USING (trace_id) GROUP BY t.agent)"""
    tables = f"""traces AS t JOIN {delays} AS d ON d.agent IS NOT DISTINCT FROM t.agent
        LEFT JOIN (SELECT DISTINCT trace_id FROM about) AS a USING (trace_id)"""
    ended = "epoch_us(t.started_at) <= (SELECT max(epoch_us(started_at)) FROM traces) - d.delay"
    values = _of_traces("(a.trace_id IS NOT NULL)::DOUBLE AS value", tables, ended)
    return f"WITH about AS MATERIALIZED ({about}) {values}"


# Those of the traces that are asked for: what is joined to them is not computed for all.
_WANTED: Final = "SEMI JOIN (SELECT trace_id FROM traces AS t WHERE t.user_id IS NOT NULL AND {who}) USING (trace_id)"

_FIRST_TOOLS: Final = f"""traces AS t JOIN (
    SELECT trace_id, arg_min(left(name, 120), (started_at, coalesce(ordinal, 0), span_id)) AS tool
    FROM spans {_WANTED} WHERE kind = 'tool' AND name IS NOT NULL GROUP BY trace_id) AS u USING (trace_id)"""

_REPEATED: Final = f"""traces AS t JOIN (
    SELECT p.trace_id, bool_or(s.retries > 0)::DOUBLE AS repeated
    FROM (SELECT trace_id, unnest(states) AS state FROM trace_paths {_WANTED} WHERE abstraction = {ABSTRACTION}) AS p
    JOIN abstract_states AS s ON s.state = p.state AND s.abstraction = {ABSTRACTION} AND s.kind = 'tool'
    GROUP BY p.trace_id) AS r USING (trace_id)"""

_SURPRISE: Final = """traces AS t JOIN (
    SELECT trace_id, mean_z FROM trace_surprise
    WHERE model_id = (SELECT max(model_id) FROM transition_models)) AS u USING (trace_id)"""

# How far the items chosen from a list lie above the list by a number that its items state. The weights of the job
# `preferences` are refitted on nearly the same lists each time, so a sequence of them would be no evidence; what a list
# adds to a weight is this difference.
_CHOSEN: Final = f"""traces AS t JOIN (
    WITH located AS (
        SELECT trace_id, kind, item, position, value, metadata FROM (
            SELECT s.kind, coalesce(s.trace_id, l.trace_id) AS trace_id, s.item, s.position, s.value, s.metadata
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id) WHERE s.kind IN ('impression', 'click')
        ) {_WANTED}
    ), shown AS (
        SELECT trace_id, item, position, min(TRY_CAST(json_extract_string(
            CASE WHEN json_valid(metadata) THEN metadata END, '$."<feature>"') AS DOUBLE)) AS stated
        FROM located WHERE kind = 'impression' AND (item IS NOT NULL OR position IS NOT NULL) GROUP BY ALL
    ), clicked AS (
        SELECT DISTINCT trace_id, item, CASE WHEN item IS NULL THEN position END AS position
        FROM located WHERE kind = 'click' AND coalesce(value, 1) > 0
    ), marked AS (
        SELECT s.trace_id, s.stated, bool_or(c.trace_id IS NOT NULL) AS chosen
        FROM shown AS s LEFT JOIN clicked AS c
            ON c.trace_id = s.trace_id AND (c.item = s.item OR c.item IS NULL AND c.position = s.position)
        WHERE isfinite(s.stated) GROUP BY s.trace_id, s.item, s.position, s.stated
    )
    SELECT trace_id, avg(stated) FILTER (chosen) - avg(stated) AS above FROM marked
    GROUP BY trace_id HAVING bool_or(chosen) AND NOT bool_and(chosen)) AS c USING (trace_id)"""

MEASURES: Final[Mapping[str, Measure]] = {
    REWARD: Measure(
        _of_traces("r.mean AS value", f"traces AS t JOIN {ACTIVE_OUTCOMES} AS r USING (trace_id)", "r.signals > 0"),
        "number",
    ),
    STATED: Measure(_STATED_VALUES.replace("{about}", _STATED_ABOUT), "yes or no"),
    **{kind: Measure(_kind(kind), "yes or no") for kind in IMPLICIT},
    "task mix": Measure(_of_traces("t.task AS category", also="t.task IS NOT NULL"), "category"),
    "language": Measure(_of_traces(f"{language('t.input')} AS category", also="t.input IS NOT NULL"), "category"),
    WORDS: Measure(_of_traces("t.input AS category", also="t.input IS NOT NULL"), "text"),
    "input length": Measure(_of_traces("length(t.input)::DOUBLE AS value", also="t.input IS NOT NULL"), "number"),
    "output length": Measure(
        _of_traces("t.output_tokens::DOUBLE AS value", also="t.output_tokens IS NOT NULL"), "number"
    ),
    "tool use": Measure(_of_traces("(t.tool_count > 0)::DOUBLE AS value", also="t.span_count > 0"), "yes or no"),
    "first tool": Measure(_of_traces("u.tool AS category", _FIRST_TOOLS), "category"),
    "repeated calls": Measure(_of_traces("r.repeated AS value", _REPEATED), "yes or no"),
    "latency": Measure(_of_traces(f"{SECONDS} AS value", also="t.ended_at IS NOT NULL"), "number"),
    "cost": Measure(_of_traces("t.cost_usd AS value", also="t.cost_usd IS NOT NULL"), "number"),
    "surprise": Measure(_of_traces("u.mean_z AS value", _SURPRISE), "number"),
}

_LONGEST: Final = 1000  # characters of a session's texts
_TEXT: Final = f"left(string_agg(category, ' ' ORDER BY occurred_at, trace_id), {_LONGEST:d})"
# The mean of a number that belongs to each word: it moves when other words are used, unless by rare chance.
_WORDS: Final = f"""list_avg(list_transform(regexp_extract_all(lower({_TEXT}), '[\\p{{L}}\\p{{N}}]+'),
    lambda w: (hash(w) >> 40) / 16777216.0))"""

_SESSION: Final = {
    "text": f"{_WORDS} AS value, {_TEXT} AS category",
    "number": "avg(value) FILTER (isfinite(value)) AS value, NULL::VARCHAR AS category",
    "yes or no": "(avg(value) >= 0.5)::DOUBLE AS value, NULL::VARCHAR AS category",
    "category": "NULL::DOUBLE AS value, arg_min(category, occurred_at) AS category",
}


def sessions(metric: str, who: str, *, of_one: bool = False) -> str:
    """SQL of one row a user, agent and session: when it began, its value or category, and where it belongs.

    `who` is a condition on traces t (of stated satisfaction on signals s too), with `{user}` for the user's id;
    `of_one` where it is that of the one user $user, which is read faster. Raises: `NotFound` for an unknown metric.
    """
    measure = measure_of(metric)
    values = _STATED_VALUES.replace("{about}", _STATED_ABOUT_ONE) if metric == STATED and of_one else measure.sql
    user = "coalesce(s.user_id, t.user_id)" if metric == STATED else "t.user_id"
    return f"""
    SELECT user_id, agent, block, min(occurred_at) AS occurred_at, arg_min(task, occurred_at) AS task,
        arg_min(model, occurred_at) AS model, arg_min(agent_version, occurred_at) AS agent_version,
        max(publication) AS publication, {_SESSION[measure.nature]}
    FROM ({values.replace("{who}", who.format(user=user))}) GROUP BY user_id, agent, block"""


def measure_of(metric: str) -> Measure:
    """How a metric is read. Raises: `NotFound`."""
    if metric.startswith(PREFERENCE) and (feature := metric.removeprefix(PREFERENCE)):
        quoted = feature.replace("'", "''").replace('"', "")
        return Measure(_of_traces("c.above AS value", _CHOSEN.replace("<feature>", quoted)), "number")
    if metric not in MEASURES:
        raise NotFound("metric", metric)
    return MEASURES[metric]


# As the newest count of users has it, but for rules set since: reading every trace's metadata anew for every metric
# would take longer than the metric.
SEGMENTS: Final = """(
    SELECT coalesce(r.user_id, u.user_id) AS user_id, coalesce(r.segment, u.segment) AS segment
    FROM (SELECT user_id, segment FROM user_summaries WHERE user_run_id = (SELECT max(user_run_id) FROM user_runs)) AS u
    FULL JOIN user_segments AS r ON r.user_id = u.user_id)"""
_IN_ORDER = "ORDER BY user_id, occurred_at, agent, block"


def _scanned(metric: str, who: str) -> str:
    return f"""SELECT e.user_id, u.segment, e.agent, e.task, e.model, e.agent_version, e.block, e.occurred_at, e.value,
        e.category, hash(e.user_id, e.agent, e.block) / 18446744073709551616.0 AS draw
    FROM ({sessions(metric, who)}) AS e LEFT JOIN {SEGMENTS} AS u USING (user_id) {_IN_ORDER}"""


def slice_of(reader: Reader, metric: str, slices: int, number: int) -> pl.DataFrame:
    """The values of every `slices`-th user by one metric in order of users and time (columns `SCANNED`).

    The users of a slice are the same for every metric and every run; `draw` is a number from 0 to 1 that belongs to the
    session, the same each time. Values that are no numbers are null. Raises: `NotFound` for an unknown metric.
    """
    return reader.frame(_scanned(metric, f"hash({{user}}) % {slices:d} = {number:d}"), SCANNED)


def of_users(reader: Reader, metric: str, user_ids: list[str]) -> pl.DataFrame:
    """As `slice_of`, of these users."""
    return reader.frame(
        _scanned(metric, f"{{user}} IN (SELECT {texts_in('users')})"), SCANNED, {"users": packed(user_ids)}
    )


def touched(reader: Reader, metric: str, after: int) -> pl.DataFrame:
    """The sessions that publications after `after` brought or changed, as those alone tell them (columns `SCANNED`)."""
    column = "s.publication" if metric == STATED else "t.publication"
    return reader.frame(_scanned(metric, f"{column} > {after:d}"), SCANNED)


def counts(reader: Reader) -> tuple[int, int]:
    """How many traces there are, and how many signals: an upper bound of the sessions of any metric."""
    return (
        int(str(reader.value("SELECT count(*) FROM traces WHERE user_id IS NOT NULL"))),
        int(str(reader.value("SELECT count(*) FROM signals WHERE kind IN ('thumb', 'rating')"))),
    )


def newest(reader: Reader) -> int:
    """The newest publication of facts."""
    return int(str(reader.value("SELECT value FROM store_meta WHERE key = 'publication'")))


def features(store: Store) -> list[str]:
    """What people choose by, as far as the newest run of the job `preferences` could tell."""
    newest_run = preferences.latest_run(store)
    found = (newest_run or {}).get("parameters", {}).get("features", [])
    return [str(name) for name in found]


def of_user(store: Store, user_id: str, metric: str, *, limit: int, timeout: float | None = None) -> pl.DataFrame:
    """The newest sessions of one user by one metric, in order of time (columns `EVENTS`).

    Texts are left to `store.drift_texts`. Raises: `NotFound`; `QueryTimeout`.
    """
    category = "NULL::VARCHAR" if measure_of(metric).nature == "text" else "category"
    return _read(
        store,
        f"""SELECT user_id, $metric AS metric, occurred_at, value, {category} AS category, agent, task, model FROM (
            SELECT *, row_number() OVER (ORDER BY occurred_at DESC, agent, block) AS place
            FROM ({sessions(metric, "{user} = $user", of_one=True)}) WHERE value IS NOT NULL OR category IS NOT NULL)
        WHERE place <= $limit ORDER BY place DESC""",
        EVENTS,
        {"user": user_id, "metric": metric, "limit": limit},
        timeout,
    )


def by_week(store: Store, metric: str, *, users: int, weeks: int, timeout: float | None = None) -> pl.DataFrame:
    """See `store.drift.users_by_week` (columns `WEEKS`)."""
    value = "(e.category = c.category)::DOUBLE" if measure_of(metric).nature == "category" else "e.value"
    return _read(
        store,
        f"""WITH found AS (
            SELECT user_id, min(p_value) AS p_value, any_value(category) AS category FROM drift_findings
            WHERE level = 'user' AND metric = $metric AND run_id = (SELECT max(run_id) FROM drift_runs)
            GROUP BY user_id
        ), chosen AS MATERIALIZED (
            SELECT coalesce(f.user_id, s.user_id) AS user_id, f.category,
                row_number() OVER (ORDER BY f.p_value NULLS LAST, coalesce(s.n, 0) DESC, user_id) AS place
            FROM found AS f FULL JOIN (SELECT user_id, n FROM drift_states WHERE metric = $metric) AS s USING (user_id)
            QUALIFY place <= $users
        ), events AS ({sessions(metric, "{user} IN (SELECT user_id FROM chosen)")}),
        frequent AS (SELECT user_id, mode(category) AS category FROM events GROUP BY user_id),
        asked AS (
            SELECT c.user_id, c.place, coalesce(c.category, f.category) AS category
            FROM chosen AS c LEFT JOIN frequent AS f USING (user_id)
        ), told AS (
            SELECT e.user_id, c.place, c.category, date_trunc('week', e.occurred_at) AS week, {value} AS value
            FROM events AS e JOIN asked AS c USING (user_id)
        ), whole AS (
            SELECT user_id, avg(value) AS mean, stddev_samp(value) AS sd FROM told WHERE value IS NOT NULL
            GROUP BY user_id
        ), newest AS (SELECT DISTINCT week FROM told WHERE value IS NOT NULL ORDER BY week DESC LIMIT $weeks)
        SELECT t.user_id, t.week, avg(t.value) AS mean, count(*) AS n,
            (avg(t.value) - any_value(w.mean)) / nullif(any_value(w.sd) / sqrt(count(*)), 0) AS z,
            any_value(t.category) AS category
        FROM told AS t JOIN whole AS w USING (user_id) SEMI JOIN newest USING (week)
        WHERE t.value IS NOT NULL GROUP BY t.user_id, t.place, t.week ORDER BY t.place, t.week""",
        WEEKS,
        {"metric": metric, "users": users, "weeks": weeks},
        timeout,
    )


def _read(store: Store, sql: str, schema: Schema, params: Mapping[str, object], timeout: float | None) -> pl.DataFrame:
    with store.read(timeout=timeout) as reader:
        return reader.frame(sql, schema, params)
