"""Langfuse's scores, annotations, corrections and comments as signals.

A score's own id identifies its signal, so the same score embedded in a trace and exported apart is one signal. Columns
of scores in an interface export carry neither id nor source; they are marked `flattened`, for whoever also loads the
scores themselves has them twice.
"""

from collections.abc import Collection
from typing import Any, Final

from pipelines.ingest.layouts.feedback import thumb_value
from pipelines.ingest.layouts.fields import Fields, as_number, content_hash, content_text, decode_cell, merged, present
from pipelines.ingest.layouts.langfuse_columns import OVERWRITTEN
from pipelines.ingest.rows import Row

_OPINION_WORDS: Final = ("thumb", "feedback")


def score_signal(record: dict[str, Any], source: str, *, path: str = "", trace_id: str | None = None) -> Row:
    """The signal in one score of any shape: interface, blob, and the programming interfaces v1 to v3.

    Args: plain `record` of the score; `path` of it in its document; `trace_id` of the trace it is embedded in.
    Raises: `RecordRejected` naming the field of a wrong type.
    """
    fields = Fields(record, path)
    data_type = (fields.text("dataType", "data_type", keep=True) or "").upper()
    origin = (fields.text("source", keep=True) or "").upper()
    name = fields.text("name")
    value, label = _measure(fields, data_type)
    comment = fields.content("comment")
    shown_label = None if data_type in ("BOOLEAN", "NUMERIC") else label  # which only repeats the number
    text = shown_label if data_type == "CORRECTION" else comment or shown_label
    subject = Fields(fields.mapping("subject"), f"{path}subject.")
    row = present(
        signal_id=fields.text("id") or f"langfuse-{content_hash([record, trace_id])}",
        **_target(fields, subject, trace_id),
        user_id=fields.text("userId", "user_id"), name=name, source=source, text=text or comment,
        **_judgement(name or "", origin, data_type, value, label),
        annotator_id=fields.text("authorUserName", "author_user_name", "authorUserId", "author_user_id"),
        occurred_at=fields.time("timestamp", "createdAt", "created_at"),
    )  # fmt: skip
    # a label or comment that is not the text goes beside the user's own metadata
    unused = present(
        label=label if label != row.get("text") else None,
        comment=comment if comment != row.get("text") else None,
        subject=subject.rest(),
    )  # fmt: skip
    rest = fields.rest()
    details = merged(rest.pop("metadata", None), rest, "langfuse")
    return row | present(metadata=merged(details, unused, "langfuse"))


def _target(fields: Fields, subject: Fields, trace_id: str | None) -> Row:
    """What the score is about; the v3 interface says so in `subject`."""
    row = present(
        trace_id=fields.text("traceId", "trace_id") or trace_id,
        span_id=fields.text("observationId", "observation_id"),
        session_id=fields.text("sessionId", "session_id"),
    )  # fmt: skip
    kind = (subject.text("kind", keep=True) or "").lower()
    column = {"trace": "trace_id", "observation": "span_id", "session": "session_id"}.get(kind)
    if column is not None:
        subject.take("kind")
        row = present(**{column: subject.text("id")}) | row
    return present(trace_id=subject.text("traceId", "trace_id")) | row


def _measure(fields: Fields, data_type: str) -> tuple[float | None, str | None]:
    """The number and the label of a score.

    Langfuse stores 0 for categories without a configured number, for texts and for corrections, so the number of those
    is kept as metadata only.
    """
    raw = decode_cell(fields.take("value", keep=True))
    number = float(raw) if isinstance(raw, bool) else as_number(raw)
    if number is None and data_type == "BOOLEAN":
        number = thumb_value(raw)
    label = fields.content("longStringValue", "long_string_value") or fields.content("stringValue", "string_value")
    if data_type in ("CATEGORICAL", "TEXT", "CORRECTION"):
        if isinstance(raw, str) and as_number(raw) is None:
            label = label or content_text(fields.take("value"))
        return None, label
    if number is None:
        if data_type in ("BOOLEAN", "NUMERIC") and raw is not None:
            raise fields.reject("value", raw, "a finite number")
        return None, label or (content_text(fields.take("value")) if isinstance(raw, str) else None)
    fields.take("value")
    return number, label


def _judgement(name: str, origin: str, data_type: str, value: float | None, label: str | None) -> Row:
    """Kind, value and annotator of a score by who gave it and what it is."""
    annotator = {"EVAL": "llm", "ANNOTATION": "operator"}.get(origin)
    if data_type == "CORRECTION":
        return present(kind="correction", annotator_kind=annotator)
    if annotator is not None:
        return present(kind="judge" if origin == "EVAL" else "annotation", value=value, annotator_kind=annotator)
    opinion = any(word in name.lower() for word in _OPINION_WORDS)
    annotator = "user" if opinion else None
    thumb = thumb_value(value if value is not None else label)
    if thumb is not None and (opinion or data_type == "BOOLEAN"):
        return present(kind="thumb", value=thumb, annotator_kind=annotator)
    kind = "comment" if opinion and value is None and label is not None else "annotation"
    return present(kind=kind, value=value, annotator_kind=annotator)


def column_signals(fields: Fields, known: Collection[str], source: str, about: Row) -> list[Row]:
    """The signals in the score columns of an interface export: lists under names that are no column of the table.

    Call before the columns are read, since a score takes the place of the column that has its name.
    Args: `fields` of the row; `known` columns of its table; `about` the ids that the row is about.
    """
    signals: list[Row] = []
    for name in fields.names():
        if name in known and name not in OVERWRITTEN:
            continue
        values = decode_cell(fields.take(name, keep=True))
        if not isinstance(values, list) or not all(isinstance(each, str | int | float) for each in values):
            continue
        fields.take(name)
        for index, each in enumerate(values):
            number = float(each) if isinstance(each, bool) else each if isinstance(each, int | float) else None
            label = each if isinstance(each, str) else None
            judgement = _judgement(name, "", "", None if number is None else float(number), label)
            signal_id = f"langfuse-{content_hash([about, name, index])}"
            signals.append(
                present(signal_id=signal_id, **about, name=name, source=source, text=label, **judgement)
                | {"metadata": {"flattened": True}}
            )
    return signals


def comment_signals(fields: Fields, source: str, about: Row) -> list[Row]:
    """The comments that operators left on a trace, observation or session; what is no comment stays in the rest."""
    comments = decode_cell(fields.take("comments", keep=True))
    if not isinstance(comments, list) or not all(isinstance(each, dict) for each in comments):
        return []
    fields.take("comments")
    signals: list[Row] = []
    for index, comment in enumerate(comments):
        item = Fields(comment, f"{fields.path}comments[{index}].")
        signals.append(
            present(
                signal_id=item.text("id") or f"langfuse-{content_hash([about, comment])}", **about,
                kind="comment", source=source, text=item.content("content"), annotator_kind="operator",
                annotator_id=item.text("author_email", "authorEmail", "authorUserId", "author_user_id"),
                occurred_at=item.time("created_at", "createdAt"), metadata=item.rest(),
            )
        )  # fmt: skip
    return signals
