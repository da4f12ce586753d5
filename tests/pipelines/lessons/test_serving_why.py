"""Why a request got a lesson or not: every outcome, in words, from the log or by choosing again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing import publisher
from served_lessons import NOON, lesson, propose, serve

from pipelines.lessons.serving.why import why
from pipelines.steering import publishing
from pipelines.steering.asked import input_hash
from pipelines.steering.decide import Decider, Question
from pipelines.steering.decision_log import frame_of
from pipelines.steering.snapshot import Policies
from store import decisions
from store.clock import FixedClock
from store.connection import Store
from store.errors import NotFound
from store.playbooks import Served

LIBRARY = [
    lesson("a-words", when_text="A parcel is late, lost or broken", trust="operator"),
    lesson("b-plain", payoff=0.2, payoff_sd=0.01, holdout=0.5),
    lesson("c-refund", task="refund"),
    lesson("d-gold", segment="gold", user_id="someone"),
    lesson("e-twin", when_text="At b-plain.", do_text="Do b-plain."),
    lesson("f-harm", payoff=-0.2, payoff_sd=0.01),
    lesson("g-gone", expires_at=NOON),
    lesson("h-long", do_text="Look at everything again. " * 60),
]
ABSENT = [lesson("x-waits", state="proposed"), lesson("y-bank", agent="bank")]
BUDGET = 120


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("why")
    opened = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOON), threads=1)
    propose(opened, [*LIBRARY, *ABSENT])
    serve(opened, LIBRARY, settings=Served(token_budget=BUDGET, empty_share=0.1))
    publishing.republish(opened, cause="operator")
    yield opened
    opened.close()


def ask(store: Store, text: str | None, wanted=lambda decision: True, **asked):
    """The first decision that is as wanted, in the store."""
    held = Policies.of_store(store)
    try:
        decider = Decider(held, store.clock)
        for number in range(2_000):
            question = Question(
                "shop", session_id=f"s{number}", input=text, input_hash=input_hash(text) if text else None, **asked
            )
            made = decider.decide(question, "key").decision
            if wanted({each.lesson_id: each.status for each in made.exposures}):
                frame = frame_of([made])
                break
        else:
            raise AssertionError("no decision is like that")
    finally:
        held.close()
    store.write(lambda connection: decisions.append(connection, frame))
    return made


@pytest.mark.parametrize("status", ["served", "withheld", "empty"])
def test_what_the_log_names(store, status):
    made = ask(store, None, lambda found: found["b-plain"] == status)
    found = why(store, made.decision_id, "b-plain")
    (reason,) = found.reasons
    assert (reason.outcome, reason.title, found.input_known) == (status, "Title of b-plain", True)
    said = {
        "served": "Served, with a probability of 45.0%; its match with the request was 1.00.",
        "withheld": "below its holdout of 50.0%.",
        "empty": "one of the 10.0% that get no lesson at all",
    }[status]
    assert said in reason.text
    if status == "withheld":
        drawn = float(reason.text.split("for this session was ")[1].split(",")[0])
        assert 0 <= drawn < 0.5


@pytest.mark.parametrize(
    ("lesson_id", "outcome", "said"),
    [
        ("a-words", "not_matched", "the request names 0% of its words, and 20% are needed."),
        ("c-refund", "out_of_scope", "It is for task 'refund', and the request is of 'exchange'."),
        ("d-gold", "out_of_scope", "It is for segment 'gold', and the request named none; for user 'someone', and"),
        ("e-twin", "repeated", "It says the same as b-plain, which was chosen."),
        ("f-harm", "expected_harm", "its measured payoff is -0.200."),
        ("g-gone", "expired", "It expired on 2026-11-20 12:00 UTC, before this."),
        ("h-long", "over_budget", "(b-plain)"),
        ("x-waits", "not_in_playbook", "which was in force; the lesson is proposed now."),
        ("y-bank", "not_in_playbook", "it is for the agent 'bank'."),
    ],
)  # fmt: skip
def test_what_is_worked_out_again(store, tmp_path, lesson_id, outcome, said):
    text = f"please cancel my order, number {lesson_id}"
    made = ask(store, text, task="exchange")
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": f"t-{lesson_id}", "agent": "shop", "decision_id": made.decision_id, "started_at": NOON,
             "input": text}
        ]
    )  # fmt: skip
    found = why(store, made.decision_id, lesson_id)
    (reason,) = found.reasons
    assert (reason.outcome, found.playbook_version, found.input_known) == (outcome, 1, True)
    assert said in reason.text


def test_every_lesson_of_the_playbook_has_a_reason(store):
    made = ask(store, None)
    found = why(store, made.decision_id)
    assert [each.lesson_id for each in found.reasons[: len(made.exposures)]] == [
        each.lesson_id for each in made.exposures
    ]
    assert {each.lesson_id for each in found.reasons} == {each.lesson_id for each in LIBRARY}


def test_an_input_that_no_trace_states_is_said_to_be_unknown(store, tmp_path):
    made = ask(store, "the parcel is broken")
    assert not why(store, made.decision_id, "h-long").input_known
    other = ask(store, "another question")
    publisher(store, tmp_path / "b")(
        traces=[
            {"trace_id": "t-differs", "agent": "shop", "decision_id": other.decision_id, "started_at": NOON,
             "input": "hello there"}
        ]
    )  # fmt: skip
    told = why(store, other.decision_id, "a-words").reasons[0]
    assert told.outcome == "not_matched"
    assert "The input is not known exactly" in told.text


def test_what_is_unknown_is_not_found(store):
    made = ask(store, None)
    with pytest.raises(NotFound):
        why(store, "no such decision")
    with pytest.raises(NotFound):
        why(store, made.decision_id, "no such lesson")


def test_why_serving_was_off_or_something_left_out(tmp_path):
    opened = Store.open(tmp_path / "off.duckdb", clock=FixedClock(NOON), threads=1)
    try:
        propose(opened, LIBRARY)
        serve(opened, LIBRARY[:2])
        serve(opened, [], settings=Served(off="an incident"))
        publishing.republish(opened, cause="operator")
        assert (
            "serving was switched off (an incident)"
            in why(opened, ask(opened, None).decision_id, "b-plain").reasons[0].text
        )
        serve(opened, LIBRARY[:1], settings=Served(pinned=1, left_out={"b-plain": "paused: looks wrong"}))
        publishing.republish(opened, cause="operator")
        told = why(opened, ask(opened, None).decision_id, "b-plain").reasons[0]
        assert "paused: looks wrong" in told.text
    finally:
        opened.close()
