"""What a lesson's text is judged against: what users and tools said in its evidence, and what other traces say."""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from store.connection import Store
from store.frames import Reader

__all__ = ["LIBRARY", "PASSAGES", "PEOPLE", "WAITING_OR_SERVED", "LintMaterial", "gathered"]

PASSAGES: Final = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),  # null: of the trace as a whole
        "field": pl.String(),  # input, output, status_message
        "text": pl.String(),
    }
)
PEOPLE: Final = pl.Schema(
    {
        "trace_id": pl.String(),
        "task": pl.String(),
        "user_id": pl.String(),
        "session_id": pl.String(),
        "metadata": pl.String(),
    }
)
LIBRARY: Final = pl.Schema(
    {
        "lesson_id": pl.String(),
        "agent": pl.String(),
        "task": pl.String(),
        "title": pl.String(),
        "when_text": pl.String(),
        "when_not": pl.String(),
        "do_text": pl.String(),
    }
)
OTHERS: Final = pl.Schema({"user_id": pl.String(), "input": pl.String(), "output": pl.String()})
WAITING_OR_SERVED: Final = ("proposed", "approved", "canary", "active")
_EVIDENCE: Final = pl.Schema({"trace_id": pl.String(), "role": pl.String()})
_NAMES: Final = pl.Schema({"name": pl.String()})

_CHARACTERS: Final = 20_000  # of one text
_TEXTS: Final = 2_000
_OTHERS: Final = 300  # traces; each shows the first 500 characters of what it read and wrote
_TOOLS: Final = ("tool", "retriever", "guardrail")


@dataclass(frozen=True)
class LintMaterial:
    """Frames PASSAGES, PEOPLE of the evidence, LIBRARY and OTHERS (traces of other users); `roles` good and bad of the
    evidence, `tools` the names of the tools that it used."""

    passages: pl.DataFrame
    people: pl.DataFrame
    library: pl.DataFrame
    others: pl.DataFrame
    evidence: pl.DataFrame
    tools: tuple[str, ...]


def gathered(store: Store, lesson: dict[str, Any], *, library: bool = True) -> LintMaterial:
    """What the store holds about one lesson (keys lesson_id and agent), of one snapshot.

    Texts are cut at 20,000 characters each; at most 2,000 of them are read. `library` False leaves the lessons out.
    """
    with store.read() as reader:
        evidence = reader.frame(
            "SELECT trace_id, role FROM lesson_evidence WHERE lesson_id = $lesson ORDER BY trace_id, role",
            _EVIDENCE,
            {"lesson": lesson["lesson_id"]},
        )
        ids = evidence["trace_id"].unique().sort().to_list()
        people = reader.frame(
            f"""SELECT {", ".join(PEOPLE)} FROM traces WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
            ORDER BY trace_id""",
            PEOPLE,
            {"ids": ids},
        )
        tools = reader.frame(
            """SELECT DISTINCT name FROM spans
            WHERE trace_id IN (SELECT unnest($ids::VARCHAR[])) AND list_contains($kinds, kind) AND name IS NOT NULL
            ORDER BY name""",
            _NAMES,
            {"ids": ids, "kinds": list(_TOOLS)},
        )
        return LintMaterial(
            passages=reader.frame(_SAID, PASSAGES, {"ids": ids, "kinds": list(_TOOLS)}),
            people=people,
            library=_library(reader) if library else pl.DataFrame(schema=LIBRARY),
            others=_others(reader, lesson["agent"], people),
            evidence=evidence,
            tools=tuple(tools["name"]),
        )


def _library(reader: Reader) -> pl.DataFrame:
    return reader.frame(
        f"""SELECT {", ".join(LIBRARY)} FROM lessons JOIN lesson_versions USING (lesson_id, version)
        WHERE list_contains($states, state) ORDER BY lesson_id""",
        LIBRARY,
        {"states": list(WAITING_OR_SERVED)},
    )


def _others(reader: Reader, agent: str, people: pl.DataFrame) -> pl.DataFrame:
    """The newest traces of the agent that are of other users and other tasks than the evidence."""
    return reader.frame(
        f"""SELECT user_id, input, output FROM traces
        WHERE ($agent = '*' OR agent = $agent) AND NOT coalesce(list_contains($users::VARCHAR[], user_id), false)
            AND NOT coalesce(list_contains($tasks::VARCHAR[], task), false)
            AND NOT list_contains($ids::VARCHAR[], trace_id)
        ORDER BY seen_at DESC, trace_id LIMIT {_OTHERS}""",
        OTHERS,
        {
            "agent": agent, "users": people["user_id"].drop_nulls().unique().to_list(),
            "tasks": people["task"].drop_nulls().unique().to_list(), "ids": people["trace_id"].to_list(),
        },
    )  # fmt: skip


# The input of a tool was written by the model, but its arguments come from the user. Spans of models are left out: they
# repeat the operator's own instructions, and what users and tools said stands in the others.
_SAID: Final = f"""
    WITH records AS (
        SELECT trace_id, NULL AS span_id, 0 AS place, unnest(['input', 'output']) AS field,
            unnest([input, output]) AS text
        FROM trace_records WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
    ), brief AS (
        SELECT trace_id, NULL, 0, unnest(['input', 'output']) AS field, unnest([input, output]) AS text
        FROM traces WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
            AND trace_id NOT IN (SELECT trace_id FROM records WHERE text IS NOT NULL)
    ), called AS (
        SELECT trace_id, span_id, 1, unnest(['input', 'output', 'status_message']) AS field,
            unnest([input, output, status_message]) AS text
        FROM spans WHERE trace_id IN (SELECT unnest($ids::VARCHAR[])) AND list_contains($kinds, kind)
    )
    SELECT trace_id, span_id, field, left(text, {_CHARACTERS}) AS text
    FROM (FROM records UNION ALL FROM brief UNION ALL FROM called) WHERE text IS NOT NULL AND text <> ''
    ORDER BY trace_id, place, span_id, field, text LIMIT {_TEXTS}"""
