"""Signals that name no trace find theirs by session, else by user and time, whichever came first."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
from allocation import allocated

from store import links

START = datetime(2026, 11, 1, tzinfo=UTC)


def _at(minutes):
    return START + timedelta(minutes=minutes)


TRACES = [
    {"trace_id": "early", "session_id": "s", "user_id": "u", "started_at": _at(0)},
    {"trace_id": "late", "session_id": "s", "user_id": "u", "started_at": _at(20)},
    {"trace_id": "other", "session_id": "z", "user_id": "v", "started_at": _at(5)},
]
SIGNALS = [
    {"signal_id": "by id", "trace_id": "early", "session_id": "s", "kind": "thumb", "occurred_at": _at(30)},
    {"signal_id": "first turn", "session_id": "s", "kind": "click", "occurred_at": _at(10)},
    {"signal_id": "second turn", "session_id": "s", "kind": "click", "occurred_at": _at(25)},
    {"signal_id": "before all", "session_id": "s", "kind": "click", "occurred_at": _at(-1)},
    {"signal_id": "by user", "user_id": "v", "kind": "click", "occurred_at": _at(30)},
    {"signal_id": "too late", "user_id": "v", "kind": "click", "occurred_at": _at(36)},
    {"signal_id": "no time", "session_id": "z", "kind": "thumb"},
    {"signal_id": "no time, two traces", "session_id": "s", "kind": "thumb"},
    {"signal_id": "nobody", "kind": "impression", "occurred_at": _at(1)},
]


def _links(store):
    links.refresh(store)
    with store.read() as reader:
        rows = reader.any_frame("SELECT signal_id, trace_id, linked_by FROM signal_links").rows()
    return {signal: (trace, by) for signal, trace, by in rows}


@pytest.mark.parametrize("signals_first", [False, True])
def test_links_do_not_depend_on_which_came_first(publish, store, signals_first):
    for part in ({"signals": SIGNALS}, {"traces": TRACES})[:: 1 if signals_first else -1]:
        publish(**part)
        links.refresh(store)
    assert _links(store) == {
        "first turn": ("early", "session"),
        "second turn": ("late", "session"),
        "by user": ("other", "user"),
        "no time": ("other", "session"),
    }


def test_a_trace_that_arrives_late_takes_over_its_signals(publish, store):
    publish(traces=TRACES[:1], signals=SIGNALS)
    assert _links(store)["second turn"] == ("early", "session")
    publish(traces=TRACES[1:])
    assert _links(store)["second turn"] == ("late", "session")


def test_refreshing_again_changes_nothing(publish, store):
    publish(traces=TRACES, signals=SIGNALS)
    assert links.refresh(store) == 4
    assert links.refresh(store) == 0


def test_what_is_deleted_meanwhile_gets_no_link(publish, store, monkeypatch):
    publish(traces=TRACES, signals=SIGNALS)
    written = store.write

    def write(work):
        written(lambda connection: connection.execute("DELETE FROM signals WHERE signal_id = 'by user'") and None)
        written(lambda connection: connection.execute("DELETE FROM traces WHERE trace_id = 'late'") and None)
        return written(work)

    monkeypatch.setattr(store, "write", write)
    links.refresh(store)
    monkeypatch.undo()
    with store.read() as reader:
        kept = reader.any_frame("SELECT signal_id, trace_id FROM signal_links").rows()
    assert set(kept) == {("first turn", "early"), ("no time", "other")}
    # The signal of the deleted trace is about the one before it now.
    assert _links(store) == {
        "first turn": ("early", "session"),
        "second turn": ("early", "session"),
        "no time": ("other", "session"),
    } | {"no time, two traces": ("early", "session")}


def test_a_link_that_is_wrong_by_now_is_removed(publish, store):
    publish(traces=TRACES, signals=SIGNALS)
    links.refresh(store)
    store.write(lambda connection: connection.execute("DELETE FROM traces WHERE session_id = 'z'") and None)
    assert set(_links(store)) == {"first turn", "second turn"}


def _many_traces(connection):
    connection.execute("CREATE TEMP TABLE one AS FROM traces LIMIT 1")
    connection.execute(
        """INSERT INTO traces BY NAME SELECT one.* REPLACE (md5(i::VARCHAR) AS trace_id,
            md5((i // 2)::VARCHAR) AS session_id, md5((i // 9)::VARCHAR) AS user_id,
            TIMESTAMPTZ '2026-11-01' + to_seconds(i) AS started_at) FROM one, range(30_000) AS r(i)"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="asks the C library of GNU")
def test_nothing_is_held_after_links_were_recomputed(publish, store):
    """The engine never frees the texts of an aggregate whose rows nobody asks for: here 10 MB, when no signal looks
    for its trace."""
    publish(traces=TRACES[:1], signals=SIGNALS[:1])
    store.write(_many_traces)
    links.refresh(store)
    before = allocated()
    for _ in range(4):
        assert links.refresh(store) == 0
    assert allocated() - before < 1_000_000
