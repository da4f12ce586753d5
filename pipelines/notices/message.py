"""What a message says: notices as JSON for programs, as plain text for people."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

__all__ = ["Message", "document", "subject", "text"]

_LISTED: Final = 50  # notices in one message; the page has them all
_SUBJECT_CHARACTERS: Final = 150
_UNSEEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Message:
    """A delivery to be sent: its id, which a repeat bears too, and rows of `store.notices.NOTICES`, gravest first.

    A test has no notices. `base` is the dashboard's address without a slash at its end.
    """

    delivery_id: str
    attempt: int
    route: str
    notices: Sequence[Mapping[str, Any]]
    sent_at: datetime
    base: str
    test: bool = False


def document(message: Message) -> dict[str, object]:
    """The message for programs; `text` alone is enough for chat servers that show just that."""
    return {
        "version": 1,
        "delivery": message.delivery_id,
        "attempt": message.attempt,
        "test": message.test,
        "sent_at": message.sent_at.isoformat(),
        "route": message.route,
        "text": text(message),
        "more": max(len(message.notices) - _LISTED, 0),
        "notices": [
            {
                "id": row["notice_id"],
                "kind": row["kind"],
                "key": row["notice_key"],
                "severity": row["severity"],
                "title": row["title"],
                "text": row["text"],
                "url": _link(message.base, row),
                "posted_at": row["posted_at"].isoformat(),
                "times": row["times"],
            }
            for row in message.notices[:_LISTED]
        ],
    }


def subject(message: Message) -> str:
    """One line, without control characters: it becomes a header."""
    if message.test:
        return "Trimtab: test of this route"
    first = _one_line(message.notices[0]["title"]) if message.notices else "nothing"
    more = len(message.notices) - 1
    counted = f" and {more} more" if more > 0 else ""
    grave = str(message.notices[0]["severity"]) if message.notices else "info"
    line = f"Trimtab {grave}: {first}"
    room = _SUBJECT_CHARACTERS - len(counted)
    return (line if len(line) <= room else f"{line[: room - 1]}…") + counted


def text(message: Message) -> str:
    """The message for people, as plain text."""
    if message.test:
        return f"A test of the route {_one_line(message.route)}: messages arrive."
    parts = []
    for row in message.notices[:_LISTED]:
        times = f" ({row['times']} times)" if row["times"] > 1 else ""
        when = row["posted_at"].strftime("%Y-%m-%d %H:%M UTC")
        body = _UNSEEN.sub(" ", row["text"]).strip()
        heading = f"{str(row['severity']).upper()}: {_one_line(row['title'])}{times}"
        parts.append("\n".join([heading, *([body] if body else []), when, _link(message.base, row)]))
    left = len(message.notices) - _LISTED
    if left > 0:
        parts.append(f"And {left} more on the Overview: {message.base}/")
    return "\n\n".join(parts)


def _link(base: str, row: Mapping[str, Any]) -> str:
    query = json.loads(row["query"])
    return f"{base}/{quote(str(row['page']))}" + (f"?{urlencode(query)}" if query else "")


def _one_line(words: str) -> str:
    return " ".join(_UNSEEN.sub(" ", words).split())
