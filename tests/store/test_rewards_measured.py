"""What the measurement models read of the store."""

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
