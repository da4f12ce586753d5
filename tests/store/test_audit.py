"""The audit chain: what it keeps, and that any changed, removed, added or reordered row is found."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import audit
from store.clock import FixedClock
from store.connection import Store
from store.errors import TrimtabError

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROWS = 5
TEXT_COLUMNS = ("actor", "action", "subject", "detail", "previous_hash", "hash")


def _fill(store, rows=ROWS):
    for i in range(rows):
        store.write(
            lambda connection, i=i: audit.append(
                connection, START + timedelta(minutes=i), "Ada", "lesson approve", f"lesson {i}", {"why": "ä", "n": i}
            )
        )


@pytest.fixture(scope="module")
def filled():
    store = Store.open(None, clock=FixedClock(START), threads=1)
    _fill(store)
    yield store
    store.close()


def _tampered(store, sql, parameters=None):
    """Where the chain breaks after `sql`, which is taken back again."""
    found = []

    def change(connection):
        connection.execute("CREATE TEMP TABLE kept_log AS FROM audit_log")
        connection.execute(sql, parameters)

    def restore(connection):
        connection.execute("DELETE FROM audit_log")
        connection.execute("INSERT INTO audit_log FROM kept_log")
        connection.execute("DROP TABLE kept_log")

    store.write(change)
    try:
        found.append(audit.verify(store))
    finally:
        store.write(restore)
    assert audit.verify(store) is None
    return found[0]


def test_an_empty_log_and_a_filled_one_are_intact(store):
    assert audit.verify(store) is None
    _fill(store)
    assert audit.verify(store) is None


def test_the_hash_is_sha256_over_the_previous_hash_and_canonical_json(store):
    _fill(store, 2)
    second, first = audit.recent(store).to_dicts()
    assert first["previous_hash"] == "0" * 64
    assert second["previous_hash"] == first["hash"]
    detail = json.dumps({"n": 1, "why": "ä"}, separators=(",", ":"))
    with store.read() as reader:
        nonce = reader.value("SELECT nonce FROM audit_log WHERE sequence = 2")
    body = json.dumps(
        [2, "2026-11-20T12:01:00.000000+00:00", "Ada", "lesson approve", "lesson 1", detail, nonce],
        separators=(",", ":"),
    )
    assert second["detail"] == detail
    assert second["hash"] == hashlib.sha256((first["hash"] + body).encode()).hexdigest()


def test_a_failed_action_leaves_no_row(store):
    def work(connection):
        audit.append(connection, START, "Ada", "lesson approve", "lesson 0", {})
        raise TrimtabError("the action itself failed")

    with pytest.raises(TrimtabError):
        store.write(work)
    assert audit.recent(store).is_empty()
    assert audit.verify(store) is None


def test_recent_filters_by_subject(store):
    _fill(store)
    assert audit.recent(store, subject="lesson 3")["sequence"].to_list() == [4]
    assert audit.recent(store, 2)["sequence"].to_list() == [5, 4]


@given(row=st.integers(1, ROWS), column=st.sampled_from(TEXT_COLUMNS), text=st.text(max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_text_is_found(filled, row, column, text):
    held = audit.recent(filled).filter(sequence=row)[column][0]
    text = text.encode("utf-8", "replace").decode()
    found = _tampered(
        filled, f"UPDATE audit_log SET {column} = $text WHERE sequence = $row", {"text": text, "row": row}
    )
    assert found == (None if text == held else row)


@given(row=st.integers(1, ROWS), shift=st.integers(-1_000_000, 1_000_000))
@settings(max_examples=30, deadline=None)
def test_any_changed_time_is_found(filled, row, shift):
    moment = START + timedelta(minutes=row - 1, microseconds=shift)
    found = _tampered(
        filled, "UPDATE audit_log SET occurred_at = $moment WHERE sequence = $row", {"moment": moment, "row": row}
    )
    assert found == (None if shift == 0 else row)


@given(rows=st.sets(st.integers(1, ROWS), min_size=1))
@settings(max_examples=31, deadline=None)
def test_any_removed_rows_are_found(filled, rows):
    found = _tampered(filled, "DELETE FROM audit_log WHERE list_contains($rows, sequence)", {"rows": sorted(rows)})
    assert found == min(rows)


@given(order=st.permutations(range(1, ROWS + 1)))
@settings(max_examples=40, deadline=None)
def test_any_reordering_is_found(filled, order):
    """Rows keep their contents and swap their sequence numbers."""
    found = _tampered(
        filled,
        "UPDATE audit_log SET sequence = list_extract($order, sequence::INTEGER)",
        {"order": list(order)},
    )
    moved = [place for place, number in enumerate(order, start=1) if place != number]
    assert found == (min(moved) if moved else None)


@pytest.mark.parametrize("sequence", [-3, 0, 6, 99])
def test_an_added_row_is_found(filled, sequence):
    found = _tampered(
        filled,
        "INSERT INTO audit_log SELECT $sequence, * EXCLUDE sequence FROM audit_log WHERE sequence = 5",
        {"sequence": sequence},
    )
    assert found == (1 if sequence < 1 else 6)


@given(row=st.integers(1, ROWS + 1), column=st.sampled_from(TEXT_COLUMNS), text=st.text(max_size=8), drop=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_a_redaction_any_change_of_any_row_is_still_found(redacted, row, column, text, drop):
    whole = audit.block(redacted, audit.Filter())
    assert whole.height == ROWS + 1
    held = whole.filter(sequence=row)[column][0]
    text = text.encode("utf-8", "replace").decode()
    change = {"text": text, "row": row}
    if drop:
        sql = f"UPDATE audit_log SET {column} = $text, nonce = NULL WHERE sequence = $row"
        # A redacted row has no nonce any more.
        same = text == held and row in (2, 4)
    else:
        sql, same = f"UPDATE audit_log SET {column} = $text WHERE sequence = $row", text == held
    assert (_tampered(redacted, sql, change) is None) == same


@given(order=st.permutations(range(1, ROWS + 2)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_a_redaction_any_other_order_is_still_found(redacted, order):
    found = _tampered(
        redacted, "UPDATE audit_log SET sequence = list_extract($order, sequence::INTEGER)", {"order": order}
    )
    assert (found is None) == (list(order) == list(range(1, ROWS + 2)))


@pytest.fixture(scope="module")
def redacted():
    store = Store.open(None, clock=FixedClock(START), threads=1)
    _fill(store)
    store.write(
        lambda connection: audit.redact(
            connection, START, "Ada", [(2, "Ada", "[removed]", "{}"), (4, "Ada", "lesson 3", "{}")], "asked"
        )
    )
    assert audit.verify(store) is None
    yield store
    store.close()
