"""Forgetting a person: in the store, and what lies beside it that the store cannot rewrite, named file by file.

Files that operators put somewhere themselves (the inbox's `done` and `failed`, uploads, earlier stores moved aside,
backups) are never changed: the report names those that hold the person's id, and backups it cannot look into.
"""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from pipelines.lessons import review
from store import backup_settings, forgetting
from store.connection import Store
from store.forgetting import Preview, Report
from store.settings import Settings
from store.tombstones import Refuse

__all__ = ["files_naming", "forget", "preview"]

_BLOCK: Final = 1 << 20
_BESIDE: Final = (".uploads", ".staging", ".decisions", ".pulls", ".files")
_MOST_FILES: Final = 10_000
# Compressed inside, so that its bytes say nothing.
_OPAQUE: Final = (".duckdb", ".parquet", ".arrow")


def preview(store: Store, user_id: str) -> Preview:
    """What forgetting a user would do; nothing is changed. Raises: `NotFound`."""
    return forgetting.preview(store, user_id)


def forget(
    store: Store, settings: Settings, user_id: str, *, operator: str, refuse: Refuse = "late", reason: str = ""
) -> Report:
    """Forget a user; `files` of the report are those beside the store that still name them, or may.

    Raises: `ActionRefused`, `NotFound`, `DiskFull`, `StoreError`.
    """
    report = forgetting.forget(store, user_id, operator=operator, render=review.render, refuse=refuse, reason=reason)
    made = [Path(path) for path in backup_settings.held(store)["path"]]
    return replace(report, files=tuple(files_naming(settings, user_id, backups=made)))


def files_naming(settings: Settings, user_id: str, *, backups: Sequence[Path] = ()) -> list[str]:
    """Files beside the store in which the id occurs, and stores and backups that may hold it, in order of name.

    `backups` are those that the job `backup` made, wherever it put them.
    """
    db = settings.db.resolve()
    wanted = user_id.encode("utf-8", "surrogatepass")
    found = [
        f"{path} (an earlier store or a backup: not looked into)"
        for path in sorted(db.parent.glob("*"))
        if path.is_file() and path != db and (path.suffix == ".duckdb" or ".before-restore-" in path.name)
    ]
    found += [
        f"{path} (a backup made before: it holds them until it is removed on the Backup tab or by the rotation)"
        for path in sorted(backups)
        if path.is_file()
    ]
    for number, path in enumerate(_files(settings, db)):
        if number >= _MOST_FILES:
            found.append(f"{path} and what comes after it was not looked into")
            break
        if path.suffix in _OPAQUE:
            found.append(f"{path} (not looked into)")
        elif _holds(path, wanted):
            found.append(str(path))
    return found


def _files(settings: Settings, db: Path) -> Iterator[Path]:
    folders = [
        settings.inbox.resolve(),
        *(db.with_name(db.name + end) for end in _BESIDE),
    ]
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _holds(path: Path, wanted: bytes) -> bool:
    """Whether the bytes occur in a file, compressed or not; a file that cannot be read says no."""
    with suppress(OSError, EOFError, zstandard.ZstdError), _plain(path) as file:
        tail = b""
        while block := file.read(_BLOCK):
            if wanted in tail + block:
                return True
            tail = block[-len(wanted) :]
    return False


def _plain(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if head == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")
