"""Rows of many are written slice by slice: unseen until all are there, cleaned away when cut short, others in between.

Each store that writes that way is held to it, with two rows a transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import duckdb
import polars as pl
import pytest
from loop_data import NOW
from publishing import Publish

from store import credit, failures, meta, preferences, result_rows, transition_models, users
from store.connection import Store

NAMES = ("ada", "bob", "cem", "dan", "eve")


def _no_facts(publish: Publish, run: int) -> None:
    """The rows are handed over; nothing has to be in the store."""


@dataclass(frozen=True)
class Case:
    """A store: its bulky table, how a run is written whose rows bear its number, and how pages see those numbers."""

    table: str
    runs: str
    number: str
    write: Callable[[Store, float], int]
    seen: Callable[[Store], list[float]]
    facts: Callable[[Publish, int], None] = _no_facts


def _credit(store: Store, mark: float) -> int:
    rows = [(name, "s", 1, 0.5, mark, 0.3, -0.2, 0.05) for name in NAMES]
    return credit.record(
        store,
        credit.Found(
            pl.DataFrame(rows, schema=credit.STEP_CREDITS, orient="row"),
            pl.DataFrame(schema=credit.PARALLEL_CREDITS), pl.DataFrame(schema=credit.TOOL_CREDITS),
            notes=[], parameters={}, reward_model_id=1, data_version=1, code_version="c", traces=5, informative=5,
        ),
    )  # fmt: skip


def _transitions(store: Store, mark: float) -> int:
    surprise = pl.DataFrame(
        [(name, "shop", 3, mark, 1.0, 1.0, 0.5, 9, "agent") for name in NAMES],
        schema=transition_models.SURPRISE,
        orient="row",
    )
    others = {
        "transition_states": transition_models.STATES, "transition_folds": transition_models.FOLDS,
        "transition_counts": transition_models.MOVES, "reliability": transition_models.RELIABILITY,
        "inferred_weights": transition_models.WEIGHTS,
    }  # fmt: skip
    frames = {table: pl.DataFrame(schema=schema) for table, schema in others.items()}
    model = {
        "agent": "shop", "window_since": NOW, "window_until": NOW, "traces": 5, "steps": 15, "states": 3,
        "concentration": 1.0, "user_concentration": None, "parameters": {},
    }  # fmt: skip
    run = transition_models.Run([model], {**frames, "trace_surprise": surprise}, 1, None, "c")
    return transition_models.publish(store, run)


def _preferences(store: Store, mark: float) -> int:
    weights = pl.DataFrame(
        [(name, "price", mark, 0.1, 0.5, None, None) for name in NAMES], schema=preferences.USER_WEIGHTS, orient="row"
    )
    found = preferences.Preferences(
        lists=5, items=10, chosen=5, users=5, parameters={}, user_weights=weights,
        weights=pl.DataFrame(schema=preferences.WEIGHTS), agreement=pl.DataFrame(schema=preferences.AGREEMENT),
        rankings=pl.DataFrame(schema=preferences.RANKINGS),
    )  # fmt: skip
    return preferences.publish(store, found, data_version=1, code_version="c")


def _failures(store: Store, mark: float) -> int:
    labels = pl.DataFrame(
        [(name, 1, "loop", "rule", "r", None, mark, "why") for name in NAMES], schema=failures.LABELS, orient="row"
    )
    summary = failures.Summary(1, None, traces=5, bad=5, unknown=0, explored=0, parameters={})
    return failures.record(
        store, labels, pl.DataFrame(schema=failures.RULES), summary, data_version=1, code_version="c"
    )


def _a_trace_each(publish: Publish, run: int) -> None:
    publish(
        traces=[
            {"trace_id": f"{name}-{run}", "user_id": name, "agent": "shop", "started_at": NOW + timedelta(hours=run)}
            for name in NAMES
        ]
    )


def _each(query: Callable[[Store, str], pl.DataFrame], column: str) -> Callable[[Store], list[float]]:
    return lambda store: [value for name in NAMES for value in query(store, name)[column]]


CASES = {
    "credit": Case("step_credits", "credit_runs", "run_id", _credit, _each(credit.of_trace, "credit")),
    "transitions": Case(
        "trace_surprise", "transition_models", "model_id", _transitions,
        _each(transition_models.surprise_of_trace, "mean_z"),
    ),
    "preferences": Case(
        "user_preferences", "preference_runs", "preference_run_id", _preferences,
        _each(preferences.user_weights, "weight"),
    ),
    "users": Case(
        "user_summaries", "user_runs", "user_run_id", lambda store, mark: users.count(store),
        lambda store: users.page(store).rows["traces"].to_list(), _a_trace_each,
    ),
    "failures": Case("failure_labels", "failure_runs", "run_id", _failures, _each(failures.of_trace, "confidence")),
}  # fmt: skip


class Interrupted(Exception):
    """Stands for whatever ends a writer half-way."""


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_rows, "SLICE", 2)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    """Each store that writes slice by slice."""
    found: Case = request.param
    return found


def _held(store: Store, case: Case) -> dict[int, int]:
    """How many rows of each run the table holds."""
    with store.read() as reader:
        return dict(reader.any_frame(f"SELECT {case.number}, count(*) FROM {case.table} GROUP BY ALL").rows())


def _rows_of(connection: duckdb.DuckDBPyConnection, case: Case, run: int) -> int:
    rows = connection.execute(f"SELECT count(*) FROM {case.table} WHERE {case.number} = {run}").fetchall()
    return int(rows[0][0])


def _unlisted(store: Store, case: Case) -> int:
    with store.read() as reader:
        newest = reader.value(f"SELECT coalesce(max({case.number}), 0) FROM {case.runs}")
    return sum(count for run, count in _held(store, case).items() if run > int(str(newest)))


@contextmanager
def _after_each_write(store: Store, then: Callable[[], None]) -> Iterator[None]:
    """What stands between two transactions of the code under test."""
    write = store.write
    with pytest.MonkeyPatch.context() as patch:

        def told(work):
            answer = write(work)
            then()
            return answer

        patch.setattr(store, "write", told)
        yield


def _cut_short(store: Store, case: Case, mark: float) -> None:
    def stop() -> None:
        if _unlisted(store, case) == 4:
            raise Interrupted

    with _after_each_write(store, stop), pytest.raises(Interrupted):
        case.write(store, mark)


def test_rows_of_an_unfinished_run_are_not_seen_and_the_next_run_removes_them(
    store: Store, publish: Publish, case: Case
) -> None:
    case.facts(publish, 1)
    case.write(store, 1.0)
    assert case.seen(store) == [1.0] * 5
    case.facts(publish, 2)
    version = meta.data_version(store)
    _cut_short(store, case, 2.0)
    assert _held(store, case) == {1: 5, 2: 4}
    assert case.seen(store) == [1.0] * 5
    assert meta.data_version(store) == version
    case.facts(publish, 3)
    case.write(store, 3.0)
    assert case.seen(store) == [3.0] * 5
    assert _held(store, case) == {2: 5}
    assert meta.data_version(store) > version


def test_nothing_is_seen_of_a_first_run_that_was_cut_short(store: Store, publish: Publish, case: Case) -> None:
    case.facts(publish, 1)
    _cut_short(store, case, 9.0)
    assert _held(store, case) == {1: 4}
    assert case.seen(store) == []
    case.write(store, 1.0)
    assert case.seen(store) == [1.0] * 5
    assert _held(store, case) == {1: 5}


def test_other_changes_get_their_turn_between_slices_and_readers_see_one_run_or_the_other(
    store: Store, publish: Publish, case: Case
) -> None:
    case.facts(publish, 1)
    case.write(store, 1.0)
    case.facts(publish, 2)
    counts: list[int] = []
    seen: set[tuple[float, ...]] = set()

    def another() -> None:
        counts.append(store.submit(lambda connection: _rows_of(connection, case, 2)).result())
        seen.add(tuple(case.seen(store)))

    with _after_each_write(store, another):
        case.write(store, 2.0)
    assert {2, 4, 5} <= set(counts)
    assert seen == {(1.0,) * 5, (2.0,) * 5}


def test_only_rows_that_the_condition_holds_of_are_removed_a_slice_a_transaction(store: Store) -> None:
    store.write(lambda connection: connection.execute("CREATE TABLE numbers AS SELECT unnest(range(7)) AS n"))
    transactions: list[object] = []
    with _after_each_write(store, lambda: transactions.append(None)):
        result_rows.remove(store, "numbers", "n >= $least", {"least": 2})
    assert len(transactions) == 3
    with store.read() as reader:
        assert reader.any_frame("SELECT n FROM numbers ORDER BY n")["n"].to_list() == [0, 1]


def test_a_key_may_have_several_columns_and_columns_are_matched_by_name(store: Store) -> None:
    def work(connection):
        connection.execute("CREATE TABLE rows_of_runs (run_id BIGINT, found_at TIMESTAMPTZ, a VARCHAR, b BIGINT)")
        frame = pl.DataFrame({"b": [1, 2], "a": ["x", None]})
        result_rows.insert(connection, "rows_of_runs", frame, key={"run_id": 7, "found_at": NOW})
        return connection.execute("SELECT run_id, found_at = $now, a, b FROM rows_of_runs", {"now": NOW}).fetchall()

    assert store.write(work) == [(7, True, "x", 1), (7, True, None, 2)]
