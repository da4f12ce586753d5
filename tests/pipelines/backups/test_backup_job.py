"""The job `backup`: due when it should be, verified by restoring, rotated, failures said; consistent under load."""

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.backups import job
from pipelines.compute import here
from pipelines.ingest.load import load
from pipelines.privacy import forget
from pipelines.runner import Runner
from store import adhoc, audit, backup_check, backup_settings, notices
from store.backup import restore
from store.backup_settings import BackupSettings
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class MovedClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
def store(tmp_path, clock):
    opened = Store.open(tmp_path / "here" / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


def files(store):
    return sorted(path.name for path in backup_settings.folder_of(store, backup_settings.settings(store)).iterdir())


def keys(store):
    return notices.open_(store)["notice_key"].to_list()


def test_one_is_made_verified_recorded_and_found_on_the_disk(store):
    made = job.make(store, by="Ada")
    (row,) = backup_settings.held(store).to_dicts()
    assert (row["path"], row["table_rows"], row["bytes"]) == (str(made.path), made.rows, made.path.stat().st_size)
    assert row["made_at"] == row["verified_at"] == NOW
    assert row["problem"] is None
    assert files(store) == ["trimtab-20261120T120000Z.duckdb"]
    assert made.path.stat().st_mode & 0o077 == 0
    assert made.path.parent.stat().st_mode & 0o077 == 0
    told = audit.recent(store, 1).row(0, named=True)
    assert (told["actor"], told["action"], told["subject"]) == ("Ada", "backup make", "backup 1")
    # The same moment again is another file: nothing is overwritten.
    job.make(store)
    assert "trimtab-20261120T120000Z-2.duckdb" in files(store)


@pytest.mark.parametrize(
    ("chosen", "hours_ago", "expected"),
    [
        (BackupSettings(enabled=False), None, False),
        (BackupSettings(enabled=True), None, True),
        (BackupSettings(enabled=True, at_hour=3), 8.9, False),  # made at 3:06 today
        (BackupSettings(enabled=True, at_hour=3), 9.1, True),  # made at 2:54, before today's
        (BackupSettings(enabled=True, at_hour=13), 22.9, False),  # yesterday's, at 13:06
        (BackupSettings(enabled=True, at_hour=13), 23.1, True),
        (BackupSettings(enabled=True, every_hours=6), 5.9, False),
        (BackupSettings(enabled=True, every_hours=6), 6, True),
    ],
)
def test_when_one_is_due(chosen, hours_ago, expected):
    latest = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
    assert backup_settings.due(chosen, latest, NOW) is expected


@given(st.integers(1, 24), st.integers(0, 23), st.integers(0, 100_000))
def test_one_just_made_is_never_due_and_one_that_is_a_day_and_an_hour_old_always(every, hour, minutes):
    chosen, now = BackupSettings(enabled=True, every_hours=every, at_hour=hour), NOW + timedelta(minutes=minutes)
    assert not backup_settings.due(chosen, now, now)
    assert backup_settings.due(chosen, now - timedelta(hours=25), now)


def test_the_schedule_makes_one_rotates_and_is_quiet_between(store, clock):
    backup_settings.put(store, BackupSettings(enabled=True, at_hour=3, keep_daily=2, keep_weekly=0), by="Ada")
    mine = backup_settings.folder_of(store, backup_settings.settings(store)) / "mine.duckdb"
    mine.write_text("not the job's")
    runner = Runner(store, Settings())
    for day in range(3):
        clock.moment = NOW + timedelta(days=day)
        assert job.has_work(store, Settings())
        assert runner.run("backup", "schedule").status == "succeeded"
        assert not job.has_work(store, Settings())
    assert files(store) == ["mine.duckdb", "trimtab-20261121T120000Z.duckdb", "trimtab-20261122T120000Z.duckdb"]
    assert backup_settings.held(store).height == 2
    assert audit.verify(store) is None


def test_a_damaged_copy_is_found_and_said_and_not_repeated_at_once(store, clock, monkeypatch):
    backup_settings.put(store, BackupSettings(enabled=True), by="Ada")
    job.make(store)

    def damaged(store, target):
        made = backup(store, target)
        with duckdb.connect(str(target)) as copy:
            copy.execute("UPDATE audit_log SET detail = '{}' WHERE sequence = 1")
            copy.execute("DELETE FROM store_meta WHERE key = 'data_version'")
        return made

    backup = job.backup
    monkeypatch.setattr(job, "backup", damaged)
    clock.moment += timedelta(days=1)
    outcome = Runner(store, Settings()).run("backup", "schedule")
    assert outcome.status == "failed"
    newest = backup_settings.held(store).row(0, named=True)
    assert "audit log does not hold from row 1 on" in newest["problem"]
    assert "store_meta has" in newest["problem"]
    assert keys(store) == ["backup verification"]
    # A fault that lasts does not fill the disk: the next is made when it is due, and the sound one stays.
    assert not job.has_work(store, Settings())
    assert backup_settings.newest(store) == (clock.moment, NOW)
    monkeypatch.setattr(job, "backup", backup)
    clock.moment += timedelta(days=1)
    job.make(store)
    assert keys(store) == []


def test_a_copy_of_which_blocks_are_damaged_is_found(store, tmp_path):
    store.write(
        lambda connection: connection.execute(
            "INSERT INTO signal_links SELECT hash(i)::VARCHAR, hash(i, 1)::VARCHAR, 'session' FROM range(50000) t(i)"
        )
    )
    made = job.make(store)
    content = bytearray(made.path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    made.path.write_bytes(content)
    try:
        problems = backup_check.check(made.path, tmp_path).problems
    except Exception as error:
        problems = (str(error),)
    assert problems


def test_too_old_is_a_notice_until_there_is_a_new_one(store, clock, tmp_path):
    backup_settings.put(store, BackupSettings(enabled=True, every_hours=6), by="Ada")
    job.make(store)
    assert backup_settings.watch(store) is False
    clock.moment += timedelta(hours=13)
    folder = backup_settings.folder_of(store, backup_settings.settings(store))
    folder.rename(tmp_path / "gone")
    folder.write_text("a file stands where the folder was")
    assert Runner(store, Settings()).run("backup", "schedule").status == "failed"
    assert keys(store) == ["backup age"]
    assert "2026-11-20 12:00 UTC" in notices.open_(store)["text"][0]
    folder.unlink()
    assert Runner(store, Settings()).run("backup", "schedule").status == "succeeded"
    assert keys(store) == []


def test_what_a_killed_process_left_is_removed(store):
    folder = store.path.with_name("trimtab.duckdb.backups")
    folder.mkdir()
    (folder / ".trimtab-20261120T110000Z.duckdb.4711.part").write_text("x")
    (folder / ".trimtab-20261120T110000Z.duckdb.4711.part.wal").write_text("x")
    (folder / "trimtab-verify-abc").mkdir()
    job.make(store)
    assert files(store) == ["trimtab-20261120T120000Z.duckdb"]


@pytest.mark.parametrize(
    "wanted",
    [
        BackupSettings(every_hours=0), BackupSettings(every_hours=25), BackupSettings(at_hour=24),
        BackupSettings(keep_daily=0), BackupSettings(keep_weekly=-1), BackupSettings(folder="a\0b"),
        BackupSettings(folder="x" * 2000), BackupSettings(folder="/proc/nowhere"), BackupSettings(folder="."),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_and_nothing_changes(store, wanted):
    with pytest.raises(ActionRefused):
        backup_settings.put(store, wanted, by="Ada")
    assert backup_settings.settings(store) == BackupSettings()
    assert audit.count(store) == 0


def test_settings_are_audited_with_what_was_before(store):
    backup_settings.put(store, BackupSettings(enabled=True, keep_daily=9), by="Ada")
    row = audit.recent(store, 1).row(0, named=True)
    assert (row["actor"], row["action"]) == ("Ada", "backup set")
    detail = json.loads(row["detail"])
    assert (detail["before"]["keep_daily"], detail["after"]["keep_daily"]) == (7, 9)
    with pytest.raises(ActionRefused):
        backup_settings.put(store, BackupSettings(), by=audit.SYSTEM)


def test_the_report_of_forgetting_names_the_backups(store):
    user = {"trace_id": "t1", "agent": "shop", "user_id": "zelda-4711", "input": "hello"}
    path = store.path.with_name("trace.jsonl")
    path.write_text(json.dumps(user))
    load(store, path, source="test")
    made = job.make(store)
    settings = Settings(db=store.path, inbox=store.path.with_name("inbox"))
    report = forget.forget(store, settings, "zelda-4711", operator="Ada")
    assert [file for file in report.files if str(made.path) in file and "a backup made before" in file]
    assert backup_settings.forgotten_since(store) == NOW


def test_backups_that_hold_somebody_forgotten_go_only_when_a_newer_one_is_verified(store, clock):
    old = job.make(store)
    clock.moment += timedelta(hours=1)
    store.write(
        lambda connection: connection.execute(
            "INSERT INTO forgotten VALUES ('user', 'digest', $now, 'late')", {"now": clock.moment}
        )
    )
    with pytest.raises(ActionRefused, match="Back up first"):
        job.remove_outdated(store, by="Ada")
    assert old.path.exists()
    clock.moment += timedelta(days=1)
    new = job.make(store)
    assert old.path.exists()
    assert job.remove_outdated(store, by="Ada") == 1
    assert job.remove_outdated(store, by="Ada") == 0
    assert not old.path.exists()
    assert new.path.exists()


# Under load

LINE = {"trace_id": "", "agent": "shop", "input": "hello", "started_at": "2026-11-19T10:00:00Z"}


def write_file(path: Path, number: int) -> None:
    """60 traces, of which 10 are of the file before, and 5 lines that cannot be loaded."""
    first = number * 50
    lines = [json.dumps({**LINE, "trace_id": f"t{i}", "input": "text " * 50}) for i in range(first, first + 60)]
    lines[7::12] = ["{broken"] * len(lines[7::12])
    path.write_text("\n".join(lines))


def test_backups_made_under_load_restore_to_consistent_states(tmp_path):
    clock = MovedClock()
    store = Store.open(tmp_path / "here" / "trimtab.duckdb", clock=clock)
    stop, errors = threading.Event(), []
    loaded, acted = threading.Event(), threading.Event()

    def ingest() -> None:
        number = 0
        while not stop.is_set():
            path = tmp_path / f"load-{number}.jsonl"
            write_file(path, number)
            load(store, path, source="test")
            number += 1
            loaded.set()

    def act() -> None:
        def work(connection):
            sequence = audit.append(connection, NOW, "Ada", "act", "subject", {"text": "x"})
            connection.execute("INSERT INTO signal_links VALUES ($s, 't', 'session')", {"s": str(sequence)})

        while not stop.is_set():
            store.write(work)
            acted.set()

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            loaded.set()
            acted.set()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (ingest, act)]
    for thread in threads:
        thread.start()
    try:
        assert loaded.wait(60)
        assert acted.wait(60)
        made = []
        for _ in range(3):
            made.append(job.make(store, compute=here))
            clock.moment += timedelta(days=1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    store.close()
    seen = []
    for one in made:
        assert one.problem is None
        target = tmp_path / "restored" / f"{one.backup_id}.duckdb"
        restore(one.path, target, clock=clock)
        seen.append(consistent(target))
    assert seen == sorted(seen)
    assert len(set(seen)) == 3


def consistent(path: Path) -> tuple[int, int]:
    """Checked by other means than ours: whole transactions, conservation, the chain; returns rows of log and facts."""
    with duckdb.connect(str(path), read_only=True) as copy:
        copy.execute("SET TimeZone = 'UTC'")
        batches = copy.execute(
            "SELECT batch_id, received, accepted, duplicate, rejected, traces FROM ingest_batches"
        ).fetchall()
        records = dict(copy.execute("SELECT batch_id, count(*) FROM trace_records GROUP BY ALL").fetchall())
        rejects = dict(copy.execute("SELECT batch_id, count(*) FROM ingest_rejects GROUP BY ALL").fetchall())
        traces = copy.execute("SELECT trace_id FROM traces").fetchall()
        facts = copy.execute("SELECT DISTINCT trace_id FROM trace_records").fetchall()
        log = copy.execute("SELECT * FROM audit_log ORDER BY sequence").fetchall()
        links = {row[0] for row in copy.execute("SELECT signal_id FROM signal_links").fetchall()}
        counted = copy.execute("SELECT value FROM store_meta WHERE key = 'audit_rows'").fetchall()[0][0]
    assert batches
    for batch, received, accepted, duplicate, rejected, _ in batches:
        assert received == accepted + duplicate + rejected
        assert records.get(batch, 0) == accepted
        assert rejects.get(batch, 0) == rejected
    assert sorted(traces) == sorted(facts)
    previous = "0" * 64
    for sequence, at, actor, action, subject, detail, before, kept, nonce in log:
        assert before == previous
        content = [
            sequence,
            at.astimezone(UTC).isoformat(timespec="microseconds"),
            actor,
            action,
            subject,
            detail,
            nonce,
        ]
        text = previous + json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == kept
        previous = kept
    assert len(log) == counted
    assert {str(row[0]) for row in log if row[3] == "act"} == links
    return len(log), len(facts)


def test_the_data_of_a_damaged_store_is_not_called_sound(store, tmp_path):
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO ingest_batches (batch_id, source, file_name, state, received, accepted, received_at)
            VALUES (1, 's', 'f', 'done', 5, 4, now())"""
        )
    )
    made = job.make(store)
    assert made.problem is not None
    assert "do not add up" in made.problem
    assert adhoc.query(store, "SELECT count(*) AS n FROM backups WHERE verified_at IS NULL")["n"][0] == 1
