"""One person's data as a ZIP of JSON Lines files, one a table, with a note on what is in it."""

import io
import json
import zipfile
from datetime import datetime
from typing import Final

import polars as pl

from store import audit, user_export
from store.connection import Store
from store.errors import NotFound

__all__ = ["archive", "document"]

_ABOUT: Final = """What this Trimtab store holds of one person, made {moment}.

Each file is a table, one JSON object a line. traces, trace_records, spans and signals are what agents sent of their
conversations; decisions and exposures which variant and which lessons they were given; the other files what was worked
out from these. Times are UTC. Lessons are not in it: they are about what agents do, not about a person.
"""


def archive(store: Store, user_id: str, *, operator: str) -> bytes:
    """The ZIP file. It is named in the audit log by the person's id, which goes when they are forgotten.

    Raises: `ActionRefused` without a person's name; `NotFound` when the store holds nothing of them.
    """
    audit.person("Export a user's data", operator)
    moment = store.clock.now()
    buffer = io.BytesIO()
    counts = {}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        stamp = moment.timetuple()[:6]
        for table, frame in user_export.tables(store, user_id):
            counts[table] = frame.height
            _add(file, f"{table}.jsonl", _lines(frame), stamp)
        _add(file, "README.txt", _ABOUT.format(moment=moment.isoformat()), stamp)
    _noted(store, moment, user_id, operator, counts)
    return buffer.getvalue()


def document(store: Store, user_id: str, *, operator: str) -> str:
    """The same as one JSON document: table names to lists of rows. Raises: as `archive`."""
    audit.person("Export a user's data", operator)
    moment = store.clock.now()
    held = {table: _rows(frame) for table, frame in user_export.tables(store, user_id)}
    _noted(store, moment, user_id, operator, {table: len(rows) for table, rows in held.items()})
    return json.dumps(held, ensure_ascii=False, indent=1)


def _noted(store: Store, moment: datetime, user_id: str, operator: str, counts: dict[str, int]) -> None:
    if not counts:
        raise NotFound("user", user_id)
    user_export.note(store, moment, user_id, operator, counts)


def _add(file: zipfile.ZipFile, name: str, text: str, stamp: tuple[int, ...]) -> None:
    entry = zipfile.ZipInfo(name, (stamp[0], stamp[1], stamp[2], stamp[3], stamp[4], stamp[5]))
    entry.compress_type = zipfile.ZIP_DEFLATED
    file.writestr(entry, text.encode("utf-8", "surrogatepass"))


def _lines(frame: pl.DataFrame) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(frame))


def _rows(frame: pl.DataFrame) -> list[dict[str, object]]:
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]
