"""Template files of our own layouts, to download, fill in and send back: every column, and rows that load as they are.

The three templates tell one story: two answered questions, the steps of the first, and what the people made of them.
"""

import csv
import io
import json
from typing import Any, Final, Literal

from pipelines.ingest.layout_columns import LAYOUTS, LayoutKind

TemplateFormat = Literal["csv", "jsonl"]

TEMPLATE_FORMATS: Final[tuple[TemplateFormat, ...]] = ("csv", "jsonl")

_REFUND: Final = "7d3f0a6e2b914c58a1d2e3f405162738"
_DELIVERY: Final = "0b6c1f5e8d7a4932b4c3d2e1f0a59687"

_ROWS: Final[dict[LayoutKind, tuple[dict[str, Any], ...]]] = {
    "traces": (
        {
            "trace_id": _REFUND,
            "source": "shop",
            "agent": "support",
            "agent_version": "2026.1",
            "user_id": "u-1042",
            "session_id": "s-88",
            "task": "refund",
            "arm": "prompt-b",
            "model": "gpt-4o",
            "started_at": "2026-01-05T10:00:00Z",
            "ended_at": "2026-01-05T10:00:04.250Z",
            "status": "ok",
            "input": "Can I still send the boots back?",
            "output": "Yes, until 19 January. I have e-mailed you a label.",
            "input_tokens": 812,
            "output_tokens": 64,
            "cost_usd": 0.0027,
            "metadata": {"country": "DE", "channel": "web"},
        },
        {
            "trace_id": _DELIVERY,
            "source": "shop",
            "agent": "support",
            "agent_version": "2026.1",
            "user_id": "u-2210",
            "session_id": "s-91",
            "task": "delivery",
            "arm": "prompt-a",
            "model": "gpt-4o",
            "started_at": "2026-01-05T10:12:31Z",
            "ended_at": "2026-01-05T10:12:33Z",
            "status": "error",
            "input": 'Where is my order, "express" was promised?',
            "output": None,
            "input_tokens": 640,
            "output_tokens": 0,
            "cost_usd": 0.0016,
        },
    ),
    "spans": (
        {
            "trace_id": _REFUND,
            "span_id": "a1b2c3d4e5f60718",
            "ordinal": 0,
            "kind": "agent",
            "name": "support",
            "started_at": "2026-01-05T10:00:00Z",
            "ended_at": "2026-01-05T10:00:04.250Z",
            "status": "ok",
            "input": "Can I still send the boots back?",
            "output": "Yes, until 19 January. I have e-mailed you a label.",
            "agent": "support",
            "agent_version": "2026.1",
            "user_id": "u-1042",
            "session_id": "s-88",
            "task": "refund",
            "arm": "prompt-b",
        },
        {
            "trace_id": _REFUND,
            "span_id": "b2c3d4e5f6071829",
            "parent_span_id": "a1b2c3d4e5f60718",
            "ordinal": 1,
            "kind": "llm",
            "name": "chat",
            "started_at": "2026-01-05T10:00:00.100Z",
            "ended_at": "2026-01-05T10:00:02.900Z",
            "status": "ok",
            "input": "Can I still send the boots back?",
            "output": "I will look up the order.",
            "model": "gpt-4o",
            "input_tokens": 812,
            "output_tokens": 64,
            "cost_usd": 0.0027,
            "attributes": {"temperature": 0.2},
        },
        {
            "trace_id": _REFUND,
            "span_id": "c3d4e5f60718293a",
            "parent_span_id": "a1b2c3d4e5f60718",
            "ordinal": 2,
            "kind": "tool",
            "name": "create_return_label",
            "started_at": "2026-01-05T10:00:03Z",
            "ended_at": "2026-01-05T10:00:04Z",
            "status": "error",
            "status_message": "printer queue timed out, retried",
            "input": '{"order": "A-1009"}',
            "output": '{"label": "https://shop.example/l/1"}',
            "links": [{"trace_id": _DELIVERY, "span_id": "d4e5f60718293a4b"}],
        },
    ),
    "signals": (
        {
            "signal_id": "fb-1",
            "trace_id": _REFUND,
            "user_id": "u-1042",
            "kind": "thumb",
            "name": "helpful",
            "value": 1,
            "solicited": True,
            "propensity": 0.1,
            "annotator_kind": "user",
            "occurred_at": "2026-01-05T10:01:10Z",
        },
        {
            "signal_id": "fb-2",
            "session_id": "s-91",
            "user_id": "u-2210",
            "kind": "comment",
            "text": "It never told me where the parcel is.",
            "annotator_kind": "user",
            "occurred_at": "2026-01-05T10:15:00Z",
            "metadata": {"language": "en"},
        },
        {
            "signal_id": "ev-3",
            "trace_id": _REFUND,
            "user_id": "u-1042",
            "kind": "click",
            "item": "return-label",
            "value": 1,
            "position": 1,
            "occurred_at": "2026-01-05T10:02:00Z",
        },
    ),
}


def template_name(kind: LayoutKind, form: TemplateFormat) -> str:
    """The file name under which a template is downloaded."""
    return f"trimtab-{kind}.{form}"


def template(kind: LayoutKind, form: TemplateFormat) -> bytes:
    """A template file in UTF-8: all columns of the layout in CSV, the ones with a value in JSONL."""
    if form == "jsonl":
        lines = ({key: value for key, value in row.items() if value is not None} for row in _ROWS[kind])
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, [column.name for column in LAYOUTS[kind]], restval="", lineterminator="\n")
    writer.writeheader()
    for row in _ROWS[kind]:
        writer.writerow({key: _csv_cell(value) for key, value in row.items()})
    return stream.getvalue().encode()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
