"""How lessons are written for agents: one paragraph each under a common heading, the same wherever they are served.

Line breaks inside a text become spaces, so that no text can pose as another lesson.

Tokens are estimated without a tokenizer: one per four ASCII characters and one per other character, rounded up. English
prose averages a little over four characters per token; Chinese, Japanese and Korean are near one token per character.
The estimate was not calibrated on a tokenizer: leave a margin where the agent's limit is hard.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["FIELDS", "HEADING", "block", "estimate_tokens", "joined", "one_line"]

HEADING: Final = (
    "# Lessons from earlier runs\nFollow a lesson when its condition holds. Cite the ids of those you used."
)


FIELDS: Final = ("lesson_id", "title", "task", "when_text", "when_not", "do_text")


def estimate_tokens(text: str) -> int:
    """A cautious estimate of how many tokens a language model reads in `text`."""
    if text.isascii():
        return -(-len(text) // 4)
    ascii_characters = len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // 4) + len(text) - ascii_characters


def joined(blocks: Sequence[str]) -> str:
    """The block of these paragraphs, "" without any."""
    return "\n\n".join([HEADING, *blocks]) + "\n" if blocks else ""


def block(row: Mapping[str, Any]) -> str:
    """The paragraph of one lesson, of which `FIELDS` are read."""
    lines = [f"## [{row['lesson_id']}] {one_line(row['title'])}"]
    if row["task"] is not None:
        lines.append(f"Task: {one_line(row['task'])}")
    lines.append(f"When: {one_line(row['when_text'])}")
    if row["when_not"]:
        lines.append(f"Not when: {one_line(row['when_not'])}")
    lines.append(f"Do: {one_line(row['do_text'])}")
    return "\n".join(lines)


def one_line(text: str | None) -> str:
    """The text without line breaks and repeated blanks, so that it cannot pose as another paragraph."""
    return " ".join((text or "").split())
