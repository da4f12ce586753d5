"""What a text tells an agent to do and not to do: tools with a sign, orders of tools, and the sign of a clause.

Read from words alone: negations, and verbs that mean refraining, turn what follows them in their clause. That is enough
to tell "call X first" from "do without X", not to understand prose; what it finds is shown to a person.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from pipelines.lessons.lint.taint import clauses

__all__ = ["NEGATIONS", "Claims", "claims", "negated", "opposed"]

NEGATIONS: Final = re.compile(
    r"(?i)\b(?:not|never|no longer|without|avoid|avoids|avoiding|refrain|refuse|stop|cease|"
    r"skip|omit|don'?t|don’t|doesn'?t"
    r"|won'?t|can'?t|cannot|mustn'?t|shouldn'?t|instead of|rather than|forbidden|prohibited|"
    r"off limits|no need to|nothing)\b"
)
_TURNS_BACK: Final = re.compile(
    r"(?i)\b(?:instead|but|only if|unless|until|only once|only after|only when|except)\b(?! of\b)"
)
_REACH: Final = 200  # characters that a negation reaches
_NAME: Final = re.compile(r"`([^`\n]{1,80})`|\b([A-Za-z][A-Za-z0-9]*(?:[_.][A-Za-z0-9]+)+)\b")
_BEFORE: Final = re.compile(r"(?i)\b(?:before|then|prior to)\b")
_AFTER: Final = re.compile(r"(?i)\b(?:only after|after|following|once)\b")
_ORDERED: Final = re.compile(f"{_AFTER.pattern}|{_BEFORE.pattern[4:]}", re.IGNORECASE)
# What follows these says when to do something, not what.
_CONDITION: Final = re.compile(
    r"(?i)\b(?:if|when|whenever|where|while|whether|because|since|until|unless|in case|once|provided)\b"
)
# To repeat a call or not says nothing about using the tool at all.
_AGAIN: Final = re.compile(
    r"(?i)\b(?:again|repeat\w*|twice|unchanged|same arguments|second call|retry|fails?|failed)\b"
)
_OPPOSITES: Final = tuple(
    (re.compile(rf"(?i)\b(?:{one})\b"), re.compile(rf"(?i)\b(?:{other})\b"))
    for one, other in (
        ("always", "never"), ("accept|approve|allow|permit|grant", "refuse|reject|deny|decline|forbid"),
        ("ask|confirm|verify|check", "assume|guess"),
        ("retry|repeat|try again|call .{1,60} again", "give up|do not repeat"),
        ("continue|go on|proceed", "stop|halt|abort"), ("increase|raise|more", "decrease|lower|reduce|fewer|less"),
        ("include|add|keep", "exclude|remove|drop|leave out"),
        ("first", "last"), ("early|immediately|at once", "late|later|wait"),
        ("transfer|escalate|hand over", "handle .{0,30}yourself|do not transfer|keep the case"), ("before", "after"),
        ("enable", "disable"), ("short|brief", "long|detailed"),
    )
)  # fmt: skip

_SIGNS: Final = re.compile(
    "|".join([NEGATIONS.pattern[4:], *(side.pattern[4:] for pair in _OPPOSITES for side in pair)]), re.IGNORECASE
)
_SAME: Final = 0.7


@dataclass(frozen=True)
class Claims:
    """Tools (folded names) that a text tells to use or to do without, and pairs of which the first comes first."""

    use: frozenset[str]
    avoid: frozenset[str]
    orders: frozenset[tuple[str, str]]


@lru_cache(maxsize=16_384)
def claims(text: str, tools: frozenset[str] = frozenset()) -> Claims:
    """What `text` says about tools: names in backticks or with an underscore or a dot, and any of `tools`."""
    use: set[str] = set()
    avoid: set[str] = set()
    orders: set[tuple[str, str]] = set()
    for part in clauses(text):
        named = list(_names(part, tools))
        for name, start in named:
            if not _AGAIN.search(part) and not _CONDITION.search(part, 0, start):
                if not negated(part, start):
                    use.add(name)
                elif not _ORDERED.search(part, start):
                    avoid.add(name)
        for (first, start), (second, end) in pairwise(named):
            between = part[start:end]
            if first == second or not _ORDERED.search(between):
                continue
            later = _AFTER.search(between) is not None
            orders.add((second, first) if later != negated(part, start) else (first, second))
    return Claims(frozenset(use - avoid), frozenset(avoid - use), frozenset(orders))


def negated(clause: str, place: int) -> bool:
    """Whether what stands at `place` of a clause is told not to be done: an odd number of negations before it.

    "only if", "unless" and the like end what a negation covers.
    """
    before = clause[max(0, place - _REACH) : place]
    turns = list(_TURNS_BACK.finditer(before))
    if turns:
        before = before[turns[-1].end() :]
    return len(NEGATIONS.findall(before)) % 2 == 1


def opposed(one: str, other: str) -> bool:
    """Whether two texts say nearly the same words with the opposite sign: unequal negations, or antonyms.

    Without what changes the sign, at least `_SAME` of all distinct words must stand in both: in texts that differ in
    more, a negation somewhere says nothing about the rest.
    """
    left, right = (set(_SIGNS.sub(" ", text).casefold().split()) for text in (one, other))
    if len(left & right) < _SAME * len(left | right):
        return False
    if len(NEGATIONS.findall(one)) % 2 != len(NEGATIONS.findall(other)) % 2:
        return True
    for first, second in _OPPOSITES:
        sides = [(bool(first.search(text)), bool(second.search(text))) for text in (one, other)]
        if sides in ([(True, False), (False, True)], [(False, True), (True, False)]):
            return True
    return False


def _names(part: str, tools: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Tools named in a clause, folded, with where they start."""
    found = {match.start(): (match.group(1) or match.group(2)).strip().casefold() for match in _NAME.finditer(part)}
    if tools:
        lowered = part.casefold() if len(part.casefold()) == len(part) else part.lower()
        for tool in tools:
            name = tool.casefold()
            place = lowered.find(name) if len(name) > 2 else -1
            while place >= 0:
                edges = lowered[max(0, place - 1) : place] + lowered[place + len(name) : place + len(name) + 1]
                if not any(edge.isalnum() or edge == "_" for edge in edges) and place - 1 not in found:
                    found.setdefault(place, name)
                place = lowered.find(name, place + 1)
    for start in sorted(found):
        yield found[start], start
