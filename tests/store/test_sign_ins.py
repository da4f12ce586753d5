"""Sign-ins in the audit log: each once, the refused too, and no more of those than a day's reader can look at."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from store import audit, sign_ins
from store.clock import FixedClock
from store.connection import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=12)
ANA, EVE = "ana@example.com", "eve@elsewhere.net"
FIRST, SECOND = "a1" * 32, "b2" * 32


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path, clock):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


def logged(store):
    rows = audit.recent(store, 1000).reverse().iter_rows(named=True)
    return [(row["actor"], row["action"], row["subject"], json.loads(row["detail"])) for row in rows]


def test_a_sign_in_is_written_once_with_who_and_as_what(store, clock):
    for _ in range(3):
        sign_ins.record(store, FIRST, ANA, "reviewer", expires_at=LATER)
    clock.moment += timedelta(minutes=30)
    sign_ins.record(store, FIRST, ANA, "admin", expires_at=LATER)
    sign_ins.record(store, SECOND, ANA, "admin", expires_at=LATER)
    assert logged(store) == [
        (ANA, "sign in", f"operator {ANA}", {"session": FIRST[:16], "role": "reviewer"}),
        (ANA, "sign in", f"operator {ANA}", {"session": SECOND[:16], "role": "admin"}),
    ]
    times = audit.recent(store)["occurred_at"].to_list()
    assert times == [NOW + timedelta(minutes=30), NOW]


def test_it_is_written_once_also_when_the_server_was_started_anew(tmp_path, clock):
    for _ in range(2):
        opened = Store.open(tmp_path / "again.duckdb", clock=clock, threads=1)
        sign_ins.record(opened, FIRST, ANA, "viewer", expires_at=LATER)
        sign_ins.record(opened, SECOND, EVE, None, expires_at=LATER)
        assert [row[1] for row in logged(opened)] == ["sign in", "sign in refused"]
        opened.close()


def test_who_was_refused_and_let_in_after_has_a_row_of_each(store):
    for role in (None, None, "viewer", "viewer", None):
        sign_ins.record(store, FIRST, EVE, role, expires_at=LATER)
    assert [(actor, action) for actor, action, _, _ in logged(store)] == [(EVE, "sign in refused"), (EVE, "sign in")]


def test_the_refused_cannot_fill_the_log_and_the_next_row_counts_what_is_missing(store, clock):
    limit = sign_ins.REFUSED_AN_HOUR
    for number in range(limit + 7):
        sign_ins.record(store, f"{number:064x}"[::-1], EVE, None, expires_at=LATER)
    assert len(logged(store)) == limit
    sign_ins.record(store, FIRST, ANA, "admin", expires_at=LATER)
    assert logged(store)[-1][1] == "sign in"
    clock.moment += timedelta(hours=1)
    sign_ins.record(store, SECOND, EVE, None, expires_at=LATER)
    assert logged(store)[-1][3]["more_not_written"] == 7
    sign_ins.record(store, "c3" * 32, EVE, None, expires_at=LATER)
    assert "more_not_written" not in logged(store)[-1][3]
    assert audit.verify(store) is None


def test_what_could_not_be_written_is_tried_again(store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(audit, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sign_ins.record(store, FIRST, ANA, "admin", expires_at=LATER)
    assert logged(store) == []
    sign_ins.record(store, FIRST, ANA, "admin", expires_at=LATER)
    assert len(logged(store)) == 1
