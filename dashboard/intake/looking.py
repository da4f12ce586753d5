"""Looking at a received file: what it is and what its first records become, kept until something about it changes."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from pipelines.ingest.inspection import Inspection, inspect
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.readers import open_records
from pipelines.ingest.uploads import Upload
from store import sources
from store.connection import Store
from store.errors import FileRejected, TrimtabError

__all__ = ["Look", "forget", "look", "remembered"]

T = TypeVar("T")

_SEEN = "data_seen"


@dataclass(frozen=True)
class Look:
    """The beginning of a file: its `columns` and first records (`sample`), and what loading would make of them.

    Without an `inspection` there is a `problem`: the file cannot be loaded as it is. With columns all the same, it can
    be once they are mapped.
    """

    columns: list[str]
    sample: list[dict[str, Any]]
    inspection: Inspection | None
    problem: str | None = None


def look(store: Store, key: str, upload: Upload, *, source: str | None, mapping: Mapping | None) -> Look:
    """Inspect a file (`key` is the browser's for it); `source` and `mapping` as the operator stated them."""
    saved = tuple(sources.all_saved(store)["updated_at"].to_list())
    fingerprint = (source, mapping.to_json() if mapping else None, saved if mapping is None else None)
    return remembered(key, "stated" if mapping else "found", fingerprint, lambda: _look(store, upload, source, mapping))


def remembered(key: str, name: str, fingerprint: Hashable, make: Callable[[], T]) -> T:
    """What `make` gave for this file under this name, made again when the fingerprint differs."""
    seen: dict[str, dict[str, tuple[Hashable, Any]]] = st.session_state.setdefault(_SEEN, {})
    kept = seen.setdefault(key, {})
    if name not in kept or kept[name][0] != fingerprint:
        kept[name] = (fingerprint, make())
    value: T = kept[name][1]
    return value


def forget(key: str) -> None:
    """Let go of what is known of a file."""
    st.session_state.setdefault(_SEEN, {}).pop(key, None)


def _look(store: Store, upload: Upload, source: str | None, mapping: Mapping | None) -> Look:
    try:
        inspection = inspect(store, upload.path, file=upload.file, source=source, mapping=mapping)
    except TrimtabError as error:
        columns, sample = _beginning(upload)
        return Look(columns, sample, None, str(error))
    return Look(inspection.columns, inspection.sample, inspection)


def _beginning(upload: Upload) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and first records of a file that is readable but not recognised; nothing of one that is not."""
    try:
        opened = open_records(upload.path, file=upload.file)
    except FileRejected:
        return [], []
    try:
        return list(opened.columns), opened.sample
    except FileRejected:
        return [], []
    finally:
        opened.close()
