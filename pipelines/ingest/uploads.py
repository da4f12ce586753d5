"""Files sent through the browser: kept beside the store until they are loaded, so that a kill loses none of them.

Each upload is a folder with the file and a note of how it is to be loaded. The note is written last, when the operator
says "load": a folder without one was never asked for and is cleared at the next start.
"""

import json
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.ingest.loads import Loads, LoadStatus
from pipelines.ingest.mapping import Mapping

_NOTE = "load.json"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Upload:
    """A received file: its folder, and its name as the sender calls it."""

    folder: Path
    file: str

    @property
    def path(self) -> Path:
        """Where the bytes are; never under a name that the sender chose."""
        return self.folder / "content"


class Uploads:
    """The folder of received files of one store."""

    def __init__(self, folder: Path, loads: Loads) -> None:
        self._folder = folder
        self._loads = loads

    def receive(self, stream: BinaryIO, file: str) -> Upload:
        """Keep the bytes of a sent file; `file` is its name for people and never becomes a path."""
        upload = Upload(self._folder / uuid.uuid4().hex, display_name(file))
        upload.folder.mkdir(parents=True)
        with upload.path.open("wb") as target:
            shutil.copyfileobj(stream, target, _BLOCK)
        return upload

    def submit(self, upload: Upload, *, source: str | None = None, mapping: Mapping | None = None) -> str:
        """Queue a received file for loading; returns the id of the load."""
        note = {"file": upload.file, "source": source, "mapping": mapping.to_json() if mapping else None}
        draft = upload.folder / f"{_NOTE}.part"
        draft.write_text(json.dumps(note), encoding="utf-8")
        draft.replace(upload.folder / _NOTE)
        return self._queue(upload, source, mapping)

    def discard(self, upload: Upload) -> None:
        """Forget a received file that is not going to be loaded."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    def resume(self) -> list[str]:
        """After a start: queue what was asked for and not loaded yet, clear the rest; returns the ids of the loads."""
        if not self._folder.is_dir():
            return []
        queued = []
        for folder in sorted(self._folder.iterdir()):
            note = folder / _NOTE
            if not note.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                continue
            stated = json.loads(note.read_text(encoding="utf-8"))
            mapping = Mapping.from_json(stated["mapping"]) if stated["mapping"] else None
            queued.append(self._queue(Upload(folder, stated["file"]), stated["source"], mapping))
        return queued

    def _queue(self, upload: Upload, source: str | None, mapping: Mapping | None) -> str:
        def ended(status: LoadStatus) -> None:
            if status.state != "stopped":
                self.discard(upload)

        return self._loads.submit(upload.path, file=upload.file, source=source, mapping=mapping, after=ended)


def display_name(file: str) -> str:
    """A sender's file name made safe to show: its last part, without control characters, at most 200 long."""
    last = re.split(r"[\\/]", file)[-1]
    return re.sub(r"[\x00-\x1f\x7f]", "", last)[:200] or "upload"
