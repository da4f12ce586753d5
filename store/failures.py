"""Failure labels: what the rules read of traces and spans, and the causes that were found.

Texts stay in the engine: what leaves it of a call is whether it failed and how, a hash of its arguments, and their
shape, so that a million traces fit. Patterns of words are English and of the field: status codes, JSON Schema, Python.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare, packed, texts_in
from store.scope import ACTIVE_REWARDS

ACTION_KINDS = ("tool", "retriever", "guardrail")

TRACES = pl.Schema(
    {
        "trace_id": pl.String(),
        "trace_key": pl.UInt64(),
        "agent": pl.String(),
        "task": pl.String(),
        "failed": pl.Boolean(),
        "reward": pl.Float64(),
        "signals": pl.Int32(),
        "outcome": pl.Float64(),
        "explored": pl.Boolean(),
    }
)
CALLS = pl.Schema(
    {
        "trace_key": pl.UInt64(),
        "span_id": pl.String(),
        "position": pl.Int32(),
        "kind": pl.String(),
        "name": pl.String(),
        "failed": pl.Boolean(),
        "fault": pl.String(),
        "call": pl.UInt64(),
        "shape": pl.String(),
        "warned": pl.Boolean(),
        "refused": pl.Boolean(),
    }
)
ANSWERS = pl.Schema(
    {
        "trace_key": pl.UInt64(),
        "span_id": pl.String(),
        "answered": pl.Boolean(),
        "owns_up": pl.Boolean(),
        "asks_back": pl.Boolean(),
        "figures": pl.Int64(),
        "unsupported": pl.List(pl.String()),
    }
)
REQUESTS = pl.Schema({"trace_key": pl.UInt64(), "input": pl.String()})
HUMAN_LABELS = pl.Schema({"trace_id": pl.String(), "axis": pl.String(), "annotator": pl.String()})
LABELS = pl.Schema(
    {
        "trace_id": pl.String(),
        "rank": pl.Int32(),
        "axis": pl.String(),
        "origin": pl.String(),
        "rule": pl.String(),
        "span_id": pl.String(),
        "confidence": pl.Float64(),
        "detail": pl.String(),
    }
)
RULES = pl.Schema(
    {
        "agent": pl.String(),
        "axis": pl.String(),
        "rule": pl.String(),
        "subject": pl.String(),
        "bad": pl.Int64(),
        "bad_traces": pl.Int64(),
        "good": pl.Int64(),
        "good_traces": pl.Int64(),
        "attributable": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
    }
)
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "rules_version": pl.Int32, "reward_model_id": pl.Int64, "traces": pl.Int64, "bad": pl.Int64,
        "unknown": pl.Int64, "explored": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip
COUNTS = pl.Schema({"agent": pl.String(), "axis": pl.String(), "traces": pl.Int64(), "confidence": pl.Float64()})
EXAMPLES = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "task": pl.String, "seen_at": UTC_TIME, "reward": pl.Float64,
        "rule": pl.String, "span_id": pl.String, "confidence": pl.Float64, "detail": pl.String,
    }
)  # fmt: skip
_EXPLORED = r'"(steer\.)?explored?"\s*:\s*(true|"true")'

# A result that says it is an error although its span does not, but not {"error": null}.
_ERROR_OUTPUT = r'^\s*("?error\b|\{\s*"errors?"\s*:\s*["{\[0-9t]|traceback \(most recent|exception\b)'
_NO_ERROR_OUTPUT = r'^\s*\{\s*"errors?"\s*:\s*(""|\[\s*\]|\{\s*\}|0\b)'
_ARGUMENT_FAULT = (
    r"invalid|validat|malformed|schema|type ?error|bad request|unexpected (keyword|argument|property|parameter)"
    r"|unknown (argument|parameter|field|property)|missing (\w+ ){0,3}(argument|parameter|field|property)"
    r"|(argument|parameter|field|property) (\S+ ){0,3}(is )?required|not a (valid )?(number|date|integer|id)\b"
    r"|must be (a|an|one of|between)\b|should be\b|expected \S+( \S+)? (but )?got|\b4(00|04|09|22)\b"
    r"|not found|no such|does ?n[o']t (exist|match|add up)|not enough|insufficient|incorrect|mismatch|out of range"
    r"|already (exists|booked|used|cancel)"
)
_PLATFORM_FAULT = (
    r"\b5\d\d\b|time(d)?[ -]?out|unavailable|connection|unreachable|rate.?limit|too many requests|\b429\b|gateway"
    r"|overload|internal (server )?error|temporar|did not answer|no response|reset by peer|quota exceeded"
)
_WARNING = (
    r'"warnings?"\s*:\s*\[?\s*"[^"]*(not a |not understood|not recogni|unrecogni|ignored|invalid|unknown|unsupported'
    r"|could not parse|expected|using default|using today)"
)
_REFUSED = (
    r'"(passed|allowed|within_limit|ok|valid|safe|compliant|approved)"\s*:\s*false'
    r'|"(blocked|violation|violated|tripped|triggered|flagged|denied)"\s*:\s*true'
)
_OWNS_UP = (
    r"sorry|apolog|unable to|could ?n[o']t|can ?n[o']t|did ?n[o']t (work|succeed|go through)|failed|unavailable"
    r"|not available|try again|went wrong|problem|error|unfortunately|no success"
)
# Numbers with decimals, whole numbers of three digits or more, and ids made of letters and digits: what must come from
# somewhere. Small whole numbers count things and say nothing.
_FIGURE = r"[A-Z]{0,5}-?\d{3,}(?:\.\d+)?|\d+\.\d+"

_ORDER = "started_at NULLS LAST, ordinal NULLS LAST, span_id"
_CHOSEN = f"(SELECT {texts_in('ids')} AS trace_id)"
_MOST_ARGUMENTS = 2_000
_NEWEST = "(SELECT max(run_id) FROM failure_runs)"


@dataclass(frozen=True)
class Summary:
    """What a run looked at and found; see the table failure_runs."""

    rules_version: int
    reward_model_id: int | None
    traces: int
    bad: int
    unknown: int
    explored: int
    parameters: Mapping[str, object]


def traces(store: Store) -> pl.DataFrame:
    """Every trace with its reward, verified outcome and whether it was run to explore (columns `TRACES`), by id.

    `outcome` is the mean of outcome signals from 0 to 1 that no language model gave, null without any.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH outcomes AS (
                SELECT coalesce(s.trace_id, l.trace_id) AS trace_id, avg(s.value) AS outcome
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                WHERE s.kind = 'outcome' AND s.annotator_kind IS DISTINCT FROM 'llm' AND s.value BETWEEN 0 AND 1
                GROUP BY ALL
            ), explored AS (
                SELECT DISTINCT trace_id FROM spans
                WHERE parent_span_id IS NULL AND regexp_matches(attributes, $explored)
            )
            SELECT t.trace_id, hash(t.trace_id) AS trace_key, t.agent, t.task, t.status = 'error' AS failed,
                r.mean AS reward, coalesce(r.signals, 0)::INTEGER AS signals, o.outcome,
                coalesce(regexp_matches(t.metadata, $explored), false) OR x.trace_id IS NOT NULL AS explored
            FROM traces AS t LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id) LEFT JOIN outcomes AS o USING (trace_id)
            LEFT JOIN explored AS x USING (trace_id)""",
            TRACES,
            {"explored": _EXPLORED},
            order=("trace_id",),
        )


def calls(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """The calls of tools, retrievers and guardrails of these traces (columns `CALLS`), unordered.

    `position` counts them from 1 in event time; `fault` of a failed one is argument, platform or other; `call` is the
    hash of name and arguments without white space; `shape` is the arguments with every value replaced by its type: @D
    date, @N number as text, @S text, @0 number, @B boolean, @_ null, @A list (null where it is no JSON object).
    """
    said = "lower(coalesce(status_message, '') || ' ' || coalesce(left(output, 400), ''))"
    with store.read() as reader:
        return reader.frame(
            f"""WITH own AS (
                SELECT s.trace_id, s.span_id, s.started_at, s.ordinal, s.kind, coalesce(s.name, s.kind) AS name,
                    s.input, s.output, s.status_message, coalesce(s.status = 'error', false) OR coalesce(
                        s.kind <> 'guardrail' AND regexp_matches(left(s.output, 120), $error_output, 'i')
                        AND NOT regexp_matches(left(s.output, 120), $no_error_output, 'i'), false) AS failed
                FROM spans AS s SEMI JOIN {_CHOSEN} AS c USING (trace_id) WHERE s.kind IN $kinds
            ), read AS (
                SELECT hash(trace_id) AS trace_key, trace_id, span_id, started_at, ordinal, kind, name, failed,
                    CASE WHEN NOT failed THEN NULL
                        WHEN regexp_matches({said}, $argument_fault) THEN 'argument'
                        WHEN regexp_matches({said}, $platform_fault) THEN 'platform' ELSE 'other' END AS fault,
                    CASE WHEN input IS NOT NULL
                        THEN hash(name || ' ' || regexp_replace(input, '\\s+', '', 'g')) END AS call,
                    {_shape("input")} AS shape,
                    coalesce(regexp_matches(output, $warning, 'i'), false) AS warned,
                    kind = 'guardrail' AND (failed OR coalesce(regexp_matches(output, $refused, 'i'), false)) AS refused
                FROM own
            )
            SELECT trace_key, span_id,
                row_number() OVER (PARTITION BY trace_id ORDER BY {_ORDER})::INTEGER AS position,
                kind, name, failed, fault, call, shape, warned, refused FROM read""",
            CALLS,
            {
                "ids": packed(trace_ids), "kinds": list(ACTION_KINDS), "error_output": _ERROR_OUTPUT,
                "no_error_output": _NO_ERROR_OUTPUT, "argument_fault": _ARGUMENT_FAULT,
                "platform_fault": _PLATFORM_FAULT, "warning": _WARNING, "refused": _REFUSED,
            },
        )  # fmt: skip


def answers(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """What these traces answered (columns `ANSWERS`), those with spans or a text, unordered.

    `span_id` is the last model call, else the root. `figures` counts the numbers and ids that the answer states;
    `unsupported` are those that stand neither in the request, nor in a tool's result, nor in what the model was given.
    A number derived from others counts as unsupported: it is a hint, weighed by how often it holds in good traces.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH own AS (
                SELECT s.trace_id, s.span_id, s.parent_span_id, s.kind, s.output, s.started_at, s.ordinal
                FROM spans AS s SEMI JOIN {_CHOSEN} AS c USING (trace_id)
                WHERE s.kind = 'llm' OR s.parent_span_id IS NULL
            ), said AS (
                SELECT trace_id, coalesce(
                        last(span_id ORDER BY {_ORDER.replace("LAST", "FIRST")}) FILTER (kind = 'llm'),
                        any_value(span_id) FILTER (parent_span_id IS NULL)) AS span_id,
                    coalesce(any_value(output) FILTER (parent_span_id IS NULL AND kind <> 'llm'),
                        last(output ORDER BY {_ORDER.replace("LAST", "FIRST")}) FILTER (kind = 'llm')) AS answer
                FROM own GROUP BY trace_id
            ), answers AS (
                SELECT c.trace_id, s.span_id, coalesce(s.answer, t.output) AS answer, t.input
                FROM {_CHOSEN} AS c JOIN traces AS t USING (trace_id) LEFT JOIN said AS s USING (trace_id)
            ), figures AS (
                SELECT trace_id, input, unnest(list_distinct(regexp_extract_all(answer, $figure))) AS figure
                FROM answers
            ), wanted AS (
                SELECT trace_id, figure,
                    CASE WHEN contains(figure, '.') THEN rtrim(rtrim(figure, '0'), '.') ELSE figure END AS shortest,
                    coalesce(contains(input, shortest), false) AS asked
                FROM figures
            ), grounded AS (
                SELECT DISTINCT w.trace_id, w.figure
                FROM spans AS s JOIN (FROM wanted WHERE NOT asked) AS w USING (trace_id)
                WHERE (s.kind IN ('llm', 'agent', 'chain') AND contains(s.input, w.shortest))
                    OR (s.kind NOT IN ('llm', 'agent', 'chain') AND contains(s.output, w.shortest))
            ), checked AS (
                SELECT w.trace_id, count(*) AS figures, list(w.figure ORDER BY w.figure)
                    FILTER (NOT w.asked AND g.figure IS NULL) AS unsupported
                FROM wanted AS w LEFT JOIN grounded AS g ON g.trace_id = w.trace_id AND g.figure = w.figure
                GROUP BY w.trace_id
            )
            SELECT hash(a.trace_id) AS trace_key, a.span_id, coalesce(length(trim(a.answer)) > 0, false) AS answered,
                coalesce(regexp_matches(lower(a.answer), $owns_up), false) AS owns_up,
                coalesce(regexp_matches(right(a.answer, 200), '\\?\\s*$'), false) AS asks_back,
                coalesce(k.figures, 0) AS figures, coalesce(k.unsupported, []::VARCHAR[]) AS unsupported
            FROM answers AS a LEFT JOIN checked AS k USING (trace_id)""",
            ANSWERS,
            {"ids": packed(trace_ids), "figure": _FIGURE, "owns_up": _OWNS_UP},
        )


def requests(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """The first 500 characters of what was asked (columns `REQUESTS`), where anything was, unordered."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT hash(t.trace_id) AS trace_key, t.input FROM traces AS t SEMI JOIN {_CHOSEN} AS c USING (trace_id)
            WHERE t.input IS NOT NULL""",
            REQUESTS,
            {"ids": packed(trace_ids)},
        )


def human_labels(store: Store) -> pl.DataFrame:
    """Causes that people named: annotations called failure or failure_label whose text is an axis (`HUMAN_LABELS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT coalesce(s.trace_id, l.trace_id) AS trace_id, lower(trim(s.text)) AS axis,
                coalesce(s.annotator_id, s.annotator_kind, 'somebody') AS annotator
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
            WHERE s.kind = 'annotation' AND s.annotator_kind IS DISTINCT FROM 'llm' AND s.text IS NOT NULL
                AND lower(s.name) IN ('failure', 'failure_label', 'failure label')
                AND coalesce(s.trace_id, l.trace_id) IS NOT NULL
            ORDER BY s.occurred_at NULLS FIRST, s.signal_id""",
            HUMAN_LABELS,
        )


def active_model(store: Store) -> int | None:
    """The active reward model's number, None without one."""
    with store.read() as reader:
        value = reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active")
    return value if isinstance(value, int) else None


def record(
    store: Store, labels: pl.DataFrame, rules: pl.DataFrame, summary: Summary, *, data_version: int, code_version: str
) -> int:
    """Keep what a run found (columns `LABELS` and `RULES`) in place of the run before; returns the run's number."""
    parameters = json.dumps(summary.parameters, sort_keys=True, allow_nan=False)

    tables = {"failure_labels": labels.select(list(LABELS)), "failure_rules": rules.select(list(RULES))}

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            """INSERT INTO failure_runs VALUES ($run, $now, $data_version, $code_version, $rules_version,
                $reward_model_id, $traces, $bad, $unknown, $explored, $parameters)""",
            {
                **vars(summary), "parameters": parameters, "run": run, "now": store.clock.now(),
                "data_version": data_version, "code_version": code_version,
            },
        )  # fmt: skip

    run = result_rows.publish(store, "failure_runs", tables, add)
    for table in tables:
        result_rows.remove(store, table, f"run_id < {_NEWEST}")
    return run


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "failure_runs", RUNS)


def counts(store: Store) -> pl.DataFrame:
    """Bad traces per agent and first label, with the mean confidence (columns `COUNTS`), most frequent first."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.agent, f.axis, count(*) AS traces, avg(f.confidence) AS confidence
            FROM failure_labels AS f JOIN traces AS t USING (trace_id) WHERE f.run_id = {_NEWEST} AND f.rank = 1
            GROUP BY ALL ORDER BY traces DESC, t.agent, f.axis""",
            COUNTS,
        )


def rules(store: Store, limit: int = 500) -> pl.DataFrame:
    """How often each rule held, most bad traces first (columns `RULES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(RULES)} FROM failure_rules WHERE run_id = {_NEWEST}
            ORDER BY bad DESC, agent, axis, rule, subject LIMIT $limit""",
            RULES,
            {"limit": limit},
        )


def examples(store: Store, axis: str, *, agent: str | None = None, limit: int = 50) -> pl.DataFrame:
    """Traces whose first label is `axis`, the surest and lowest rewarded first (columns `EXAMPLES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT f.trace_id, t.agent, t.task, t.seen_at, r.mean AS reward, f.rule, f.span_id, f.confidence,
                f.detail
            FROM failure_labels AS f JOIN traces AS t USING (trace_id) LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
            WHERE f.run_id = {_NEWEST} AND f.rank = 1 AND f.axis = $axis AND ($agent IS NULL OR t.agent = $agent)
            ORDER BY f.confidence DESC, r.mean NULLS LAST, f.trace_id LIMIT $limit""",
            EXAMPLES,
            {"axis": axis, "agent": agent, "limit": limit},
        )


def of_trace(store: Store, trace_id: str) -> pl.DataFrame:
    """The labels of one trace by rank (columns `LABELS`); no rows when it is not a bad one."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(LABELS)} FROM failure_labels WHERE run_id = {_NEWEST} AND trace_id = $trace
            ORDER BY rank, axis""",
            LABELS,
            {"trace": trace_id},
        )


def _shape(column: str) -> str:
    """SQL for the shape of a JSON object: dates, then other texts, then numbers are replaced, so none is read twice."""
    shape = column
    for pattern, mark in (
        (r':\s*"\d{4}-\d{2}-\d{2}(?:[T ][0-9:.+Z-]*)?"', ":@D"),
        (r':\s*"-?\d+(?:\.\d+)?"', ":@N"),
        (r':\s*"(?:[^"\\]|\\.)*"', ":@S"),
        (r":\s*-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", ":@0"),
        (r":\s*(?:true|false)", ":@B"),
        (r":\s*null", ":@_"),
        (r"\[[^\[\]]*\]", "@A"),
        (r"\[[^\[\]]*\]", "@A"),
        (r"\s+", ""),
    ):
        shape = f"regexp_replace({shape}, '{pattern}', '{mark}', 'g')"
    return f"CASE WHEN input LIKE '{{%' AND length({column}) <= {_MOST_ARGUMENTS} THEN {shape} END"
