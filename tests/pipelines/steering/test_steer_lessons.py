"""Lessons in decisions: chosen, logged, published, and the same again when they are replayed."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from publishing import publisher
from served_lessons import NOON, lesson, lesson_set, propose, serve
from steering_policies import arm, policy_of

from pipelines.steering import publishing
from pipelines.steering.answer import answer
from pipelines.steering.asked import input_hash
from pipelines.steering.compiled import Compiled
from pipelines.steering.decide import Decider, Question
from pipelines.steering.decision_log import DecisionLog, frame_of
from pipelines.steering.named_lessons import named_lessons
from pipelines.steering.policy import Arm
from pipelines.steering.replay_lessons import replay_store
from pipelines.steering.snapshot import Policies
from store import arms, decisions, policies
from store.clock import FixedClock
from store.connection import Store

LIBRARY = [
    lesson("late", when_text="A parcel is late", trust="operator", holdout=0.3),
    lesson("tool", holdout=0.2, state="canary"),
    lesson("broken", when_text="An item arrived broken", trust="operator", task="refund"),
    lesson("gold", segment="gold"),
]
ASKED = ["where is my parcel, it is so late", "it arrived broken", "", None, "cancel my order"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOON), threads=1)
    yield opened
    opened.close()


def decided(store: Store, count: int = 40, life: str = "first"):
    """Decisions of `shop` by what is published, put into the store; sessions ask twice."""
    held = Policies.of_store(store)
    try:
        decider = Decider(held, store.clock)
        made = []
        for number in range(count):
            text = ASKED[number % len(ASKED)]
            question = Question(
                "shop", session_id=f"{life}-{number // 2}" if number % 3 else None,
                task="refund" if number % 2 else None,
                input=text, input_hash=input_hash(text) if text is not None else None,
            )  # fmt: skip
            made.append(decider.decide(question, "key"))
    finally:
        held.close()
    frame = frame_of([each.decision for each in made])
    store.write(lambda connection: decisions.append(connection, frame))
    return made


def stated(store: Store, folder: Path, made, leave_out=frozenset()):
    """Traces that state the inputs of decisions."""
    publisher(store, folder)(
        traces=[
            {"trace_id": f"t-{each.decision.decision_id}", "agent": "shop", "started_at": NOON,
             "decision_id": each.decision.decision_id, "input": ASKED[i % len(ASKED)]}
            for i, each in enumerate(made) if ASKED[i % len(ASKED)] and i not in leave_out
        ]
    )  # fmt: skip


def test_an_agent_with_lessons_and_no_arms_gets_a_policy_of_one_arm(store):
    propose(store, LIBRARY)
    serve(store, LIBRARY)
    assert publishing.republish(store, cause="operator") == {"shop": 1}
    policy = policies.newest(store, "shop")[0]
    assert [(each.name, each.state, each.baseline) for each in policy.arms] == [("default", "enabled", True)]
    assert policy.lessons is not None
    assert [each.lesson_id for each in policy.lessons.lessons] == ["gold", "late", "tool", "broken"]
    told = json.loads(answer(decided(store, 1)[0]))
    assert (told["arm"], told["propensity"], told["playbook_version"]) == ("default", 1.0, 1)
    # Its own arms take the place of that one.
    arms.define(store, "shop", "v2", kind="prompt", definition={}, origin="operator", by="ann")
    assert publishing.republish(store, cause="arms") == {"shop": 2}
    assert [each.name for each in policies.newest(store, "shop")[0].arms] == ["v2"]
    assert publishing.republish(store, cause="arms") == {}


def test_a_new_playbook_is_a_new_policy_and_texts_are_not_in_it(store):
    propose(store, LIBRARY)
    serve(store, LIBRARY[:1])
    publishing.republish(store, cause="operator")
    serve(store, LIBRARY)
    assert publishing.republish(store, cause="operator") == {"shop": 2}
    assert "parcel" not in json.dumps(policies.described(store, "shop", 2))
    assert policies.described(store, "shop", 2)["playbook_version"] == 2
    assert [len(policies.at(store, "shop", each).lessons.lessons) for each in (1, 2)] == [1, 4]
    block = policies.at(store, "shop", 2)
    assert block.lesson_ids == ("late", "tool", "broken", "gold")
    assert block.instructions.startswith("# Lessons")


def test_the_answer_has_the_lessons_served_and_the_log_all_of_them(store):
    propose(store, LIBRARY)
    serve(store, LIBRARY)
    publishing.republish(store, cause="operator")
    made = decided(store)
    seen = set()
    for each in made:
        told = json.loads(answer(each))
        served = [one.lesson_id for one in each.decision.exposures if one.status == "served"]
        assert sorted(told["lessons"]) == sorted(served)
        assert told["instructions"].count("\n## [") == len(served)
        assert all(f"## [{one}]" in told["instructions"] for one in served)
        assert (told["lesson_set_hash"] is None) == (not served)
        assert told["lesson_set_hash"] == each.decision.lesson_set_hash
        seen |= {one.status for one in each.decision.exposures}
        assert "gold" not in {one.lesson_id for one in each.decision.exposures}
    assert seen >= {"served", "withheld"}
    logged = decisions.recent(store, limit=100)
    assert logged["playbook_version"].unique().to_list() == [1]
    assert {row["decision_id"]: row["exposures"] for row in logged.to_dicts()} == {
        each.decision.decision_id: [one._asdict() for one in each.decision.exposures] for each in made
    }


def test_replay_gives_the_same_arms_and_lessons(store, tmp_path):
    propose(store, LIBRARY)
    serve(store, LIBRARY)
    publishing.republish(store, cause="operator")
    first = decided(store)
    # Whatever becomes of the lessons, the log is replayed from what was in force.
    serve(store, LIBRARY[:2])
    publishing.republish(store, cause="operator")
    store.write(lambda connection: connection.execute("UPDATE lessons SET state = 'retired'"))
    again = decided(store, 20, "second")
    stated(store, tmp_path, first)
    stated(store, tmp_path / "more", again, leave_out={0, 5})
    found = replay_store(store, limit=1_000)
    assert found.differences.is_empty(), found.differences
    assert found.decisions == 60
    # Two of the latter have no trace; that nothing was asked ("") or told (None) is known without one.
    assert (found.with_lessons, found.arms_only) == (58, 2)
    assert "Of 2 only the arms were" in found.message


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE exposures SET status = 'served' WHERE status = 'withheld'",
        "UPDATE exposures SET served_probability = served_probability - 1e-6",
        "UPDATE exposures SET match = match / 2",
        "DELETE FROM exposures WHERE lesson_id = 'tool'",
        "UPDATE decisions SET lesson_set_hash = 'f00'",
        "UPDATE decisions SET empty_probability = .5",
        "UPDATE exposures SET lesson_version = 9",
    ],
)
def test_replay_finds_what_was_not_decided_so(store, tmp_path, lie):
    propose(store, LIBRARY)
    serve(store, LIBRARY)
    publishing.republish(store, cause="operator")
    stated(store, tmp_path, decided(store))
    store.write(lambda connection: connection.execute(lie))
    assert replay_store(store).differences.height > 0


def test_lessons_go_with_the_policy_to_another_process():
    policy = policy_of(lessons=lesson_set(LIBRARY, agent="support-bot"))
    there = pickle.loads(pickle.dumps(policy))
    assert there.lessons == policy.lessons
    assert Compiled(there).lessons is not None


def test_a_policy_without_a_set_serves_its_block_to_everyone(store):
    held = Policies(lambda agent: [policy_of()], store.clock)
    try:
        made = Decider(held, store.clock).decide(Question("support-bot"), "key")
    finally:
        held.close()
    told = json.loads(answer(made))
    assert (told["lessons"], told["playbook_version"]) == (["l-1"], None)
    assert told["instructions"].startswith("# Playbook")
    assert (made.decision.exposures, made.decision.empty_probability) == ((), None)


def test_an_arm_of_kind_lesson_rules_which_are_served(store):
    ruled = Arm("without", "lesson", "enabled", False, {"without_lessons": ["tool"], "lessons": ["broken", 7]})
    plain = arm("plain", baseline=True)
    assert named_lessons(ruled) == (("broken",), ("tool",))
    assert named_lessons(replace(ruled, kind="prompt")) == ((), ())
    assert named_lessons(replace(ruled, definition={"lessons": "broken"})) == ((), ())
    shop = replace(LIBRARY[2], task=None)
    policy = policy_of(
        [plain, ruled], mean=(0.5, 0.5), sd=(0.1, 0.1), agent="shop", rate=0.5,
        lessons=lesson_set([LIBRARY[1], shop], empty_share=0.0),
    )  # fmt: skip
    held = Policies(lambda agent: [policy], store.clock)
    try:
        decider = Decider(held, store.clock)
        made = [decider.decide(Question("shop", session_id=f"s{i}", input="hello"), "key").decision for i in range(50)]
    finally:
        held.close()
    ids = {name: {tuple(one.lesson_id for one in each.exposures) for each in made if each.arm == name} for name in
           ("plain", "without")}  # fmt: skip
    assert ids == {"plain": {("tool",)}, "without": {("broken",)}}


def test_a_segment_of_the_policy_is_that_of_the_lessons(store):
    policy = policy_of(
        agent="shop", segments={"gold": {}}, people={"u": {"segment": "gold"}}, lessons=lesson_set(LIBRARY)
    )
    held = Policies(lambda agent: [policy], store.clock)
    try:
        decider = Decider(held, store.clock)
        of_gold = decider.decide(Question("shop", user_id="u", input="hello"), "key").decision
        of_nobody = decider.decide(Question("shop", user_id="v", input="hello"), "key").decision
    finally:
        held.close()
    assert {one.lesson_id for one in of_gold.exposures} == {"tool", "gold"}
    assert {one.lesson_id for one in of_nobody.exposures} == {"tool"}


def test_a_spool_of_before_is_stored(store, tmp_path):
    propose(store, LIBRARY)
    serve(store, LIBRARY)
    publishing.republish(store, cause="operator")
    made = decided(store, 6)
    frame = frame_of([each.decision for each in made])
    folder = tmp_path / "spool"
    folder.mkdir()
    renamed = frame.with_columns(decision_id=pl.col("decision_id") + "-old")
    renamed.drop("exposures", "playbook_version", "empty_probability").write_ipc(folder / "a-000000001.arrow")
    frame.with_columns(decision_id=pl.col("decision_id") + "-new").write_ipc(folder / "a-000000002.arrow")
    DecisionLog(store, folder).close()
    logged = decisions.recent(store, limit=100)
    assert logged.height == 18
    lessons = dict(logged.select("decision_id", pl.col("exposures").list.len()).iter_rows())
    for each in made:
        name = each.decision.decision_id
        assert (lessons[f"{name}-old"], lessons[f"{name}-new"]) == (0, len(each.decision.exposures))
