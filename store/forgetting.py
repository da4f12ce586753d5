"""Forgetting a person: everything that the store holds of them goes, and the file is written anew.

In one transaction: their traces (every trace in which a row names them, as a whole), spans, signals, decisions and what
was derived from these (`store.personal_data`); answers of the language model to questions about them; what repeats
their ids or words in other texts (`store.mentions`); their names in the audit log, whose chain stays whole. Lessons
lose that evidence, and served ones that have too little left are demoted. Training data made of their traces is
withdrawn. Tombstones keep late data out (`store.tombstones`).

Deleted rows stay in the free blocks of the file until those are used again, so the file is then written anew
(`Store.rewrite`). When that cannot be done at once it stays due, and the job `retention` does it.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import duckdb

from store import audit, embeddings, lesson_changes, mentions, meta, personal_data, policies, tombstones
from store.connection import Store
from store.errors import ActionRefused, NotFound, StoreError
from store.lesson_serving import Render
from store.mentions import Person
from store.tombstones import REFUSE, Refuse

__all__ = [
    "LEAST_EVIDENCE",
    "LostEvidence",
    "Preview",
    "Report",
    "collect",
    "forget",
    "late_results",
    "mark",
    "preview",
    "remove_late_results",
    "rewrite",
    "rewrite_due",
]

LEAST_EVIDENCE: Final = 2
"""A served lesson that lost evidence needs so many traces still, and one of each role that it had."""

_DUE: Final = "rewrite_due"
_LATE: Final = "late_results"
_MOST_CHARACTERS: Final = 20_000_000
_TEXTS: Final = """
    SELECT input FROM trace_records WHERE trace_id IN (FROM gone_traces)
    UNION SELECT output FROM trace_records WHERE trace_id IN (FROM gone_traces)
    UNION SELECT metadata FROM trace_records WHERE trace_id IN (FROM gone_traces)
    UNION SELECT input FROM spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT output FROM spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT status_message FROM spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT attributes FROM spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT input FROM superseded_spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT output FROM superseded_spans WHERE trace_id IN (FROM gone_traces)
    UNION SELECT text FROM signals WHERE signal_id IN (FROM gone_signals)
    UNION SELECT text FROM superseded_signals WHERE signal_id IN (FROM gone_signals)
    UNION SELECT item FROM signals WHERE signal_id IN (FROM gone_signals)
    UNION SELECT quote FROM lesson_evidence WHERE trace_id IN (FROM gone_traces)
    UNION SELECT detail FROM guardrail_violations WHERE trace_id IN (FROM gone_traces)"""
_SAID: Final = {
    "traces": ("input", "output"), "trace_records": ("input", "output", "metadata"),
    "spans": ("input", "output", "status_message", "attributes"), "signals": ("text", "item"),
}  # fmt: skip


@dataclass(frozen=True)
class LostEvidence:
    """A lesson that lost evidence: `good` and `bad` traces are left; `demoted_to` the state it was put in, or None."""

    lesson_id: str
    title: str
    state: str
    lost: int
    good: int
    bad: int
    demoted_to: str | None = None


@dataclass(frozen=True)
class Preview:
    """What forgetting would do: rows that go by table, lessons that lose evidence (with the state they would get),
    numbers of exports that would be withdrawn, and of models that were trained with them.
    """

    user_id: str
    rows: dict[str, int]
    lessons: tuple[LostEvidence, ...]
    exports: tuple[int, ...]
    tunings: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What forgetting did. `pseudonym` stands for the person in the audit log; `rows` that went by table; `cells` of
    other rows that were changed, by table; `audit_rows` that were redacted; `rewritten` whether the file is written
    anew, else `problem` says why not yet; `plain_id`: the id is too plain to be looked for inside texts.
    """

    pseudonym: str
    forgotten_at: datetime
    refuse: str
    rows: dict[str, int]
    cells: dict[str, int]
    audit_rows: int
    lessons: tuple[LostEvidence, ...]
    exports: tuple[int, ...]
    tunings: tuple[int, ...]
    plain_id: bool
    rewritten: bool = False
    problem: str | None = None
    files: tuple[str, ...] = field(default_factory=tuple)


def preview(store: Store, user_id: str) -> Preview:
    """What forgetting a user would do. Raises: `NotFound` when the store holds nothing of them."""
    with store.borrowed_cursor() as cursor:
        cursor.execute("BEGIN TRANSACTION")
        try:
            collect(cursor, user_id)
            rows = personal_data.expected(cursor)
            own = _own_lessons(cursor)
            if not rows and not own:
                raise NotFound("user", user_id)
            exports = _exports(cursor)
            return Preview(user_id, rows, _losing(cursor), exports, _tunings(cursor, exports))
        finally:
            cursor.execute("ROLLBACK")


def forget(
    store: Store, user_id: str, *, operator: str, render: Render, refuse: Refuse = "late", reason: str = ""
) -> Report:
    """Forget a user and write the file anew; see above.

    Args: `operator` who asks for it; `render` renders the playbooks of lessons that are demoted; `refuse` what is
    refused of them later (`store.tombstones`); `reason` for the audit log, which must not name them.
    Raises: `ActionRefused` without a person's name; `NotFound` when the store holds nothing of them.
    """
    audit.person("Forget a user", operator)
    if refuse not in REFUSE:
        raise ActionRefused("Forget a user", f"{refuse!r} is unknown.", f"Use one of {', '.join(REFUSE)}.")
    if user_id and user_id in reason:
        raise ActionRefused("Forget a user", "the reason names them.", "Say why without the id: the reason is kept.")
    key = tombstones.key_of(store)
    agents: list[str] = []

    def work(connection: duckdb.DuckDBPyConnection) -> Report:
        agents.extend(
            row[0]
            for row in connection.execute(
                "SELECT DISTINCT agent FROM policy_users WHERE user_id = $user", {"user": user_id}
            ).fetchall()
        )
        return _forget(connection, store.clock.now(), user_id, operator, render, refuse, reason, key)

    report = store.write(work)
    policies.announce(store, agents)
    # What decided on while the transaction ran may have come in after it.
    store.write(lambda connection: _again(connection, user_id, report.forgotten_at))
    try:
        rewrite(store)
    except StoreError as error:
        return _with(report, rewritten=False, problem=str(error))
    return _with(report, rewritten=True)


def rewrite_due(store: Store) -> bool:
    """Whether something was deleted whose bytes are still in the file."""
    with store.read() as reader:
        return reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": _DUE}) == 1


def late_results(store: Store) -> bool:
    """Whether jobs that read before somebody was forgotten may have written since, and all of them have ended."""
    with store.read() as reader:
        found = reader.value(
            """SELECT value = 1 AND NOT EXISTS (FROM job_runs WHERE status = 'running' AND job <> 'retention'
                AND started_at <= (SELECT max(forgotten_at) FROM forgotten))
            FROM store_meta WHERE key = $key""",
            {"key": _LATE},
        )
    return found is True


def remove_late_results(store: Store) -> int:
    """Delete what such jobs have written of forgotten people, recognised by their tombstones; returns how many rows.

    Who has traces again since is new, and theirs stays.
    """
    key = tombstones.key_of(store)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        personal_data.begin(connection)
        for kind, tables in personal_data.derived(connection).items():
            column = f"{kind}_id"
            for table in tables:
                connection.execute(
                    f"""INSERT INTO gone_{kind}s SELECT DISTINCT {column} FROM {table}
                    WHERE {column} IS NOT NULL
                        AND {column} NOT IN (SELECT {column} FROM traces WHERE {column} IS NOT NULL)
                    AND sha256($key || '{kind}:' || {column}) IN (
                        SELECT digest FROM forgotten WHERE kind = '{kind}')""",
                    {"key": key},
                )
        gone = personal_data.erase(connection)
        _note(connection, _LATE, 0)
        if gone:
            mark(connection, due=True)
            detail = {"rows": gone, "why": "a job had read them before they were forgotten"}
            audit.append(connection, store.clock.now(), audit.SYSTEM, "forget late results", "store", detail)
            meta.bump(connection)
        return sum(gone.values())

    return store.write(work)


def rewrite(store: Store) -> None:
    """Write the file anew, and say that it is done. Raises: `StoreError`, `DiskFull`: it stays due."""
    store.rewrite()
    store.write(lambda connection: mark(connection, due=False))


def mark(connection: duckdb.DuckDBPyConnection, *, due: bool) -> None:
    """Say whether the file has to be written anew. Call inside the transaction that deletes."""
    _note(connection, _DUE, int(due))


def _note(connection: duckdb.DuckDBPyConnection, key: str, value: int) -> None:
    # No ON CONFLICT: see `publications.begin`.
    held = connection.execute("SELECT 1 FROM store_meta WHERE key = $key", {"key": key}).fetchall()
    change = "UPDATE store_meta SET value = $value WHERE key = $key"
    connection.execute(change if held else "INSERT INTO store_meta VALUES ($key, $value)", {"key": key, "value": value})


def _forget(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    user_id: str,
    operator: str,
    render: Render,
    refuse: str,
    reason: str,
    key: str,
) -> Report:
    collect(connection, user_id)
    own = _own_lessons(connection)
    if not personal_data.expected(connection) and not own:
        raise NotFound("user", user_id)
    texts = _texts(connection, own)
    ids = {kind: _ids(connection, kind) for kind in ("traces", "sessions", "decisions", "signals")}
    tasks = _tasks_of_theirs(connection)
    losing, exports = _losing(connection), _exports(connection)
    tunings = _tunings(connection, exports)
    personal_data.note_removals(connection, "forget", now)
    rows = personal_data.erase(connection)
    _withdraw(connection, exports)
    lessons = _demote(connection, now, losing, render)
    _retire_own(connection, now, own, render)
    person = Person(
        [user_id], frozenset().union(*ids.values(), tasks), texts, unique=lambda passage: _unique(connection, passage)
    )
    _forget_tasks(connection, tasks)
    cells = mentions.sweep(connection, person, personal_data.MENTIONS)
    for tables in (personal_data.FACTS, personal_data.others(connection)):
        for table, count in mentions.in_facts(connection, user_id, tables).items():
            cells[table] = cells.get(table, 0) + count
    # Lessons whose words have changed: the numbers made of the old ones go too.
    embeddings.prune(connection)
    pseudonym = tombstones.digest(key, "user", user_id)[:12]
    redacted = _redact(connection, now, operator, person)
    if refuse != "never":
        tombstones.set_up(connection, key, "user", [user_id], now, refuse)
        tombstones.set_up(connection, key, "trace", ids["traces"], now, refuse)
        tombstones.set_up(connection, key, "session", ids["sessions"], now, refuse)
    detail = {
        "rows": rows, "cells": cells, "audit_rows": redacted, "late data": refuse, "reason": reason or None,
        "lessons": [one.lesson_id for one in lessons], "demoted": [one.lesson_id for one in lessons if one.demoted_to],
        "exports withdrawn": list(exports), "models trained with them": list(tunings),
    }  # fmt: skip
    audit.append(connection, now, operator, "forget user", f"person {pseudonym}", detail)
    mark(connection, due=True)
    _note(connection, _LATE, 1)
    meta.bump(connection)
    plain = not mentions.distinctive(user_id)
    return Report(pseudonym, now, refuse, rows, cells, redacted, lessons, exports, tunings, plain)


def collect(connection: duckdb.DuckDBPyConnection, user_id: str) -> None:
    """Fill the tables gone_* with what is theirs."""
    personal_data.begin(connection)
    user = {"user": user_id}
    connection.execute("INSERT INTO gone_users VALUES ($user)", user)
    connection.execute(
        """INSERT INTO gone_traces SELECT trace_id FROM traces WHERE user_id = $user
        UNION SELECT trace_id FROM trace_records WHERE user_id = $user
        UNION SELECT trace_id FROM spans WHERE user_id = $user
        UNION SELECT trace_id FROM superseded_spans WHERE user_id = $user""",
        user,
    )
    connection.execute(
        """INSERT INTO gone_sessions
        SELECT session_id FROM (
            SELECT session_id FROM traces WHERE trace_id IN (FROM gone_traces)
            UNION SELECT session_id FROM trace_records WHERE trace_id IN (FROM gone_traces)
            UNION SELECT session_id FROM signals WHERE user_id = $user
            UNION SELECT session_id FROM decisions WHERE user_id = $user)
        WHERE session_id IS NOT NULL AND session_id NOT IN (
            SELECT session_id FROM traces WHERE session_id IS NOT NULL AND trace_id NOT IN (FROM gone_traces))""",
        user,
    )
    connection.execute(
        """INSERT INTO gone_decisions SELECT decision_id FROM decisions
        WHERE user_id = $user OR (user_id IS NULL AND session_id IN (FROM gone_sessions))""",
        user,
    )
    personal_data.fill(connection)


def _again(connection: duckdb.DuckDBPyConnection, user_id: str, before: datetime) -> None:
    """Delete decisions about them that were taken before they were forgotten and stored after."""
    personal_data.begin(connection)
    connection.execute(
        "INSERT INTO gone_decisions SELECT decision_id FROM decisions WHERE user_id = $user AND decided_at <= $before",
        {"user": user_id, "before": before},
    )
    personal_data.erase(connection, ["decisions", "exposures"])


def _ids(connection: duckdb.DuckDBPyConnection, kind: str) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute(f"FROM gone_{kind}").fetchall())


def _texts(connection: duckdb.DuckDBPyConnection, own: list[str]) -> list[str]:
    """What they said and what was said to them, long texts each once."""
    found: list[str | None] = []
    size = 0
    result = connection.execute(_TEXTS)
    while rows := result.fetchmany(1_000):
        found.extend(row[0] for row in rows)
        size += sum(len(row[0]) for row in rows if row[0])
        if size > _MOST_CHARACTERS:
            break
    for row in connection.execute(
        """SELECT title, when_text, when_not, do_text, why FROM lesson_versions
        WHERE list_contains($own::VARCHAR[], lesson_id)""",
        {"own": own},
    ).fetchall():
        found.extend(row)
    return mentions.passages(found)


def _unique(connection: duckdb.DuckDBPyConnection, passage: str) -> bool:
    """Whether nobody else's trace or signal says this."""
    for table, columns in _SAID.items():
        said = " OR ".join(f"contains({column}, $passage)" for column in columns)
        if connection.execute(f"SELECT 1 FROM {table} WHERE {said} LIMIT 1", {"passage": passage}).fetchall():
            return False
    return True


def _own_lessons(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Lessons that were made for this user alone."""
    rows = connection.execute("SELECT lesson_id FROM lessons WHERE user_id IN (FROM gone_users) ORDER BY ALL")
    return [row[0] for row in rows.fetchall()]


def _losing(connection: duckdb.DuckDBPyConnection) -> tuple[LostEvidence, ...]:
    """Lessons that lose evidence, with what is left and the state that served ones get. Call before erasing."""
    rows = connection.execute(
        """SELECT e.lesson_id, v.title, l.state, count(*) FILTER (gone) AS lost,
            count(DISTINCT trace_id) FILTER (role = 'good' AND NOT gone),
            count(DISTINCT trace_id) FILTER (role = 'bad' AND NOT gone),
            bool_or(role = 'good'), bool_or(role = 'bad')
        FROM (SELECT *, trace_id IN (FROM gone_traces) AS gone FROM lesson_evidence) AS e
        JOIN lessons AS l USING (lesson_id)
        JOIN lesson_versions AS v ON v.lesson_id = l.lesson_id AND v.version = l.version
        WHERE l.user_id IS NULL OR l.user_id NOT IN (FROM gone_users)
        GROUP BY ALL HAVING lost > 0 ORDER BY e.lesson_id"""
    ).fetchall()
    losing = []
    for lesson, title, state, lost, good, bad, had_good, had_bad in rows:
        short = good + bad < LEAST_EVIDENCE or (had_good and not good) or (had_bad and not bad)
        to = None
        if short and state in ("canary", "active"):
            to = "canary" if state == "active" and good + bad else "retired"
        losing.append(LostEvidence(lesson, title, state, lost, good, bad, to))
    return tuple(losing)


def _demote(
    connection: duckdb.DuckDBPyConnection, now: datetime, losing: tuple[LostEvidence, ...], render: Render
) -> tuple[LostEvidence, ...]:
    for one in losing:
        if one.demoted_to is not None:
            why = (
                f"{one.lost} of its evidence went with a person who was forgotten; {one.good} good and {one.bad} bad "
                f"traces are left."
            )
            lesson = lesson_changes.lesson(connection, one.lesson_id)
            lesson_changes.settle(
                connection, now, lesson, "demote", audit.SYSTEM, why, render, {"state": one.demoted_to}
            )
    return losing


def _retire_own(connection: duckdb.DuckDBPyConnection, now: datetime, own: list[str], render: Render) -> None:
    """Withdraw lessons that were made for the person, and empty their texts: playbooks may still point at them."""
    for lesson_id in own:
        one = lesson_changes.lesson(connection, lesson_id)
        if one.state in ("approved", "canary", "active", "proposed"):
            action, to = ("reject", "rejected") if one.state in ("proposed", "approved") else ("retire", "retired")
            why = "It was made for a person who was forgotten."
            lesson_changes.settle(connection, now, one, action, audit.SYSTEM, why, render, {"state": to})
        connection.execute(
            """UPDATE lesson_versions
            SET title = $gone, when_text = $gone, when_not = NULL, do_text = $gone, why = $gone
            WHERE lesson_id = $lesson""",
            {"gone": mentions.REMOVED, "lesson": lesson_id},
        )


def _exports(connection: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    """Exports of training data that hold something of theirs."""
    rows = connection.execute(
        f"""SELECT DISTINCT export_id FROM graduation_sources
        WHERE split IS NOT NULL AND ({personal_data.ERASED["graduation_sources"]}) ORDER BY export_id"""
    ).fetchall()
    return tuple(int(row[0]) for row in rows)


def _tunings(connection: duckdb.DuckDBPyConnection, exports: tuple[int, ...]) -> tuple[int, ...]:
    rows = connection.execute(
        """SELECT tuning_id FROM fine_tunings WHERE list_contains($exports::BIGINT[], export_id)
        AND state NOT IN ('proposed', 'declined') ORDER BY tuning_id""",
        {"exports": list(exports)},
    ).fetchall()
    return tuple(int(row[0]) for row in rows)


def _withdraw(connection: duckdb.DuckDBPyConnection, exports: tuple[int, ...]) -> None:
    """Empty the files of exports, and say so in their manifests."""
    for export in exports:
        connection.execute("UPDATE graduation_files SET content = NULL WHERE export_id = $export", {"export": export})
        rows = connection.execute(
            "SELECT manifest FROM graduation_exports WHERE export_id = $export", {"export": export}
        ).fetchall()
        manifest: dict[str, Any] = json.loads(rows[0][0])
        manifest["withdrawn"] = "A person whose traces are in it was forgotten. Make a new export."
        connection.execute(
            "UPDATE graduation_exports SET manifest = $manifest WHERE export_id = $export",
            {"manifest": json.dumps(manifest, ensure_ascii=False), "export": export},
        )


def _tasks_of_theirs(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Tasks found by grouping, whose names come from words of an input, that only they had."""
    rows = connection.execute(
        """SELECT task FROM task_groups AS g
        WHERE task IN (SELECT task FROM trace_tasks WHERE trace_id IN (FROM gone_traces))
            AND task NOT IN (SELECT task FROM trace_tasks WHERE trace_id NOT IN (FROM gone_traces))"""
    ).fetchall()
    return frozenset(row[0] for row in rows)


def _forget_tasks(connection: duckdb.DuckDBPyConnection, tasks: frozenset[str]) -> None:
    """Delete the groups that only they had, and what says their names as a task."""
    if not tasks:
        return
    named = {"tasks": sorted(tasks)}
    columns = connection.execute(
        """SELECT table_name, bool_or(is_nullable) FROM duckdb_columns() WHERE column_name = 'task'
        AND schema_name = 'main' AND NOT internal AND database_name NOT IN ('temp', 'system')
        GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    for table, nullable in columns:
        where = "list_contains($tasks::VARCHAR[], task)"
        if nullable:
            connection.execute(f"UPDATE {table} SET task = NULL WHERE {where}", named)
        else:
            connection.execute(f"DELETE FROM {table} WHERE {where}", named)


def _redact(connection: duckdb.DuckDBPyConnection, now: datetime, operator: str, person: Person) -> int:
    """Take the person out of the audit log; returns from how many rows."""
    left = []
    result = connection.execute("SELECT sequence, actor, subject, detail FROM audit_log ORDER BY sequence").fetchall()
    for sequence, actor, subject, detail in result:
        new = tuple(mentions.REMOVED if each in person.user_ids else person.removed(each) for each in (actor, subject))
        told = person.removed(detail)
        if (*new, told) != (actor, subject, detail):
            left.append((int(sequence), new[0], new[1], told))
    audit.redact(connection, now, operator, left, "a person was forgotten")
    return len(left)


def _with(report: Report, **changes: Any) -> Report:
    return Report(**{**vars(report), **changes})
