"""Deciding about merges and retirements: one transaction, seen before it is made, taken back as one, nothing lost."""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_library import approve, evidence, proposals, propose, render

from store import audit, distil_reviews, distilling, lesson_links, lessons, playbooks
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.playbook_change import Block, compare, digest, seen

NOW = datetime(2026, 11, 20, tzinfo=UTC)
STATES = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded")


def offer(store, members, *, keep=None, kind="merge", cause="near", name="p", version=1):
    rows = [{"proposal_id": name, "kind": kind, "cause": cause, "agent": "airline", "keep_id": keep,
             "keep_version": version if keep else None, "similarity": 0.95, "method": "TF-IDF",
             "checked": "cannot be checked", "reason": "alike", "supporting": "[]", "opposing": "[]"}]  # fmt: skip
    own = [{"proposal_id": name, "lesson_id": keep, "version": version, "role": "keep"}] if keep else []
    own += [{"proposal_id": name, "lesson_id": one, "version": version, "role": kind[:5], "cosine": 0.95}
            for one in members]  # fmt: skip
    own = [{**one, "role": one["role"] if one["role"] in ("keep", "merge") else "retire"} for one in own]
    return distilling.publish(
        store, pl.DataFrame(rows, schema=distilling.PROPOSALS), pl.DataFrame(own, schema=distilling.MEMBERS),
        parameters={}, lessons=3, data_version=1, code_version="0", message="m",
    )  # fmt: skip


def served(store, *names):
    propose(store, *names)
    for name in names:
        approve(store, name)


def agree(store, name="p"):
    wanted = distil_reviews.preview(store, name, operator="Ada", render=render)
    return distil_reviews.approve(store, name, operator="Ada", confirmed=wanted.confirm, render=render)


def content(store):
    """All of the library that an undo has to bring back; reviews, the audit log and times of changes only grow."""
    frames = {
        "lessons": lessons.library(store, states=STATES).drop("updated_at").sort("lesson_id"),
        "links": lesson_links.of(store),
    }
    names = frames["lessons"]["lesson_id"]
    frames |= {f"evidence {name}": lessons.evidence(store, name) for name in names}
    frames |= {f"versions {name}": lessons.versions(store, name) for name in names}
    newest = playbooks.latest(store).drop("version", "created_at", "cause")
    return json.dumps({name: frame.write_json() for name, frame in {**frames, "playbooks": newest}.items()})


def test_a_merge_supersedes_links_and_unites_evidence_and_an_undo_brings_all_back(store):
    served(store, "a", "b", "c")
    before = content(store)
    offer(store, ["b", "c"], keep="a")
    wanted = distil_reviews.preview(store, "p", operator="Ada", render=render)
    assert content(store) == before
    (change,) = wanted.changes
    assert (change.lost, change.expected, change.gained) == (("b", "c"), ("b", "c"), ())
    done = distil_reviews.approve(store, "p", operator="Ada", confirmed=wanted.confirm, render=render)
    assert (done.state, done.changes) == ("approved", wanted.changes)
    assert {name: lessons.one(store, name)["state"] for name in "abc"} == {
        "a": "active", "b": "superseded", "c": "superseded",
    }  # fmt: skip
    assert playbooks.latest(store, "airline")["lesson_ids"].to_list() == [["a"]]
    links = lesson_links.of(store).select("lesson_id", "other_id", "kind").sort("other_id").rows()
    assert links == [("a", "b", "supersedes"), ("a", "c", "supersedes")]
    assert set(lessons.evidence(store, "a")["trace_id"]) == {
        f"{name}-{role}" for name in "abc" for role in ("bad", "good")
    }
    for name in "bc":  # nothing is lost: text and evidence of what went are still there
        assert lessons.evidence(store, name).height == 2
        assert lessons.versions(store, name).height == 1
    distil_reviews.undo(store, "p", operator="Bob", render=render)
    assert content(store) == before
    assert audit.verify(store) is None
    assert distilling.one(store, "p")["state"] == "undone"


def test_nothing_is_lost_unseen(store):
    served(store, "a", "b")
    offer(store, ["b"], keep="a")
    with pytest.raises(ActionRefused, match="without b"):
        distil_reviews.approve(store, "p", operator="Ada", confirmed=None, render=render)
    wanted = distil_reviews.preview(store, "p", operator="Ada", render=render)
    served(store, "c")  # something else is served meanwhile: what was confirmed is not what would happen now
    with pytest.raises(ActionRefused):
        distil_reviews.approve(store, "p", operator="Ada", confirmed=wanted.confirm, render=render)
    assert lessons.one(store, "b")["state"] == "active"
    agree(store)
    assert lessons.one(store, "b")["state"] == "superseded"


def test_retiring_and_escalating(store):
    served(store, "a", "b")
    propose(store, "new")
    offer(store, ["b"], keep="a", kind="retire", cause="conflict")
    agree(store)
    assert lessons.one(store, "b")["state"] == "retired"
    assert lesson_links.of(store)["kind"].to_list() == ["contradicts"]
    offer(store, ["new"], kind="escalate", cause="repeats", name="q")
    assert distil_reviews.preview(store, "q", operator="Ada", render=render).confirm is None
    agree(store, "q")
    assert lessons.one(store, "new")["state"] == "rejected"
    distil_reviews.undo(store, "q", operator="Ada", render=render)
    assert lessons.one(store, "new")["state"] == "proposed"


def test_only_persons_decide_and_only_once(store):
    served(store, "a", "b")
    offer(store, ["b"], keep="a")
    for operator in ("", "trimtab"):
        with pytest.raises(ActionRefused, match="no person"):
            distil_reviews.approve(store, "p", operator=operator, confirmed=None, render=render)
    with pytest.raises(ActionRefused, match="no reason"):
        distil_reviews.decline(store, "p", operator="Ada", reason=" ")
    distil_reviews.decline(store, "p", operator="Ada", reason="they differ")
    with pytest.raises(ActionRefused, match="declined"):
        agree(store)
    with pytest.raises(ActionRefused, match="declined"):
        distil_reviews.undo(store, "p", operator="Ada", render=render)
    with pytest.raises(NotFound):
        agree(store, "unknown")
    assert offer(store, ["b"], keep="a") == 0  # what was declined is not proposed again
    assert distilling.listed(store).is_empty()
    assert distilling.one(store, "p")["decision_reason"] == "they differ"


def test_what_is_not_found_again_is_outdated_until_it_is(store):
    served(store, "a", "b", "c")
    assert offer(store, ["b"], keep="a") == 1
    assert offer(store, ["c"], keep="a", name="q") == 1
    assert distilling.listed(store)["proposal_id"].to_list() == ["q"]
    assert distilling.one(store, "p")["state"] == "outdated"
    assert offer(store, ["b"], keep="a") == 0
    assert distilling.listed(store)["proposal_id"].to_list() == ["p"]
    assert distilling.members(store, "p")["role"].to_list() == ["keep", "merge"]
    assert distilling.newest_run(store)["run_id"] == 3


def test_a_lesson_that_moved_on_stands_in_the_way(store):
    served(store, "a", "b")
    offer(store, ["b"], keep="a", version=2)
    with pytest.raises(ActionRefused):
        distil_reviews.approve(store, "p", operator="Ada", confirmed=None, render=render)
    offer(store, ["b"], keep="a", name="q")
    agree(store, "q")
    with pytest.raises(ActionRefused):
        distil_reviews.undo(store, "q", operator="trimtab", render=render)


NAMES = st.lists(st.sampled_from("abcdef"), min_size=2, max_size=6, unique=True)


@settings(max_examples=6)
@given(NAMES, st.integers(0, 3))
def test_merge_and_undo_give_the_same_library_whatever_is_merged(names, shared):
    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "s.duckdb", clock=FixedClock(NOW), threads=1)
        try:
            rows = evidence(*names).with_columns(
                trace_id=pl.when(pl.int_range(pl.len()) < shared).then(pl.lit("same")).otherwise("trace_id")
            )
            lessons.propose(store, proposals(*names), rows)
            for name in names[::2]:
                approve(store, name)
            before = content(store)
            ids = {name: lessons.evidence(store, name)["trace_id"].to_list() for name in names}
            offer(store, names[1:], keep=names[0])
            agree(store)
            united = set(lessons.evidence(store, names[0])["trace_id"])
            assert united == {trace for traces in ids.values() for trace in traces}
            assert {name: lessons.evidence(store, name)["trace_id"].to_list() for name in names[1:]} == {
                name: ids[name] for name in names[1:]
            }
            assert lessons.known(store) == set(names)
            distil_reviews.undo(store, "p", operator="Bob", render=render)
            assert content(store) == before
        finally:
            store.close()


def test_the_guard_tells_what_a_playbook_loses():
    before = [Block("a", "x", ("l1", "l2", "l3"), 100), Block("b", "y", ("l9",), 10)]
    small = [Block("a", "x", ("l1", "l2", "l3"), 65), Block("b", "y", ("l9",), 10)]
    (change,) = compare(before, small)
    assert (change.lost, round(change.shrinks, 2), change.alarming) == ((), 0.35, True)
    (change,) = compare(before, [Block("a", "x", ("l1", "l2", "l3"), 71), before[1]])
    assert not change.alarming
    assert digest([change]) is None
    seen("Rewrite", [change], None)
    changes = compare(before, [Block("a", "x", ("l1",), 99)], ["l2"])
    assert [(one.agent, one.lost, one.expected) for one in changes] == [
        ("a", ("l2", "l3"), ("l2",)),
        ("b", ("l9",), ()),
    ]
    with pytest.raises(ActionRefused, match="l3 is not what the change is about"):
        seen("Rewrite", changes, "something else")
    seen("Rewrite", changes, digest(changes))
    assert compare(before, before) == ()
