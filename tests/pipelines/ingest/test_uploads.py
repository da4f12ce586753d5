"""Files sent through the browser: kept until loaded, resumed at the next start, under names that nobody chose."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loading import table

from pipelines.ingest.loads import Loads
from pipelines.ingest.mapping import Mapping, Rule
from pipelines.ingest.transforms import Transform
from pipelines.ingest.uploads import Upload, Uploads, display_name
from store import batches
from store.connection import Store

_TABLE = b"trace_id,input,output\nt1,q1,a1\nt2,q2,a2\n"
_FOREIGN = b"k,said\nt1,hello\n"
_MAPPING = Mapping(
    "traces", (Rule("trace_id", "k", Transform.TEXT), Rule("input", "said", Transform.TEXT)), "desk"
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store" / "uploads"


@pytest.fixture
def loads(store: Store) -> Iterator[Loads]:
    opened = Loads(store)
    yield opened
    opened.close()


def _finish(loads: Loads) -> None:
    """Wait until everything queued has ended: the worker ends behind it."""
    loads._queue.put(None)
    loads._thread.join(60)
    assert not loads._thread.is_alive()


def test_an_upload_is_loaded_and_then_forgotten(store: Store, loads: Loads, folder: Path) -> None:
    uploads = Uploads(folder, loads)
    upload = uploads.receive(io.BytesIO(_TABLE), "traces.csv")
    assert upload.path.read_bytes() == _TABLE
    assert batches.recent(store).is_empty()
    load_id = uploads.submit(upload, actor="Ada")
    _finish(loads)
    status = loads.status(load_id)
    assert status is not None
    assert (status.state, status.file) == ("done", "traces.csv")
    assert list(folder.iterdir()) == []


def test_a_failed_upload_is_forgotten_too(loads: Loads, folder: Path) -> None:
    uploads = Uploads(folder, loads)
    load_id = uploads.submit(uploads.receive(io.BytesIO(b""), "empty.csv"), actor=None)
    _finish(loads)
    status = loads.status(load_id)
    assert status is not None
    assert "empty.csv: It is empty" in str(status.error)
    assert list(folder.iterdir()) == []


def test_a_discarded_upload_is_gone(loads: Loads, folder: Path) -> None:
    uploads = Uploads(folder, loads)
    uploads.discard(uploads.receive(io.BytesIO(_TABLE), "traces.csv"))
    assert list(folder.iterdir()) == []


def _stopped(store: Store, folder: Path, files: list[tuple[str, bytes, dict]]) -> None:
    """Uploads asked for in this order in a process that stops before any of them is loaded."""
    loads = Loads(store)
    uploads = Uploads(folder, loads, process="earlier")
    with store.ingest_lock:
        for second, (name, content, options) in enumerate(files):
            upload = uploads.receive(io.BytesIO(content), name)
            uploads.submit(upload, actor="Ada", **options)
            os.utime(upload.folder / "load.json", (second, second))
        loads.close()


def test_uploads_are_resumed_in_the_order_they_were_asked_for(store: Store, folder: Path) -> None:
    files = [(f"{name}.csv", _TABLE, {}) for name in "dacb"]
    _stopped(store, folder, [*files, ("foreign.csv", _FOREIGN, {"source": "elsewhere", "mapping": _MAPPING})])
    assert len(list(folder.iterdir())) == 5
    assert batches.recent(store).is_empty()
    loads = Loads(store)
    queued = Uploads(folder, loads).resume()
    _finish(loads)
    assert [loads.status(load_id).file for load_id in queued] == ["d.csv", "a.csv", "c.csv", "b.csv", "foreign.csv"]
    assert batches.recent(store)["file_name"].to_list() == ["foreign.csv", "b.csv", "c.csv", "a.csv", "d.csv"]
    assert table(store, "SELECT input FROM trace_records WHERE source = 'elsewhere'").rows() == [("hello",)]
    assert list(folder.iterdir()) == []


def test_what_was_never_asked_for_is_cleared_at_the_next_start(store: Store, loads: Loads, folder: Path) -> None:
    earlier = Uploads(folder, loads, process="earlier")
    earlier.receive(io.BytesIO(_TABLE), "forgotten.csv")
    (folder / "earlier-broken").mkdir()
    (folder / "earlier-broken" / "load.json").write_text("{")
    uploads = Uploads(folder, loads)
    arriving = uploads.receive(io.BytesIO(_TABLE), "arriving.csv")
    assert uploads.resume() == []
    assert list(folder.iterdir()) == [arriving.folder]
    assert Uploads(folder / "none", loads).resume() == []


_HOSTILE = {
    "../../etc/passwd": "passwd",
    "..\\..\\windows\\system.ini": "system.ini",
    "/etc/shadow": "shadow",
    "a\0b.csv": "ab.csv",
    "line\nbreak\x1b[31m.csv": "linebreak[31m.csv",
    "x" * 10_000: "x" * 200,
    "": "upload",
    "///": "upload",
    "caf\udce9.csv": "caf\\udce9.csv",
    "'; DROP TABLE traces; --.csv": "'; DROP TABLE traces; --.csv",
}


@pytest.mark.parametrize("name", _HOSTILE, ids=range(len(_HOSTILE)))
def test_the_senders_name_is_only_shown(store: Store, loads: Loads, folder: Path, name: str) -> None:
    assert display_name(name) == _HOSTILE[name]
    uploads = Uploads(folder, loads)
    upload: Upload = uploads.receive(io.BytesIO(_TABLE), name)
    assert upload.path.parent.parent == folder
    assert upload.path.name == "content"
    uploads.submit(upload, actor="Ada")
    _finish(loads)
    batch = batches.recent(store).to_dicts()[0]
    assert (batch["file_name"], batch["state"], batch["accepted"]) == (_HOSTILE[name], "done", 2)
    assert sorted(path.name for path in folder.parent.iterdir() if path.name != "uploads") == sorted(
        path.name for path in folder.parent.iterdir() if path.name.startswith("trimtab.duckdb")
    )
