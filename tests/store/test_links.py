"""Signals that name no trace find theirs by session, else by user and time, whichever came first."""

from datetime import UTC, datetime, timedelta

import pytest

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
    store.write(links.refresh)
    with store.read() as reader:
        rows = reader.any_frame("SELECT signal_id, trace_id, linked_by FROM signal_links").rows()
    return {signal: (trace, by) for signal, trace, by in rows}


@pytest.mark.parametrize("signals_first", [False, True])
def test_links_do_not_depend_on_which_came_first(publish, store, signals_first):
    for part in ({"signals": SIGNALS}, {"traces": TRACES})[:: 1 if signals_first else -1]:
        publish(**part)
        store.write(links.refresh)
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
    assert store.write(links.refresh) == 4
    assert store.write(links.refresh) == 0
