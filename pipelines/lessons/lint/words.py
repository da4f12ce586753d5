"""Texts as sequences of folded words, so that copies are found whatever their case, white space or look-alike letters.

A word is a run of letters and digits after Unicode compatibility decomposition (NFKD, UAX #15), case folding and
without marks, apostrophes and invisible characters; Cyrillic and Greek letters that look like Latin ones count as those
(the common ones of Unicode's confusables, UTS #39). Scripts without spaces between words count by character.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["Word", "fold", "folded", "weight"]

_ASCII_WORD: Final = re.compile(r"[a-z0-9']+")
_LOOK_ALIKES: Final = dict(zip("авеёзіјкмнорстухһԁԛԝαβεικνορτυχıɡ", "abee3ijkmhopctyxhdqwabeikvoptuxig", strict=True))
_APOSTROPHES: Final = frozenset("'\u2018\u2019\u02bc\u02b9`\u00b4\uff07")
# Half a word each: Chinese, Japanese and Thai write none between them.
_UNSPACED: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)


class Word(NamedTuple):
    """A folded word and where it stands in the text it was taken from."""

    text: str
    start: int
    end: int


def fold(text: str) -> list[Word]:
    """The words of `text` in order; one pass, linear in its length."""
    if text.isascii():
        found = []
        for match in _ASCII_WORD.finditer(text.lower()):
            word = match.group().replace("'", "")
            if word:
                found.append(Word(word, match.start(), match.end()))
        return found
    words: list[Word] = []
    letters: list[str] = []
    start = end = 0
    for place, character in enumerate(text):
        kind, piece = _character(character)
        if kind == "skip":
            continue
        if kind == "part":
            if not letters:
                start = place
            letters.append(piece)
            end = place + 1
            continue
        if letters:
            words.append(Word("".join(letters), start, end))
            letters = []
        if kind == "whole":
            words.append(Word(piece, place, place + 1))
    if letters:
        words.append(Word("".join(letters), start, end))
    return words


def folded(text: str) -> list[str]:
    """The words of `text` without their places."""
    if text.isascii():  # most of what is read, and much of it
        return [kept for word in _ASCII_WORD.findall(text.lower()) if (kept := word.replace("'", ""))]
    return [word.text for word in fold(text)]


def weight(words: list[str]) -> float:
    """How many words these count as."""
    return sum(0.5 if _UNSPACED.match(word) else 1.0 for word in words)


@lru_cache(maxsize=65_536)
def _character(character: str) -> tuple[str, str]:
    """What a character does: it is `part` of a word, a `whole` one, is to `skip`, or ends a word."""
    if character in _APOSTROPHES or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return "skip", ""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character.casefold()).casefold())
    kept = "".join(_LOOK_ALIKES.get(one, one) for one in plain if one.isalnum())
    if not kept:
        return "end", ""
    return ("whole" if _UNSPACED.match(kept) else "part"), kept
