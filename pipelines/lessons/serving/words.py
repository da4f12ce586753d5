"""The words by which a condition and a request are compared.

Words are runs of letters and digits, in lower case, without the plural's s; a Chinese, Japanese or Korean character is
a word of its own. Words that say nothing about what a request is about are left out. What is read of a long text is
its beginning and its end, since that bounds the time and what is asked stands there.
"""

import re
from typing import Final

__all__ = ["HEAD", "TAIL", "distinct", "terms"]

HEAD: Final = 4_000
TAIL: Final = 2_000
"""Characters that are read of the beginning and of the end of a text."""

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")

# English words without content, and those of any condition of a lesson: who asks for what stands in the others.
_PLAIN = """
    a about above after again all also am an and any are as at be because been before being below between both but by
    can cannot could did do doe doing done down during each either else ever every few for from further get give go had
    has have having he her here hers herself him himself his how however i if in into is it its itself just least let
    like may me might more most much must my myself need needed neither no nor not now of off on once one only or other
    our ours ourselve out over own per please same shall she should since so some still such than that the their theirs
    them themselve then there these they thi this those through to too under until up upon us use used using very via wa
    want wanted wants was we were what whatever when whenever where whether which while who whom whose why will with
    within without would yes yet you your yours yourself
    agent ask asked asking assistant asks client condition consider customer handle handled handling message person
    query question request requested requesting requests situation someone something task user users"""
_NOTHING: Final = frozenset(_PLAIN.split())


def terms(text: str) -> list[str]:
    """The words of a text that say something, in order, with repetitions."""
    return [stem for word in _read(text) if (stem := _stem(word)) not in _NOTHING and word not in _NOTHING]


def distinct(text: str) -> set[str]:
    """The different words of a text that say something."""
    return {stem for word in {*_read(text)} - _NOTHING if (stem := _stem(word)) not in _NOTHING}


def _read(text: str) -> list[str]:
    shown = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} {text[-TAIL:]}"
    return _WORD.findall(shown.casefold())


def _stem(word: str) -> str:
    """The word without the s of the plural: the S stemmer of Harman, "How effective is suffixing?", JASIS 42 (1991)."""
    if len(word) <= 3 or word[-1] != "s" or word[-2] in "us":
        return word
    if word[-2] != "e":
        return word[:-1]
    if word[-3] == "i":
        return word if word[-4] in "ae" else word[:-3] + "y"
    return word if word[-3] in "aeo" else word[:-1]
