"""Playbooks: versions are added and never overwritten, and only a changed text makes one."""

from datetime import UTC, datetime

import pytest

from store import playbooks
from store.errors import NotFound
from store.playbooks import Rendered

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def _append(store, text, agent="airline", ids=("a",)):
    return store.write(lambda connection: playbooks.append(connection, NOW, agent, Rendered(text, ids, 3), "approve a"))


def test_versions_count_up_per_agent_and_keep_their_text(store):
    assert [_append(store, text) for text in ("one", "two", "one")] == [1, 2, 3]
    assert _append(store, "one", agent="billing") == 1
    assert playbooks.versions(store, "airline").select("version", "body").rows() == [(3, "one"), (2, "two"), (1, "one")]
    assert playbooks.body(store, "airline", 2) == "two"
    assert playbooks.latest(store).select("agent", "version").rows() == [("airline", 3), ("billing", 1)]
    assert playbooks.latest(store)["lesson_ids"].to_list() == [["a"], ["a"]]


def test_an_unchanged_text_makes_no_version(store):
    assert _append(store, "", ids=()) is None
    assert _append(store, "one") == 1
    assert _append(store, "one") is None
    assert _append(store, "", ids=()) == 2
    assert playbooks.versions(store, "airline")["lesson_ids"].to_list() == [[], ["a"]]


def test_a_version_that_does_not_exist_is_named(store):
    with pytest.raises(NotFound, match="airline 7"):
        playbooks.body(store, "airline", 7)
