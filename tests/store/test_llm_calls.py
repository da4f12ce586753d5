"""What the model costs: reserving, extending, ending, the day's border, the cache, and what pages read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import llm_calls
from store.clock import FixedClock
from store.connection import Store
from store.llm_calls import Budget, BudgetExceeded, Charge, Ended, Question

QUESTION = Question("run 1", "judge", "judge_trace.v1", "t1", "chat", "fake", "a" * 64)
WIDE = Budget(Charge(10**9, 1e6), Charge(10**9, 1e6))


def ended(charge: Charge, **more: object) -> Ended:
    made = Ended("answered", 1, 0.5, charge, False, charge.tokens, 0, "fake-1", '{"a":1}')
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_reservation_gives_back_what_it_did_not_use(store: Store) -> None:
    call = llm_calls.begin(store, QUESTION, Charge(1_000, 0.5), WIDE)
    assert llm_calls.spent(store) == Charge(1_000, 0.5)
    llm_calls.finish(store, call, ended(Charge(300, 0.1)))
    assert llm_calls.spent(store) == Charge(300, 0.1)
    assert llm_calls.spent(store, run="run 1") == Charge(300, 0.1)
    assert llm_calls.spent(store, run="run 2") == Charge(0, 0.0)


def test_another_attempt_reserves_again_or_is_refused(store: Store) -> None:
    tight = Budget(Charge(150, 10.0), Charge(10**6, 10.0))
    call = llm_calls.begin(store, QUESTION, Charge(100, 0.0), tight)
    llm_calls.extend(store, call, Charge(50, 0.0), tight)
    with pytest.raises(BudgetExceeded) as caught:
        llm_calls.extend(store, call, Charge(1, 0.0), tight)
    assert (caught.value.span, caught.value.spent.tokens) == ("day", 150)
    assert llm_calls.spent(store).tokens == 150


@pytest.fixture(scope="module")
def memory() -> Iterator[Store]:
    """One store for all examples: each takes place on a day, and in runs, of its own."""
    opened = Store.open(None, clock=FixedClock(datetime(2026, 1, 1, tzinfo=UTC)), threads=1)
    yield opened
    opened.close()


@settings(max_examples=30)
@given(asked=st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=15))
def test_no_order_of_questions_spends_more_than_a_budget(memory: Store, asked: list[tuple[int, float]]) -> None:
    budget = Budget(Charge(1_000, 0.7), Charge(700, 0.5))
    clock = memory.clock
    assert isinstance(clock, FixedClock)
    clock.moment += timedelta(days=1)
    for number, (tokens, part) in enumerate(asked):
        run = f"{clock.moment:%Y-%m-%d} {number % 2}"
        most = Charge(tokens, tokens / 1_000)
        before, own = llm_calls.spent(memory), llm_calls.spent(memory, run=run)
        fits = not (before + most).exceeds(budget.day) and not (own + most).exceeds(budget.run)
        try:
            call = llm_calls.begin(memory, replace(QUESTION, run=run), most, budget)
        except BudgetExceeded:
            assert not fits
            continue
        assert fits
        llm_calls.finish(memory, call, ended(Charge(int(tokens * part), tokens * part / 1_000)))
        assert not llm_calls.spent(memory).exceeds(budget.day)
        assert not llm_calls.spent(memory, run=run).exceeds(budget.run)


def test_a_charge_that_just_fits_does_not_fail_on_the_last_bit(store: Store) -> None:
    budget = Budget(Charge(100, 0.3), Charge(100, 0.3))
    for _ in range(3):
        llm_calls.begin(store, QUESTION, Charge(1, 0.1), budget)
    with pytest.raises(BudgetExceeded):
        llm_calls.begin(store, QUESTION, Charge(1, 1e-6), budget)


def test_days_are_utc_days(store: Store, clock: FixedClock) -> None:
    clock.moment = datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC)
    llm_calls.begin(store, QUESTION, Charge(10, 0.0), WIDE)
    assert llm_calls.spent(store).tokens == 10
    clock.moment += timedelta(seconds=1)
    assert llm_calls.spent(store).tokens == 0
    assert llm_calls.spent(store, run="run 1").tokens == 10


def test_the_newest_answer_to_a_question_is_kept(store: Store, clock: FixedClock) -> None:
    assert llm_calls.kept(store, QUESTION.content_hash) is None
    for text in ('{"a":1}', '{"a":2}'):
        call = llm_calls.begin(store, QUESTION, Charge(1, 0.0), WIDE)
        moment = llm_calls.finish(store, call, ended(Charge(1, 0.0), answer=text))
    found = llm_calls.kept(store, QUESTION.content_hash)
    assert found == llm_calls.Kept('{"a":2}', "fake-1", moment)
    call = llm_calls.begin(store, replace(QUESTION, content_hash="b" * 64), Charge(1, 0.0), WIDE)
    llm_calls.finish(store, call, ended(Charge(1, 0.0), answer=None, outcome="malformed", error="no"))
    assert llm_calls.kept(store, "b" * 64) is None


def test_pages_read_what_was_asked_by_purpose(store: Store, clock: FixedClock) -> None:
    since = clock.moment
    call = llm_calls.begin(store, QUESTION, Charge(50, 0.5), WIDE)
    llm_calls.finish(store, call, ended(Charge(30, 0.3), input_tokens=20, output_tokens=10))
    call = llm_calls.begin(store, QUESTION, Charge(50, 0.5), WIDE)
    llm_calls.finish(store, call, ended(Charge(40, 0.4), outcome="refused", answer=None, input_tokens=None))
    found = llm_calls.kept(store, QUESTION.content_hash)
    assert found is not None
    llm_calls.record_hit(store, QUESTION, found)
    with pytest.raises(BudgetExceeded):
        llm_calls.begin(store, QUESTION, Charge(50, 0.5), Budget(Charge(0, 0.0), Charge(0, 0.0)))
    (row,) = llm_calls.use(store, since).to_dicts()
    assert (row["calls"], row["answered"], row["cached"], row["failed"], row["tokens"]) == (3, 1, 1, 1, 70)
    assert row["cost_usd"] == pytest.approx(0.7)
    assert llm_calls.use(store, since + timedelta(seconds=1)).is_empty()
    assert llm_calls.typical(store, "judge", "fake") == {"calls": 1, "input_tokens": 20.0, "output_tokens": 10.0}
    assert llm_calls.typical(store, "lesson", "fake")["calls"] == 0
    outcomes = llm_calls.recent(store, purpose="judge")["outcome"].to_list()
    assert outcomes == ["over budget", "cached", "refused", "answered"]
