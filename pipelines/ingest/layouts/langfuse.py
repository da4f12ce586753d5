"""Everything Langfuse exports, one record at a time: documents, traces, observations, events, scores, sessions.

Ids are kept as they are: Langfuse's ids are unique, and a team's own feedback refers to them. A trace that carries its
observations or scores, as a list or through a document around it, yields all of them.
"""

from typing import Any

from pipelines.ingest.layouts.fields import Fields, is_empty, merged, plain_record, present
from pipelines.ingest.layouts.langfuse_columns import OBSERVATION_COLUMNS, SESSION_COLUMNS, TRACE_COLUMNS
from pipelines.ingest.layouts.langfuse_records import rest_of, span_row, trace_row
from pipelines.ingest.layouts.langfuse_scores import column_signals, comment_signals, score_signal
from pipelines.ingest.rows import Row, Rows


def import_document(record: dict[str, Any], source: str) -> Rows:
    """Rows of a document `{trace, observations, scores?}`; observations repeated inside the trace are merged.

    Raises: `RecordRejected` naming the field that is missing or has the wrong type; so do all importers here.
    """
    document = Fields(plain_record(record))
    trace = document.mapping("trace")
    if not trace:
        raise document.reject("trace", None, "a Langfuse trace")
    return _trace(trace, source, path="trace.", around=document)


def import_trace(record: dict[str, Any], source: str) -> Rows:
    """Rows of a trace as the interface, the blob export or the programming interface has it."""
    return _trace(plain_record(record), source)


def import_observation(record: dict[str, Any], source: str) -> Rows:
    """Rows of an observation or event: a span, its comments and score columns."""
    span, signals = _observation(plain_record(record), source)
    return Rows(spans=[span], signals=signals)


def import_score(record: dict[str, Any], source: str) -> Rows:
    """The signal of a score."""
    return Rows(signals=[score_signal(plain_record(record), source)])


def import_session(record: dict[str, Any], source: str) -> Rows:
    """Signals and embedded traces of a session; its counts and costs are those of its traces, so no row holds them."""
    fields = Fields(plain_record(record))
    session_id = fields.text("id")
    if session_id is None:
        raise fields.reject("id", None, "the id of the session")
    about = {"session_id": session_id}
    signals = comment_signals(fields, source, about) + column_signals(fields, SESSION_COLUMNS, source, about)
    rows = Rows(signals=signals)
    for index, trace in enumerate(fields.objects("traces")):
        inner = _trace(trace, source, path=f"traces[{index}].")
        rows.traces.extend({**about, **each} for each in inner.traces)
        rows.spans.extend(inner.spans)
        rows.signals.extend(inner.signals)
    return rows


def _trace(
    record: dict[str, Any],
    source: str,
    *,
    path: str = "",
    around: Fields | None = None,
) -> Rows:
    """Rows of a trace and all it carries.

    Args: plain `record`; `path` of it in its document; the document `around` it may hold observations and scores too.
    """
    fields = Fields(record, path)
    inner = {name: _objects(fields, name) for name in ("observations", "scores", "corrections")}
    about = present(trace_id=fields.text("id", keep=True))
    signals = comment_signals(fields, source, about)
    if not path:
        signals += column_signals(fields, TRACE_COLUMNS, source, about)
    row = trace_row(fields, source)
    spans: list[Row] = []
    beside = around if around is not None else Fields({})
    for index, observation in enumerate(_by_id(inner["observations"] + _objects(beside, "observations"))):
        span, found = _observation(observation, source, path=f"observations[{index}].", trace_id=row["trace_id"])
        spans.append(span)
        signals += found
    _resolve(spans, row)
    scores = inner["scores"] + inner["corrections"] + _objects(beside, "scores")
    for index, score in enumerate(_by_id(scores)):
        signals.append(score_signal(score, source, path=f"scores[{index}].", trace_id=row["trace_id"]))
    metadata = rest_of(fields)
    if rest := beside.rest():
        metadata = merged(metadata, {"document": rest}, "langfuse")
    return Rows([row | present(metadata=metadata)], spans, signals)


def _observation(
    record: dict[str, Any], source: str, *, path: str = "", trace_id: str | None = None
) -> tuple[Row, list[Row]]:
    fields = Fields(record, path)
    stated = fields.text("traceId", "trace_id", keep=True)
    about = present(trace_id=stated or trace_id, span_id=fields.text("id", keep=True))
    signals = comment_signals(fields, source, about)
    if not path:
        signals += column_signals(fields, OBSERVATION_COLUMNS, source, about)
    row = span_row(fields, source, trace_id=trace_id)
    return row | present(attributes=rest_of(fields)), signals


def _objects(fields: Fields, name: str) -> list[dict[str, Any]]:
    """The objects in a list; lists of traces have ids instead, which say nothing that the objects will not."""
    items = fields.items(name)
    for index, item in enumerate(items):
        if not isinstance(item, dict | str):
            raise fields.reject(f"{name}[{index}]", item, "an object")
    return [item for item in items if isinstance(item, dict)]


def _by_id(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with repeated ids merged, in order of first appearance: a later field outranks an earlier one."""
    found: dict[str, dict[str, Any]] = {}
    for index, record in enumerate(records):
        key = str(record.get("id") or f"#{index}")
        found[key] = {**found.get(key, {}), **{name: each for name, each in record.items() if not is_empty(each)}}
    return list(found.values())


def _resolve(spans: list[Row], trace: Row) -> None:
    """Within one trace a parent that is not there makes its child a root, and only a single prompt can be the arm."""
    held = {(span["trace_id"], span["span_id"]) for span in spans}
    for span in spans:
        parent = span.get("parent_span_id")
        if parent is not None and (span["trace_id"], parent) not in held:
            del span["parent_span_id"]
            span["attributes"] = {**span.get("attributes", {}), "parentObservationId": parent}
    arms = {span["arm"] for span in spans if "arm" in span}
    if len(arms) == 1:
        trace.setdefault("arm", arms.pop())
    elif "arm" not in trace:
        for span in spans:
            span.pop("arm", None)
