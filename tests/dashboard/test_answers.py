"""Answers that are held: never older than they may be, never from before an action, and read once for all who ask."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.answers import Answers
from store.meta import Version

OLDEST = 60.0


class World:
    """A store that moves, a clock that is set by hand, and refreshing that waits until it is told to go on."""

    def __init__(self, took: float = 1.0, most: int = 500) -> None:
        self.now, self.took = 1_000.0, took
        self.version = Version(1, 1)
        self.readings = 0
        self.waiting: list[Callable[[], None]] = []
        self.answers = Answers(self.waiting.append, lambda: self.now, most)

    def read(self) -> Any:
        self.readings += 1
        self.now += self.took
        return {"data": self.version.data, "acted": self.version.acted, "readings": self.readings}

    def ask(self, key: str = "how many", oldest: float = OLDEST, at_least: float = 0.0) -> tuple[dict[str, int], float]:
        given = self.answers.give(key, lambda: self.version, self.read, oldest=oldest, at_least=at_least)
        return given.answer, given.age

    def stream(self) -> None:
        self.version = Version(self.version.data + 1, self.version.acted)

    def act(self) -> None:
        self.version = Version(self.version.data + 1, self.version.acted + 1)

    def run_a_job(self) -> None:
        self.version = Version(self.version.data + 1, self.version.acted, self.version.ran + 1)

    def refresh(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_an_answer_holds_while_nothing_moves() -> None:
    world = World(took=0.001)
    world.ask()
    world.now += 10 * OLDEST
    answer, age = world.ask()
    assert (answer["readings"], age, world.waiting) == (1, 0.0, [])


def test_what_is_quick_is_read_anew_after_twenty_times_as_long() -> None:
    world = World(took=0.04)
    for wanted in (1, 2, 3):
        answer, age = world.ask()
        assert (answer["data"], age) == (wanted, 0.0)
        world.stream()
        world.now += 0.7
        answer, age = world.ask()
        assert (answer["data"], age) == (wanted, pytest.approx(0.74))
        world.now += 0.1
    assert world.waiting == []


def test_who_says_so_gets_what_is_quick_for_longer_but_not_when_it_is_too_old() -> None:
    world = World(took=0.001)
    world.ask()
    world.stream()
    world.now += 9.0
    assert world.ask(at_least=10.0)[0]["data"] == 1
    assert world.ask(at_least=10.0, oldest=8.0) == ({"data": 2, "acted": 1, "readings": 2}, 0.0)
    world.stream()
    world.now += 9.0
    assert world.ask()[0]["data"] == 3, "somebody else did not say so"
    world.stream()
    world.now += 10.1
    assert world.ask(at_least=10.0)[0]["data"] == 4
    world.act()
    assert world.ask(at_least=10.0)[0]["data"] == 5
    assert world.waiting == []


def test_who_says_so_does_not_have_what_is_slow_read_behind_it_before() -> None:
    world = World(took=0.1)
    world.ask()
    world.stream()
    world.now += 9.0
    assert (world.ask(at_least=10.0)[0]["data"], world.waiting) == (1, [])
    assert world.ask()[0]["data"] == 1
    assert len(world.waiting) == 1


def test_what_is_slow_is_given_again_and_refreshed_behind_it() -> None:
    world = World(took=1.0)
    world.ask()
    world.stream()
    world.now += 5.0
    answer, age = world.ask()
    # It is as old as the moment in which reading it began.
    assert (answer["data"], age, world.waiting) == (1, 6.0, [])
    world.now += 15.0
    assert world.ask() == ({"data": 1, "acted": 1, "readings": 1}, 21.0)
    assert world.ask()[0]["data"] == 1
    assert len(world.waiting) == 1
    world.refresh()
    assert world.ask() == ({"data": 2, "acted": 1, "readings": 2}, 0.0)
    assert world.readings == 2


def test_what_is_too_old_is_read_for_whoever_asks() -> None:
    world = World(took=1.0)
    world.ask()
    world.stream()
    world.now += OLDEST
    assert world.ask()[0]["data"] == 2
    world.stream()
    assert world.ask(oldest=0.0)[0]["data"] == 3


def test_what_operators_did_is_in_every_answer() -> None:
    world = World(took=1.0)
    world.ask()
    world.act()
    assert world.ask() == ({"data": 2, "acted": 2, "readings": 2}, 0.0)


def test_what_came_of_a_job_that_somebody_started_is_in_every_answer() -> None:
    world = World(took=1.0)
    world.ask()
    world.run_a_job()
    assert world.ask()[0]["data"] == 2


def test_an_action_while_it_is_refreshed_is_not_missed() -> None:
    world = World(took=1.0)
    world.ask()
    world.stream()
    world.now += 30.0
    world.ask()
    stale = world.version

    def version() -> Version:
        # The action comes after the version was read and before the refreshed answer is kept.
        world.act()
        return stale

    (waiting,) = world.waiting
    world.waiting.clear()
    world.answers.give("how many", version, world.read, oldest=0.0)
    waiting()
    assert world.ask()[0]["acted"] == 2


def test_a_failing_refresh_is_seen_by_the_next_who_asks() -> None:
    world = World(took=1.0)
    world.ask()
    world.stream()
    world.now += 30.0

    def fail() -> Any:
        raise ValueError("no disk")

    world.answers.give("how many", lambda: world.version, fail, oldest=OLDEST)
    world.refresh()
    with pytest.raises(ValueError, match="no disk"):
        world.answers.give("how many", lambda: world.version, fail, oldest=OLDEST)
    assert world.ask()[0]["data"] == 2


def test_pages_may_change_what_they_get() -> None:
    world = World(took=1.0)
    answer, _ = world.ask()
    answer["data"] = 99
    assert world.ask()[0]["data"] == 1
    frame = pl.DataFrame({"a": [1]})
    given = world.answers.give("frame", lambda: world.version, lambda: frame, oldest=OLDEST).answer
    given.insert_column(0, pl.Series("b", [2]))
    assert world.answers.give("frame", lambda: world.version, lambda: None, oldest=OLDEST).answer.columns == ["a"]


def test_what_was_forgotten_is_not_kept_by_a_reading_that_goes_on() -> None:
    world = World(took=1.0)

    def read() -> str:
        world.answers.forget()
        return "a person's text"

    world.answers.give("texts", lambda: world.version, read, oldest=OLDEST)
    assert world.answers.give("texts", lambda: world.version, lambda: "nothing", oldest=OLDEST).answer == "nothing"


def test_the_least_asked_for_make_room() -> None:
    world = World(took=1.0, most=2)
    for key in ("a", "b", "a", "c"):
        world.ask(key)
    assert world.readings == 3
    world.ask("a")
    assert world.readings == 3
    world.ask("b")
    assert world.readings == 4


def test_those_who_ask_together_wait_for_one_reading() -> None:
    answers = Answers(lambda work: None)
    begun, go = threading.Event(), threading.Event()
    readings: list[int] = []

    def read() -> str:
        readings.append(1)
        begun.set()
        assert go.wait(30)
        return "read"

    def ask() -> str:
        answer: str = answers.give("k", lambda: Version(1, 1), read, oldest=OLDEST).answer
        return answer

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask)
        assert begun.wait(30)
        others = [pool.submit(ask) for _ in range(3)]
        go.set()
        assert [each.result(30) for each in (first, *others)] == ["read"] * 4
    assert len(readings) == 1


_STEPS = st.lists(
    st.one_of(
        st.sampled_from(["stream", "act", "refresh", "ask"]),
        st.floats(0.0, 100.0),
    ),
    max_size=40,
)


@given(_STEPS, st.sampled_from([0.0, 0.01, 0.1, 2.0]), st.sampled_from([0.0, 10.0, 2 * OLDEST]))
def test_whatever_happens_no_answer_is_older_than_it_says(
    steps: list[str | float], took: float, at_least: float
) -> None:
    world = World(took=took)
    # When each data version ceased to be the present one.
    ended: dict[int, float] = {}
    for step in steps:
        before = world.version.data
        if isinstance(step, float):
            world.now += step
        elif step == "ask":
            asked = world.now
            answer, age = world.ask(at_least=at_least)
            assert answer["acted"] == world.version.acted
            assert age <= OLDEST
            if answer["data"] != world.version.data:
                assert asked - ended[answer["data"]] <= age
        else:
            getattr(world, step)()
        if world.version.data != before:
            ended[before] = world.now
