"""Cosines of one text with some of many, against scikit-learn's fit of just those."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lessons.similarity import Similarity
from pipelines.lessons.word_counts import WordCounts, counted

WORDS = ("look", "booking", "customer", "seat", "refund", "the", "and", "a", "Look", "éclair", "x_1")
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=8)


@given(held=texts, text=st.lists(st.sampled_from((*WORDS, "unknown", "tariff")), max_size=8).map(" ".join),
       keep=st.lists(st.booleans(), min_size=8, max_size=8))  # fmt: skip
def test_the_numbers_are_those_of_a_fit_of_the_texts_that_count(held, text, keep):
    places = np.array([place for place in range(len(held)) if keep[place]], dtype=np.int64)
    expected = Similarity.fit([held[place] for place in places]).cosines(text)
    assert WordCounts(held).cosines(text, places) == pytest.approx(expected, abs=2e-9)


def test_a_text_is_like_itself_and_texts_are_counted_once():
    held = ("Look up the booking first", "Thank the customer", "")
    found = WordCounts(held).cosines(held[0], np.array([0, 2]))
    assert found.tolist() == [1.0, 0.0]
    assert counted(held) is counted(held)
