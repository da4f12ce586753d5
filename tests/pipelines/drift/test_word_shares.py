"""Words before and after a moment against counting by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.drift.word_shares import WORD_SHARES, word_shares
from store.drift_texts import TEXTS

AT = datetime(2026, 10, 1, tzinfo=UTC)


def _texts(before, after):
    rows = [(AT - timedelta(hours=len(before) - place), text) for place, text in enumerate(before)]
    rows += [(AT + timedelta(hours=place), text) for place, text in enumerate(after)]
    return pl.DataFrame(rows, schema=TEXTS, orient="row")


def test_words_used_more_come_first_with_their_shares():
    found = word_shares(
        _texts(["A train, a TRAIN", "the train", "the sea"], ["the refund", "the refund", None, "x"]), AT
    )
    told = {row["word"]: (row["before"], row["after"]) for row in found.to_dicts()}
    assert told == {"refund": (0.0, 0.5), "the": (2 / 3, 0.5), "train": (2 / 3, 0.0)}
    assert found["word"].to_list() == ["refund", "the", "train"]
    assert set(found["before_n"]) == {3}
    assert set(found["after_n"]) == {4}
    assert word_shares(_texts(["a b", "b c"], ["b"]), AT, limit=1).height == 1


def test_one_side_or_no_shared_word_is_nothing():
    for texts in (_texts(["a b", "a b"], []), _texts([], []), _texts(["a"], ["b"]), _texts(["", None], ["!!"])):
        found = word_shares(texts, AT)
        assert found.is_empty()
        assert found.schema == WORD_SHARES


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=30) | st.none(), max_size=6), st.lists(st.text(max_size=30), max_size=6))
def test_any_text_gives_shares_and_short_words(before, after):
    found = word_shares(_texts(before, after), AT, limit=3)
    assert found.height <= 3
    assert found["word"].str.len_chars().fill_null(0).le(40).all()
    assert found["before"].is_between(0, 1).all()
    assert found["after"].is_between(0, 1).all()
