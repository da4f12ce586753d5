"""The cosines of one text with many others by TF-IDF, for whoever asks about one lesson after the other.

The same numbers as `pipelines.lessons.similarity.Similarity.fit(...).cosines(text)`. What costs time, finding the words
of every text, is done once a text; which of the texts count, and so how rare a word is, may differ with every question.
Words are told apart by their 64-bit hashes: of a million words two are taken for one with probability 3e-8.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.similarity import vectoriser

__all__ = ["WordCounts", "counted"]

_TEXTS: Final = 20_480  # about 1.5 kB each: a title, a condition and an instruction
_DIGITS: Final = 9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class WordCounts:
    """The words of n texts. Nothing of it changes after it is made."""

    def __init__(self, texts: Sequence[str]) -> None:
        words = [_words(text) for text in texts]
        self._n = len(words)
        sizes = np.array([hashes.size for hashes, _ in words], dtype=np.int64)
        hashes = np.concatenate([each for each, _ in words]) if words else np.empty(0, dtype=np.int64)
        counts = np.concatenate([each for _, each in words]) if words else np.empty(0, dtype=np.int64)
        # An entry is a word in a text: which text, which word, and how heavy before its rarity.
        self._text = np.repeat(np.arange(self._n, dtype=np.int32), sizes)
        self._known, column = np.unique(hashes, return_inverse=True)
        self._word = column.astype(np.int32).ravel()
        self._weight = 1.0 + np.log(counts)
        self._in_texts = np.bincount(self._word, minlength=self._known.size)

    def cosines(self, text: str, places: Ints) -> Floats:
        """The cosine of a text with each of the texts at these places, which alone say how rare a word is."""
        counts = np.zeros(self._n, dtype=np.bool_)
        counts[places] = True
        hashes, times = _words(text)
        if not places.size or not hashes.size or not self._known.size:
            return np.zeros(places.size)
        out = ~counts[self._text]
        occur = self._in_texts - np.bincount(self._word[out], minlength=self._known.size)
        rarity = np.log((1.0 + places.size) / (1.0 + occur)) + 1.0
        weights = self._weight * rarity[self._word]
        place = np.minimum(np.searchsorted(self._known, hashes), self._known.size - 1)
        seen = (self._known[place] == hashes) & (occur[place] > 0)
        # A word of no text counts in the length of the new one: else that looks too near.
        own = (1.0 + np.log(times)) * np.where(seen, rarity[place], np.log(1.0 + places.size) + 1.0)
        asked = np.zeros(self._known.size)
        asked[place[seen]] = own[seen]
        shared = np.bincount(self._text, weights=weights * asked[self._word], minlength=self._n)
        lengths = np.sqrt(np.bincount(self._text, weights=weights * weights, minlength=self._n)) * np.linalg.norm(own)
        found = np.divide(shared, lengths, out=np.zeros(self._n), where=lengths > 0.0)
        return np.asarray(np.round(found[places], _DIGITS), dtype=np.float64)


@lru_cache(maxsize=4)
def counted(texts: tuple[str, ...]) -> WordCounts:
    """The words of these texts, kept for the next question about the same ones."""
    return WordCounts(texts)


@lru_cache(maxsize=_TEXTS)
def _words(text: str) -> tuple[Ints, Ints]:
    """The hashes of a text's words and pairs of words, and how often it has each."""
    found = Counter(map(hash, _analyse()(text)))
    return np.fromiter(found, np.int64, len(found)), np.fromiter(found.values(), np.int64, len(found))


@cache
def _analyse() -> Callable[[str], Sequence[Any]]:
    analyse: Callable[[str], Sequence[Any]] = vectoriser().build_analyzer()
    return analyse
