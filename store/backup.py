"""Backups: a consistent copy of the open store as one file, and putting such a file in the store's place.

A backup is taken while the store is in use: `COPY FROM DATABASE` in one transaction, on a cursor of its own. It is
written under a draft name and renamed when it is whole, so a file with the final name is always a complete backup.
Nothing is overwritten: restoring moves what it replaces aside.
"""

import contextlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import duckdb

from store import audit, migrate, notice_sources
from store.clock import Clock
from store.connection import HOLDER, Store, discard, flush
from store.errors import ActionRefused, DiskFull, StoreError, StoreLocked

# Publishing may hold about this much more than the data itself in the copy's log before it is folded in.
_ROOM_FACTOR = 1.2


@dataclass(frozen=True)
class Backup:
    """What a backup holds: `path` of the file, its size in bytes, and rows copied by table."""

    path: Path
    bytes: int
    counts: dict[str, int]

    @property
    def rows(self) -> int:
        """Rows over all tables."""
        return sum(self.counts.values())


def backup(store: Store, target: Path, *, by: str | None = None) -> Backup:
    """Copy the store as it is at this moment into a new file. That it failed is a notice, until one is made again.

    Args: `by` who asked for it, for the audit log of the store, which the copy was made before; None: no row.
    Raises: `ActionRefused` when the file exists or the store is in memory; `DiskFull`; `StoreError`.
    """
    try:
        made = _backup(store, target)
    except StoreError as failure:
        why = str(failure)
        with contextlib.suppress(StoreError):
            # What stopped the backup, such as a full disk, may stop this too.
            store.write(lambda connection: notice_sources.backup_failed(connection, store.clock.now(), why))
        raise

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        notice_sources.backup_made(connection, store.clock.now())
        if by is not None:
            detail = {"file": str(made.path), "rows": made.rows, "bytes": made.bytes}
            audit.append(connection, store.clock.now(), by, "backup make", "backup file", detail)

    store.write(work)
    return made


def _backup(store: Store, target: Path) -> Backup:
    target = target.resolve()
    action = f"Backing up to {target}"
    if store.path is None:
        raise ActionRefused(action, "this store lives in memory only.", "Open a file instead.")
    if target.exists():
        raise ActionRefused(action, "the file exists.", "Choose another name; a backup never overwrites.")
    if not target.parent.is_dir():
        raise ActionRefused(action, f"there is no folder {target.parent}.", "Make it first, or choose another.")
    needed, free = store.path.stat().st_size * _ROOM_FACTOR, shutil.disk_usage(target.parent).free
    if free < needed:
        raise DiskFull(target, f"the backup needs up to {needed:,.0f} bytes and {free:,} are free")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    discard(draft)
    try:
        counts = _copy(store, draft)
        # It holds everything that people said.
        draft.chmod(0o600)
        flush(draft)
        # Linking fails when the name was taken meanwhile, where renaming would overwrite.
        os.link(draft, target)
    except FileExistsError as error:
        raise ActionRefused(action, "the file exists.", "Choose another name; a backup never overwrites.") from error
    finally:
        discard(draft)
    return Backup(target, target.stat().st_size, counts)


def _copy(store: Store, draft: Path) -> dict[str, int]:
    """Copy all tables into a new file, in one transaction; returns how many rows of each the copy holds."""
    alias = f"backup_{os.getpid():d}_{threading.get_ident():d}"
    with store.borrowed_cursor() as cursor:
        present = cursor.execute("SELECT current_database()").fetchall()[0][0]
        cursor.execute(f"ATTACH {_quoted(str(draft), chr(39))} AS {alias} (STORAGE_VERSION 'v1.5.0')")
        try:
            cursor.execute("BEGIN TRANSACTION")
            cursor.execute(f"COPY FROM DATABASE {_quoted(present, chr(34))} TO {alias}")
            counts = _count(cursor, present)
            if counts != _count(cursor, alias):
                raise StoreError("The backup does not hold as many rows as the store; it was discarded.")
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        finally:
            # Detaching folds the copy's log into its file.
            cursor.execute(f"DETACH {alias}")
        return counts


def _count(cursor: duckdb.DuckDBPyConnection, database: str) -> dict[str, int]:
    """How many rows each table of an attached database holds."""
    tables = cursor.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = $database AND schema_name = 'main'",
        {"database": database},
    ).fetchall()
    quoted = _quoted(database, chr(34))
    return {
        table: int(cursor.execute(f'SELECT count(*) FROM {quoted}.main."{table}"').fetchall()[0][0])
        for (table,) in tables
    }


def _quoted(text: str, quote: str) -> str:
    """A name or literal for statements that take no parameters."""
    return quote + text.replace(quote, quote * 2) + quote


def restore(source: Path, db: Path, *, clock: Clock, force: bool = False) -> Path | None:
    """Put a backup in the place of the store's file; returns where the replaced file went, None when there was none.

    Args: `source` the backup, which stays; `db` the store's file, which no process may hold; `force` to replace one
    that exists: it is moved aside, never deleted.
    Raises: `ActionRefused`; `MigrationError` when the backup was made by a newer version; `StoreLocked`; `StoreError`.
    """
    source, db = source.resolve(), db.resolve()
    action = f"Restoring {source}"
    if not source.is_file():
        raise ActionRefused(action, "there is no such file.", "Check the name.")
    _verify(source, action)
    if db.exists():
        if source == db:
            raise ActionRefused(action, "it is the store itself.", "Name a backup.")
        _require_unheld(db)
        if not force:
            raise ActionRefused(action, f"{db} exists.", "Repeat with --force: the present file is then moved aside.")
    db.parent.mkdir(parents=True, exist_ok=True)
    draft = db.with_name(f".{db.name}.{os.getpid()}.part")
    discard(draft)
    try:
        try:
            shutil.copyfile(source, draft)
        except OSError as error:
            raise DiskFull(db, str(error)) if error.errno == 28 else StoreError(str(error)) from error
        flush(draft)
        aside = _move_aside(db, clock)
        draft.replace(db)
    finally:
        discard(draft)
    return aside


def forgotten_since(backup: Path, present: Path) -> int:
    """How many people the `present` store has forgotten since the backup was made, which still holds them.

    Both are files that no process holds; one that cannot be read, or is older than forgetting, tells of nobody.
    """
    digests: list[set[str]] = []
    for path in (backup, present):
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                rows = connection.execute("SELECT digest FROM forgotten WHERE kind = 'user'").fetchall()
        except duckdb.Error:
            rows = []
        digests.append({digest for (digest,) in rows})
    return len(digests[1] - digests[0])


def _verify(source: Path, action: str) -> None:
    """Refuse a file that is not a backup which this version can open. It is opened for reading only."""
    try:
        with duckdb.connect(str(source), read_only=True) as connection:
            recorded = dict(connection.execute("SELECT name, sha256 FROM schema_migrations").fetchall())
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise ActionRefused(action, f"it is not a backup of Trimtab ({reason}).", "Name another file.") from error
    if not recorded:
        raise ActionRefused(action, "it is not a backup of Trimtab (no migration recorded).", "Name another file.")
    migrate.check(recorded, migrate.known())


def _require_unheld(db: Path) -> None:
    """Refuse while another process holds the file. A damaged file, or one of another version, may be replaced."""
    try:
        duckdb.connect(str(db), read_only=True).close()
    except duckdb.Error as error:
        holder = HOLDER.search(str(error))
        if holder is not None:
            raise StoreLocked(db, int(holder["pid"]), holder["command"]) from error


def _move_aside(db: Path, clock: Clock) -> Path | None:
    """Move the store's file, its log and its staging folder out of the way, under one new name."""
    stamp = clock.now().strftime("%Y%m%dT%H%M%SZ")
    aside = db.with_name(f"{db.name}.before-restore-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = db.with_name(f"{db.name}.before-restore-{stamp}-{number}")
    for suffix in (".wal", ".staging"):
        companion = db.with_name(db.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    if not db.exists():
        return None
    db.rename(aside)
    return aside
