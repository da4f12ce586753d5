"""What each agent is served: lessons in a served state, or those of a pinned playbook, as a version of its playbook.

    served   state canary or active, of the agent or of '*', not paused, not expired, serving not switched off
    pinned   the lessons and versions of that playbook, except those paused or demoted since and those expired

A lesson that is paused for a segment (`store.drift_responses`) is served with decisions only, and not to that segment.

Everything that may change this calls `refresh` in its own transaction. Nobody acts when a lesson expires: `due` finds
the agents whose playbook serves one that has, and `pipelines.lessons.review.expire` writes them anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, lesson_rules, meta, playbooks
from store.connection import Store
from store.frames import UTC_TIME, conform, declare
from store.lesson_rules import LessonSettings
from store.lesson_versions import EVERY_AGENT
from store.playbooks import Entry, Rendered, Served

__all__ = ["SERVED", "SERVED_STATES", "STANDING", "Render", "agents", "due", "newcomers", "refresh", "rerender"]

SERVED_STATES: Final = ("canary", "active")

SERVED = declare(
    {
        "lesson_id": pl.String, "version": pl.Int32, "state": pl.String, "agent": pl.String, "task": pl.String,
        "segment": pl.String, "user_id": pl.String, "title": pl.String, "when_text": pl.String,
        "when_not": pl.String, "do_text": pl.String, "created_at": UTC_TIME,
    }
)  # fmt: skip

# Renders what an agent is served (columns `SERVED`, one row a lesson) within a token budget into its playbook's text.
Render = Callable[[pl.DataFrame, int], Rendered]

# Reviews are a stack: an undo takes the top one off. A review stands while the stack was never lower than it since.
STANDING: Final = """
SELECT * EXCLUDE (height, lowest) FROM (
    SELECT *, min(height) OVER (
        PARTITION BY lesson_id ORDER BY sequence ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS lowest
    FROM (
        SELECT *, sum(if(action = 'undo', -1, 1)) OVER (PARTITION BY lesson_id ORDER BY sequence) AS height
        FROM lesson_reviews WHERE sequence IS NOT NULL
    )
) WHERE action <> 'undo' AND coalesce(lowest >= height, true)"""

_ENTRY: Final = "l.lesson_id, l.version, l.state, l.agent, l.task, l.segment, l.user_id, l.holdout, l.expires_at"


def agents(connection: duckdb.DuckDBPyConnection, named: Iterable[str]) -> list[str]:
    """These agents; with '*' among them all that have lessons, arms or a playbook (see `newcomers` for the others)."""
    wanted = set(named)
    if EVERY_AGENT in wanted:
        found = connection.execute(
            "SELECT agent FROM lessons UNION SELECT agent FROM arms UNION SELECT agent FROM playbooks"
        ).fetchall()
        wanted |= {str(row[0]) for row in found}
    return sorted(wanted - {EVERY_AGENT})


def refresh(
    connection: duckdb.DuckDBPyConnection, now: datetime, named: Iterable[str], render: Render, cause: str
) -> dict[str, int]:
    """Write a new playbook for each of these agents ('*': all) that is served otherwise than its newest one says.

    Returns the versions made, by agent. Call inside the transaction of whatever changed.
    """
    touched = agents(connection, named)
    if not touched:
        return {}
    rules, payoffs, paused = lesson_rules.rows(connection), _payoffs(connection, touched), _paused(connection, now)
    held, in_state = _newest(connection, touched), _in_state(connection, now, touched)
    changed: dict[str, tuple[list[Entry], Served]] = {}
    for agent in touched:
        settings = lesson_rules.resolve(rules, agent)
        entries, served = _content(connection, now, agent, settings, in_state)
        entries = [
            replace(
                _measured(entry, payoffs.get((agent, entry.lesson_id, entry.version))),
                not_segments=paused.get(entry.lesson_id, ()),
            )
            for entry in entries
        ]
        before = held.get(agent)
        if before is None and not entries:
            continue
        if before != (playbooks.encode_entries(entries), playbooks.encode_settings(served)):
            changed[agent] = entries, served
    made = {}
    texts = _texts(
        connection, {(entry.lesson_id, entry.version) for entries, _ in changed.values() for entry in entries}
    )
    for agent, (entries, served) in changed.items():
        # Whoever reads the block gets all of it, so nothing is in it that some may not be served.
        for_all = [entry for entry in entries if not entry.not_segments]
        rendered = render(_frame(for_all, texts), served.token_budget)
        version = playbooks.append(connection, now, agent, rendered, cause, entries=entries, settings=served)
        if version is not None:
            made[agent] = version
    return made


def rerender(store: Store, named: Iterable[str], render: Render, cause: str) -> dict[str, int]:
    """As `refresh`, in a transaction of its own, with an audit row where there are new versions.

    For what changes without a review: a lesson has expired, payoffs were measured.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
        now = store.clock.now()
        made = refresh(connection, now, named, render, cause)
        if made:
            detail = {"cause": cause, "playbooks": made}
            audit.append(connection, now, audit.SYSTEM, "lesson rerender", "playbooks", detail)
            meta.bump(connection)
        return made

    return store.write(work)


def due(store: Store, now: datetime) -> list[str]:
    """Agents whose newest playbook serves a lesson that has expired by `now`."""
    with store.read() as reader:
        found = reader.frame(
            """SELECT agent, entries FROM (
                SELECT agent, entries FROM playbooks
                QUALIFY row_number() OVER (PARTITION BY agent ORDER BY version DESC) = 1)
            WHERE contains(entries, '"expires_at":"')""",
            pl.Schema({"agent": pl.String(), "entries": pl.String()}),
        )
    return sorted(
        row["agent"]
        for row in found.iter_rows(named=True)
        if any(_expired(entry, now) for entry in playbooks.decode_entries(row["entries"]))
    )


def newcomers(store: Store) -> list[str]:
    """Agents with traces that have no playbook yet, while lessons for every agent are served."""
    with store.read() as reader:
        found = reader.frame(
            """SELECT DISTINCT agent FROM traces WHERE agent IS NOT NULL AND EXISTS (
                FROM lessons AS l WHERE l.agent = $every AND list_contains($states::VARCHAR[], l.state)
                    AND l.paused IS NULL AND (l.expires_at IS NULL OR l.expires_at > $now))
            AND agent NOT IN (SELECT agent FROM playbooks)
            AND NOT EXISTS (FROM lesson_settings AS o WHERE o.agent IN (traces.agent, $every)
                AND o.serving_off IS NOT NULL) ORDER BY agent""",
            pl.Schema({"agent": pl.String()}),
            {"every": EVERY_AGENT, "states": list(SERVED_STATES), "now": store.clock.now()},
        )
    return found["agent"].to_list()


def _content(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    agent: str,
    settings: LessonSettings,
    in_state: Mapping[str, Sequence[Entry]],
) -> tuple[list[Entry], Served]:
    """What an agent is served now, without payoffs, and under which settings."""
    if settings.serving_off is not None:
        return [], Served(settings.token_budget, settings.empty_share, off=settings.serving_off)
    if settings.pinned_playbook is not None:
        return _pinned(connection, now, agent, settings.pinned_playbook)
    entries = [
        entry if entry.holdout >= 0 else replace(entry, holdout=settings.holdout(entry.state))
        for entry in (*in_state.get(agent, ()), *in_state.get(EVERY_AGENT, ()))
    ]
    return entries, Served(settings.token_budget, settings.empty_share)


def _in_state(connection: duckdb.DuckDBPyConnection, now: datetime, touched: Sequence[str]) -> dict[str, list[Entry]]:
    """What the states of the lessons say is served, by the agent of the lesson; holdout -1 where it has none."""
    found: dict[str, list[Entry]] = {}
    for row in connection.execute(
        f"""SELECT {_ENTRY} FROM lessons AS l
        WHERE list_contains($states, l.state) AND list_contains($agents, l.agent) AND l.paused IS NULL
            AND (l.expires_at IS NULL OR l.expires_at > $now)""",
        {"states": list(SERVED_STATES), "agents": [*touched, EVERY_AGENT], "now": now},
    ).fetchall():
        entry = _entry(*row)
        found.setdefault(entry.agent, []).append(entry)
    return found


def _paused(connection: duckdb.DuckDBPyConnection, now: datetime) -> dict[str, tuple[str, ...]]:
    """The segments for which a lesson is paused, by lesson."""
    found = connection.execute(
        """SELECT parameters ->> '$.lesson_id' AS lesson_id, list_sort(list_distinct(list(segment)))
        FROM drift_responses
        WHERE action = 'pause lesson' AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > $now)
        GROUP BY ALL""",
        {"now": now},
    ).fetchall()
    return {lesson_id: tuple(segments) for lesson_id, segments in found}


def _pinned(
    connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, version: int
) -> tuple[list[Entry], Served]:
    """What a pinned playbook serves now; what it leaves out is named in the settings."""
    rows = connection.execute(
        "SELECT entries, settings FROM playbooks WHERE agent = $agent AND version = $version",
        {"agent": agent, "version": version},
    ).fetchall()
    text, settings = rows[0]
    entries = playbooks.decode_entries(text) if text is not None else _remembered(connection, agent, version)
    told = playbooks.decode_settings(settings)
    present = {
        row[0]: row[1:]
        for row in connection.execute(
            f"""SELECT l.lesson_id, l.paused, l.expires_at, arg_max(r.action, r.sequence) AS last,
                arg_max(r.change ->> '$.after.state', r.sequence) AS state, arg_max(r.reason, r.sequence) AS reason
            FROM lessons AS l LEFT JOIN ({STANDING}) AS r
                ON r.lesson_id = l.lesson_id AND r.action IN ('approve', 'promote', 'demote')
            GROUP BY ALL"""
        ).fetchall()
    }
    left_out: dict[str, str] = {}
    for entry in entries:
        paused, expires_at, last, state, reason = present[entry.lesson_id]
        if paused is not None:
            left_out[entry.lesson_id] = f"paused: {paused}"
        elif last == "demote" and _ranked(state) < _ranked(entry.state):
            left_out[entry.lesson_id] = f"demoted: {reason}"
        elif _expired(entry, now) or (expires_at is not None and expires_at <= now):
            left_out[entry.lesson_id] = "expired"
    kept = [entry for entry in entries if entry.lesson_id not in left_out]
    return kept, Served(told.token_budget, told.empty_share, pinned=version, left_out=left_out)


def _remembered(connection: duckdb.DuckDBPyConnection, agent: str, version: int) -> tuple[Entry, ...]:
    """The entries of a version from before they were kept: its lessons with the texts of that time."""
    found = connection.execute(
        """SELECT l.lesson_id, v.version, l.agent, l.task, l.segment, l.user_id, l.expires_at
        FROM (SELECT created_at, unnest(from_json(lesson_ids, '["VARCHAR"]')) AS lesson_id FROM playbooks
            WHERE agent = $agent AND version = $version) AS b
        JOIN lessons AS l USING (lesson_id)
        JOIN lesson_versions AS v ON v.lesson_id = l.lesson_id AND v.created_at <= b.created_at
        QUALIFY row_number() OVER (PARTITION BY l.lesson_id ORDER BY v.version DESC) = 1""",
        {"agent": agent, "version": version},
    ).fetchall()
    holdout = lesson_rules.resolved(connection, agent).active_holdout
    return tuple(_entry(row[0], row[1], "active", row[2], row[3], row[4], row[5], holdout, row[6]) for row in found)


def _entry(
    lesson_id: str,
    version: int,
    state: str,
    agent: str,
    task: str | None,
    segment: str | None,
    user_id: str | None,
    holdout: float | None,
    expires_at: datetime | None,
) -> Entry:
    """An entry that is not measured; holdout -1 where the lesson has none of its own."""
    own = -1.0 if holdout is None else holdout
    return Entry(lesson_id, version, state, agent, task, segment, user_id, own, expires_at, None, None, 0)


def _payoffs(
    connection: duckdb.DuckDBPyConnection, touched: Sequence[str]
) -> dict[tuple[str, str, int], tuple[float, float | None, int]]:
    """(agent, lesson, version) to (payoff, its standard deviation, decisions) of the newest run of `payoffs`."""
    found = connection.execute(
        """SELECT agent, lesson_id, version, coalesce(posterior, effect), coalesce(posterior_sd, sd), served + withheld
        FROM lesson_payoffs
        WHERE run_id = (SELECT max(run_id) FROM payoff_runs) AND kind = 'lesson' AND segment IS NULL
            AND measure = 'outcome' AND estimator = 'doubly robust' AND effect IS NOT NULL
            AND list_contains($agents, agent)""",
        {"agents": list(touched)},
    ).fetchall()
    return {(agent, lesson, version): (payoff, sd, n) for agent, lesson, version, payoff, sd, n in found}


def _measured(entry: Entry, found: tuple[float, float | None, int] | None) -> Entry:
    payoff, sd, n = found or (None, None, 0)
    return replace(entry, payoff=payoff, payoff_sd=sd, payoff_n=n)


def _newest(connection: duckdb.DuckDBPyConnection, touched: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    """Entries and settings of each agent's newest playbook, as they are kept."""
    found = connection.execute(
        """SELECT agent, entries, settings FROM playbooks SEMI JOIN (
            SELECT agent, max(version) AS version FROM playbooks WHERE list_contains($agents, agent) GROUP BY agent)
            USING (agent, version)""",
        {"agents": list(touched)},
    ).fetchall()
    return {agent: (entries, settings) for agent, entries, settings in found}


def _texts(
    connection: duckdb.DuckDBPyConnection, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], tuple[Any, ...]]:
    """(title, when_text, when_not, do_text, when the lesson was proposed) of these versions."""
    if not wanted:
        return {}
    found = connection.execute(
        """SELECT v.lesson_id, v.version, v.title, v.when_text, v.when_not, v.do_text, l.created_at
        FROM lesson_versions AS v JOIN lessons AS l USING (lesson_id)
        WHERE list_contains($ids::VARCHAR[], v.lesson_id)""",
        {"ids": sorted({lesson for lesson, _ in wanted})},
    ).fetchall()
    return {(row[0], row[1]): row[2:] for row in found if (row[0], row[1]) in wanted}


def _frame(entries: Sequence[Entry], texts: Mapping[tuple[str, int], tuple[Any, ...]]) -> pl.DataFrame:
    rows = [
        (
            entry.lesson_id, entry.version, entry.state, entry.agent, entry.task, entry.segment, entry.user_id,
            *texts[entry.lesson_id, entry.version],
        )
        for entry in entries
    ]  # fmt: skip
    return conform(pl.DataFrame(rows, schema=SERVED, orient="row"), SERVED)


def _ranked(state: str) -> int:
    """How near to agents a state is: 0 where it is not served."""
    return SERVED_STATES.index(state) + 1 if state in SERVED_STATES else 0


def _expired(entry: Entry, now: datetime) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now
