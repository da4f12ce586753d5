"""What is sent of a forgotten person, by file or live, is a counted reject without its text."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from loading import loaded, table

from pipelines.lessons import review
from pipelines.live.intake import LiveIntake
from pipelines.live.prepare import prepare
from store import forgetting
from store.clock import FixedClock
from store.connection import Store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
USER = "zelda-4711@example.org"


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def _file(tmp_path, name, *rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _trace(name, user, when):
    return {"trace_id": name, "agent": "shop", "user_id": user, "started_at": when.isoformat(), "input": f"says {name}"}


def test_a_file_that_is_loaded_again_does_not_bring_them_back(store, tmp_path):
    before, after = NOW - timedelta(days=1), NOW + timedelta(days=1)
    path = _file(tmp_path, "a.jsonl", _trace("t1", USER, before), _trace("t2", "other", before))
    assert loaded(store, path).accepted == 2
    forgetting.forget(store, USER, operator="Ada", render=review.render)
    again = loaded(store, path)
    assert (again.received, again.accepted, again.duplicate, again.rejected) == (2, 0, 1, 1)
    assert table(store, "SELECT reason, raw FROM ingest_rejects").rows() == [
        ("It is of somebody who was forgotten on request.", None)
    ]
    back = loaded(store, _file(tmp_path, "b.jsonl", _trace("t3", USER, after), _trace("t4", USER, before)))
    assert (back.accepted, back.rejected) == (1, 1)
    assert table(store, "SELECT trace_id FROM traces ORDER BY 1")["trace_id"].to_list() == ["t2", "t3"]


def test_always_refuses_whatever_comes_and_never_refuses_nothing(store, tmp_path):
    after = NOW + timedelta(days=1)
    loaded(store, _file(tmp_path, "a.jsonl", _trace("t1", USER, NOW)))
    forgetting.forget(store, USER, operator="Ada", render=review.render, refuse="always")
    assert loaded(store, _file(tmp_path, "b.jsonl", _trace("t2", USER, after))).rejected == 1
    loaded(store, _file(tmp_path, "c.jsonl", _trace("t3", "ann-1234", NOW)))
    forgetting.forget(store, "ann-1234", operator="Ada", render=review.render, refuse="never")
    assert loaded(store, _file(tmp_path, "c.jsonl", _trace("t3", "ann-1234", NOW))).accepted == 1


def test_live_signals_of_theirs_are_counted_as_rejected(store, tmp_path):
    loaded(store, _file(tmp_path, "a.jsonl", _trace("t1", USER, NOW - timedelta(days=1))))
    forgetting.forget(store, USER, operator="Ada", render=review.render)
    body = json.dumps(
        [{"kind": "comment", "user_id": USER, "text": "my violin"}, {"kind": "click", "user_id": "other"},
         {"kind": "click", "trace_id": "t1"}]
    ).encode()  # fmt: skip
    intake = LiveIntake(store)
    try:
        intake.submit("otel", prepare(body, "signals", "identity", "otel", intake.redaction("otel"))).result(30)
    finally:
        intake.close()
    counts = table(store, "SELECT received, accepted, duplicate, rejected FROM ingest_batches WHERE format = 'live'")
    assert counts.rows() == [(3, 1, 0, 2)]
    assert table(store, "SELECT user_id FROM signals")["user_id"].to_list() == ["other"]
    assert "violin" not in table(store, "FROM ingest_rejects").write_json()
