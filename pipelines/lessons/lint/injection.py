"""Words of an attack: taking over the agent's role, its instructions or its channel, and hidden characters.

Patterns name what attacks in the literature have in common (Perez & Ribeiro 2022, arXiv 2211.09527; Greshake et al.
2023, arXiv 2302.12173; OWASP LLM01). They catch the known and the careless, not whoever rephrases: of 20 attacks in
words of their own (`tests/lint_sentences.py`) they find 4, with no false alarm. Taint, trust and a person's review are
the guard for the rest.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from pipelines.lessons.lint.attack_patterns import MARKS, PHRASES
from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.lint.polarity import negated
from pipelines.lessons.lint.words import Word, fold
from store.lesson_reviews import LessonText

__all__ = ["attacks", "findings", "hidden"]

_FIGURES: Final = re.compile(r"\b(?=\w*[a-z]{2})[a-z013457]+\b")
_LETTERS: Final = str.maketrans("013457", "oieast")
_SPELT: Final = 4  # single letters in a row that spell a word
_JOINED: Final = re.compile(r"[\u0600-\u08ff\u0900-\u0dff\u0e00-\u109f\u1780-\u17ff\u1800-\u18af]")


def attacks(text: str) -> list[tuple[str, str]]:
    """(what, words) of each phrase or mark of an attack in a text, in order of the patterns; each kind once."""
    found: dict[str, str] = {}
    words = _spelt(fold(text))
    said = " ".join(word.text for word in words)
    # 1gn0re: figures that stand for letters, in words that have some.
    spelt = _FIGURES.sub(lambda match: match.group().translate(_LETTERS), said)
    starts, place = [], 0
    for word in words:
        starts.append(place)
        place += len(word.text) + 1
    for what, pattern, disarmed in PHRASES:
        for match in (*pattern.finditer(said), *(pattern.finditer(spelt) if spelt != said else ())):
            first, last = _at(starts, match.start()), _at(starts, max(match.start(), match.end() - 1))
            begin, end = words[first].start, words[last].end
            if not (disarmed and negated(_clause_before(text, begin), begin - _clause_start(text, begin))):
                found.setdefault(what, text[begin:end])
                break
    for what, pattern in MARKS:
        mark = pattern.search(text)
        if mark is not None:
            found.setdefault(what, mark.group().strip())
    return list(found.items())


def hidden(text: str) -> list[tuple[int, str]]:
    """(place, name) of characters that a reader does not see or that reorder what he sees.

    Joiners inside emoji and between letters of scripts that need them, and variation selectors after a visible
    character, are what they are for.
    """
    if text.isascii() and text.isprintable():
        return []
    found = []
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cc" and character not in "\n\r\t":
            found.append((place, f"control character U+{ord(character):04X}"))
        elif category in ("Cf", "Co", "Cn", "Cs") or character in "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5":
            if not _in_use(text, place, character):
                found.append((place, f"U+{ord(character):04X} {unicodedata.name(character, 'unassigned').lower()}"))
        elif "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
            before = text[place - 1] if place else " "
            plain = before.isascii() and before not in "0123456789#*"
            if before.isspace() or plain or character >= "\U000e0100":
                found.append((place, f"U+{ord(character):04X} variation selector"))
    return found


def findings(text: LessonText) -> Iterator[Finding]:
    """Words of an attack and hidden characters block."""
    for name, written in fields(text):
        for what, excerpt in attacks(written):
            message = f"This reads like {what}: a lesson must not talk to the agent in an attacker's voice."
            yield Finding("injection", "block", name, excerpt[:200], None, message)
        unseen = hidden(written)
        if unseen:
            named = ", ".join(dict.fromkeys(label for _, label in unseen[:3]))
            message = f"{len(unseen):,} hidden characters ({named}): retype this field without them."
            yield Finding("injection", "block", name, None, None, message)


def _in_use(text: str, place: int, character: str) -> bool:
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if character in "\u200c\u200d" and before and after:
        if _JOINED.match(before) and _JOINED.match(after):
            return True
        return character == "\u200d" and _pictured(before) and _pictured(after)
    # Marks of direction beside letters that are written from right to left.
    return character in "\u200e\u200f" and any(
        unicodedata.bidirectional(one) in ("R", "AL") for one in (before, after) if one
    )


def _pictured(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk") or character == "\ufe0f"


def _spelt(words: list[Word]) -> list[Word]:
    """The words with runs of four or more single letters as one word each: s p e l t and s.p.e.l.t."""
    joined: list[Word] = []
    run: list[Word] = []
    for word in (*words, Word("", 0, 0)):
        if len(word.text) == 1 and word.text.isalpha():
            run.append(word)
            continue
        spelt = [Word("".join(one.text for one in run), run[0].start, run[-1].end)] if len(run) >= _SPELT else run
        joined += spelt
        run = []
        if word.text:
            joined.append(word)
    return joined


def _at(starts: list[int], place: int) -> int:
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if starts[middle] <= place:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


def _clause_start(text: str, place: int) -> int:
    return max((text.rfind(mark, max(0, place - 200), place) + 1 for mark in ".;!?\n"), default=0)


def _clause_before(text: str, place: int) -> str:
    return text[_clause_start(text, place) : place]
