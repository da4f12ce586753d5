"""Training data made of lessons: which traces may be learnt from, the exports with their files, and where each came
from.

A person opts out of training by the field `learning_opt_out` in the metadata of their traces; the newest trace that
states it counts. Whoever may not be explored with (`store.never_explore`: opted out of it, or on an operator's list) is
not trained on either: they did not agree to be learnt from. Traces without a user have nobody to ask.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, learning, meta, never_explore
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS

__all__ = [
    "CANDIDATES", "EXPORTS", "FILES", "MOST_CHARACTERS", "SOURCES", "STEPS", "agreed", "candidates", "content",
    "contrary", "export", "exports", "files", "publish", "ran", "sources", "steps", "texts_of", "unwilling",
    "users_of",
]  # fmt: skip

MOST_CHARACTERS: Final = 100_000
"""So much of each text is read; a longer one is too long to learn from."""

CANDIDATES = pl.Schema(
    {
        "trace_id": pl.String(),
        "user_id": pl.String(),
        "task": pl.String(),
        "reward": pl.Float64(),  # 0 to 1; null: none yet
        "reward_sd": pl.Float64(),
        "input": pl.String(),  # of the whole trace
        "output": pl.String(),
    }
)
STEPS = pl.Schema(
    {
        "trace_id": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "status": pl.String(),
        "status_message": pl.String(),
        "input": pl.String(),
        "output": pl.String(),
    }
)
EXPORTS = declare(
    {
        "export_id": pl.Int64, "agent": pl.String, "lessons": pl.String, "data_version": pl.Int64,
        "reward_model_id": pl.Int64, "code_version": pl.String, "manifest": pl.String, "created_by": pl.String,
        "created_at": UTC_TIME,
    }
)  # fmt: skip
FILES = pl.Schema(
    {
        "name": pl.String(),
        "method": pl.String(),
        "split": pl.String(),
        "lines": pl.Int32(),
        "tokens": pl.Int64(),
        "sha256": pl.String(),
    }
)
SOURCES = pl.Schema(
    {
        "method": pl.String(),
        "trace_id": pl.String(),
        "other_id": pl.String(),
        "user_id": pl.String(),
        "task": pl.String(),
        "split": pl.String(),
        "reason": pl.String(),
    }
)
_RAN = declare({"decision_id": pl.String, "model": pl.String, "arm": pl.String})
_YES: Final = "('true', '1', 'yes')"
_SAID: Final = "('true', 'false', '1', '0', 'yes', 'no')"

_WHOLE: Final = f"""
    SELECT t.trace_id, t.user_id, t.task, r.mean AS reward, r.sd AS reward_sd,
        left(coalesce(x.input, t.input), $characters) AS input,
        left(coalesce(x.output, t.output), $characters) AS output
    FROM traces AS t SEMI JOIN wanted USING (trace_id)
    LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
    LEFT JOIN (
        SELECT trace_id, arg_max(input, (ended_at, content_hash)) AS input,
            arg_max(output, (ended_at, content_hash)) AS output
        FROM trace_records SEMI JOIN wanted USING (trace_id) GROUP BY trace_id
    ) AS x USING (trace_id)
    WHERE t.agent = $agent ORDER BY t.task NULLS LAST, t.trace_id"""


def candidates(store: Store, agent: str, lesson_ids: Sequence[str], *, limit: int = 20_000) -> pl.DataFrame:
    """Traces of an agent that were served one of these lessons, or are its good evidence (columns CANDIDATES).

    The newest `limit` of them, by task and id.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH wanted AS MATERIALIZED (
                SELECT trace_id FROM traces WHERE agent = $agent AND (
                    decision_id IN (SELECT decision_id FROM exposures
                        WHERE status = 'served' AND list_contains($lessons::VARCHAR[], lesson_id))
                    OR trace_id IN (SELECT trace_id FROM lesson_evidence
                        WHERE role = 'good' AND list_contains($lessons::VARCHAR[], lesson_id)))
                ORDER BY seen_at DESC, trace_id LIMIT $limit)
            {_WHOLE}""",
            CANDIDATES,
            {"agent": agent, "lessons": list(lesson_ids), "limit": limit, "characters": MOST_CHARACTERS + 1},
        )


def contrary(store: Store, agent: str, lesson_ids: Sequence[str], *, limit: int = 20_000) -> pl.DataFrame:
    """Traces of an agent from which one of these lessons was withheld and that were served none, or that are its bad
    evidence (columns CANDIDATES): what answers without the lesson look like."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH of AS MATERIALIZED (
                SELECT decision_id, bool_or(status = 'served') AS served FROM exposures
                WHERE list_contains($lessons::VARCHAR[], lesson_id) GROUP BY decision_id
            ), wanted AS MATERIALIZED (
                SELECT trace_id FROM traces WHERE agent = $agent AND (
                    decision_id IN (SELECT decision_id FROM of WHERE NOT served)
                    OR trace_id IN (SELECT trace_id FROM lesson_evidence
                        WHERE role = 'bad' AND list_contains($lessons::VARCHAR[], lesson_id))
                    AND (decision_id IS NULL OR decision_id NOT IN (SELECT decision_id FROM of WHERE served)))
                ORDER BY seen_at DESC, trace_id LIMIT $limit)
            {_WHOLE}""",
            CANDIDATES,
            {"agent": agent, "lessons": list(lesson_ids), "limit": limit, "characters": MOST_CHARACTERS + 1},
        )


def steps(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """The spans of these traces in event order (columns STEPS)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT trace_id, kind, name, status, status_message, left(input, $characters) AS input,
                left(output, $characters) AS output
            FROM spans WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
            ORDER BY trace_id, started_at NULLS LAST, ordinal NULLS LAST, span_id""",
            STEPS,
            {"ids": list(trace_ids), "characters": MOST_CHARACTERS + 1},
        )


def texts_of(store: Store, lesson_ids: Sequence[str]) -> pl.DataFrame:
    """Every text that these lessons ever had: lesson_id, task, title, when_text, when_not, do_text."""
    names = ("lesson_id", "task", "title", "when_text", "when_not", "do_text")
    with store.read() as reader:
        return reader.frame(
            """SELECT DISTINCT lesson_id, l.task, title, when_text, when_not, do_text
            FROM lesson_versions AS v JOIN lessons AS l USING (lesson_id)
            WHERE list_contains($lessons::VARCHAR[], lesson_id) ORDER BY ALL""",
            pl.Schema(dict.fromkeys(names, pl.String())),
            {"lessons": list(lesson_ids)},
        )


def unwilling(store: Store, agent: str) -> set[str]:
    """The users of an agent who are not learnt from; see above."""
    listed = never_explore.listed(store, agent).filter(pl.col("kind") == "user")["unit"].to_list()
    stated = {user for user, yes in _stated(store).items() if yes}
    return {*stated, *never_explore.opted_out(store), *listed, *learning.listed(store)["user_id"]}


def agreed(store: Store) -> set[str]:
    """The users who state `learning_opt_out` as no: the only ones learnt from where agreement has to be stated."""
    return {user for user, yes in _stated(store).items() if not yes}


def users_of(store: Store, trace_ids: Sequence[str]) -> set[str]:
    """The users of these traces."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT DISTINCT user_id FROM traces
            WHERE user_id IS NOT NULL AND trace_id IN (SELECT unnest($ids::VARCHAR[]))""",
            pl.Schema({"user_id": pl.String()}),
            {"ids": list(trace_ids)},
        )
    return set(frame["user_id"])


def _stated(store: Store) -> dict[str, bool]:
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT user_id, arg_max(said, (seen_at, trace_id)) IN {_YES} AS yes FROM (
                SELECT user_id, seen_at, trace_id, lower(json_extract_string(metadata, '$.learning_opt_out')) AS said
                FROM traces WHERE user_id IS NOT NULL AND contains(metadata, '"learning_opt_out"')
                    AND json_valid(metadata))
            WHERE said IN {_SAID} GROUP BY user_id ORDER BY user_id""",
            pl.Schema({"user_id": pl.String(), "yes": pl.Boolean()}),
        )
    return dict(frame.iter_rows())


def publish(
    store: Store,
    agent: str,
    lessons: Sequence[Mapping[str, Any]],
    *,
    manifest: Mapping[str, Any],
    written: Sequence[Mapping[str, Any]],
    origins: pl.DataFrame,
    data_version: int,
    reward_model_id: int | None,
    code_version: str,
    by: str,
) -> int:
    """Keep an export as a whole: `written` are its files (columns FILES and content), `origins` of columns SOURCES.

    Returns its number. Raises: `ActionRefused` without a person's name.
    """
    audit.person("Export", by)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        rows = connection.execute(
            """INSERT INTO graduation_exports BY NAME
            SELECT (SELECT coalesce(max(export_id), 0) + 1 FROM graduation_exports) AS export_id, $agent AS agent,
                $lessons AS lessons, $data AS data_version, $model AS reward_model_id, $code AS code_version,
                $manifest AS manifest, $by AS created_by, $now AS created_at
            RETURNING export_id""",
            {
                "agent": agent, "lessons": json.dumps(list(lessons), ensure_ascii=False), "data": data_version,
                "model": reward_model_id, "code": code_version,
                "manifest": json.dumps(manifest, ensure_ascii=False), "by": by, "now": now,
            },
        ).fetchall()  # fmt: skip
        export_id = int(rows[0][0])
        for each in written:
            connection.execute(
                """INSERT INTO graduation_files BY NAME SELECT $export AS export_id, $name AS name, $method AS method,
                    $split AS split, $lines AS lines, $tokens AS tokens, $sha256 AS sha256, $content AS content""",
                {**each, "export": export_id},
            )
        connection.register("origins", origins.select(list(SOURCES)))
        connection.execute(
            "INSERT INTO graduation_sources BY NAME SELECT $export AS export_id, * FROM origins", {"export": export_id}
        )
        connection.unregister("origins")
        detail = {
            "agent": agent, "lessons": [f"{one['lesson_id']}:{one['version']}" for one in lessons],
            "files": {each["name"]: each["sha256"] for each in written},
        }  # fmt: skip
        audit.append(connection, now, by, "graduate export", f"export {export_id}", detail)
        meta.bump(connection)
        return export_id

    return store.write(work)


def exports(store: Store, limit: int = 50) -> pl.DataFrame:
    """The latest exports, newest first (columns EXPORTS)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(EXPORTS)} FROM graduation_exports ORDER BY export_id DESC LIMIT $limit",
            EXPORTS,
            {"limit": limit},
        )


def export(store: Store, export_id: int) -> dict[str, Any]:
    """One export as a dictionary of the columns EXPORTS. Raises: `NotFound`."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {', '.join(EXPORTS)} FROM graduation_exports WHERE export_id = $export",
            EXPORTS,
            {"export": export_id},
        )
    if frame.is_empty():
        raise NotFound("export", str(export_id))
    return frame.row(0, named=True)


def files(store: Store, export_id: int) -> pl.DataFrame:
    """The files of an export, without their text (columns FILES)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(FILES)} FROM graduation_files WHERE export_id = $export ORDER BY name",
            FILES,
            {"export": export_id},
        )


def content(store: Store, export_id: int, name: str) -> str:
    """The text of one file. Raises: `NotFound`."""
    with store.read() as reader:
        found = reader.value(
            "SELECT content FROM graduation_files WHERE export_id = $export AND name = $name",
            {"export": export_id, "name": name},
        )
    if not isinstance(found, str):
        raise NotFound("file of an export", f"{export_id}: {name}")
    return found


def sources(store: Store, export_id: int) -> pl.DataFrame:
    """Every candidate of an export and what became of it (columns SOURCES)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(SOURCES)} FROM graduation_sources WHERE export_id = $export ORDER BY ALL",
            SOURCES,
            {"export": export_id},
        )


def ran(store: Store, agent: str, since: datetime) -> pl.DataFrame:
    """What decisions of an agent were executed with: decision_id, model, arm (of several traces the first by name)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT t.decision_id, min(t.model) AS model, min(t.arm) AS arm FROM traces AS t
            SEMI JOIN (SELECT decision_id FROM decisions WHERE agent = $agent AND decided_at >= $since) AS d
                USING (decision_id)
            GROUP BY t.decision_id ORDER BY t.decision_id""",
            _RAN,
            {"agent": agent, "since": since},
        )
