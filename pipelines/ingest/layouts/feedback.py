"""Feedback that a record carries beside its messages, as signals: thumbs, ratings, comments, corrections, scores.

The scale of a rating is rarely stated. Below 1 it is read as it is, from 1 to 5 as stars, up to 10 as 1 to 10, to 100
as 0 to 100; the original and the scale that was assumed are kept in the signal's metadata.
"""

from typing import Any, Final

from pipelines.ingest.layout_columns import THUMB_WORDS
from pipelines.ingest.layouts.fields import Fields, as_number, decode_cell, merged, present
from pipelines.ingest.rows import Row

_OPINIONS: Final = ("feedback", "user_feedback", "thumb", "thumbs", "rating", "user_rating", "stars")
_MEASURES: Final = ("score", "reward")
_TEXTS: Final = ("comment", "correction")
_GRADES: Final = ("thumb", "thumbs", "value", "score", "rating", "stars")
_VERDICTS: Final = (*_GRADES, "label", "type", "sentiment")  # the last three only when they hold a word for a thumb
_STARRED: Final = ("rating", "user_rating", "stars")
_LONGEST_WORD: Final = 20
_REASONS: Final = ("comment", "text", "reason", "explanation", "note", "content", "message")


def thumb_value(value: object) -> float | None:
    """1 for a thumb up, 0 for a thumb down, null for anything else: truth values, 1, 0, -1 and words for them."""
    if isinstance(value, bool):
        return float(value)
    number = as_number(value)
    if number is not None:
        return max(number, 0.0) if number in (-1, 0, 1) else None
    if isinstance(value, str) and len(value) < _LONGEST_WORD:
        word = value.strip().lower()
        return next((float(thumb) for thumb, words in THUMB_WORDS.items() if word in words), None)
    return None


def rating_value(rating: float, lowest: float | None = None, highest: float | None = None) -> tuple[float, Row] | None:
    """A rating mapped to 0..1, with the scale it was read on; null when it lies on none.

    Args: `rating` as given; `lowest` and `highest` of its scale where stated.
    """
    if highest is not None:
        low = lowest if lowest is not None else 1.0 if highest > 1 and rating >= 1 else 0.0
        scale = (low, highest)
    elif 0 <= rating < 1:
        scale = (0.0, 1.0)
    elif 1 <= rating <= 5:
        scale = (1.0, 5.0)
    elif 5 < rating <= 10:
        scale = (1.0, 10.0)
    else:
        scale = (0.0, 100.0)
    if not scale[0] <= rating <= scale[1] or scale[0] == scale[1]:
        return None
    details = {"original": rating, "min": scale[0], "max": scale[1], "assumed": highest is None}
    return (rating - scale[0]) / (scale[1] - scale[0]), {"scale": details}


def take_feedback(fields: Fields, *, trace_id: str, source: str, user_id: str | None) -> list[Row]:
    """The signals in a record's feedback fields; a field that cannot be read as feedback stays in the rest.

    Raises: `RecordRejected` when the time of a feedback is unreadable.
    """
    signals: list[Row] = []
    for name in (*_OPINIONS, *_MEASURES, *_TEXTS, "scores"):
        value = decode_cell(fields.take(name, keep=True))
        rows = _scores(value) if name == "scores" else _read(name, value, f"{name}.")
        if not rows:
            continue
        fields.take(name)
        for index, row in enumerate(rows):
            place = row.pop("given_id", f"#{index + 1}" if index else "")
            identity = {"signal_id": "-".join(filter(None, (trace_id, name, place))), "trace_id": trace_id}
            if row.get("annotator_kind") == "user":
                identity |= present(user_id=user_id)
            signals.append({**identity, "source": source, **row})
    return signals


def _scores(scores: Any) -> list[Row]:
    """Several measures by name: all of them or none."""
    if not isinstance(scores, dict):
        return []
    rows = [{**row, "name": name} for name, value in scores.items() for row in _one("score", value, {})]
    return rows if len(rows) == len(scores) else []


def _read(name: str, value: Any, path: str) -> list[Row]:
    """The signals in a feedback field; none where it is no feedback."""
    if isinstance(value, list):
        read = [_read(name, each, f"{name}[{index}].") for index, each in enumerate(value)]
        return [row for rows in read for row in rows] if all(read) else []
    if not isinstance(value, dict):
        return _one(name, value, {})
    fields = Fields(value, path)
    rows = _verdict(name, fields)
    reason, correction = fields.scalar(*_REASONS), fields.scalar("correction", "corrected")
    if reason is not None:
        if rows and "text" not in rows[0]:
            rows[0]["text"] = str(reason)
        else:
            rows += _one("correction" if name == "correction" else "comment", str(reason), {})
    if correction is not None:
        rows += _one("correction", str(correction), {})
    if not rows:
        return []
    occurred_at = fields.time("timestamp", "created_at", "createdAt", "time")
    label, author = fields.scalar("name", "key"), fields.scalar("user_id", "annotator", "author")
    given = fields.scalar("id", "signal_id")
    for index, row in enumerate(rows):
        row |= present(occurred_at=occurred_at, annotator_id=None if author is None else str(author))
        row |= present(name=None if label is None else str(label))
        row |= present(given_id=None if given is None else f"{given}-{index}" if index else str(given))
    if rest := fields.rest():
        rows[0]["metadata"] = merged(rows[0].get("metadata"), rest, "feedback")
    return rows


def _verdict(name: str, fields: Fields) -> list[Row]:
    """The judgement in a feedback object; one that cannot be read is given back."""
    scale = {"lowest": as_number(fields.take("min", keep=True)), "highest": as_number(fields.take("max", keep=True))}
    for key in _VERDICTS:
        verdict = fields.scalar(key)
        if verdict is None:
            continue
        if (key in _GRADES or thumb_value(verdict) is not None) and (
            rows := _one(key if key in _STARRED and name not in _MEASURES else name, verdict, scale)
        ):
            return [{**row, "name": name} for row in rows]
        fields.put(key, verdict)
    return []


def _one(name: str, value: Any, scale: dict[str, float | None]) -> list[Row]:
    """The signal in a single value of the feedback field `name`; none where it says nothing."""
    number = as_number(value)
    if name in _MEASURES:
        measured = float(value) if isinstance(value, bool) else number
        outcome = present(
            kind="outcome", name=name, value=measured, annotator_kind="code" if name == "reward" else None
        )
        return [outcome] if measured is not None else []
    row: Row = {"kind": "comment", "name": name, "annotator_kind": "user"}
    if name in _TEXTS:
        return [row | {"kind": name, "text": value}] if isinstance(value, str) and value.strip() else []
    starred = name in _STARRED or scale.get("highest") is not None
    thumb = thumb_value(value)
    if thumb is not None and not (starred and number is not None and number >= 0):
        return [row | {"kind": "thumb", "value": thumb}]
    if number is not None:
        rated = rating_value(number, scale.get("lowest"), scale.get("highest"))
        if rated is None:
            return [row | {"kind": "annotation", "value": number}]
        return [row | {"kind": "rating", "value": rated[0], "metadata": rated[1]}]
    return [row | {"text": value}] if isinstance(value, str) and value.strip() else []
