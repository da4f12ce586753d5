"""Links between lessons: made once, seen from both ends, removed on record."""

import pytest
from lesson_library import propose

from store import audit, lesson_links
from store.errors import ActionRefused, NotFound


def test_a_link_is_made_once_and_seen_from_both_ends(store):
    propose(store, "a", "b", "c")
    assert lesson_links.put(store, "a", "b", "refines", note="adds a case", by="Ada") is True
    assert lesson_links.put(store, "a", "b", "refines", by="Bob") is False
    assert lesson_links.put(store, "a", "b", "contradicts", by="Bob") is True
    assert (
        lesson_links.of(store, "a").height == lesson_links.of(store, "b").height == lesson_links.of(store).height == 2
    )
    assert lesson_links.of(store, "c").is_empty()
    row = lesson_links.of(store, "b").filter(kind="refines").row(0, named=True)
    assert (row["title"], row["other_title"], row["other_state"], row["note"], row["created_by"]) == (
        "Title of a", "Title of b", "proposed", "adds a case", "Ada",
    )  # fmt: skip
    assert audit.recent(store)["action"].to_list() == ["lesson link"] * 2


def test_a_link_that_is_removed_stays_on_record(store):
    propose(store, "a", "b")
    lesson_links.put(store, "a", "b", "duplicates", by="Ada")
    lesson_links.remove(store, "a", "b", "duplicates", by="Bob")
    assert lesson_links.of(store).is_empty()
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM lesson_links WHERE removed_at IS NOT NULL") == 1
    with pytest.raises(NotFound):
        lesson_links.remove(store, "a", "b", "duplicates", by="Bob")
    assert lesson_links.put(store, "a", "b", "duplicates", by="Ada") is True


def test_links_that_cannot_be_are_refused(store):
    propose(store, "a", "b")
    with pytest.raises(ActionRefused, match="no kind 'likes'"):
        lesson_links.put(store, "a", "b", "likes", by="Ada")
    with pytest.raises(ActionRefused, match="the same"):
        lesson_links.put(store, "a", "a", "refines", by="Ada")
    with pytest.raises(NotFound):
        lesson_links.put(store, "a", "nobody", "refines", by="Ada")
    assert lesson_links.of(store).is_empty()
