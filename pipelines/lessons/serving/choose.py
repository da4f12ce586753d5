"""The lessons of one request: those of its scope whose condition holds, as many as pay best for the budget, less those
withheld at random.

Everything is fixed by the set of lessons, the request, the time (lessons expire) and the draws of the unit, so a logged
choice can be made again. `Chooser` is prepared once for a version of a playbook; a choice takes about a millisecond
with 5,000 lessons, and any thread may ask.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.paragraphs import FIELDS, HEADING, block, estimate_tokens, joined, one_line
from pipelines.lessons.serving import knapsack
from pipelines.lessons.serving.holdout import draw, empty_draw, holdout_of
from pipelines.lessons.serving.match import Matcher
from pipelines.lessons.serving.worth import expected
from store.lesson_sets import LessonSet, ServedLesson

__all__ = ["NOTHING", "OVER_BUDGET_LOGGED", "Choice", "Chooser", "Exposure", "Request", "chooser", "set_hash"]

OVER_BUDGET_LOGGED: Final = 10
"""So many of the lessons for which there was no room are named, the best ones."""

Ints = NDArray[np.int64]


class Exposure(NamedTuple):
    """What was decided about one lesson: the fields of `store.decisions.EXPOSED`."""

    lesson_id: str
    lesson_version: int
    status: str
    served_probability: float
    match: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """What lessons are chosen for. `force` are chosen first wherever they are in scope, `forbid` never."""

    input: str | None
    user_id: str | None
    segment: str | None
    task: str | None
    unit: str
    salt: str
    now: datetime
    force: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Lessons served, in the order of `instructions`, which is "" without any; what was decided about each lesson, in
    the order of the choice; and whether the whole playbook was withheld."""

    served: tuple[str, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    instructions: str = ""
    empty: bool = False
    lesson_set_hash: str | None = None
    playbook_version: int | None = None
    empty_probability: float | None = None


NOTHING: Final = Choice()
"""The choice for an agent without a playbook."""


def set_hash(served: Sequence[str], instructions: str) -> str | None:
    """What identifies the lessons served and their text; None for nothing."""
    if not served and not instructions:
        return None
    text = json.dumps([served, instructions])
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Chooser:
    """A set of lessons made ready for choices. Nothing of it changes after it is made."""

    def __init__(self, lessons: LessonSet) -> None:
        own = [each for each in lessons.lessons if each.agent in ("*", lessons.agent)]
        self.lesson_set = lessons
        self.lessons: tuple[ServedLesson, ...] = tuple(own)
        self.matcher = Matcher(own)
        self.worth = expected(own)
        self.empty_share = min(max(lessons.empty_share, 0.0), 1.0)
        # The heading costs its tokens once, with the line break at the end of the block.
        self.budget = lessons.token_budget - estimate_tokens(HEADING + "\n")
        self._blocks = [block({name: getattr(lesson, name) for name in FIELDS}) for lesson in own]
        self.tokens: Ints = np.array([estimate_tokens("\n\n" + text) for text in self._blocks], dtype=np.int64)
        self._holdouts = [holdout_of(lesson.holdout) for lesson in own]
        self._expires = np.array([lesson.expires_at.timestamp() if lesson.expires_at else np.inf for lesson in own])
        self._places = {lesson.lesson_id: place for place, lesson in enumerate(own)}
        self._group = _groups(own)
        self._repeats = bool(own) and int(self._group.max()) + 1 < len(own)
        scopes: dict[tuple[str | None, str | None, str | None], list[int]] = {}
        for place, lesson in enumerate(own):
            scopes.setdefault((lesson.task, lesson.segment, lesson.user_id), []).append(place)
        self._not_for = {
            segment: np.array([place for place, each in enumerate(own) if segment in each.not_segments], dtype=np.int64)
            for segment in {segment for each in own for segment in each.not_segments}
        }
        self._scopes: dict[tuple[str | None, str | None, str | None], Ints] = {
            scope: np.array(places, dtype=np.int64) for scope, places in scopes.items()
        }

    def choose(self, request: Request) -> Choice:
        """The lessons for a request."""
        match = self.matcher.matches(request.input)
        chosen, passed_over = self.select(request, match)
        return self._drawn(request, match, chosen, passed_over)

    def in_scope(self, request: Request) -> Ints:
        """The places of the lessons that are for such requests, in order."""
        found = [
            places
            for task in {None, request.task}
            for segment in {None, request.segment}
            for user_id in {None, request.user_id}
            if (places := self._scopes.get((task, segment, user_id))) is not None
        ]
        places = np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
        paused = self._not_for.get(request.segment) if request.segment is not None else None
        return places if paused is None else places[~np.isin(places, paused)]

    def select(self, request: Request, match: NDArray[np.float64]) -> tuple[list[int], list[int]]:
        """The places chosen, in order of the choice, and those for which there was no room, the best first."""
        places = self.in_scope(request)
        places = places[self._expires[places] > request.now.timestamp()]
        if request.forbid:
            places = places[~np.isin(places, self._named(request.forbid))]
        forced: list[int] = []
        budget = self.budget
        if request.force:
            for place in np.intersect1d(self._named(request.force), places).tolist():
                if self.tokens[place] <= budget:
                    forced.append(place)
                    budget -= int(self.tokens[place])
            places = places[~np.isin(self._group[places], self._group[forced])]
        value = self.worth[places] * match[places]
        there = value > 0.0
        places, value = places[there], value[there]
        if self._repeats and places.size:
            # Of lessons that say the same, the most valuable one is for this request.
            order = np.lexsort((places, -value))
            first = np.unique(self._group[places[order]], return_index=True)[1]
            kept = np.sort(order[first])
            places, value = places[kept], value[kept]
        if not places.size:
            return forced, []
        taken, left = knapsack.best(value, self.tokens[places], max(budget, 0))
        return forced + places[taken].tolist(), places[left[:OVER_BUDGET_LOGGED]].tolist()

    def place_of(self, lesson_id: str) -> int | None:
        """Where a lesson is in `lessons`; None when it is not in the set."""
        return self._places.get(lesson_id)

    def holdout(self, place: int, *, forced: bool = False) -> float:
        """The probability with which a lesson is withheld once it is chosen."""
        return holdout_of(0.0) if forced else self._holdouts[place]

    def repeats(self, place: int, other: int) -> bool:
        """Whether two lessons say the same."""
        return bool(self._group[place] == self._group[other])

    def _drawn(
        self, request: Request, match: NDArray[np.float64], chosen: Sequence[int], passed_over: Sequence[int]
    ) -> Choice:
        agent = self.lesson_set.agent
        empty = empty_draw(request.salt, agent, request.unit) < self.empty_share
        served: list[int] = []
        exposures: list[Exposure] = []
        for place in chosen:
            lesson = self.lessons[place]
            holdout = self.holdout(place, forced=lesson.lesson_id in request.force)
            status = "empty"
            if not empty:
                withheld = draw(request.salt, agent, lesson.lesson_id, request.unit) < holdout
                status = "withheld" if withheld else "served"
            if status == "served":
                served.append(place)
            probability = (1.0 - self.empty_share) * (1.0 - holdout)
            exposures.append(self._exposure(place, status, probability, match))
        exposures += [self._exposure(place, "over_budget", 0.0, match) for place in passed_over]
        served.sort()
        ids = tuple(self.lessons[place].lesson_id for place in served)
        instructions = joined([self._blocks[place] for place in served])
        return Choice(
            ids, tuple(exposures), instructions, empty, set_hash(ids, instructions), self.lesson_set.playbook_version,
            self.empty_share,
        )  # fmt: skip

    def _exposure(self, place: int, status: str, probability: float, match: NDArray[np.float64]) -> Exposure:
        lesson = self.lessons[place]
        return Exposure(
            lesson.lesson_id, lesson.version, status, probability, float(match[place]), int(self.tokens[place])
        )

    def _named(self, lesson_ids: Sequence[str]) -> Ints:
        return np.array([self._places[each] for each in lesson_ids if each in self._places], dtype=np.int64)


def chooser(lessons: LessonSet) -> Chooser:
    """The chooser of a set; that of an agent's latest one is kept, since policies change more often than lessons."""
    held = _kept.get(lessons.agent)
    if held is None or held.lesson_set != lessons:
        held = _kept[lessons.agent] = Chooser(lessons)
    return held


_kept: Final[dict[str, Chooser]] = {}


def _groups(lessons: Sequence[ServedLesson]) -> Ints:
    """A number for each lesson, equal for those whose condition and instruction are the same."""
    numbers: dict[tuple[str, str], int] = {}
    return np.array(
        [
            numbers.setdefault(
                (one_line(lesson.when_text).casefold(), one_line(lesson.do_text).casefold()), len(numbers)
            )
            for lesson in lessons
        ],
        dtype=np.int64,
    )
