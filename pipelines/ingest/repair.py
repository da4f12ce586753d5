"""The rejects of a batch as a file of the same shape, to be repaired and sent again."""

import csv
import io
import json
from pathlib import PurePath
from typing import Any

from store import batches
from store.connection import Store

# More rejects than this are not a matter of repairing by hand; the file says so in its name.
LIMIT = 100_000


def shape(container: str, columns: list[str], delimiter: str | None) -> dict[str, Any]:
    """What a batch has to remember for its reject file: kept in its fidelity report."""
    return {"container": container, "columns": columns if delimiter else [], "delimiter": delimiter}


def rejects_file(store: Store, batch_id: int) -> tuple[str, bytes]:
    """(file name, bytes): the rejected records as they came, under the header of the file they came from.

    Records longer than what a reject keeps are left out: they cannot be repaired from here. Raises: `NotFound`.
    """
    batch = batches.one(store, batch_id)
    repair = json.loads(batch["fidelity"] or "{}").get("repair", {})
    rows = batches.rejects(store, batch_id, limit=LIMIT).filter(~batches.TRUNCATED)
    raws = [raw for raw in rows["raw"].to_list() if raw is not None]
    stem = PurePath(batch["file_name"]).name.split(".")[0] or "file"
    if repair.get("container") == "json":
        # In valid JSON line ends stand between values only, so a record of a document fits on a line.
        raws = [" ".join(raw.splitlines()) for raw in raws]
    if repair.get("delimiter"):
        header = io.StringIO()
        csv.writer(header, delimiter=repair["delimiter"], lineterminator="\n").writerow(repair["columns"])
        return f"{stem}.rejects.csv", (header.getvalue() + _lines(raws)).encode()
    return f"{stem}.rejects.jsonl", _lines(raws).encode()


def _lines(raws: list[str]) -> str:
    return "".join(raw if raw.endswith("\n") else raw + "\n" for raw in raws)
