"""Signals of one trace, by id and by link."""

from datetime import UTC, datetime, timedelta

import pytest

from store import signals

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def filled(store, publish):
    """Four signals of trace t, one of which also names it, and one of another."""
    publish(
        signals=[
            {"signal_id": "late", "trace_id": "t", "kind": "comment", "text": "z" * 50, "occurred_at": START},
            {"signal_id": "early", "session_id": "s", "kind": "click", "item": "shoe", "position": 2, "value": 1.0,
             "propensity": 0.25, "solicited": False, "occurred_at": START - timedelta(hours=1)},
            {"signal_id": "user", "user_id": "u", "kind": "purchase", "value": 9.5,
             "occurred_at": START + timedelta(days=1)},
            {"signal_id": "untimed", "trace_id": "t", "kind": "judge", "annotator_kind": "llm", "value": 0.5},
            {"signal_id": "other", "trace_id": "o", "kind": "thumb", "value": 0.0},
        ]
    )  # fmt: skip
    store.write(
        lambda c: c.execute(
            "INSERT INTO signal_links VALUES ('early', 't', 'session'), ('user', 't', 'user'), ('other', 't', 'user')"
        )
    )
    return store


def test_signals_come_in_time_order_with_how_they_were_joined(filled):
    page = signals.of_trace(filled, "t")
    assert page.rows.select("signal_id", "linked_by").rows() == [
        ("early", "session"), ("late", "id"), ("user", "user"), ("untimed", "id"),
    ]  # fmt: skip
    assert page.total == 4


def test_a_link_does_not_outweigh_the_trace_a_signal_names(filled):
    assert "other" not in signals.of_trace(filled, "t").rows["signal_id"]
    assert signals.of_trace(filled, "o").rows["linked_by"].to_list() == ["id"]


def test_long_texts_and_long_lists_are_cut(filled):
    page = signals.of_trace(filled, "t", limit=2, max_characters=10)
    assert page.rows["text"].to_list() == [None, "z" * 10]
    assert (page.rows.height, page.total) == (2, 4)


def test_every_column_of_a_signal_is_kept(filled):
    row = signals.of_trace(filled, "t").rows.to_dicts()[0]
    assert (row["item"], row["position"], row["propensity"], row["value"]) == ("shoe", 2, 0.25, 1.0)
    assert row["solicited"] is False
