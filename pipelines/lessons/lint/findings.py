"""What a rule of lint found in a lesson's text, and where in the text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from store.lesson_reviews import LessonText

__all__ = ["FIELDS", "Finding", "Severity", "fields"]

Severity = Literal["block", "warn", "note"]
FIELDS: Final = ("title", "when_text", "when_not", "do_text")


@dataclass(frozen=True)
class Finding:
    """One finding. `block` stands in the way of approval until a person edits the text or overrides it.

    `rule` is literal, length, imperative, contradiction, near_duplicate, no_contrast, single_task, injection or taint;
    `field` one of FIELDS, None for the lesson as a whole; `excerpt` the words it is about; `other_id` the lesson or
    guardrail that it is about.
    """

    rule: str
    severity: Severity
    field: str | None
    excerpt: str | None
    other_id: str | None
    message: str


def fields(text: LessonText) -> Iterator[tuple[str, str]]:
    """The fields of a text that are not empty, in their order, as (name, words)."""
    for name in FIELDS:
        words = getattr(text, name)
        if words:
            yield name, words
