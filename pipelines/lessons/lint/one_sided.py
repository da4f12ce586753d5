"""Evidence: a lesson that was learned from one side only shows no difference, one from one task may be its answer."""

import re
from collections.abc import Iterator
from typing import Final

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.lint.material import Material
from pipelines.lessons.lint.words import fold, folded
from store.lesson_reviews import LessonText

__all__ = ["findings", "leaks"]

_LONGEST: Final = 12  # words of a value; longer ones are found as copied runs
_SHORTEST: Final = 3  # characters
_SIGN: Final = re.compile(r"\d|[A-Z][a-z]+ [A-Z]|^[A-Z0-9]{3,8}$")
_COMMON: Final = ENGLISH_STOP_WORDS | {"true", "false", "null", "none", "yes", "ok", "done", "error", "success", "id"}


def findings(text: LessonText, material: Material) -> Iterator[Finding]:
    """No evidence, evidence of one side, and the answer or an argument of a single task in the text."""
    if material.evidence.is_empty():
        message = "No trace stands behind this lesson: nothing shows that it helps."
        yield Finding("no_contrast", "warn" if material.origin == "operator" else "block", None, None, None, message)
    elif not material.contrast:
        side = "badly" if "bad" in material.evidence["role"].to_list() else "well"
        message = f"All traces behind this lesson went {side}: there is nothing to compare with."
        yield Finding("no_contrast", "warn", None, None, None, message)
    if material.tasks == 1:
        if material.task is not None:
            yield Finding(
                "single_task", "warn", None, None, None, "Learned from one task only, and for that task only."
            )
        for name, quote in leaks(text, material):
            message = f"{quote!r} is what the one task of the evidence was about: the text gives its answer away."
            yield Finding("single_task", "block", name, quote, None, message)


def leaks(text: LessonText, material: Material) -> list[tuple[str, str]]:
    """(field, words) where the text holds an argument or the answer of the evidence, in order; each once.

    A value counts when it is not made of common words, tools' names or words that other traces use as well. Where few
    other traces are known, only values with digits, of capitals, or names of two words count.
    """
    tools = {word for tool in material.tools for word in folded(tool)}
    wanted: set[tuple[str, ...]] = set()
    for value in material.values:
        words = folded(value)
        if not 0 < len(words) <= _LONGEST or sum(map(len, words)) < _SHORTEST:
            continue
        if all(word in _COMMON or word in tools or word in material.elsewhere for word in words):
            continue
        if len(material.elsewhere) >= 100 or _SIGN.search(value):
            wanted.add(tuple(words))
    found: dict[tuple[str, str], None] = {}
    for name, written in fields(text) if wanted else ():
        said = fold(written)
        for length in sorted({len(words) for words in wanted}):
            for place in range(len(said) - length + 1):
                if tuple(word.text for word in said[place : place + length]) in wanted:
                    found[name, written[said[place].start : said[place + length - 1].end]] = None
    return list(found)
