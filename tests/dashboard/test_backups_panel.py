"""The Backup tab: settings by role, what was made, and what is said of age, faults and people forgotten since."""

from datetime import timedelta

import pytest
from loop_data import HOSTILE, NOW
from page_driver import click, markup, open_page, shown, store_for_pages, unescaped
from signing_in import ADMIN, REVIEWER, come, signing_in

from store import audit, backup_settings, job_runs
from store.backup_settings import BackupSettings


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "here" / "trimtab.duckdb") as opened:
        yield opened


def page():
    return open_page("settings", settings="Backup")


def listed(store, *, path="/b/trimtab-1.duckdb", age=timedelta(hours=1), sound=True, problem=None):
    backup_id = backup_settings.made(
        store, path=path, made_at=NOW - age, bytes=1_000, rows=12, seconds=0.5, by=audit.SYSTEM
    )
    if sound or problem:
        backup_settings.verified(store, backup_id, seconds=0.7, audit_rows=3, newest_hash="a" * 64, problem=problem)


def test_nothing_made_is_said_and_the_schedule_is_set_and_audited(store):
    opened = page()
    assert "There is no verified backup yet" in unescaped(shown(opened))
    opened.checkbox(key="backup_enabled").set_value(True)
    opened.selectbox(key="backup_every").set_value(6)
    opened.number_input(key="backup_daily").set_value(3)
    opened = click(opened, "backup_set")
    assert "Backups are made every 6 hours" in unescaped(shown(opened))
    assert backup_settings.settings(store) == BackupSettings(enabled=True, every_hours=6, keep_daily=3)
    assert audit.recent(store, 1)["action"].to_list() == ["backup set"]
    opened.text_input(key="backup_folder").set_value("/proc/nowhere")
    assert "cannot be written" in unescaped(shown(click(opened, "backup_set")))
    assert backup_settings.settings(store).folder is None


def test_what_was_made_is_listed_with_what_is_known_of_it(store):
    listed(store)
    listed(store, path=f"/b/{HOSTILE}.duckdb", age=timedelta(hours=30), problem=f"broken: {HOSTILE}")
    opened = page()
    table = next(frame.value for frame in opened.dataframe if "audit hash" in frame.value.columns)
    assert table["state"].to_list() == ["verified", "not sound"]
    assert table["forgotten since"].to_list() == [False, False]
    assert "The newest verified backup is of 2026-11-20 11:00:00 UTC" in unescaped(shown(opened))
    assert "<img" not in markup(opened)


def test_too_old_is_an_error(store):
    backup_settings.put(store, BackupSettings(enabled=True, every_hours=6), by="Ada")
    listed(store, age=timedelta(hours=13))
    assert any("too old" in error.value for error in page().error)


def test_backups_that_hold_somebody_forgotten_are_named(store):
    listed(store)
    store.write(
        lambda connection: connection.execute("INSERT INTO forgotten VALUES ('user', 'd', $now, 'late')", {"now": NOW})
    )
    opened = page()
    assert "1 backup made before 2026-11-20 12:00:00 UTC" in unescaped(shown(opened))
    assert "Back up first" in unescaped(shown(click(opened, "backup_remove_outdated")))


def test_back_up_now_makes_one_and_says_who_asked(store):
    opened = click(page(), "backup_now")
    assert "A backup is being made" in shown(opened)
    assert audit.page(store, audit.Filter(action="backup ask"))["actor"].len() == 1
    assert job_runs.latest(store).filter(job="backup").height == 1


def test_who_is_no_admin_changes_nothing(store, monkeypatch):
    signing_in(store, monkeypatch)
    for key in ("backup_set", "backup_now"):
        come(monkeypatch, ADMIN)
        opened = page()
        come(monkeypatch, REVIEWER)
        opened = click(opened, key)
        assert "needs the role admin" in shown(opened)
        assert opened.button(key=key).disabled
    assert backup_settings.settings(store) == BackupSettings()
    assert job_runs.latest(store).filter(job="backup").is_empty()
