"""Words of the evidence that are of one case: names of people, codes, places that other traces do not speak of.

Names have no form. What gives them away is where they come from: the id or the metadata of a user in the evidence, or a
capitalised word, in the middle of a sentence, that the evidence says and other traces do not.
"""

import re
from collections.abc import Iterator
from typing import Final

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.lint.literals import find_literals
from pipelines.lessons.lint.material import Material, Passage
from pipelines.lessons.lint.words import fold, folded
from store.lesson_reviews import LessonText

__all__ = ["findings"]

_SENTENCE_START: Final = re.compile(r"(?:^|[.!?:;•\n-]\s*|[\"“(`]\s*)$")
_COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        """
        account address admin agent airport amount answer booking business case city client code customer
        data default demo economy email employee error file first flight gold guest item last mail member
        message monday tuesday wednesday thursday friday saturday sunday name new number order page payment
        person phone policy premium price private product request regular reservation room row sales service
        session silver state status store street support system task test ticket token tool trace true type
        unknown user value web api json http https id url sql csv pdf
        """,
    )
)
_KNOWN: Final = ENGLISH_STOP_WORDS | _COMMON


def findings(text: LessonText, material: Material) -> Iterator[Finding]:
    """Names that stand in ids or metadata of the evidence block; so do capitalised words that only it says.

    Where fewer than 100 words of other traces are known, the second kind warns: it cannot be told whether it is rare.
    """
    tools = {word for tool in material.tools for word in folded(tool)}
    known = _KNOWN | material.elsewhere | tools
    names = {word for name in material.names for word in folded(name) if len(word) > 2 and not word.isdigit()} - known
    passages = [one.text if isinstance(one, Passage) else one for one in material.untrusted]
    said = {word for passage in (*passages, *material.values) for word in folded(passage)}
    many = len(material.elsewhere) >= 100
    for field, written in fields(text):
        taken = " ".join(literal.text for literal in find_literals(written))
        seen: set[str] = set()
        for word in fold(written):
            quote = written[word.start : word.end]
            if word.text in seen or quote in taken:
                continue
            if word.text in names:
                seen.add(word.text)
                message = f"{quote!r} stands in the id or the data of a user of the evidence: leave it out."
                yield Finding("literal", "block", field, quote, None, message)
            elif word.text in said and word.text not in known and _special(written, word.start, quote):
                seen.add(word.text)
                alone = " and in no other trace" if many else ""
                message = f"{quote!r} stands in the evidence{alone}: is it one case?"
                yield Finding("literal", "block" if many else "warn", field, quote, None, message)


def _special(written: str, start: int, quote: str) -> bool:
    """Whether a word is written like a name or a code: with a capital where no sentence starts, or with a digit."""
    if any(character.isdigit() for character in quote):
        return len(quote) > 1
    if not quote[0].isupper() or len(quote) < 2:
        return False
    return quote.isupper() or _SENTENCE_START.search(written[max(0, start - 8) : start]) is None
