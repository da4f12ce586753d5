"""Backups that are made by themselves: the settings, what is known of each backup made, and the notices about them."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from store import audit, meta, notices
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "BACKUPS", "DAILY", "MOST_KEPT", "BackupSettings", "asked", "due", "folder_of", "forgotten_since", "get", "held",
    "made", "newest", "put", "removed", "settings", "verified", "watch",
]  # fmt: skip

DAILY: Final = 24
MOST_KEPT: Final = 400
_AGE: Final = "backup age"
_UNSOUND: Final = "backup verification"

BACKUPS: Final = declare(
    {
        "backup_id": pl.Int64, "path": pl.String, "made_at": UTC_TIME, "bytes": pl.Int64, "table_rows": pl.Int64,
        "seconds": pl.Float64, "verified_at": UTC_TIME, "verify_seconds": pl.Float64, "audit_rows": pl.Int64,
        "newest_hash": pl.String, "problem": pl.String, "removed_at": UTC_TIME, "removed_by": pl.String,
    }
)  # fmt: skip
_COLUMNS: Final = ", ".join(BACKUPS.names())


@dataclass(frozen=True)
class BackupSettings:
    """Whether and how often backups are made, where, and how many are kept.

    `every_hours` 24 means once a day at `at_hour` (UTC), less means so long after the latest; `folder` None is the one
    beside the database; `keep_daily` and `keep_weekly` are numbers of days and weeks whose newest backup is kept.
    """

    enabled: bool = False
    every_hours: int = DAILY
    at_hour: int = 3
    folder: str | None = None
    keep_daily: int = 7
    keep_weekly: int = 4
    verify: bool = True

    @property
    def oldest_allowed(self) -> timedelta:
        """Two in a row were missed when the newest verified backup is older than this."""
        return timedelta(hours=2 * self.every_hours)


def settings(store: Store) -> BackupSettings:
    """The settings in force; the defaults, by which nothing is made, before anybody set them."""
    with store.read() as reader:
        rows = reader.any_frame(f"SELECT {', '.join(asdict(BackupSettings()))} FROM backup_settings").to_dicts()
    return BackupSettings(**rows[0]) if rows else BackupSettings()


def put(store: Store, wanted: BackupSettings, *, by: str) -> None:
    """Set when and where backups are made. Raises: `ActionRefused` naming what is out of range or cannot be written."""
    action = "Set backups"
    audit.person(action, by)
    _check(action, wanted)
    if wanted.folder is not None and not wanted.folder.strip():
        wanted = replace(wanted, folder=None)
    if wanted.enabled or wanted.folder is not None:
        _usable(action, store, folder_of(store, wanted))
    before = settings(store)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute("DELETE FROM backup_settings")
        connection.execute(
            """INSERT INTO backup_settings VALUES ($enabled, $every_hours, $at_hour, $folder, $keep_daily, $keep_weekly,
                $verify, $by, $now)""",
            {**asdict(wanted), "by": by, "now": now},
        )
        audit.append(connection, now, by, "backup set", "backups", {"before": asdict(before), "after": asdict(wanted)})
        if not wanted.enabled:
            notices.close(connection, now, _AGE)
        meta.bump(connection)

    store.write(work)


def folder_of(store: Store, chosen: BackupSettings) -> Path:
    """Where backups go. Raises: `ActionRefused` for a store in memory."""
    if store.path is None:
        raise ActionRefused("Backing up", "this store lives in memory only.", "Open a file instead.")
    if chosen.folder is None:
        return store.folder("backups")
    return (store.path.parent / Path(chosen.folder).expanduser()).resolve()


def due(chosen: BackupSettings, latest: datetime | None, now: datetime) -> bool:
    """Whether a backup is to be made, by when the latest was made: a time that was missed is caught up once."""
    if not chosen.enabled:
        return False
    if latest is None:
        return True
    if chosen.every_hours < DAILY:
        return now - latest >= timedelta(hours=chosen.every_hours)
    planned = now.replace(hour=chosen.at_hour, minute=0, second=0, microsecond=0)
    return latest < (planned if planned <= now else planned - timedelta(days=1))


def asked(store: Store, *, by: str) -> None:
    """Record that an operator asked for a backup now. Raises: `ActionRefused` without a person's name."""
    audit.person("Back up", by)
    store.write(lambda connection: audit.append(connection, store.clock.now(), by, "backup ask", "backups", {}))


def made(store: Store, *, path: Path, made_at: datetime, bytes: int, rows: int, seconds: float, by: str) -> int:
    """Record a backup that is not verified yet; returns its id. `by` who asked for it, `audit.SYSTEM` by schedule."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        found = connection.execute("SELECT coalesce(max(backup_id), 0) + 1 FROM backups").fetchall()
        backup_id = int(found[0][0])
        connection.execute(
            """INSERT INTO backups (backup_id, path, made_at, bytes, table_rows, seconds)
            VALUES ($id, $path, $made_at, $bytes, $rows, $seconds)""",
            {"id": backup_id, "path": str(path), "made_at": made_at, "bytes": bytes, "rows": rows, "seconds": seconds},
        )
        audit.append(
            connection, store.clock.now(), by, "backup make", f"backup {backup_id}", {"file": str(path), "rows": rows}
        )
        meta.bump(connection)
        return backup_id

    return store.write(work)


def verified(
    store: Store,
    backup_id: int,
    *,
    seconds: float,
    audit_rows: int | None = None,
    newest_hash: str | None = None,
    problem: str | None = None,
) -> None:
    """Record how verifying a backup ended: sound, or with a `problem`, which is a notice until a sound one is made."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute(
            """UPDATE backups SET verified_at = $at, verify_seconds = $seconds, audit_rows = $rows,
                newest_hash = $hash, problem = $problem WHERE backup_id = $id""",
            {
                "at": None if problem else now, "seconds": seconds, "rows": audit_rows, "hash": newest_hash,
                "problem": problem, "id": backup_id,
            },
        )  # fmt: skip
        if problem is None:
            notices.close(connection, now, _UNSOUND)
        else:
            notices.post(
                connection, now, kind="backup", key=_UNSOUND, severity="critical",
                title="A backup could not be verified", text=problem, page="settings", query={"settings": "Backup"},
            )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def removed(store: Store, backup_ids: list[int], *, by: str, why: str) -> None:
    """Record that the files of these backups are gone; `by` an operator, or `audit.SYSTEM` for the rotation."""
    if not backup_ids:
        return

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute(
            """UPDATE backups SET removed_at = $now, removed_by = $by
            WHERE backup_id IN (SELECT unnest($ids::BIGINT[])) AND removed_at IS NULL""",
            {"now": now, "by": by, "ids": backup_ids},
        )
        audit.append(connection, now, by, "backup remove", "backups", {"backups": sorted(backup_ids), "why": why})
        meta.bump(connection)

    store.write(work)


def held(store: Store, *, limit: int = 1_000) -> pl.DataFrame:
    """The backups that are not known to be gone, newest first (columns `BACKUPS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM backups WHERE removed_at IS NULL
            ORDER BY made_at DESC, backup_id DESC LIMIT $limit""",
            BACKUPS,
            {"limit": limit},
        )


def newest(store: Store) -> tuple[datetime | None, datetime | None]:
    """When the newest backup was made, and the newest that is verified; both of those that are still there."""
    with store.read() as reader:
        row = reader.frame(
            """SELECT max(made_at) AS made, max(made_at) FILTER (verified_at IS NOT NULL) AS verified
            FROM backups WHERE removed_at IS NULL""",
            pl.Schema({"made": UTC_TIME, "verified": UTC_TIME}),
        ).row(0)
    return row[0], row[1]


def forgotten_since(store: Store) -> datetime | None:
    """When somebody was last forgotten: backups made before still hold them. None when nobody was."""
    with store.read() as reader:
        found = reader.value("SELECT max(forgotten_at) FROM forgotten WHERE kind = 'user'")
    return found if isinstance(found, datetime) else None


def watch(store: Store) -> bool:
    """Say by a notice that the newest sound backup is too old, or that it no longer is; returns whether it is.

    Without verification every backup made counts as sound.
    """
    chosen, (latest, sound) = settings(store), newest(store)
    now, last = store.clock.now(), sound if chosen.verify else latest
    if not chosen.enabled or (last is not None and now - last <= chosen.oldest_allowed):
        store.write(lambda connection: notices.close(connection, now, _AGE))
        return False
    since = f"The newest was made at {last:%Y-%m-%d %H:%M} UTC." if last else "There is none yet."
    text = f"{since} One is wanted every {chosen.every_hours} hours. The job Backup says what keeps it from being made."
    store.write(
        lambda connection: notices.post(
            connection, now, kind="backup", key=_AGE, severity="critical",
            title="The newest verified backup is too old", text=text, page="settings", query={"settings": "Backup"},
        )
    )  # fmt: skip
    return True


def get(store: Store, backup_id: int) -> dict[str, object]:
    """One backup by column. Raises: `NotFound`."""
    with store.read() as reader:
        rows = reader.frame(
            f"SELECT {_COLUMNS} FROM backups WHERE backup_id = $id", BACKUPS, {"id": backup_id}
        ).to_dicts()
    if not rows:
        raise NotFound("backup", str(backup_id))
    return dict(rows[0])


def _check(action: str, wanted: BackupSettings) -> None:
    for name, value, least, most in (
        ("hours between backups", wanted.every_hours, 1, DAILY), ("the hour of the day", wanted.at_hour, 0, 23),
        ("days kept", wanted.keep_daily, 1, MOST_KEPT), ("weeks kept", wanted.keep_weekly, 0, MOST_KEPT),
    ):  # fmt: skip
        if not least <= value <= most:
            raise ActionRefused(action, f"{name}: {value:,} is out of range.", f"Use {least} to {most}.")
    if wanted.folder is not None and ("\0" in wanted.folder or len(wanted.folder) > 1_000):
        raise ActionRefused(action, "the folder is no path.", "Name a folder, or leave it empty.")


def _usable(action: str, store: Store, folder: Path) -> None:
    """Make the folder, readable by the owner only, and see that files can be made and moved in it."""
    if store.path is not None and folder == store.path.parent:
        raise ActionRefused(action, "that is the folder of the database.", "Use a folder of its own.")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".writable.{id(store):x}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror or error})."
        raise ActionRefused(action, why, "Name a folder that the server may write.") from error
