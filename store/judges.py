"""Judging by rubrics: what is drawn to be judged and labelled, its texts, what came of it, and verdicts beside labels.

Every subject that a rubric's version considers is drawn once, with a logged probability, by a random number that
belongs to the rubric and the subject: versions of a rubric judge the same sample as far as they judge equally many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from store import meta, spans
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.rubrics import Rubric

PENDING = declare(
    {"subject_id": pl.String, "trace_id": pl.String, "probability": pl.Float64, "label_wanted": pl.Boolean}
)
STATED = pl.Schema({"trace_id": pl.String(), "input": pl.String(), "output": pl.String()})
COMMENTS = pl.Schema(
    {
        "signal_id": pl.String(), "trace_id": pl.String(), "user_id": pl.String(), "session_id": pl.String(),
        "text": pl.String(), "input": pl.String(), "output": pl.String(),
    }
)  # fmt: skip
PROGRESS = declare(
    {
        "rubric": pl.String, "version": pl.Int32, "considered": pl.Int64, "chosen": pl.Int64, "scored": pl.Int64,
        "unscored": pl.Int64, "unquoted": pl.Int64, "labels_wanted": pl.Int64, "judged_at": UTC_TIME,
    }
)  # fmt: skip
TO_LABEL = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "input": pl.String, "output": pl.String, "seen_at": UTC_TIME,
        "label_probability": pl.Float64,
    }
)  # fmt: skip

# No step of a trace is worth more than this to a judge, and no trace has more steps that one could read.
_STEP_CHARACTERS: Final = 4_000
_MOST_STEPS: Final = 200

_COMMENT_TRACES: Final = """(
    SELECT s.signal_id, coalesce(s.trace_id, l.trace_id) AS trace_id, s.user_id, s.session_id, s.text, s.occurred_at
    FROM signals AS s LEFT JOIN signal_links AS l ON l.signal_id = s.signal_id AND s.trace_id IS NULL
    WHERE s.kind = 'comment' AND s.text IS NOT NULL AND s.annotator_kind IS DISTINCT FROM 'llm')"""

# What a rubric may judge, with the agent and the time since which it does not change any more.
_SUBJECTS: Final = {
    "trace": """SELECT trace_id AS subject_id, agent, coalesce(ended_at, started_at, seen_at) AS settled_at
        FROM traces""",
    "comment": f"""SELECT c.signal_id AS subject_id, t.agent, coalesce(c.occurred_at, t.seen_at) AS settled_at
        FROM {_COMMENT_TRACES} AS c LEFT JOIN traces AS t USING (trace_id)""",
}


@dataclass(frozen=True)
class Drawn:
    """One round of drawing: how many subjects were new, how many of them were chosen, with which probability."""

    considered: int
    chosen: int
    probability: float


@dataclass(frozen=True)
class Verdict:
    """What came of one subject; see the columns of `judge_verdicts`."""

    subject_id: str
    trace_id: str | None
    outcome: str
    prompt_version: str
    call_id: int | None = None
    signal_id: str | None = None
    score: float | None = None
    quote_found: bool | None = None


def draw(store: Store, rubric: Rubric, *, room: int, settled_before: datetime) -> Drawn:
    """Consider every subject that is new to this version: each is chosen with probability min(share, room / new).

    Subjects that may still change (after `settled_before`) are left for later. Each is considered once.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Drawn:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE new_subjects AS
            SELECT s.subject_id, hash($rubric || chr(31) || s.subject_id)::DOUBLE / 1.8446744073709552e19 AS place,
                hash($rubric || chr(30) || s.subject_id)::DOUBLE / 1.8446744073709552e19 AS label_place
            FROM ({_SUBJECTS[rubric.subject]}) AS s
            ANTI JOIN (SELECT subject_id FROM judge_draws WHERE rubric = $rubric AND version = $version) AS d
                USING (subject_id)
            WHERE ($agent IS NULL OR s.agent = $agent) AND s.settled_at < $before""",
            {
                "rubric": rubric.rubric, "version": rubric.version, "agent": rubric.agent, "before": settled_before,
            },
        )  # fmt: skip
        new = _count(connection, "SELECT count(*) FROM new_subjects")
        if new == 0 or room < 1:
            connection.execute("DROP TABLE new_subjects")
            return Drawn(0, 0, 0.0)
        probability = min(rubric.judged_share, room / new)
        connection.execute(
            """INSERT INTO judge_draws BY NAME
            SELECT $rubric AS rubric, $version AS version, subject_id, $probability AS probability,
                place < $probability AS chosen, $labelled AS label_probability,
                place < $probability AND label_place < $labelled AS label_wanted, place, $now AS drawn_at
            FROM new_subjects""",
            {
                "rubric": rubric.rubric, "version": rubric.version, "probability": probability,
                "labelled": rubric.labelled_share, "now": store.clock.now(),
            },
        )  # fmt: skip
        chosen = _count(connection, f"SELECT count(*) FROM new_subjects WHERE place < {probability!r}")
        connection.execute("DROP TABLE new_subjects")
        return Drawn(new, chosen, probability)

    return store.write(work)


def pending(store: Store, rubric: Rubric, limit: int) -> pl.DataFrame:
    """What was chosen and not judged yet (columns `PENDING`), in the random order in which it was drawn."""
    trace = "d.subject_id" if rubric.subject == "trace" else "c.trace_id"
    joined = "" if rubric.subject == "trace" else f"LEFT JOIN {_COMMENT_TRACES} AS c ON c.signal_id = d.subject_id"
    with store.read() as reader:
        return reader.frame(
            f"""SELECT d.subject_id, {trace} AS trace_id, d.probability, d.label_wanted FROM judge_draws AS d {joined}
            ANTI JOIN (SELECT subject_id FROM judge_verdicts WHERE rubric = $rubric AND version = $version) AS v
                ON v.subject_id = d.subject_id
            WHERE d.rubric = $rubric AND d.version = $version AND d.chosen
            ORDER BY d.place, d.subject_id LIMIT $limit""",
            PENDING,
            {"rubric": rubric.rubric, "version": rubric.version, "limit": limit},
        )


def steps(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """The first steps of traces in order, with their texts cut (columns `store.spans.STEPS`)."""
    return spans.of_traces(store, trace_ids, most=_MOST_STEPS, characters=_STEP_CHARACTERS)


def stated(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """What is known as the whole input and output of traces (columns `STATED`): stated in full, else the beginning."""
    with store.read() as reader:
        return reader.frame(
            """WITH told AS MATERIALIZED (
                SELECT trace_id, input, output, row_number() OVER (
                    PARTITION BY trace_id ORDER BY ended_at NULLS FIRST, content_hash) AS version
                FROM trace_records WHERE trace_id IN (SELECT unnest($traces::VARCHAR[]))
            ), whole AS (
                SELECT trace_id, left(arg_max(input, version), $characters) AS input,
                    left(arg_max(output, version), $characters) AS output FROM told GROUP BY trace_id
            )
            SELECT t.trace_id, coalesce(w.input, t.input) AS input, coalesce(w.output, t.output) AS output
            FROM traces AS t LEFT JOIN whole AS w USING (trace_id)
            WHERE t.trace_id IN (SELECT unnest($traces::VARCHAR[])) ORDER BY t.trace_id""",
            STATED,
            {"traces": list(trace_ids), "characters": 4 * _STEP_CHARACTERS},
        )


def comments(store: Store, signal_ids: Sequence[str]) -> pl.DataFrame:
    """Comments with the beginnings of what they are about (columns `COMMENTS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT c.signal_id, c.trace_id, c.user_id, c.session_id, left(c.text, $characters) AS text, t.input,
                t.output
            FROM {_COMMENT_TRACES} AS c LEFT JOIN traces AS t USING (trace_id)
            WHERE c.signal_id IN (SELECT unnest($signals::VARCHAR[])) ORDER BY c.signal_id""",
            COMMENTS,
            {"signals": list(signal_ids), "characters": 2 * _STEP_CHARACTERS},
        )


def latest_subjects(store: Store, rubric: Rubric, limit: int) -> list[str]:
    """The ids of what came last of what a rubric may judge."""
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT subject_id FROM ({_SUBJECTS[rubric.subject]}) WHERE $agent IS NULL OR agent = $agent
            ORDER BY settled_at DESC, subject_id LIMIT $limit""",
            pl.Schema({"subject_id": pl.String()}),
            {"agent": rubric.agent, "limit": limit},
        )
    return frame["subject_id"].to_list()


def record(store: Store, rubric: Rubric, verdicts: Sequence[Verdict]) -> None:
    """Keep what came of subjects; their signals are published before this (see `pipelines.judges.verdicts`)."""
    if not verdicts:
        return
    now = store.clock.now()
    rows = pa.table(
        {
            "subject_id": pa.array([each.subject_id for each in verdicts], pa.string()),
            "trace_id": pa.array([each.trace_id for each in verdicts], pa.string()),
            "outcome": pa.array([each.outcome for each in verdicts], pa.string()),
            "signal_id": pa.array([each.signal_id for each in verdicts], pa.string()),
            "score": pa.array([each.score for each in verdicts], pa.float64()),
            "quote_found": pa.array([each.quote_found for each in verdicts], pa.bool_()),
            "prompt_version": pa.array([each.prompt_version for each in verdicts], pa.string()),
            "call_id": pa.array([each.call_id for each in verdicts], pa.int64()),
        }
    )

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("fresh_verdicts", rows)
        try:
            connection.execute(
                """DELETE FROM judge_verdicts WHERE rubric = $rubric AND version = $version
                AND subject_id IN (SELECT subject_id FROM fresh_verdicts)""",
                {"rubric": rubric.rubric, "version": rubric.version},
            )
            connection.execute(
                """INSERT INTO judge_verdicts BY NAME
                SELECT $rubric AS rubric, $version AS version, *, $now AS judged_at FROM fresh_verdicts""",
                {"rubric": rubric.rubric, "version": rubric.version, "now": now},
            )
        finally:
            connection.unregister("fresh_verdicts")
        meta.bump(connection)

    store.write(work)


def progress(store: Store) -> pl.DataFrame:
    """How far the judging by each version of each rubric is (columns `PROGRESS`), the newest version first."""
    with store.read() as reader:
        return reader.frame(
            """WITH drawn AS (
                SELECT rubric, version, count(*) AS considered, count(*) FILTER (chosen) AS chosen,
                    count(*) FILTER (label_wanted) AS labels_wanted
                FROM judge_draws GROUP BY rubric, version
            ), judged AS (
                SELECT rubric, version, count(*) FILTER (outcome = 'scored') AS scored,
                    count(*) FILTER (outcome <> 'scored') AS unscored,
                    count(*) FILTER (outcome = 'scored' AND NOT quote_found) AS unquoted, max(judged_at) AS judged_at
                FROM judge_verdicts GROUP BY rubric, version
            )
            SELECT d.rubric, d.version, d.considered, d.chosen, coalesce(j.scored, 0) AS scored,
                coalesce(j.unscored, 0) AS unscored, coalesce(j.unquoted, 0) AS unquoted, d.labels_wanted, j.judged_at
            FROM drawn AS d LEFT JOIN judged AS j USING (rubric, version) ORDER BY d.rubric, d.version DESC""",
            PROGRESS,
        )


def to_label(store: Store, rubric: Rubric, limit: int = 20) -> pl.DataFrame:
    """Judged traces that a person is asked to label by this rubric and nobody has (columns `TO_LABEL`).

    In random order: whoever labels only the first of them has labelled a random sample.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT t.trace_id, t.agent, t.input, t.output, t.seen_at, d.label_probability
            FROM judge_draws AS d JOIN traces AS t ON t.trace_id = d.subject_id
            SEMI JOIN (
                SELECT subject_id FROM judge_verdicts
                WHERE rubric = $rubric AND version = $version AND outcome = 'scored'
            ) AS v ON v.subject_id = d.subject_id
            ANTI JOIN (
                SELECT trace_id FROM signals WHERE kind = 'annotation' AND name = $rubric AND trace_id IS NOT NULL
                    AND annotator_kind IS DISTINCT FROM 'llm' AND value IS NOT NULL
            ) AS l ON l.trace_id = d.subject_id
            WHERE d.rubric = $rubric AND d.version = $version AND d.label_wanted
            ORDER BY d.place, t.trace_id LIMIT $limit""",
            TO_LABEL,
            {"rubric": rubric.rubric, "version": rubric.version, "limit": limit},
        )


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])
