"""Prompts: one file each, named and versioned by its file name, such as judge_trace.v1.md.

A file holds a part under the line "# system" and one under "# user", with places such as {{rubric}}. A prompt in
use is never edited: answers, verdicts and their measured quality name its version. A change is a new file, and the
module that asks with it names that one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "Prompt", "prompt"]

FOLDER: Final = Path(__file__).parent

_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")
_PARTS: Final = re.compile(r"# system\n(?P<system>.*?)\n# user\n(?P<user>.*)", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """A prompt's file and version, and the texts of its two messages."""

    version: str
    system: str
    user: str

    def filled(self, values: Mapping[str, str]) -> tuple[str, str]:
        """The texts of the system's and the user's message with all places filled.

        What is filled in is not looked at again: a value that holds {{another}} stays as it is.
        Raises: `KeyError` for a place without value.
        """

        def fill(text: str) -> str:
            return _PLACE.sub(lambda match: values[match[1]], text)

        return fill(self.system), fill(self.user)


@cache
def prompt(version: str) -> Prompt:
    """The prompt of this name and version, such as "judge_trace.v1". Raises: `FileNotFoundError`, `ValueError`."""
    text = (FOLDER / f"{version}.md").read_text(encoding="utf-8")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ValueError(f"the prompt {version} has no parts '# system' and '# user'")
    return Prompt(version, parts["system"].strip(), parts["user"].strip())
