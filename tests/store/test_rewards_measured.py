"""What the measurement models read of the store."""

from datetime import UTC, datetime, timedelta
from typing import Any

from store import rewards


def test_the_store_reads_the_segment_of_the_metadata(store: Any, publish: Any) -> None:
    stated = {
        "a": {"segment": "team"}, "b": {"segment": ""}, "c": {"other": 1}, "d": None, "e": {"segment": 3},
        "f": {"segment": None}, "g": {"segment": "'; DROP TABLE traces; --"},
    }  # fmt: skip
    publish(traces=[{"trace_id": name, "agent": "x", "metadata": metadata} for name, metadata in stated.items()])
    found = rewards.measured(store).traces
    assert found.schema == rewards.MEASURED_TRACES
    expected = {"a": "team", "b": None, "c": None, "d": None, "e": "3", "f": None, "g": "'; DROP TABLE traces; --"}
    assert dict(found.select("trace_id", "segment").iter_rows()) == expected


def test_what_is_dated_more_than_a_day_before_its_trace_is_no_evidence(store: Any, publish: Any) -> None:
    began = datetime(2026, 3, 5, 12, tzinfo=UTC)
    hours = {"days before": -72.0, "just over": -24.01, "just under": -23.99, "clock": -0.1, "after": 5.0, "none": None}
    publish(
        traces=[
            {"trace_id": "a", "agent": "x", "started_at": began, "ended_at": began + timedelta(hours=1)},
            {"trace_id": "timeless", "agent": "y"},
        ],
        signals=[
            {"signal_id": name, "trace_id": "a", "kind": "thumb", "name": name, "value": 1.0,
             "occurred_at": None if hour is None else began + timedelta(hours=hour)}
            for name, hour in hours.items()
        ]
        + [{"signal_id": "t", "trace_id": "timeless", "kind": "thumb", "name": "t", "value": 1.0, "occurred_at": began}]
        + [{"signal_id": "u", "trace_id": "unknown", "kind": "outcome", "name": "u", "value": 1.0,
            "occurred_at": began}],
    )  # fmt: skip
    found = rewards.measured(store)
    assert found.signals.schema == rewards.MEASURED_SIGNALS
    assert set(found.signals["name"]) == {"just under", "clock", "after", "none", "t", "u"}
    assert found.before_trace.rows() == [("x", 2, 2)]
    fallback = rewards.evidence(store, ["thumb"])
    assert (fallback.signals.height, fallback.before_trace.rows()) == (5, [("x", 2, 2)])
    assert rewards.evidence(store, ["outcome"]).before_trace.is_empty()
    coverage = rewards.coverage(store)
    assert dict(coverage.select("kind", "signals").iter_rows()) == {"thumb": 7, "outcome": 1}
