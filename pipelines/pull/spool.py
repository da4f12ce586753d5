"""The files in which pulled records wait to be loaded, beside the store, one folder a source.

Files only grow, a page at a time, and each page is on disk before the cursor after it is kept. So what a kill leaves is
cut back to the sizes that were kept with the cursor, and the same page comes again.

`seen` files hold the hashes of what the latest whole pull brought. The next pull overlaps it, and what is in there
word for word is left out, so that no batch of mere duplicates is loaded every few minutes. A `seen` file belongs to one
state of the store, by the moment in its name: one that a restored backup knows nothing of is ignored.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pipelines.pull.systems import Record
from store.connection import Store
from store.errors import DiskFull

_DIGEST: Final = 16
_MOST_DIGESTS: Final = 1_000_000
_NEXT: Final = "seen.next"
ASIDE: Final = "rejected"


def folder_of(store: Store, name: str) -> Path:
    """Where the files of a source lie."""
    return store.folder("pulls") / name


def discard(store: Store, name: str) -> None:
    """Remove all files of a source."""
    shutil.rmtree(folder_of(store, name), ignore_errors=True)


class Spool:
    """The files of one source during one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noted = 0
        self._seen: frozenset[bytes] = frozenset()

    def restore(self, sizes: dict[str, int], noted: int, completed_at: datetime | None) -> bool:
        """Bring the folder to where the kept progress says it is; False when something of that is missing.

        Args: `sizes` of the files and of the hashes `noted`, in bytes; `completed_at` of the latest whole pull.
        """
        seen = _seen_name(completed_at) if completed_at is not None else None
        with _room(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if path.name not in sizes and path.name not in (seen, _NEXT, ASIDE):
                    path.unlink()
            self.noted = _cut(self.folder / _NEXT, noted)
            whole = all(_cut(self.folder / name, size) == size for name, size in sizes.items())
            held = self.folder / seen if seen is not None else None
            content = held.read_bytes() if held is not None and held.exists() else b""
        self._seen = frozenset(content[at : at + _DIGEST] for at in range(0, len(content), _DIGEST))
        return whole

    def append(self, names: dict[str, str], records: dict[str, list[Record]]) -> dict[str, int]:
        """Write the records of a page; returns the sizes of the files written to, which are on disk by then.

        Args: `names` of the file of each kind of record; `records` by kind. What was seen before is left out.
        """
        sizes: dict[str, int] = {}
        digests: list[bytes] = []
        with _room(self.folder):
            for kind, some in records.items():
                lines = []
                for record in some:
                    # Escapes keep half characters, which other systems let through, out of the file's bytes.
                    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
                    digest = hashlib.blake2b(line, digest_size=_DIGEST).digest()
                    digests.append(digest)
                    if digest not in self._seen:
                        lines.append(line)
                if lines:
                    sizes[names[kind]] = _extend(self.folder / names[kind], b"".join(lines))
            if digests and self.noted < _MOST_DIGESTS * _DIGEST:
                self.noted = _extend(self.folder / _NEXT, b"".join(digests))
        return sizes

    def remove(self, name: str) -> None:
        """Remove a file whose records are in the store."""
        (self.folder / name).unlink(missing_ok=True)

    def put_aside(self, name: str) -> Path:
        """Keep a file that cannot be loaded; returns where."""
        target = self.folder / ASIDE / name
        with _room(self.folder):
            target.parent.mkdir(exist_ok=True)
            return (self.folder / name).replace(target)

    def complete(self, completed_at: datetime) -> None:
        """Keep what this pull has seen for the next one. Call when all of it is in the store."""
        target = _seen_name(completed_at)
        for path in self.folder.glob("seen-*"):
            path.unlink()
        upcoming = self.folder / _NEXT
        if upcoming.exists():
            upcoming.replace(self.folder / target)


def _seen_name(completed_at: datetime) -> str:
    return f"seen-{completed_at.astimezone(UTC):%Y%m%dT%H%M%S%f}"


def _cut(path: Path, size: int) -> int:
    """Cut a file back to a size; returns the size it then has, 0 when it is not there."""
    if not path.exists():
        return 0
    if path.stat().st_size > size:
        os.truncate(path, size)
    return path.stat().st_size


def _extend(path: Path, content: bytes) -> int:
    """Append to a file; returns its size, on disk by then."""
    new = not path.exists()
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return size


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Say in words that a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(folder, f"keeping pulled records: {error}") from error
        raise
