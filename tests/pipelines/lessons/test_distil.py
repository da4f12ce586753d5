"""Distillation: what is proposed for a library, in whatever order, and the counts of the ACE playbooks."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lessons.distil.config import DistilConfig
from pipelines.lessons.distil.distil import distil
from pipelines.lessons.distil.proposal import frames
from pipelines.lessons.similarity import Similarity
from store import distilling
from store.distilling import Library
from store.errors import SettingsError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OLD = NOW - timedelta(weeks=10)


def library(lessons, evidence=(), actions=(), payoffs=(), exposed=(), links=()):
    rows = [
        {"agent": "a", "state": "active", "version": 1, "origin": "contrast", "when_text": "A booking is asked for.",
         "created_at": OLD, "since": OLD, "paused": False, "title": "Look first", **row}
        for row in lessons
    ]  # fmt: skip
    tables = (
        (evidence, "EVIDENCE"),
        (actions, "ACTIONS"),
        (payoffs, "PAYOFFS"),
        (exposed, "EXPOSED"),
        (links, "LINKS"),
    )
    framed = [pl.DataFrame(list(held), schema=getattr(distilling, name)) for held, name in tables]
    return Library(pl.DataFrame(rows, schema=distilling.LESSONS), *framed, now=NOW, data_version=1)


def seen(lesson, *traces):
    return [{"lesson_id": lesson, "trace_id": name, "role": name[:-1], "reward": 0.5} for name in traces]


def called(**traces):
    return [{"trace_id": trace, "position": i, "name": name}
            for trace, names in traces.items() for i, name in enumerate(names)]  # fmt: skip


def measured(lesson, verdict, **columns):
    return {"lesson_id": lesson, "version": 1, "agent": "a", "measure": "reward", "decisions": 5_000, "effect": 0.0,
            "lower": -0.01, "upper": 0.01, "verdict": verdict, **columns}  # fmt: skip


def proposed(held, **config):
    return {(one.kind, one.cause): one for one in distil(held, DistilConfig(**config)).proposals}


def bullets(shared_data, name):
    text = (shared_data / "ace_playbooks" / f"{name}.txt").read_text(encoding="utf-8")
    return [match.group(2) for line in text.splitlines() if (match := re.match(r"\[([a-z]+-\d+)\]\s*(.*)", line))]


@pytest.mark.parametrize(
    ("name", "count", "removed"), [("pb_online_trained", 359, {0.9: 27, 0.6: 44}),
                                   ("pb_offline_trained_no_gt", 318, {0.9: 18, 0.6: 55})],
)  # fmt: skip
def test_ace_playbooks_have_as_many_duplicates_as_their_readme_says(shared_data, name, count, removed):
    texts = bullets(shared_data, name)
    assert len(texts) == count
    alike = Similarity.fit(texts)
    assert {at: sum(len(group) - 1 for group in alike.groups(at)) for at in removed} == removed


def ace(shared_data):
    # Titles and conditions of common words alone, which have no weight: what is compared are the bullets.
    texts = bullets(shared_data, "pb_online_trained")
    return [{"lesson_id": f"l{i:03}", "title": "Always", "when_text": "Always", "do_text": text, "origin": "operator"}
            for i, text in enumerate(texts)]  # fmt: skip


def test_ace_playbook_gives_27_merges_that_say_they_cannot_be_checked(shared_data):
    lessons = ace(shared_data)
    found = distil(library(lessons)).proposals
    assert {one.kind for one in found} == {"merge"}
    assert sum(len(one.members) for one in found) == 27
    assert {one.checked.verdict for one in found} == {"cannot be checked"}
    named = [lesson.lesson_id for one in found for lesson, _ in one.members]
    kept = [one.keep.lesson_id for one in found]
    assert len(set(named) | set(kept)) == len(named) + len(kept)
    assert sum(one.cause == "exact" for one in found) >= 10
    again = distil(library(lessons[::-1])).proposals
    assert [frame.rows() for frame in frames(found)] == [frame.rows() for frame in frames(again)]


def test_a_merge_keeps_the_one_with_more_evidence_and_must_hold_on_all_of_it():
    texts = [{"lesson_id": name, "do_text": "Call `look_up` before `book`."} for name in ("x", "y")]
    evidence = [*seen("x", "good1"), *seen("y", "good2", "bad1", "good3")]
    steps = {"good1": ["look_up", "book"], "good2": ["look_up", "book"], "good3": ["look_up", "book"]}
    held = library(texts, evidence, called(**steps, bad1=["look_up", "book"]))
    one = proposed(held)["merge", "exact"]
    assert (one.keep.lesson_id, [lesson.lesson_id for lesson, _ in one.members]) == ("y", ["x"])
    assert one.checked.verdict == "holds"
    assert {seen.trace_id for seen in one.checked.supporting} == {"good1", "good2", "good3"}
    # A bad trace on which it holds speaks against it, and is shown.
    assert [(seen.trace_id, seen.holds) for seen in one.checked.opposing] == [("bad1", True)]
    broken = library(texts, evidence, called(**{**steps, "good1": ["book", "look_up"]}))
    result = distil(broken)
    assert not result.proposals
    assert "1 of 3 supporting traces, first good1" in result.refused[0]
    assert proposed(library(texts, evidence))["merge", "exact"].checked.verdict == "cannot be checked"


def test_lessons_of_other_scopes_and_of_the_opposite_sign_are_not_merged():
    do_text = "Always confirm the total with the user before paying."
    base = {"lesson_id": "x", "do_text": do_text}
    for other in ({"agent": "b"}, {"task": "t"}, {"segment": "s"}, {"user_id": "u"}):
        assert not proposed(library([base, {"lesson_id": "y", "do_text": do_text, **other}]))
    opposite = {"lesson_id": "y", "do_text": do_text.replace("Always", "Never")}
    one = proposed(library([base, opposite], payoffs=[measured("y", "better", effect=0.2)]))["retire", "conflict"]
    assert (one.keep.lesson_id, one.members[0][0].lesson_id) == ("y", "x")


def test_causes_of_retirement():
    def alone(**tables):
        return list(proposed(library([{"lesson_id": "x", "do_text": "Call `look_up`."}], **tables)))

    assert alone() == []
    assert alone(payoffs=[measured("x", "worse", upper=-0.01)]) == [("retire", "harmful")]
    assert alone(payoffs=[measured("x", "can't tell yet")]) == [("retire", "no_effect")]
    assert alone(payoffs=[measured("x", "can't tell yet", decisions=100)]) == []
    assert alone(payoffs=[measured("x", "can't tell yet", upper=0.3)]) == []
    assert alone(payoffs=[measured("x", "better", lower=0.001)]) == []
    assert alone(payoffs=[measured("x", "worse", version=2)]) == []
    decided = {"agent": "a", "lesson_id": None, "decisions": 500, "served": 100, "first": OLD}
    matched = {**decided, "lesson_id": "x", "decisions": 1}
    assert alone(exposed=[decided]) == [("retire", "unused")]
    assert alone(exposed=[decided, matched]) == []
    assert alone(exposed=[{**decided, "decisions": 5}]) == []
    fresh = library([{"lesson_id": "x", "do_text": "d", "since": NOW - timedelta(days=3)}], exposed=[decided])
    assert not proposed(fresh)


def test_a_superseded_lesson_that_is_served_all_the_same_is_to_go():
    lessons = [{"lesson_id": "x", "do_text": "Call `look_up`."}, {"lesson_id": "y", "do_text": "Ask for the date."}]
    link = {"lesson_id": "y", "other_id": "x", "kind": "supersedes"}
    one = proposed(library(lessons, links=[link]))["retire", "superseded"]
    assert (one.keep.lesson_id, one.members[0][0].lesson_id) == ("y", "x")


def test_a_lesson_that_repeats_what_did_not_help_is_escalated_instead_of_merged():
    lessons = [
        {"lesson_id": "old", "do_text": "Call `look_up`."},
        {"lesson_id": "new", "do_text": "Call `look_up`.", "state": "proposed"},
    ]
    payoff = measured("old", "can't tell yet", upper=0.1)
    found = proposed(library(lessons, payoffs=[payoff]))
    assert list(found) == [("escalate", "repeats")]
    assert found["escalate", "repeats"].members[0][0].lesson_id == "new"
    assert list(proposed(library(lessons, payoffs=[{**payoff, "verdict": "better"}]))) == [("merge", "exact")]


@settings(max_examples=10)
@given(st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(order):
    lessons = [
        {"lesson_id": f"l{i}", "do_text": f"Call `tool_{i % 3}` {'first' if i % 2 else 'before all others'}.",
         "state": "proposed" if i % 5 == 0 else "active", "task": None if i < 9 else "t"}
        for i in range(12)
    ]  # fmt: skip
    evidence = [row for i in range(12) for row in seen(f"l{i}", *(f"good{j}" for j in range(i % 4)))]
    actions = called(**{f"good{j}": ["tool_0", "tool_1", "tool_2"] for j in range(4)})
    payoffs = [measured("l1", "worse"), measured("l4", "better", effect=0.1)]
    one = distil(library(lessons, evidence, actions, payoffs))
    other = distil(library([lessons[i] for i in order], evidence[::-1], actions[::-1], payoffs[::-1]))
    assert [frame.rows() for frame in frames(one.proposals)] == [frame.rows() for frame in frames(other.proposals)]
    assert one.refused == other.refused


def test_texts_without_words_to_compare_are_merged_only_when_they_are_the_same():
    lessons = [{"lesson_id": str(i), "title": "So", "when_text": "Now", "do_text": text}
               for i, text in enumerate(["Do it", "do  it!", "Do not"])]  # fmt: skip
    found = proposed(library(lessons))
    assert list(found) == [("merge", "exact")]
    assert [lesson.lesson_id for lesson, _ in found["merge", "exact"].members] == ["1"]


def test_similarity_of_nothing_and_of_one():
    assert Similarity.fit([]).pairs(0.1) == []
    assert Similarity.fit([]).nearest("x") == []
    assert Similarity.fit(["", "!"]).groups(0.1) == []
    assert Similarity.fit(["look up the booking"]).nearest("the booking to look up", 3)[0][0] == 0
    with pytest.raises(SettingsError):
        DistilConfig(duplicate=0.0)
