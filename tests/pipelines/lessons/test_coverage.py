"""What served lessons leave of a task, and when another lesson of the same words is held back."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.lessons.coverage import uncovered
from pipelines.lessons.stop_rule import Standing
from store.contrasts import REQUESTS, SERVED, USER_SHARES

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
TASKS = pl.DataFrame({"agent": ["a", "a", "b"], "task": ["refund", "parcel", "refund"]})
ASKED = pl.DataFrame(
    [("a", "refund", "give me my money back for the broken lamp"), ("a", "parcel", "where is my parcel now")],
    schema=REQUESTS, orient="row",
)  # fmt: skip
TOOLS = pl.DataFrame({"agent": ["a", "a"], "task": ["refund", "parcel"], "name": ["issue_refund", "track_parcel"]})
USERS = pl.DataFrame([("a", "refund", "ada", 0.4)], schema=USER_SHARES, orient="row")


def lesson(**changed: object) -> dict[str, object]:
    return {
        "lesson_id": "l", "agent": "a", "task": None, "segment": None, "user_id": None, "state": "active",
        "served_since": SINCE, "title": "Be kind", "when_text": "Somebody is upset.", "do_text": "Apologise first.",
    } | changed  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({}, [1.0, 1.0, 1.0]),  # says nothing of either task
        ({"task": "refund"}, [0.5, 1.0, 1.0]),
        ({"task": "refund", "agent": "*"}, [0.5, 1.0, 0.5]),
        ({"do_text": "Call `issue_refund` once."}, [0.5, 1.0, 1.0]),
        ({"when_text": "where is my parcel now"}, [1.0, 0.5, 1.0]),
        ({"task": "refund", "user_id": "ada"}, [0.8, 1.0, 1.0]),
        ({"task": "refund", "user_id": "bob"}, [1.0, 1.0, 1.0]),
        ({"task": "refund", "segment": "new"}, [1.0, 1.0, 1.0]),
        ({"task": "refund", "state": "retired"}, [1.0, 1.0, 1.0]),
        ({"task": "refund", "state": "paused"}, [1.0, 1.0, 1.0]),
        ({"task": "refund", "state": "canary"}, [0.5, 1.0, 1.0]),
    ],
)
def test_a_lesson_halves_what_is_left_of_the_traces_that_it_fits(changed: dict[str, object], left: list[float]) -> None:
    served = pl.DataFrame([lesson(**changed)], schema=SERVED)
    assert uncovered(TASKS, served, ASKED, TOOLS, USERS).to_list() == pytest.approx(left)


def test_lessons_add_up() -> None:
    served = pl.DataFrame([lesson(task="refund"), lesson(task="refund", lesson_id="m")], schema=SERVED)
    assert uncovered(TASKS, served, ASKED, TOOLS, USERS).to_list() == pytest.approx([0.25, 1.0, 1.0])
    nothing = pl.DataFrame(schema=SERVED)
    assert uncovered(TASKS, nothing, ASKED, TOOLS, USERS).to_list() == [1.0, 1.0, 1.0]
    assert uncovered(TASKS.clear(), served, ASKED, TOOLS, USERS).to_list() == []


def bad(count: int, *, task: str = "refund", days: int = 2) -> pl.DataFrame:
    return pl.DataFrame({"task": [task] * count, "seen_at": [SINCE + timedelta(days=days)] * count})


WORDS = "Be kind\nSomebody is upset.\nApologise first."


@pytest.mark.parametrize(
    ("changed", "text", "task", "failing", "held"),
    [
        ({}, WORDS, None, bad(3), True),
        ({}, WORDS, "refund", bad(3), True),
        ({}, WORDS, None, bad(2), False),  # too few to call it failing
        ({}, WORDS, None, bad(9, days=-2), False),  # they went badly before the lesson was served
        ({}, "Count twice\nNumbers matter.\nAdd them again.", None, bad(9), False),
        ({"agent": "b"}, WORDS, None, bad(9), False),
        ({"agent": "*"}, WORDS, None, bad(9), True),
        ({"task": "refund"}, WORDS, "refund", bad(9), True),
        ({"task": "refund"}, WORDS, "parcel", bad(9), False),
        ({"task": "refund"}, WORDS, None, bad(9, task="parcel"), False),
        ({"state": "retired"}, WORDS, None, bad(9), True),
    ],
)
def test_the_same_words_again_are_held_back_while_the_task_fails(
    changed: dict[str, object], text: str, task: str | None, failing: pl.DataFrame, held: bool
) -> None:
    standing = Standing(pl.DataFrame([lesson(**changed)], schema=SERVED))
    stopped = standing.stop(text, "a", task, failing)
    assert (stopped is not None) == held
    if stopped is not None:
        assert stopped.lesson_id == "l"
        assert stopped.cosine == pytest.approx(1.0)
        assert "2026-11-01" in stopped.reason


def test_without_a_library_nothing_is_held_back() -> None:
    assert Standing(pl.DataFrame(schema=SERVED)).stop(WORDS, "a", None, bad(9)) is None
