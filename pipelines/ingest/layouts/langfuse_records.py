"""One trace or observation of Langfuse, in any of its shapes, as a row.

The interface writes camelCase, the blob export snake_case, CSV cells are text; what a column means is the same in all.
What no column takes is kept in `metadata` (traces) and `attributes` (spans) beside the user's own.
"""

from typing import Any, Final

from pipelines.ingest.layout_columns import SPAN_KIND_WORDS
from pipelines.ingest.layouts.fields import MAX_COUNT, Fields, content_text, decode_cell, end_of, merged, present
from pipelines.ingest.layouts.langfuse_columns import KIND_ATTRIBUTES, KINDS
from pipelines.ingest.rows import Row

_MILLISECONDS: Final = 1000.0


def trace_row(fields: Fields, source: str) -> Row:
    """What a Langfuse trace states, without `metadata`: call `rest_of` once signals were taken.

    The trace's name is the best name Langfuse has for an agent.
    Raises: `RecordRejected` naming the field that is missing or has the wrong type.
    """
    trace_id = fields.text("id")
    if trace_id is None:
        raise fields.reject("id", None, "the id of the trace")
    started_at = fields.time("timestamp")
    steering = _steering(fields)
    return present(
        trace_id=trace_id, source=source, agent=fields.text("name", keep=True),
        agent_version=fields.text("version"), user_id=fields.text("userId", "user_id"),
        session_id=fields.text("sessionId", "session_id"), started_at=started_at,
        ended_at=end_of(started_at, fields.number("latency", keep=True), f"{fields.path}latency"),
        input=fields.content("input"), output=fields.content("output"),
        # 0 is what Langfuse writes where it knows no price
        cost_usd=fields.number("totalCost", "total_cost", keep=True) or None, **steering,
    )  # fmt: skip


def span_row(fields: Fields, source: str, *, trace_id: str | None = None) -> Row:
    """A Langfuse observation, without `attributes`: call `rest_of` once signals were taken.

    Args: `fields` of the observation; `trace_id` of the trace it is embedded in.
    Raises: `RecordRejected` naming the field that is missing or has the wrong type.
    """
    span_id = fields.text("id")
    if span_id is None:
        raise fields.reject("id", None, "the id of the observation")
    trace_id = fields.text("traceId", "trace_id") or trace_id
    if trace_id is None:
        raise fields.reject("traceId", None, "the id of the trace")
    started_at = fields.time("startTime", "start_time")
    level = (fields.text("level", keep=True) or "").upper()
    return present(
        trace_id=trace_id, span_id=span_id, source=source, kind=_kind(fields), name=fields.text("name"),
        parent_span_id=_parent(fields, trace_id, span_id),
        started_at=started_at,
        ended_at=fields.time("endTime", "end_time") or end_of(started_at, _latency(fields), f"{fields.path}latency"),
        # any level but ERROR says that it went well; no level says nothing
        status=("error" if level == "ERROR" else "ok") if level else None,
        status_message=fields.content("statusMessage", "status_message"),
        input=fields.content("input"), output=fields.content("output"),
        model=fields.text("model", "providedModelName", "provided_model_name"),
        **_tokens(fields), cost_usd=_cost(fields),
        user_id=fields.text("userId", "user_id"), session_id=fields.text("sessionId", "session_id"),
        agent=fields.text("traceName", "trace_name"), agent_version=fields.text("version"),
        **{"arm": _prompt(fields), **_steering(fields)},
    )  # fmt: skip


def rest_of(fields: Fields) -> dict[str, Any]:
    """What no column took, beside the metadata the user gave."""
    rest = fields.rest()
    return merged(rest.pop("metadata", None), rest, "langfuse")


def _kind(fields: Fields) -> str:
    """Our kind of an observation; where its type says nothing, by the OpenTelemetry attributes in its metadata."""
    stated = (fields.text("type", keep=True) or "").upper()
    kind = KINDS.get(stated, "other")
    if kind != "other":
        return kind
    metadata = decode_cell(fields.take("metadata", keep=True))
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    if isinstance(attributes := decode_cell(attributes), dict):
        for name in KIND_ATTRIBUTES:
            word = attributes.get(name)
            if isinstance(word, str):
                return next((kind for kind, words in SPAN_KIND_WORDS.items() if word.lower() in words), kind)
    return kind


def _parent(fields: Fields, trace_id: str, span_id: str) -> str | None:
    """The parent's id; a trace as the parent, or the observation itself, means a root."""
    parent = fields.text("parentObservationId", "parent_observation_id", keep=True)
    if parent in (trace_id, span_id):
        return None
    fields.take("parentObservationId", "parent_observation_id")
    return parent


def _latency(fields: Fields) -> float | None:
    """Seconds; the events table has milliseconds, under a name that says so."""
    millis = fields.number("latencyMs", "latency_ms", keep=True)
    return fields.number("latency", keep=True) if millis is None else millis / _MILLISECONDS


def _tokens(fields: Fields) -> Row:
    """Tokens read and written: all counts that Langfuse files under input and output, cached and audio among them."""
    if (fields.text("unit", keep=True) or "TOKENS").upper() != "TOKENS":
        return {}
    usage = Fields(fields.mapping("usageDetails", "usage_details", "usage", keep=True), f"{fields.path}usageDetails.")
    if str(usage.take("unit", keep=True) or "TOKENS").upper() != "TOKENS":
        return {}
    names = usage.names()
    row: Row = {}
    for column, word, flat in (
        ("input_tokens", "input", ("inputUsage", "input_usage", "promptTokens", "prompt_tokens")),
        ("output_tokens", "output", ("outputUsage", "output_usage", "completionTokens", "completion_tokens")),
    ):
        stated = [usage.count(name) for name in names if name == word or name.startswith(f"{word}_")]
        counts = [count for count in stated if count is not None]
        if sum(counts) > MAX_COUNT:
            raise usage.reject(word, sum(counts), "a number of tokens")
        # without details the flat columns are 0 for every span that never called a model
        row[column] = sum(counts) if counts else fields.count(*flat, keep=True) or None
    return row


def _cost(fields: Fields) -> float | None:
    """USD; Langfuse writes 0 where it knows no price, so a bare 0 without details is unknown."""
    total = fields.number("totalCost", "total_cost", "calculatedTotalCost", "calculated_total_cost", keep=True)
    details = Fields(fields.mapping("costDetails", "cost_details", keep=True), f"{fields.path}costDetails.")
    if total is None:
        return details.number("total")
    return total if total != 0 or details.names() else None


def _prompt(fields: Fields) -> str | None:
    """The prompt version that ran, which is an arm: name@version."""
    name = fields.text("promptName", "prompt_name", keep=True)
    version = fields.text("promptVersion", "prompt_version", keep=True)
    return f"{name}@{version}" if name and version else name


def _steering(fields: Fields) -> Row:
    """What the agent logged of the steering it got (`steer.*` in metadata), which outranks the prompt's version."""
    metadata = decode_cell(fields.take("metadata", keep=True))
    if not isinstance(metadata, dict):
        return {}
    attributes = decode_cell(metadata.get("attributes"))
    stated = {**attributes, **metadata} if isinstance(attributes, dict) else metadata
    names = {"arm": "steer.arm", "decision_id": "steer.decision_id", "task": "steer.task"}
    texts = {column: stated.get(name) for column, name in names.items()}
    return {column: content_text(text) for column, text in texts.items() if isinstance(text, str | int) and text != ""}
