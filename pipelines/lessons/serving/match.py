"""How far a lesson's condition (`when`) holds for a request, by the words of both.

The match is the share of the condition that the request names: over the condition's words, weighted by TF-IDF,

    match = sum of w(t)^2 over words t of the condition that the request has / sum of w(t)^2 over all of its words
    w(t)  = (1 + ln count of t) (1 + ln((1 + n) / (1 + conditions with t))),   n conditions that are compared

the squared cosine of the condition with that part of it. A cosine with the whole request would fall with the length of
the request, which says nothing about the condition.

There are no labels to learn a threshold from, so these rules hold:

- A condition is not judged by words, and its match is 1, where it is our own wording: drafts without a model speak of
  tools and of what happens in a run, which no request names; where it holds no word but those of the lesson's
  agent and task, so that its scope says it all; and where the agent does not tell its input, or tells no words.
- Where the scope is narrowed to a task or a user, the match is at least `FLOOR`: whom the lesson is for is settled, and
  the agent reads the condition itself.
- Otherwise the condition holds from a match of `HOLDS_FROM` on. That is lenient on purpose: agents are told to follow
  a lesson when its condition holds, and the budget goes to better matches first.

What a lesson says of when it does not apply (`when_not`) is left for the agent to judge.
"""

from collections import Counter
from collections.abc import Sequence, Set
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.serving.words import distinct, terms
from store.lesson_sets import ServedLesson

__all__ = ["FLOOR", "HOLDS_FROM", "Matcher", "judged"]

HOLDS_FROM: Final = 0.2
"""One of five words that are equally rare."""

FLOOR: Final = 0.3

_DIGITS: Final = 9

Floats = NDArray[np.float64]


def judged(lesson: ServedLesson) -> list[str]:
    """The words by which a lesson's condition is judged; none where it is not judged by words."""
    if lesson.own_condition:
        return []
    words = terms(lesson.when_text)
    elsewhere = {*terms(lesson.agent), *terms(lesson.task or "")}
    return words if any(word not in elsewhere for word in words) else []


class Matcher:
    """The conditions of n lessons, ready to be matched with requests."""

    def __init__(self, lessons: Sequence[ServedLesson]) -> None:
        conditions = [Counter(judged(lesson)) for lesson in lessons]
        self._by_words = np.array([bool(words) for words in conditions], dtype=np.bool_)
        self._least = np.array(
            [FLOOR if lesson.task is not None or lesson.user_id is not None else 0.0 for lesson in lessons]
        )
        occur = Counter(word for words in conditions for word in words)
        total = int(self._by_words.sum())
        rarity = {word: log((1 + total) / (1 + count)) + 1.0 for word, count in occur.items()}
        rows: dict[str, list[int]] = {word: [] for word in occur}
        shares: dict[str, list[float]] = {word: [] for word in occur}
        for place, words in enumerate(conditions):
            squares = {word: ((1.0 + log(count)) * rarity[word]) ** 2 for word, count in words.items()}
            whole = sum(squares.values())
            for word, square in squares.items():
                rows[word].append(place)
                shares[word].append(square / whole)
        # The lessons in which a word occurs lie side by side, so a request's words are a few slices.
        self._words = {word: place for place, word in enumerate(sorted(occur))}
        self._rows = np.array([row for word in self._words for row in rows[word]], dtype=np.int64)
        self._shares = np.array([share for word in self._words for share in shares[word]], dtype=np.float64)
        self._counts = np.array([len(rows[word]) for word in self._words], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    def matches(self, text: str | None) -> Floats:
        """The match of every lesson with a request, (n,) from 0 to 1; 0 where its condition does not hold."""
        words = distinct(text) if text else set()
        if not words:
            return np.ones(self._by_words.size)
        found = self.coverage(words)
        held = np.maximum(np.where(found >= HOLDS_FROM, found, 0.0), self._least)
        return np.where(self._by_words, held, 1.0)

    def coverage(self, words: Set[str]) -> Floats:
        """The share of every condition that these words name, (n,)."""
        known = np.array(sorted(self._words[word] for word in self._words.keys() & words), dtype=np.int64)
        starts, counts = self._starts[known], self._counts[known]
        # The places start, start + 1, ..., of every slice after the other.
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(starts, counts) + within
        summed = np.bincount(self._rows[places], weights=self._shares[places], minlength=self._by_words.size)
        return np.minimum(np.round(summed, _DIGITS), 1.0)
