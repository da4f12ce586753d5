"""What the command line asks about privacy and the audit log, in words that JSON can hold."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from pipelines.privacy import forget, user_data
from store import audit
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings

__all__ = ["ACTIONS", "act"]

Told = Mapping[str, Any]


def act(store: Store, settings: Settings, action: str, told: Told) -> dict[str, Any]:
    """Do an action of ACTIONS. Raises: `ActionRefused`, `NotFound`, `StoreError`, `DiskFull`."""
    work = ACTIONS.get(action)
    if work is None:
        raise ActionRefused("privacy", f"there is no action {action!r}.", f"Use one of {', '.join(ACTIONS)}.")
    try:
        return work(store, settings, told)
    except (KeyError, TypeError, ValueError) as error:
        raise ActionRefused(f"privacy {action}", f"it was told too little or amiss ({error}).", "See --help.") from None


def _preview(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    return asdict(forget.preview(store, told["user_id"]))


def _forget(store: Store, settings: Settings, told: Told) -> dict[str, Any]:
    report = forget.forget(
        store, settings, told["user_id"], operator=told["operator"], refuse=told.get("refuse", "late"),
        reason=told.get("reason", ""),
    )  # fmt: skip
    return {**asdict(report), "forgotten_at": report.forgotten_at.isoformat()}


def _export_user(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    packed = user_data.archive(store, told["user_id"], operator=told["operator"])
    return {"zip": base64.b64encode(packed).decode("ascii")}


def _verify(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    return {"first_tampered": audit.verify(store), "rows": audit.count(store), "newest_hash": audit.newest_hash(store)}


def _rows(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    """One block of the log, from `after` on: the command asks until there are no more."""
    since, until = (datetime.fromisoformat(told[name]) if told.get(name) else None for name in ("since", "until"))
    chosen = audit.Filter(
        told.get("actor"), told.get("action_named"), told.get("subject"), told.get("text"), since, until
    )
    block = audit.block(store, chosen, after=int(told.get("after", -1)))
    rows = [{**row, "occurred_at": row["occurred_at"].isoformat()} for row in block.iter_rows(named=True)]
    return {"rows": rows}


ACTIONS: Final[Mapping[str, Callable[[Store, Settings, Told], dict[str, Any]]]] = {
    "forget-preview": _preview,
    "forget": _forget,
    "export-user": _export_user,
    "audit-verify": _verify,
    "audit-rows": _rows,
}
