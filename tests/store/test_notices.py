"""Notices: one open notice a key, who closes them, and what posts them in the transaction of its cause."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import arms, audit, job_runs, notice_route, notice_routes, notices
from store import backup as backups
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, DiskFull, NotFound
from store.notice_route import Email, QuietHours, Route, Webhook
from tests.pipelines.notices.written import close, post

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store in memory."""
    opened = Store.open(None, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """A store whose notices each example forgets."""
    opened = Store.open(None, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["close", *notices.SEVERITIES])), max_size=12))
def test_one_open_notice_a_key_that_counts_up(shared: Store, steps: list[tuple[str, str]]) -> None:
    shared.write(lambda connection: connection.execute("DELETE FROM notices"))
    expected: dict[str, tuple[int, str]] = {}
    opened = 0
    for key, step in steps:
        if step == "close":
            assert close(shared, key) is (key in expected)
            expected.pop(key, None)
            continue
        post(shared, key, severity=step)
        times, before = expected.get(key, (0, step))
        opened += key not in expected
        expected[key] = (times + 1, max(step, before, key=["info", "warning", "critical"].index))
    rows = notices.open_(shared)
    assert {row["notice_key"]: (row["times"], row["severity"]) for row in rows.to_dicts()} == expected
    assert notices.recent(shared).height == opened
    assert notices.open_count(shared) == len(expected)
    graveness = [["critical", "warning", "info"].index(each) for each in rows["severity"]]
    assert graveness == sorted(graveness)


def test_a_transaction_that_fails_posts_nothing(store: Store) -> None:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        words = {"kind": "drift", "key": "k", "title": "t", "text": "", "page": "drift"}
        notices.post(connection, NOW, **words, severity="info", query={})
        raise ValueError("the cause failed")

    with pytest.raises(ValueError, match="the cause failed"):
        store.write(work)
    assert notices.open_count(store) == 0


def test_dismissed_by_a_person_and_audited(store: Store) -> None:
    notice = post(store)
    with pytest.raises(ActionRefused, match="no person"):
        notices.dismiss(store, notice, operator="trimtab")
    notices.dismiss(store, notice, operator="ada")
    with pytest.raises(ActionRefused, match="closed already"):
        notices.dismiss(store, notice, operator="bo")
    with pytest.raises(NotFound):
        notices.dismiss(store, 99, operator="ada")
    assert notices.recent(store)["closed_by"].to_list() == ["ada"]
    assert audit.recent(store).select("actor", "action").rows() == [("ada", "notice dismiss")]
    assert post(store) != notice


def test_a_guardrail_that_switches_an_arm_off_is_a_notice_until_somebody_decides(store: Store) -> None:
    arms.define(store, "shop", "a", kind="prompt", definition={"p": 1}, description=None, origin="operator", by="ada")
    arms.set_state(store, "shop", "a", "off", reason="too dear", by="ada")
    assert notices.open_count(store) == 0  # An operator knows.
    arms.set_state(store, "shop", "a", "enabled", reason="", by="ada")
    arms.set_state(store, "shop", "a", "off", reason="Safety floor: 3 of 10", by=audit.SYSTEM)
    (row,) = notices.open_(store).to_dicts()
    assert (row["severity"], row["title"], row["text"]) == (
        "critical", "shop: arm a was switched off", "Safety floor: 3 of 10",
    )  # fmt: skip
    arms.set_state(store, "shop", "a", "shadow", reason="", by="ada")
    assert notices.open_count(store) == 0


def run(store: Store, outcome: str, job: str = "rewards") -> None:
    run_id = job_runs.begin(store, job=job, cause="schedule", attempt=1, watermark=0, code_version="1")
    match outcome:
        case "failed":
            job_runs.fail(store, run_id, error="it broke", traceback="")
        case "succeeded":
            job_runs.succeed(store, run_id, rows=1, message="done")
        case _:
            job_runs.interrupt(store, run_id, "stopped")


def test_a_job_that_fails_three_times_running_is_a_notice_until_it_succeeds(store: Store) -> None:
    for outcome in ("failed", "failed", "succeeded", "failed", "interrupted", "failed"):
        run(store, outcome)
        run(store, "failed", job="other" if outcome == "succeeded" else "another")
        assert not notices.open_(store)["notice_key"].is_in(["job rewards"]).any()
    run(store, "failed")
    row = notices.open_(store).filter(notice_key="job rewards").row(0, named=True)
    assert row["title"] == "The job rewards has failed 3 times in a row"
    assert "it broke" in row["text"]
    run(store, "failed")
    assert notices.open_(store).filter(notice_key="job rewards")["times"].to_list() == [2]
    run(store, "succeeded")
    assert notices.open_(store).filter(notice_key="job rewards").is_empty()


def test_a_backup_that_fails_is_a_notice_until_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path / "s.duckdb", clock=FixedClock(NOW), threads=1)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(backups.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
            with pytest.raises(DiskFull):
                backups.backup(store, tmp_path / "b.duckdb")
        assert notices.open_(store)["kind"].to_list() == ["backup"]
        backups.backup(store, tmp_path / "b.duckdb")
        assert notices.open_count(store) == 0
    finally:
        store.close()


def hook(**more: object) -> Route:
    return Route(**{"name": "chat", "target": Webhook("https://example.com/"), **more})  # type: ignore[arg-type]


def mail(**more: object) -> Route:
    given = {
        "host": "smtp.example.com", "port": 587, "security": "starttls", "sender": "t@example.com",
        "recipients": ("a@example.com",), **more,
    }  # fmt: skip
    return hook(target=Email(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "why"),
    [
        (hook(name=" "), "the name is"),
        (hook(name="a\r\nBcc: x"), "the name is"),
        (hook(least_severity="loud"), "the least severity"),
        (hook(group_minutes=-1), "grouped over -1"),
        (hook(quiet=QuietHours("7:00", "22:00", "UTC")), "the quiet hours begin"),
        (hook(quiet=QuietHours("07:00", "24:00", "UTC")), "the quiet hours end"),
        (hook(quiet=QuietHours("07:00", "07:00", "UTC")), "end when they begin"),
        (hook(quiet=QuietHours("07:00", "08:00", "Mars/Base")), "the time zone"),
        (hook(target=Webhook()), "not one address"),
        (hook(target=Webhook("https://a.example", "NOTICE_URL")), "not one address"),
        (hook(target=Webhook("ftp://a.example")), "not one of http"),
        (hook(target=Webhook("file:///etc/passwd")), "not one of http"),
        (hook(target=Webhook("https://u:p@a.example")), "has a user"),
        (hook(target=Webhook("https://a.example/\r\nX: y")), "has a user, blanks"),
        (hook(target=Webhook("https://a.example:99999/")), "cannot be read"),
        (hook(target=Webhook("https://a.example", None, "OPENAI_API_KEY")), "the secret variable is not"),
        (mail(host="a b"), "the mail server is"),
        (mail(port=0), "the port is 0"),
        (mail(security="none"), "the security is"),
        (mail(sender="x"), "no e-mail address"),
        (mail(recipients=()), "there are 0 recipients"),
        (mail(recipients=("a@example.com\r\nBcc: b@example.com",)), "no e-mail address"),
        (mail(user="u"), "a user or a password alone"),
        (mail(user="u", password_variable="HOME"), "the password variable is not"),
        (mail(user="u", password_variable="NOTICE_P", security="plain"), "sent readable"),
    ],
)  # fmt: skip
def test_routes_that_cannot_be(route: Route, why: str) -> None:
    with pytest.raises(ActionRefused, match=why):
        notice_route.checked(route)


def test_routes_are_kept_changed_and_audited(store: Store) -> None:
    one = notice_routes.add(store, hook(kinds=("job", " drift ", "job")), operator="ada")
    quiet = QuietHours("22:00", "07:00", "Asia/Tokyo")
    two = notice_routes.add(store, Route("mail", mail().target, quiet=quiet, critical_passes=False), operator="ada")
    assert notice_routes.held(store, two).route.quiet == quiet
    assert notice_routes.held(store, one).route.kinds == ("drift", "job")
    assert notice_routes.held(store, two).route.target == mail().target
    with pytest.raises(ActionRefused, match="already"):
        notice_routes.add(store, hook(), operator="ada")
    with pytest.raises(ActionRefused, match="already"):
        notice_routes.change(store, two, hook(), operator="ada")
    notice_routes.change(store, two, Route("mail", mail(port=25).target), operator="bo")
    assert notice_routes.held(store, two).route.target == mail(port=25).target
    notice_routes.remove(store, one, operator="bo")
    for change in (
        lambda: notice_routes.remove(store, one, operator="bo"),
        lambda: notice_routes.switch(store, one, enabled=True, operator="bo"),
        lambda: notice_routes.change(store, one, hook(), operator="bo"),
        lambda: notice_routes.held(store, one),
    ):
        with pytest.raises(NotFound):
            change()
    assert [held.route.name for held in notice_routes.listed(store)] == ["mail"]
    assert audit.recent(store)["action"].to_list() == [
        "notice route remove", "notice route change", "notice route add", "notice route add",
    ]  # fmt: skip
    changed = json.loads(audit.recent(store)["detail"][1])
    assert changed["before"]["target"] != changed["after"]["target"] == {**changed["before"]["target"], "port": 25}
    assert audit.verify(store) is None


def test_the_clock_of_the_store_counts(store: Store) -> None:
    post(store)
    clock = store.clock
    assert isinstance(clock, FixedClock)
    clock.moment += timedelta(hours=1)
    post(store)
    (row,) = notices.open_(store).to_dicts()
    assert (row["posted_at"], row["last_at"], row["times"]) == (NOW, NOW + timedelta(hours=1), 2)
