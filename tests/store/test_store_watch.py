"""What the hacking watch and the signal yield read of the store: proxies, gold, propensities, credit and surprise."""

import json

import numpy as np
import pytest
from loop_data import NOW, run_loop
from publishing import publisher

from store import hacking_watch, signal_yield
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def _signal(number, trace, kind, value=None, **more):
    return {"signal_id": f"g{number}", "trace_id": trace, "kind": kind, "value": value, **more}


def test_measures_are_shares_and_means_by_who_said_what(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[{"trace_id": name} for name in "abc"],
        signals=[
            *[_signal(f"i{n}", "a", "impression", position=n) for n in range(1, 6)],
            _signal(1, "a", "click", 1.0),
            _signal(2, "b", "click", 1.0),
            _signal(3, "b", "click", 0.0),
            _signal(4, "a", "thumb", 1.0, solicited=True),
            _signal(5, "a", "thumb", 0.0, solicited=False),
            _signal(6, "a", "rating", 0.5),
            _signal(7, "a", "outcome", 1.0, annotator_kind="code"),
            _signal(8, "a", "outcome", 1.0, annotator_kind="user"),
            _signal(9, "c", "judge", 0.25, annotator_kind="llm"),
            _signal(10, "c", "rating", 1.0, annotator_kind="llm"),
            _signal(11, "c", "judge", 7.0, annotator_kind="llm"),
            _signal(12, None, "thumb", 1.0, solicited=True, user_id="u"),
        ],
    )
    rows = {tuple(row[:3]): row[3] for row in hacking_watch.measures(store).iter_rows()}
    assert rows == {
        ("a", "proxy", "click"): 0.2, ("b", "proxy", "click"): 0.5, ("a", "gold", "solicited feedback"): 1.0,
        ("a", "proxy", "volunteered feedback"): 0.25, ("a", "gold", "verified outcome"): 1.0,
        ("c", "proxy", "judge"): 0.25,
    }  # fmt: skip


def test_propensities_come_from_the_record_or_the_root_span(store, tmp_path):
    vector = {"a": 0.25, "b": 0.75}
    publisher(store, tmp_path)(
        traces=[
            {
                "trace_id": "t1",
                "agent": "x",
                "arm": "a",
                "metadata": json.dumps({"steer.propensities": vector, "n": 1}),
            },
            {"trace_id": "t2", "agent": "x", "arm": "b"},
            {"trace_id": "t3", "agent": "x", "arm": "b", "agent_version": "2"},
            {"trace_id": "t4", "agent": "single", "arm": "a"},
        ],
        spans=[
            {
                "trace_id": "t2",
                "span_id": "r",
                "kind": "agent",
                "attributes": json.dumps({"steer.propensities": vector}),
            }
        ],
    )
    rows = {row["trace_id"]: row for row in hacking_watch.traces(store).iter_rows(named=True)}
    assert set(rows) == {"t1", "t2", "t3"}
    assert json.loads(rows["t1"]["propensities"]) == vector
    assert json.loads(rows["t2"]["propensities"]) == vector
    assert rows["t3"]["propensities"] is None
    assert rows["t3"]["version"] == "2"


def test_derived_sources_are_the_worst_decision_and_the_steps_surprise_without_the_end(store, tmp_path):
    """Two states seen 3 and 1 times after the start, kappa 2, base .5 each: p = (3 + 1) / (4 + 2) and (1 + 1) / 6."""
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "x"}, {"trace_id": "u", "agent": "x"}])

    def fill(connection):
        connection.execute("INSERT INTO credit_runs VALUES (1, 1, now(), 1, 'c', 1, 2, 1, '[]', '{}')")
        connection.execute(
            """INSERT INTO step_credits VALUES (1, 't', 'a', 1, .5, .1, .3, -.2, .1),
                (1, 't', 'b', 2, .5, .1, -.4, .5, .1)"""
        )
        connection.execute(
            """INSERT INTO transition_models BY NAME SELECT 1 AS model_id, 'x' AS agent, 1 AS abstraction,
                now() AS fitted_at,
                1 AS data_version, 'c' AS code_version, 2 AS traces, 4 AS steps, 2 AS states, 2.0 AS concentration,
                '{}' AS parameters"""
        )
        for place, base in ((1, 0.5), (2, 0.5), (3, 0.0)):
            connection.execute(
                """INSERT INTO transition_states BY NAME SELECT 1 AS model_id, 'x' AS agent, $p AS place, 'l' AS label,
                    if($p = 3, 'success', 'step') AS role, 4 AS visits, $b AS base""",
                {"p": place, "b": base},
            )
        connection.execute("INSERT INTO transition_folds VALUES (1, 'x', 11, 1), (1, 'x', 12, 2)")
        connection.execute(
            "INSERT INTO transition_counts VALUES (1, 'x', 0, 1, 3), (1, 'x', 0, 2, 1), (1, 'x', 1, 3, 9)"
        )
        connection.execute("INSERT INTO trace_paths VALUES (1, 't', [11], [0.0]), (1, 'u', [12], [0.0])")

    store.write(fill)
    rows = {tuple(row[:2]): row[2] for row in signal_yield.derived(store).iter_rows()}
    assert rows == {
        ("t", signal_yield.STEP_CREDIT): pytest.approx(-0.4),
        ("t", signal_yield.TRANSITIONS): pytest.approx(-np.log(4 / 6)),
        ("u", signal_yield.TRANSITIONS): pytest.approx(-np.log(2 / 6)),
    }


@pytest.mark.parametrize("job", ["failures", "signal-yield", "hacking-watch"])
def test_jobs_say_what_they_lack(store, tmp_path, job):
    result = run_loop(store, job)[job]
    assert result.rows == 0
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "x"}])
    assert run_loop(store, job)[job].rows == 0


def test_a_second_run_replaces_labels_and_keeps_the_history_of_runs(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "x", "status": "error"}])
    for expected in (1, 2):
        assert run_loop(store, "failures")["failures"].rows == 1
        with store.read() as reader:
            assert reader.value("SELECT count(*) FROM failure_runs") == expected
            assert reader.value("SELECT count(*) FROM failure_labels") == 1
            assert reader.value("SELECT max(run_id) FROM failure_labels") == expected
