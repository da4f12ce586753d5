"""Orders taken over from users or tools: whoever writes to an agent must not write its instructions."""

from collections.abc import Iterator

from pipelines.lessons.lint.findings import Finding
from pipelines.lessons.lint.material import Material
from pipelines.lessons.lint.taint import Taint, taint
from pipelines.lessons.lint.trust import least
from store.lesson_reviews import LessonText

__all__ = ["findings"]


def findings(text: LessonText, trust: str, material: Material) -> Iterator[Finding]:
    """Each span that stands word for word in untrusted text blocks; so does a text of untrusted origin as a whole."""
    found = taint(text, material.untrusted)
    for one in found:
        message = f"These words stand{_where(one)}, which a user or a tool wrote: say it in words of your own."
        yield Finding("imperative", "block", one.field, one.quote, None, message)
    if least([trust]) == "untrusted":
        message = "This text was made from what users or tools wrote: rewrite it, or say why it can be trusted."
        yield Finding("taint", "block", None, None, None, message)


def _where(one: Taint) -> str:
    if one.trace_id is None:
        return " in a trace of the evidence"
    return f" in {one.source or 'a text'} of trace {one.trace_id}"
