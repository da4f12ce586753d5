"""Taking a lesson out of what a model was told, so that it learns to do without.

Agents get lessons as paragraphs under a heading (`pipelines.lessons.paragraphs`). The paragraphs of the lessons that
graduate go, by their ids whatever version they had; other lessons stay. An agent may have put the words elsewhere: what
is left of them is found, and the conversation is not used.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from pipelines.lessons.graduate.chat import Chat, Message
from pipelines.lessons.paragraphs import HEADING, one_line

__all__ = ["STILL_THERE", "Removal", "without"]

STILL_THERE: Final = "the lesson's words are still in what the model was told"
_EMPTY_HEADING: Final = re.compile(r"\n*" + re.escape(HEADING) + r"\s*(?!\s*## \[)")
_SHORTEST: Final = 12  # characters below which words prove nothing


class Removal:
    """What to take out: the ids of lessons, and the instructions of all their versions."""

    def __init__(self, ids: Sequence[str], instructions: Iterable[str]) -> None:
        named = "|".join(map(re.escape, sorted(ids)))
        self.paragraph = re.compile(rf"\n*^## \[(?:{named})\] [^\n]*(?:\n(?!\n|## \[)[^\n]+)*", re.MULTILINE)
        self.citation = re.compile(rf"\s*[\[(](?:(?:lessons?|used)(?: used)?:?\s*)?(?:{named})[\])]", re.IGNORECASE)
        self.name = re.compile(rf"(?<!\w)(?:{named})(?!\w)")
        self.instructions = tuple(
            sorted({words for text in instructions if len(words := one_line(text).casefold()) >= _SHORTEST})
        )


def without(chat: Chat, removal: Removal) -> Chat | None:
    """The conversation without the lessons; None where their words or ids are still in it."""
    messages: list[Message] = []
    for message in chat.messages:
        content = message["content"]
        if content is None:
            messages.append(message)
            continue
        if message["role"] == "assistant":
            content = removal.citation.sub("", content)
        else:
            content = removal.paragraph.sub("", content)
            content = _EMPTY_HEADING.sub("", content) if HEADING in content else content
            said = one_line(content).casefold()
            if any(words in said for words in removal.instructions):
                return None
        if removal.name.search(content):
            return None
        if content.strip() or message["role"] != "system":
            messages.append({**message, "content": content.strip() if message["role"] == "system" else content})
    return Chat(tuple(messages), chat.tools)
