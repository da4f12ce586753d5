"""Saved column mappings: kept one a source, read back, forgotten with a trace in the audit log."""

import json

import pytest

from store import audit, sources
from store.errors import NotFound

_MAPPING = json.dumps({"kind": "traces", "source": "shop", "rule": []})


def test_a_mapping_is_kept_once_for_its_source(store):
    sources.save(store, "shop", "old", ["a"])
    sources.save(store, "shop", _MAPPING, ["a", "b"])
    sources.save(store, "desk", "other", [])
    assert sources.mapping_texts(store) == {"shop": (_MAPPING, ["a", "b"]), "desk": ("other", [])}


def test_forgetting_a_mapping_is_audited_and_leaves_the_others(store):
    sources.save(store, "shop", _MAPPING, ["a"])
    sources.save(store, "desk", _MAPPING, ["a"])
    sources.delete(store, "shop", operator="Ada")
    assert list(sources.mapping_texts(store)) == ["desk"]
    entry = audit.recent(store).row(0, named=True)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "mapping delete", "source shop")
    assert json.loads(entry["detail"]) == {"mapping": json.loads(_MAPPING)}


def test_what_was_never_saved_cannot_be_forgotten(store):
    with pytest.raises(NotFound):
        sources.delete(store, "shop", operator="Ada")
    assert audit.recent(store).is_empty()


def test_a_mapping_that_an_operator_changes_is_noted_with_before_and_after(store):
    sources.save(store, "shop", "old", ["a"], operator="Ada")
    sources.save(store, "shop", "old", ["a"], operator="Ada")
    sources.save(store, "shop", "new", ["a"], operator="Ada")
    told = [json.loads(detail) for detail in audit.recent(store)["detail"]]
    assert told == [{"before": "old", "after": "new"}, {"before": None, "after": "old"}]
