"""Files sent through the browser: kept beside the store until they are loaded, so that a kill loses none of them.

Each upload is a folder with the file and a note of how it is to be loaded. The note is written last, when the operator
says "load": a folder without one was never asked for and is cleared at the next start.
"""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.ingest.load import shown
from pipelines.ingest.loads import Loads, LoadStatus
from pipelines.ingest.mapping import Mapping, MappingError
from store.errors import DiskFull

_NOTE = "load.json"
_BLOCK = 1 << 20
_LONGEST_NAME = 200

# Folders begin with the process that received them: what this one receives is no leftover of an earlier one.
_PROCESS = uuid.uuid4().hex[:8]


@dataclass(frozen=True)
class Upload:
    """A received file: its folder, and its name as the sender calls it."""

    folder: Path
    file: str

    @property
    def path(self) -> Path:
        """Where the bytes are; never under a name that the sender chose."""
        return self.folder / "content"


@dataclass(frozen=True)
class _Note:
    """How a file is to be loaded; `actor` said so at `asked_ns`."""

    file: str
    source: str | None
    mapping: Mapping | None
    actor: str | None
    asked_ns: int


class Uploads:
    """The folder of received files of one store; `process` names who receives them."""

    def __init__(self, folder: Path, loads: Loads, *, process: str = _PROCESS) -> None:
        self._folder = folder
        self._loads = loads
        self._process = process

    def receive(self, stream: BinaryIO, file: str) -> Upload:
        """Keep the bytes of a sent file; `file` is its name for people and never becomes a path. Raises: `DiskFull`."""
        with self.receiving(file) as (upload, target):
            shutil.copyfileobj(stream, target, _BLOCK)
        return upload

    @contextmanager
    def receiving(self, file: str) -> Iterator[tuple[Upload, BinaryIO]]:
        """A file that is being received: write its bytes to the stream; they are on disk when the block ends.

        Whatever the block raises, the part that came is forgotten. Raises: `DiskFull`.
        """
        upload = Upload(self._folder / f"{self._process}-{uuid.uuid4().hex}", display_name(file))
        try:
            upload.folder.mkdir(parents=True)
            with upload.path.open("wb") as target:
                yield upload, target
                target.flush()
                os.fsync(target.fileno())
        except BaseException as error:
            self.discard(upload)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(self._folder, f"{upload.file}: {error.strerror}") from error
            raise

    def submit(
        self, upload: Upload, *, actor: str | None, source: str | None = None, mapping: Mapping | None = None
    ) -> str:
        """Queue a received file for loading; returns the id of the load. `actor` is whom the audit log names."""
        note = {
            "file": upload.file, "source": source, "mapping": mapping.to_json() if mapping else None, "actor": actor,
        }  # fmt: skip
        draft = upload.folder / f"{_NOTE}.part"
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(note, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(upload.folder / _NOTE)
        return self._queue(upload, source, mapping, actor)

    def discard(self, upload: Upload) -> None:
        """Forget a received file that is not going to be loaded."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    def resume(self) -> list[str]:
        """After a start: queue, in the order they were asked for, the files that earlier processes did not load.

        What was received and never asked for is cleared. Returns the ids of the loads.
        """
        if not self._folder.is_dir():
            return []
        asked = []
        for folder in self._folder.iterdir():
            if folder.name.startswith(f"{self._process}-"):
                continue
            note = _read_note(folder)
            if note is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                asked.append((note.asked_ns, folder, note))
        return [
            self._queue(Upload(folder, note.file), note.source, note.mapping, note.actor)
            for _, folder, note in sorted(asked, key=lambda entry: entry[:2])
        ]

    def _queue(self, upload: Upload, source: str | None, mapping: Mapping | None, actor: str | None) -> str:
        def ended(status: LoadStatus) -> None:
            # Of a file that is being published, what is staged is enough to go on.
            staged = status.progress is not None and status.progress.phase == "publishing"
            if status.state != "stopped" or staged:
                self.discard(upload)

        return self._loads.submit(
            upload.path, file=upload.file, source=source, mapping=mapping, actor=actor, after=ended
        )


def display_name(file: str) -> str:
    """A sender's file name made safe to show: its last part, without control characters, at most 200 long."""
    last = re.split(r"[\\/]", file)[-1]
    return shown(re.sub(r"[\x00-\x1f\x7f]", "", last))[:_LONGEST_NAME] or "upload"


def _read_note(folder: Path) -> _Note | None:
    """The note in an upload's folder; None when there is none or it cannot be used."""
    try:
        path = folder / _NOTE
        stated = json.loads(path.read_text(encoding="utf-8"))
        mapping = Mapping.from_json(stated["mapping"]) if stated["mapping"] else None
        # A version before this one did not say who.
        return _Note(str(stated["file"]), stated["source"], mapping, stated.get("actor"), path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, MappingError):
        return None
