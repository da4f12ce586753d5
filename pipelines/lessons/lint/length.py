"""Length: a lesson costs its tokens at every request, and a long one is read less well."""

from collections.abc import Iterator

from pipelines.lessons.lint.config import LintConfig
from pipelines.lessons.lint.findings import Finding, fields
from pipelines.lessons.playbook import estimate_tokens
from store.lesson_reviews import LessonText

__all__ = ["findings"]


def findings(text: LessonText, config: LintConfig) -> Iterator[Finding]:
    """Fields above their length warn, above twice of it they block; so does a field without a word in it."""
    limits = {
        "title": config.title_tokens, "when_text": config.when_tokens, "when_not": config.when_tokens,
        "do_text": config.do_tokens,
    }  # fmt: skip
    for name, written in fields(text):
        tokens = estimate_tokens(written)
        if tokens > limits[name]:
            severe = tokens > 2 * limits[name]
            message = (
                f"About {tokens:,} tokens, and {limits[name]:,} are enough: shorten it, or make two lessons of it."
            )
            yield Finding("length", "block" if severe else "warn", name, None, None, message)
    for name in ("title", "when_text", "do_text"):
        if not any(character.isalnum() for character in getattr(text, name) or ""):
            yield Finding("length", "block", name, None, None, "There is no word here; agents need one.")
