"""Answers of models as they are watched: a sample of each day's, drawn by hash, with what was measured of each.

An answer is one call of a model: a step of kind llm, or a trace that has no such steps and names its model. The sample
of a day is the answers with the smallest hashes, so that it is the same whatever came in between; a day is looked at
again when answers came for it later.
"""

from datetime import date, datetime
from typing import Final

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = [
    "ANSWERS", "DAYS", "FEATURES", "TEXTS", "days_to_look_at", "forget_before", "keep", "newest_day", "texts",
    "watched",
]  # fmt: skip

DAYS = declare({"day": pl.Date, "model": pl.String, "agent": pl.String, "answers": pl.Int64, "publication": pl.Int64})
TEXTS = declare(
    {
        "day": pl.Date, "model": pl.String, "agent": pl.String, "trace_id": pl.String, "span_id": pl.String,
        "answered_at": UTC_TIME, "fingerprint": pl.String, "seconds": pl.Float64, "output_tokens": pl.Int64,
        "asked": pl.String, "output": pl.String,
    }
)  # fmt: skip
FEATURES = declare(
    {
        "day": pl.Date, "model": pl.String, "agent": pl.String, "trace_id": pl.String, "span_id": pl.String,
        "answered_at": UTC_TIME, "fingerprint": pl.String, "language": pl.String, "opening": pl.String,
        "tokens_per_character": pl.Float64, "length": pl.Float64, "refusal": pl.Float64, "seconds": pl.Float64,
        "sentence_length": pl.Float64, "list_share": pl.Float64, "punctuation": pl.Float64,
    }
)  # fmt: skip
ANSWERS = declare(
    {
        **FEATURES, "agent_version": pl.String, "arm": pl.String, "task": pl.String, "session": pl.String,
        "surprise": pl.Float64,
    }
)  # fmt: skip

# More of one answer tells no more of its style.
_CHARACTERS: Final = 20_000
_STEPS: Final = "s.kind = 'llm' AND s.model IS NOT NULL AND s.started_at IS NOT NULL"
# Days are UTC days whatever time zone the connection shows.
_CALLS: Final = f"""(
    SELECT (s.started_at AT TIME ZONE 'UTC')::DATE AS day, s.model, coalesce(t.agent, '') AS agent, s.trace_id,
        s.span_id, s.started_at, s.ended_at, coalesce(s.model_fingerprint, t.model_fingerprint) AS fingerprint,
        s.output_tokens, s.publication
    FROM spans AS s JOIN traces AS t USING (trace_id) WHERE {_STEPS}
    UNION ALL
    SELECT (t.started_at AT TIME ZONE 'UTC')::DATE, t.model, coalesce(t.agent, ''), t.trace_id, '', t.started_at,
        t.ended_at, t.model_fingerprint, t.output_tokens, t.publication
    FROM traces AS t WHERE t.model IS NOT NULL AND t.started_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM spans AS s WHERE s.trace_id = t.trace_id AND {_STEPS}))"""


def days_to_look_at(store: Store, *, since: date, until: date) -> pl.DataFrame:
    """Days from `since` to before `until` whose answers are new or other than when they were looked at (`DAYS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT day, model, agent, count(*) AS answers, max(publication) AS publication FROM {_CALLS}
            WHERE day >= $since AND day < $until GROUP BY day, model, agent
            EXCEPT SELECT day, model, agent, answers, publication FROM model_days
            ORDER BY day, model, agent""",
            DAYS,
            {"since": since, "until": until},
        )


def newest_day(store: Store, *, until: date) -> date | None:
    """The newest day before `until` on which a model answered; None where there is none."""
    with store.read() as reader:
        found = reader.value(f"SELECT max(day) FROM {_CALLS} WHERE day < $until", {"until": until})
    return found if isinstance(found, date) else None


def texts(store: Store, days: pl.DataFrame, *, sample: int) -> pl.DataFrame:
    """The sampled answers of days (columns `DAYS`) with their texts, at most `sample` of each (columns `TEXTS`)."""
    keys = [f"{day}\x1f{model}\x1f{agent}" for day, model, agent in days.select("day", "model", "agent").rows()]
    with store.read() as reader:
        return reader.frame(
            f"""WITH chosen AS MATERIALIZED (
                SELECT * FROM {_CALLS}
                WHERE list_contains($keys::VARCHAR[], day::VARCHAR || chr(31) || model || chr(31) || agent)
                QUALIFY row_number() OVER (
                    PARTITION BY day, model, agent ORDER BY hash(trace_id || chr(31) || span_id), trace_id, span_id
                ) <= $sample
            ), stated AS (
                SELECT r.trace_id, arg_max(r.output, (coalesce(r.ended_at, '-infinity'::TIMESTAMPTZ), r.content_hash))
                    FILTER (r.output IS NOT NULL) AS output
                FROM trace_records AS r SEMI JOIN (SELECT trace_id FROM chosen WHERE span_id = '') USING (trace_id)
                GROUP BY r.trace_id
            ), spoken AS (
                SELECT s.trace_id, s.span_id, s.output FROM spans AS s SEMI JOIN chosen USING (trace_id, span_id)
            )
            SELECT c.day, c.model, c.agent, c.trace_id, c.span_id, c.started_at AS answered_at, c.fingerprint,
                (epoch_us(c.ended_at) - epoch_us(c.started_at)) / 1e6 AS seconds, c.output_tokens,
                t.input AS asked, left(coalesce(p.output, r.output), {_CHARACTERS}) AS output
            FROM chosen AS c JOIN traces AS t USING (trace_id)
            LEFT JOIN stated AS r ON r.trace_id = c.trace_id AND c.span_id = ''
            LEFT JOIN spoken AS p ON p.trace_id = c.trace_id AND p.span_id = c.span_id
            ORDER BY c.day, c.model, c.agent, c.trace_id, c.span_id""",
            TEXTS,
            {"keys": keys, "sample": sample},
        )


def keep(store: Store, days: pl.DataFrame, features: pl.DataFrame) -> None:
    """Replace what is held of days (columns `DAYS`) by these answers (columns `FEATURES`)."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("looked_at", days)
        try:
            for table in ("model_answers", "model_days"):
                connection.execute(
                    f"""DELETE FROM {table} AS h USING looked_at AS d
                    WHERE h.day = d.day AND h.model = d.model AND h.agent = d.agent"""
                )
        finally:
            connection.unregister("looked_at")
        result_rows.insert(connection, "model_answers", features.select(list(FEATURES)), key={})
        result_rows.insert(connection, "model_days", days.select(list(DAYS)), key={})

    store.write(work)


def watched(store: Store, *, since: datetime, models: int = 20, sample: int = 300) -> pl.DataFrame:
    """The sampled answers in order of time, with what their traces are about (columns `ANSWERS`).

    Of the `models` with the most answers, and of each model and day at most `sample`, drawn by hash: what is compared
    stays small however many agents there are. Answers whose traces are gone, such as those of a user who was forgotten,
    are not among them.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH most AS (
                SELECT model FROM model_days GROUP BY model ORDER BY sum(answers) DESC, model LIMIT $models
            ), chosen AS (
                SELECT * FROM model_answers SEMI JOIN most USING (model) WHERE answered_at >= $since
                QUALIFY row_number() OVER (
                    PARTITION BY day, model ORDER BY hash(trace_id || chr(31) || span_id), trace_id, span_id
                ) <= $sample
            )
            SELECT {", ".join(f"a.{name}" for name in FEATURES)},
                coalesce(t.agent_version, '') AS agent_version, coalesce(t.arm, '') AS arm,
                coalesce(t.task, '') AS task, coalesce(t.session_id, t.trace_id) AS session, s.mean_z AS surprise
            FROM chosen AS a JOIN traces AS t USING (trace_id)
            LEFT JOIN trace_surprise AS s ON s.trace_id = a.trace_id
            ORDER BY a.answered_at, a.trace_id, a.span_id""",
            ANSWERS,
            {"since": since, "models": models, "sample": sample},
        )


def forget_before(store: Store, day: date) -> None:
    """Remove what is held of days before `day`, and answers whose traces are gone."""
    result_rows.remove(store, "model_answers", "day < $day", {"day": day})
    result_rows.remove(store, "model_answers", "trace_id NOT IN (SELECT trace_id FROM traces)")
    result_rows.remove(store, "model_days", "day < $day", {"day": day})
