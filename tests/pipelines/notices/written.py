"""Notices, routes and messages in few words."""

from datetime import UTC, datetime
from typing import Any

from pipelines.notices.message import Message
from store import notice_routes, notices
from store.connection import Store
from store.notice_route import Route, Webhook

BASE = "http://127.0.0.1:8501"
MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def post(store: Store, key: str = "incident 1", **more: Any) -> int:
    """Post a notice."""
    given: dict[str, Any] = {
        "kind": "incident", "key": key, "title": f"About {key}", "text": "What was seen.", "severity": "warning",
        "page": "drift", "query": {"incident": key}, **more,
    }  # fmt: skip
    return store.write(lambda connection: notices.post(connection, store.clock.now(), **given))


def close(store: Store, key: str = "incident 1") -> bool:
    """What a notice is about is over."""
    return store.write(lambda connection: notices.close(connection, store.clock.now(), key))


def hook(store: Store, url: str = "https://example.com/hook", name: str = "chat", **more: Any) -> int:
    """A route to a webhook that groups nothing."""
    route = Route(name, Webhook(url), **{"group_minutes": 0, **more})
    return notice_routes.add(store, route, operator="ada")


def row(**more: Any) -> dict[str, Any]:
    """A notice as a message carries it."""
    return {
        "notice_id": 7, "kind": "incident", "notice_key": "incident 1", "severity": "warning", "title": "Rewards fell",
        "text": "In segment new.", "page": "drift", "query": '{"incident": "1 a"}', "posted_at": MOMENT, "times": 1,
        "last_at": MOMENT, "closed_at": None, "closed_by": None, **more,
    }  # fmt: skip


def message(*rows: dict[str, Any], **more: Any) -> Message:
    """A message of these notices."""
    given: dict[str, Any] = {"delivery_id": "d1", "attempt": 1, "route": "chat", "sent_at": MOMENT, "base": BASE}
    return Message(notices=rows or (row(),), **{**given, **more})
