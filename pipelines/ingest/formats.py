"""Recognising what a file holds by the keys of its records, never by its name."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from pipelines.ingest.layout_columns import SIGNAL_KIND_WORDS, SIGNALS, SPANS, TRACES
from pipelines.ingest.layouts import langfuse
from pipelines.ingest.layouts.chat import REQUESTS, import_chat
from pipelines.ingest.layouts.fields import decode_cell
from pipelines.ingest.layouts.langfuse_columns import both_cases
from pipelines.ingest.layouts.tau_bench import import_tau_bench
from pipelines.ingest.rows import Rows

Importer = Callable[[dict[str, Any], str], Rows]


class Format(StrEnum):
    """A kind of record; the value is what a batch and the command line state."""

    TRACES = "traces"
    SPANS = "spans"
    SIGNALS = "signals"
    CHAT = "chat"
    TAU_BENCH = "tau-bench"
    LANGFUSE_DOCUMENT = "langfuse-document"
    LANGFUSE_TRACES = "langfuse-traces"
    LANGFUSE_OBSERVATIONS = "langfuse-observations"
    LANGFUSE_EVENTS = "langfuse-events"
    LANGFUSE_SCORES = "langfuse-scores"
    LANGFUSE_SESSIONS = "langfuse-sessions"
    MAPPED = "mapped"

    @property
    def label(self) -> str:
        """The format's name for people."""
        return _DESCRIPTIONS[self][0]

    @property
    def why(self) -> str:
        """By which keys it was recognised, in one sentence."""
        return _DESCRIPTIONS[self][1]


_DESCRIPTIONS: Final[dict[Format, tuple[str, str]]] = {
    Format.TRACES: ("Trimtab traces", "Records have trace_id and columns of the trace layout such as input."),
    Format.SPANS: ("Trimtab spans", "Records have trace_id, span_id and columns of the span layout such as name."),
    Format.SIGNALS: ("Trimtab signals", "Records have kind and columns of the signal layout such as value."),
    Format.CHAT: ("OpenAI chat", "Records have messages with roles, at the top or in request, body or input."),
    Format.TAU_BENCH: ("tau-bench trajectories", "Records have task_id, traj and reward or info."),
    Format.LANGFUSE_DOCUMENT: ("Langfuse trace documents", "Records have a trace with its observations."),
    Format.LANGFUSE_TRACES: ("Langfuse traces", "Records have id, timestamp, name and columns such as bookmarked."),
    Format.LANGFUSE_OBSERVATIONS: (
        "Langfuse observations",
        "Records have id, traceId, startTime, type and columns such as parentObservationId.",
    ),
    Format.LANGFUSE_EVENTS: ("Langfuse events", "Records have the keys of an observation and latencyMs."),
    Format.LANGFUSE_SCORES: ("Langfuse scores", "Records have id, name, dataType and what the score is about."),
    Format.LANGFUSE_SESSIONS: ("Langfuse sessions", "Records have id and userIds, countTraces or sessionDuration."),
    Format.MAPPED: ("Columns to be mapped", "No known set of keys fits, so columns are mapped."),
}

_IMPORTERS: Final[dict[Format, Importer]] = {
    Format.CHAT: import_chat,
    Format.TAU_BENCH: import_tau_bench,
    Format.LANGFUSE_DOCUMENT: langfuse.import_document,
    Format.LANGFUSE_TRACES: langfuse.import_trace,
    Format.LANGFUSE_OBSERVATIONS: langfuse.import_observation,
    Format.LANGFUSE_EVENTS: langfuse.import_observation,
    Format.LANGFUSE_SCORES: langfuse.import_score,
    Format.LANGFUSE_SESSIONS: langfuse.import_session,
}
_LANGFUSE: Final = frozenset(name for name in _IMPORTERS if name.value.startswith("langfuse-"))

_OBSERVATION: Final = both_cases(
    "parentObservationId level statusMessage completionStartTime providedModelName usageDetails projectId"
)
_TRACE: Final = both_cases("bookmarked public environment release version htmlPath projectId")
_SCORED: Final = both_cases("traceId observationId sessionId subject source")
_SESSION: Final = both_cases("countTraces sessionDuration userIds")

_ABOUT_ANYTHING: Final = frozenset(("trace_id", "span_id", "session_id", "user_id", "source", "metadata", "name"))
_OWN_TRACE: Final = frozenset(column.name for column in TRACES)
# what only a run has; feedback may name the agent or the model too
_RUN: Final = _OWN_TRACE & {column.name for column in SPANS} - _ABOUT_ANYTHING - {
    "agent", "agent_version", "task", "arm", "model", "model_fingerprint", "decision_id",
}  # fmt: skip
_OWN_SPAN: Final = frozenset(column.name for column in SPANS) - _ABOUT_ANYTHING
_OWN_SIGNAL: Final = frozenset(column.name for column in SIGNALS) - _ABOUT_ANYTHING - {"kind"}
_LINKS: Final = frozenset(("trace_id", "session_id", "user_id", "signal_id", "item"))
# keys of other systems' runs, where trace_id is not the identity of the record
_FOREIGN: Final = frozenset(("id", "run_type", "parent_id", "parent_run_id", "span_kind", "spans", "context", "trace"))


def recognise_record(record: dict[str, Any]) -> Format | None:
    """The format of one parsed record; `MAPPED` when its keys are those of no known format, null when it has none."""
    if not isinstance(record, dict) or not record:
        return None
    found = recognise_columns(record)
    if found is Format.CHAT:
        return found if _has_messages(record) else Format.MAPPED
    if found is Format.LANGFUSE_DOCUMENT:
        trace = decode_cell(record["trace"])
        return found if isinstance(trace, dict) and "id" in trace else Format.MAPPED
    if found in (Format.SPANS, Format.SIGNALS) and "kind" in record:
        kind = record["kind"]
        signal = isinstance(kind, str) and kind.lower() in _SIGNAL_WORDS
        if found is Format.SIGNALS and not signal:
            return Format.SPANS if "span_id" in record else Format.MAPPED
        if signal and not _OWN_SPAN.intersection(record) - {"kind"}:
            return Format.SIGNALS
    if found is Format.MAPPED and _has_messages(record):
        return Format.CHAT
    return found


def recognise_columns(names: Iterable[str]) -> Format | None:
    """The format of a table with these columns; `MAPPED` when they are those of no known format, null for none."""
    columns = frozenset(names)
    if not columns:
        return None
    if {"traj", "task_id"} <= columns and columns & {"reward", "info"}:
        return Format.TAU_BENCH
    if "messages" in columns:
        return Format.CHAT
    return _recognise_langfuse(columns) or _recognise_own(columns) or Format.MAPPED


def _recognise_langfuse(columns: frozenset[str]) -> Format | None:
    if {"trace", "observations"} <= columns:
        return Format.LANGFUSE_DOCUMENT
    if "id" not in columns:
        return None
    camel = {"traceId", "startTime", "type"} <= columns
    if (camel or {"trace_id", "start_time", "type"} <= columns) and columns & _OBSERVATION:
        return Format.LANGFUSE_EVENTS if columns & {"latencyMs", "timeToFirstTokenMs"} else Format.LANGFUSE_OBSERVATIONS
    if "name" in columns and columns & {"dataType", "data_type"} and columns & _SCORED:
        return Format.LANGFUSE_SCORES
    if {"timestamp", "name"} <= columns and len(columns & _TRACE) >= 2 and not columns & {"traceId", "trace_id"}:
        return Format.LANGFUSE_TRACES
    if columns & _SESSION or {"createdAt", "projectId", "traces"} <= columns:
        return Format.LANGFUSE_SESSIONS
    return None


def _recognise_own(columns: frozenset[str]) -> Format | None:
    if "kind" in columns and columns & _LINKS:
        telling = columns & (_OWN_SIGNAL - _OWN_SPAN)
        if telling or "span_id" not in columns:
            return Format.SIGNALS
    if {"trace_id", "span_id"} <= columns and (columns & _OWN_SPAN or "name" in columns):
        return Format.SPANS
    whole = len(columns) > 1 and columns <= _OWN_TRACE and not columns <= _ABOUT_ANYTHING
    if "trace_id" in columns and (whole or columns & _RUN) and not columns & _FOREIGN:
        return Format.TRACES
    return None


_SIGNAL_WORDS: Final = frozenset(word for words in SIGNAL_KIND_WORDS.values() for word in words)


def _has_messages(record: dict[str, Any]) -> bool:
    """Whether a record holds chat messages where the chat importer looks for them."""
    for holder in (record, *(decode_cell(record.get(name)) for name in REQUESTS)):
        messages = decode_cell(holder.get("messages")) if isinstance(holder, dict) else None
        if isinstance(messages, list) and messages and isinstance(messages[0], dict) and "role" in messages[0]:
            return True
    return False


def importer_for(name: Format) -> Importer | None:
    """The importer of a nested format: rows of one record, given the source's name.

    It raises `RecordRejected` and nothing else on any JSON value. Null for formats whose columns are mapped. Langfuse
    files may mix kinds of records (a page of traces and one of scores), so each record goes to the importer of its own.
    """
    return _import_langfuse(name) if name in _LANGFUSE else _IMPORTERS.get(name)


def _import_langfuse(name: Format) -> Importer:
    def import_record(record: dict[str, Any], source: str) -> Rows:
        found = recognise_record(record)
        return _IMPORTERS[found if found in _LANGFUSE else name](record, source)

    return import_record
