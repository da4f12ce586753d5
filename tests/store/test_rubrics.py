"""Rubrics: versions, who may change what, what is refused, and the audit log."""

import json
from dataclasses import replace

import pytest

from store import audit, rubrics
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.rubrics import MAX_TEXT, Rubric

GOOD = Rubric("did-it", "The agent did what was asked and said what it did.")


def test_a_rubric_has_versions_that_are_never_changed(store: Store) -> None:
    first = rubrics.create(store, replace(GOOD, text=f"  {GOOD.text}\n", agent=" "), operator="ann")
    assert (first.text, first.agent, first.version, first.active) == (GOOD.text, None, 1, True)
    second = rubrics.edit(store, replace(first, scale="five_points"), operator="bob")
    retired = rubrics.retire(store, "did-it", version=2, operator="ann")
    assert (second.version, retired.version, retired.active, retired.scale) == (2, 3, False, "five_points")
    assert rubrics.active(store) == []
    assert rubrics.newest(store) == [retired]
    back = rubrics.edit(store, retired, operator="ann")
    assert (back.version, back.active) == (4, True)
    assert rubrics.active(store) == [back]
    history = rubrics.history(store, "did-it")
    assert history["version"].to_list() == [4, 3, 2, 1]
    assert history["author"].to_list() == ["ann", "ann", "bob", "ann"]
    assert rubrics.newest(store)[0].created_at == store.clock.now()


def test_every_change_is_audited(store: Store) -> None:
    rubrics.create(store, GOOD, operator="ann")
    rubrics.edit(store, replace(GOOD, judged_share=0.5), operator="bob")
    rubrics.retire(store, "did-it", version=2, operator="ann")
    log = audit.recent(store, subject="rubric did-it")
    assert log["action"].to_list() == ["rubric retire", "rubric edit", "rubric create"]
    assert json.loads(log["detail"][1])["judged_share"] == 0.5
    assert audit.verify(store) is None


def test_whoever_looked_at_an_older_version_changes_nothing(store: Store) -> None:
    rubrics.create(store, GOOD, operator="ann")
    rubrics.edit(store, replace(GOOD, judged_share=0.5), operator="ann")
    with pytest.raises(ActionRefused, match="version 2 now, not 1"):
        rubrics.edit(store, replace(GOOD, judged_share=0.6), operator="bob")
    with pytest.raises(ActionRefused, match="version 2 now, not 1"):
        rubrics.retire(store, "did-it", version=1, operator="bob")
    assert rubrics.history(store, "did-it").height == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rubric": ""}, "the key is ''"),
        ({"rubric": "Did it"}, "the key is 'Did it'"),
        ({"rubric": "x" * 65}, "the key is"),
        ({"text": "short"}, "5 characters"),
        ({"text": "x" * (MAX_TEXT + 1)}, "8,001 characters"),
        ({"scale": "stars"}, "the scale is 'stars'"),
        ({"subject": "span"}, "it judges 'span'"),
        ({"judged_share": 0.0}, "the share to judge is 0"),
        ({"judged_share": float("nan")}, "the share to judge is nan"),
        ({"labelled_share": 1.5}, "the share to label is 1.5"),
    ],
)
def test_what_cannot_be_used_is_refused_naming_it(store: Store, change: dict[str, object], said: str) -> None:
    with pytest.raises(ActionRefused, match=said):
        rubrics.create(store, replace(GOOD, **change), operator="ann")  # type: ignore[arg-type]
    assert rubrics.newest(store) == []


def test_actions_that_the_state_does_not_allow(store: Store) -> None:
    with pytest.raises(NotFound):
        rubrics.edit(store, GOOD, operator="ann")
    with pytest.raises(NotFound):
        rubrics.retire(store, "did-it", version=1, operator="ann")
    rubrics.create(store, GOOD, operator="ann")
    with pytest.raises(ActionRefused, match="there is a rubric 'did-it' already"):
        rubrics.create(store, GOOD, operator="ann")
    with pytest.raises(ActionRefused, match="nothing was changed"):
        rubrics.edit(store, GOOD, operator="ann")
    with pytest.raises(ActionRefused, match="judges something else"):
        rubrics.edit(store, replace(GOOD, subject="comment"), operator="ann")
    rubrics.retire(store, "did-it", version=1, operator="ann")
    with pytest.raises(ActionRefused, match="retired already"):
        rubrics.retire(store, "did-it", version=2, operator="ann")
