"""The job `backup`: copies the store while it is in use, verifies the copy by restoring it, removes what is surplus.

A copy that could not be made is tried again as any failed job. One that could not be verified stays, as a notice and a
failed run; the next is made when the next is due, so that a fault that lasts does not fill the disk.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.backups.rotation import Kept, surplus
from pipelines.compute import Compute, here
from pipelines.jobs import JobContext, JobResult
from store import audit, backup_check, backup_settings
from store.backup import backup
from store.backup_settings import BackupSettings
from store.connection import Store
from store.errors import ActionRefused, JobError, TrimtabError
from store.settings import Settings

__all__ = ["Made", "NotVerified", "has_work", "make", "remove_outdated", "rotate", "run"]


class NotVerified(JobError):
    """A backup was made and is not known to be sound."""


@dataclass(frozen=True)
class Made:
    """A backup: its id, file, rows over all tables, bytes; `problem` says why it could not be verified."""

    backup_id: int
    path: Path
    rows: int
    bytes: int
    seconds: float
    verify_seconds: float | None
    problem: str | None


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a backup is due."""
    latest, _ = backup_settings.newest(store)
    return backup_settings.due(backup_settings.settings(store), latest, store.clock.now())


def run(context: JobContext) -> JobResult:
    """Make a backup now, whether one is due or not. Raises: `StoreError`, `ActionRefused`, `NotVerified`."""
    if context.store.path is None:
        return JobResult(0, "This store is in memory only: there is no file to copy.")
    try:
        made = make(context.store, compute=context.compute, report=context.progress)
    finally:
        backup_settings.watch(context.store)
    if made.problem is not None:
        raise NotVerified(f"{made.path} was made and could not be verified: {made.problem}")
    checked = "" if made.verify_seconds is None else f", restored and verified in {made.verify_seconds:.1f} s"
    return JobResult(
        made.rows, f"{made.path.name}: {made.rows:,} rows, {made.bytes:,} bytes in {made.seconds:.1f} s{checked}."
    )


def make(
    store: Store,
    *,
    by: str = audit.SYSTEM,
    compute: Compute = here,
    report: Callable[[float, str], None] = lambda fraction, message: None,
) -> Made:
    """Make a backup in the folder of the settings, verify it where they say so, and remove what is surplus.

    Args: `compute` where verifying is done; `report(fraction, message)` is told how far it is.
    Raises: `ActionRefused`, `DiskFull`, `StoreError` when it could not be made. Not verified is no error here.
    """
    chosen = backup_settings.settings(store)
    folder = _folder(store, chosen)
    now, started = store.clock.now(), time.monotonic()
    report(0.0, "copying")
    copied = backup(store, _free_name(folder, store, now.strftime("%Y%m%dT%H%M%SZ")))
    seconds = time.monotonic() - started
    backup_id = backup_settings.made(
        store, path=copied.path, made_at=now, bytes=copied.bytes, rows=copied.rows, seconds=seconds, by=by
    )
    problem, verify_seconds = None, None
    if chosen.verify:
        report(0.5, "restoring the copy to verify it")
        begun = time.monotonic()
        try:
            checked = compute(backup_check.check, copied.path, folder, copied.counts)
            problem = "; ".join(checked.problems) or None
            rows, newest = checked.audit_rows, checked.newest_hash
        except TrimtabError as error:
            problem, rows, newest = str(error), 0, ""
        verify_seconds = time.monotonic() - begun
        backup_settings.verified(
            store, backup_id, seconds=verify_seconds, audit_rows=rows, newest_hash=newest, problem=problem
        )
    report(0.9, "removing what is surplus")
    rotate(store)
    return Made(backup_id, copied.path, copied.rows, copied.bytes, seconds, verify_seconds, problem)


def rotate(store: Store) -> list[int]:
    """Remove the files of surplus backups, and note those that are gone; returns the ids of the removed ones.

    Only what the job itself has made and still bears the name it gave is ever removed.
    """
    chosen, listed = backup_settings.settings(store), backup_settings.held(store).to_dicts()
    missing = [row["backup_id"] for row in listed if not Path(row["path"]).is_file()]
    backup_settings.removed(store, missing, by=audit.SYSTEM, why="the file is no longer there")
    there = [
        # What was cut short while it was verified is not known to be sound.
        Kept(row["backup_id"], row["made_at"], row["verified_at"] is not None or not (chosen.verify or row["problem"]))
        for row in listed
        if row["backup_id"] not in missing
    ]
    gone = surplus(there, daily=chosen.keep_daily, weekly=chosen.keep_weekly)
    _remove(store, gone, by=audit.SYSTEM, why=f"{chosen.keep_daily} days and {chosen.keep_weekly} weeks are kept")
    return gone


def remove_outdated(store: Store, *, by: str) -> int:
    """Remove the backups made before somebody was last forgotten, which still hold them; returns how many.

    Raises: `ActionRefused` while there is no verified backup made after that.
    """
    since = backup_settings.forgotten_since(store)
    listed = backup_settings.held(store).to_dicts()
    old = [row["backup_id"] for row in listed if since is not None and row["made_at"] <= since]
    if old and not any(row["backup_id"] not in old and row["verified_at"] is not None for row in listed):
        raise ActionRefused(
            "Remove old backups", "there is no verified backup made after that.", "Back up first, then remove."
        )
    _remove(store, old, by=by, why="made before somebody was forgotten")
    return len(old)


def _remove(store: Store, backup_ids: list[int], *, by: str, why: str) -> None:
    for backup_id in backup_ids:
        Path(str(backup_settings.get(store, backup_id)["path"])).unlink(missing_ok=True)
    backup_settings.removed(store, backup_ids, by=by, why=why)


def _folder(store: Store, chosen: BackupSettings) -> Path:
    """The folder of backups, made when missing, without what a killed process left in it."""
    folder = backup_settings.folder_of(store, chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob(f".{_stem(store)}-*.duckdb.*.part*"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise ActionRefused(
            f"Backing up to {folder}", f"it cannot be written ({error.strerror or error}).", "Name another folder."
        ) from error
    backup_check.sweep(folder)
    return folder


def _free_name(folder: Path, store: Store, stamp: str) -> Path:
    """A name that says whose backup it is and of when, and that nothing has yet."""
    path, number = folder / f"{_stem(store)}-{stamp}.duckdb", 1
    while path.exists():
        number += 1
        path = folder / f"{_stem(store)}-{stamp}-{number}.duckdb"
    return path


def _stem(store: Store) -> str:
    return store.path.stem if store.path is not None else "memory"
