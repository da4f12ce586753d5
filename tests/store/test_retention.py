"""Retention: what is too old goes, by kind and source, and what was received still adds up."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publishing import publisher

from store import audit, retention
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused
from tests.pipelines.notices.written import post

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retention")
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield store, publisher(store, folder)
    store.close()


@pytest.fixture
def empty(opened):
    store, publish = opened
    tables = ("traces", "trace_records", "spans", "signals", "retention_rules", "removals", "lesson_evidence",
              "decisions", "ingest_rejects", "ingest_batches", "llm_answers", "trace_publications",
              "signal_publications")  # fmt: skip
    for table in tables:
        store.write(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))
    return store, publish


def _rows(store, sql):
    with store.read() as reader:
        return reader.any_frame(sql).rows()


def _aged(days):
    return NOW - timedelta(days=days)


def _load(publish, ages):
    publish(
        traces=[
            {"trace_id": f"t{number}", "source": source, "started_at": _aged(days), "input": "x"}
            for number, (source, days) in enumerate(ages)
        ],
        spans=[
            {"trace_id": f"t{number}", "span_id": "1", "source": source, "kind": "llm", "started_at": _aged(days)}
            for number, (source, days) in enumerate(ages)
        ],
        signals=[
            {"signal_id": f"g{number}", "source": source, "trace_id": f"t{number}", "kind": "click",
             "occurred_at": _aged(days)}
            for number, (source, days) in enumerate(ages)
        ],
    )  # fmt: skip


# Ages stand half a day off the limits: `seen_at` keeps them to the microsecond.
@given(
    ages=st.lists(
        st.tuples(st.sampled_from(["otel", "files"]), st.integers(0, 40).map(lambda d: d + 0.5)), max_size=12
    ),
    every=st.none() | st.integers(1, 30),
    own=st.none() | st.integers(1, 30),
    has_own=st.booleans(),
    slices=st.integers(1, 5),
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_what_is_too_old_goes_and_counts_are_conserved(opened, ages, every, own, has_own, slices):
    store, publish = opened
    for table in ("traces", "trace_records", "spans", "signals", "retention_rules", "removals", "trace_publications",
                  "signal_publications"):  # fmt: skip
        store.write(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))
    _load(publish, ages)
    retention.put(store, "traces", "*", every, by="Ada")
    if has_own:
        retention.put(store, "traces", "otel", own, by="Ada")
    limit = {"files": every, "otel": own if has_own else every}
    stays = {f"t{i}" for i, (source, days) in enumerate(ages) if limit[source] is None or days <= limit[source]}
    due = retention.foreseen(store, NOW)["due"].sum()
    assert due == len(ages) - len(stays)
    while retention.apply(store, NOW, slice_rows=slices).more:
        pass
    for table in ("traces", "trace_records", "spans", "signals"):
        assert {row[0] for row in _rows(store, f"SELECT trace_id FROM {table}")} == stays
    removed = _rows(
        store, "SELECT coalesce(sum(traces), 0), coalesce(sum(spans), 0), coalesce(sum(signals), 0) FROM removals"
    )
    assert removed == [(due, due, due)]
    assert retention.foreseen(store, NOW)["due"].sum() == 0
    assert audit.verify(store) is None


def test_other_kinds_go_by_their_own_rules_and_evidence_stays_without_its_quotes(empty):
    store, publish = empty
    _load(publish, [("otel", 100.5)])
    publish(
        signals=[{"signal_id": "lone", "source": "otel", "user_id": "u", "kind": "click", "occurred_at": _aged(50)}]
    )

    def plant(connection):
        connection.execute("INSERT INTO lesson_evidence (lesson_id, trace_id, role, reward, reward_sd, quote) "
                           "VALUES ('l', 't0', 'good', .9, .1, 'they said')")  # fmt: skip
        connection.execute("INSERT INTO llm_answers VALUES ('h', '{}', 'm', $at, 1)", {"at": _aged(50)})
        connection.execute("INSERT INTO ingest_batches (batch_id, source, file_name, state, received_at) "
                           "VALUES (7, 'files', 'f', 'done', $at)", {"at": _aged(50)})  # fmt: skip
        connection.execute("INSERT INTO ingest_rejects VALUES (7, 1, 1, 'c', 'why', 'raw text', false)")

    store.write(plant)
    for what in ("traces", "signals", "rejects", "answers"):
        retention.put(store, what, "*", 30, by="Ada")
    done = retention.apply(store, NOW)
    assert done.gone == {"traces": 1, "signals": 1, "rejects": 1, "answers": 1}
    assert _rows(store, "SELECT quote, reward FROM lesson_evidence") == [(None, 0.9)]
    assert _rows(store, "SELECT reason, raw FROM ingest_rejects") == [("why", None)]
    assert _rows(store, "SELECT count(*) FROM llm_answers") == [(0,)]
    told = audit.recent(store, 1).row(0, named=True)
    assert (told["actor"], json.loads(told["detail"])["rows"]["traces"]) == ("trimtab", 1)
    assert retention.apply(store, NOW).gone == {}


def test_a_rule_that_cannot_be_is_refused_and_changes_are_audited(empty):
    store, _ = empty
    for what, source, days in (("nonsense", "*", 1), ("traces", " ", 1), ("traces", "*", 0), ("answers", "otel", 1)):
        with pytest.raises(ActionRefused):
            retention.put(store, what, source, days, by="Ada")
    with pytest.raises(ActionRefused):
        retention.put(store, "traces", "*", 30, by=audit.SYSTEM)
    retention.put(store, "traces", "*", 30, by="Ada")
    retention.put(store, "traces", "*", None, by="Ada")
    assert json.loads(audit.recent(store, 1)["detail"][0]) == {"before": 30, "after": None}
    assert retention.rules(store)["days"].to_list() == [None]


def _noticed(store, plan):
    """Notices as planned (days since it was closed, None open; its delivery's state), with a message each."""
    for table in ("notices", "notice_deliveries", "notices_delivered"):
        store.write(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))

    def plant(connection):
        for number, (closed, state) in enumerate(plan, 1):
            opened = _aged(90.5)
            connection.execute(
                """INSERT INTO notices
                VALUES ($n, 'jobs', $key, 'info', 't', 'x', 'data', '{}', $at, 1, $at, $over, NULL)""",
                {"n": number, "key": f"k{number}", "at": opened, "over": None if closed is None else _aged(closed)},
            )
            ended = state in ("delivered", "given up", "withdrawn")
            connection.execute(
                "INSERT INTO notice_deliveries VALUES ($d, 1, $at, $state, 1, NULL, $at, $ended, NULL, NULL)",
                {"d": f"d{number}", "at": opened, "state": state, "ended": opened if ended else None},
            )
            connection.execute("INSERT INTO notices_delivered VALUES ($d, 1, $n)", {"d": f"d{number}", "n": number})

    store.write(plant)


@given(
    plan=st.lists(
        st.tuples(
            st.none() | st.integers(0, 60).map(lambda days: days + 0.5),
            st.sampled_from(["waiting", "sending", "delivered", "given up", "withdrawn"]),
        ),
        min_size=1, max_size=8,
    ),
    days=st.integers(1, 50),
    slices=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_closed_notices_go_with_their_messages_and_what_is_open_or_under_way_stays(opened, plan, days, slices):
    store, _ = opened
    store.write(lambda connection: connection.execute("DELETE FROM retention_rules"))
    _noticed(store, plan)
    assert retention.apply(store, NOW).gone == {}, "without a rule notices are kept for ever"
    retention.put(store, "notices", "*", days, by="Ada")
    stays = {
        number
        for number, (closed, state) in enumerate(plan, 1)
        if closed is None or closed <= days or state in ("waiting", "sending") or number == len(plan)
    }
    assert retention.foreseen(store, NOW)["due"].sum() == len(plan) - len(stays)
    gone = 0
    while (done := retention.apply(store, NOW, slice_rows=slices)).gone:
        gone += done.gone["notices"]
    assert gone == len(plan) - len(stays)
    assert {row[0] for row in _rows(store, "SELECT notice_id FROM notices")} == stays
    assert {row[0] for row in _rows(store, "SELECT notice_id FROM notices_delivered")} == stays
    assert {row[0] for row in _rows(store, "SELECT delivery_id FROM notice_deliveries")} == {f"d{n}" for n in stays}


def test_a_message_stays_for_what_else_it_carries_and_tests_of_routes_go(empty):
    store, _ = empty
    _noticed(store, [(50.5, "delivered"), (None, "delivered"), (1.5, "delivered")])

    def plant(connection):
        connection.execute("UPDATE notices_delivered SET delivery_id = 'd2' WHERE notice_id = 1")
        connection.execute("DELETE FROM notice_deliveries WHERE delivery_id = 'd1'")
        for name, days in (("old", 40.5), ("new", 2.5)):
            connection.execute(
                "INSERT INTO notice_deliveries VALUES ($d, 1, $at, 'given up', 1, NULL, $at, $at, 'no', 'Ada')",
                {"d": name, "at": _aged(days)},
            )

    store.write(plant)
    retention.put(store, "notices", "*", 30, by="Ada")
    assert retention.apply(store, NOW).gone == {"notices": 2}
    assert _rows(store, "SELECT delivery_id FROM notice_deliveries ORDER BY 1") == [("d2",), ("d3",), ("new",)]
    assert _rows(store, "SELECT notice_id FROM notices_delivered ORDER BY 1") == [(2,), (3,)]


def test_the_number_of_a_notice_that_is_gone_is_not_given_again(empty):
    store, _ = empty
    _noticed(store, [(50.5, "delivered"), (50.5, "delivered")])
    retention.put(store, "notices", "*", 30, by="Ada")
    retention.apply(store, NOW)
    assert post(store, "k9") == 3
    with pytest.raises(ActionRefused):
        retention.put(store, "notices", "otel", 30, by="Ada")
