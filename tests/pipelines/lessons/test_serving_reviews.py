"""From the review to the request: what operators do with a lesson decides what is served, within the second."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from served_lessons import NOON, lesson

from pipelines.lessons import review
from pipelines.lessons.lint import gather
from pipelines.steering import publishing
from pipelines.steering.decide import Decider, Question
from pipelines.steering.snapshot import Policies
from store import lesson_settings, lessons
from store.clock import FixedClock
from store.connection import Store
from store.lesson_proposals import EVIDENCE

TEXTS = {
    "late": ("A parcel is late", "Say when it will come before you offer anything else."),
    "angry": ("The customer is angry", "Begin with an apology."),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOON), threads=1)
    rows = [
        {
            "lesson_id": name, "agent": agent, "task": None, "tested": True, "value": 1.0, "title": f"About {name}",
            "when_text": when, "when_not": None, "do_text": do, "why": "Seen by an operator.",
        }
        for (name, (when, do)), agent in zip(TEXTS.items(), ("shop", "*"), strict=True)
    ]  # fmt: skip
    lessons.propose(
        opened, pl.DataFrame(rows), pl.DataFrame(schema=EVIDENCE), author="ann", origin="operator", trust="operator"
    )
    for name in TEXTS:
        gather.check(opened, name)
    yield opened
    opened.close()


def served(store: Store, text: str = "my parcel is late and I am angry") -> dict[str, float]:
    """The lessons chosen for a request, with the probability of serving each."""
    publishing.republish(store, cause="operator")
    held = Policies.of_store(store)
    try:
        if held.get("shop") is None:
            return {}
        decision = Decider(held, store.clock).decide(Question("shop", input=text), "key").decision
    finally:
        held.close()
    return {each.lesson_id: round(each.served_probability, 6) for each in decision.exposures}


def version(store: Store, lesson_id: str) -> int:
    return int(lessons.one(store, lesson_id)["version"])


def test_what_operators_do_is_what_is_served(store: Store) -> None:
    assert served(store) == {}
    review.approve(store, "late", version=1, operator="ann", to="canary")
    assert served(store) == {"late": round(0.98 * 0.8, 6)}
    assert served(store, "good morning") == {}
    review.promote(store, "late", version=1, operator="ann")
    assert served(store) == {"late": round(0.98 * 0.9, 6)}
    review.approve(store, "angry", version=1, operator="ann", to="active")
    assert served(store).keys() == {"late", "angry"}  # a lesson of every agent
    review.pause(store, "late", version=1, operator="ann", reason="looks wrong")
    assert served(store).keys() == {"angry"}
    review.resume(store, "late", version=1, operator="ann")
    lesson_settings.kill(store, "shop", reason="an incident", by="ann", render=review.render)
    assert served(store) == {}
    lesson_settings.restore_serving(store, "shop", by="ann", render=review.render)
    assert served(store).keys() == {"late", "angry"}
    lesson_settings.put(store, "shop", by="ann", render=review.render, empty_share=0.5)
    assert served(store)["late"] == round(0.5 * 0.9, 6)
    review.retire(store, "angry", version=1, operator="ann")
    assert served(store).keys() == {"late"}


def test_a_lesson_is_served_until_it_expires_to_the_moment(store: Store) -> None:
    review.approve(store, "late", version=1, operator="ann", to="active")
    edge = NOON + timedelta(hours=1)
    review.edit(store, "late", version=1, operator="ann", expires_at=edge)
    store.clock.moment = edge - timedelta(microseconds=1)  # type: ignore[attr-defined]
    assert served(store).keys() == {"late"}
    store.clock.moment = edge  # type: ignore[attr-defined]
    assert served(store) == {}


def test_the_library_for_tests_is_as_the_one_of_reviews(store: Store) -> None:
    """The helper that other tests fill the library with leaves nothing out that serving reads."""
    review.approve(store, "late", version=1, operator="ann", to="active")
    from_reviews = publishing.decided(store, "shop").lessons
    assert from_reviews is not None
    (found,) = from_reviews.lessons
    when, do = TEXTS["late"]
    assert found == lesson(
        "late", title="About late", when_text=when, do_text=do, trust="operator", holdout=found.holdout
    )
