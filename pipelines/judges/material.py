"""What a judge reads: one trace, or one comment, as plain text, and where in it a quote stands.

The pieces that the text is made of are kept, so that a quote is looked for in what was said and not in our headings.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Material", "Piece", "of_comment", "of_trace"]

MAX_CHARACTERS: Final = 24_000
_STEP_CHARACTERS: Final = 1_500
_ENDS_CHARACTERS: Final = 6_000
_CUT: Final = "\n[...]\n"
_BLANKS: Final = re.compile(r"\s+")
_AROUND: Final = "\"'“”‘’`«» "


@dataclass(frozen=True)
class Piece:
    """A text that somebody wrote, and the span that it is of; None for the trace as a whole or a comment."""

    span_id: str | None
    text: str


@dataclass(frozen=True)
class Material:
    """What is judged: the text that the judge reads, and the pieces in it."""

    text: str
    pieces: tuple[Piece, ...]

    def find(self, quote: str) -> Piece | None:
        """The first piece in which a quote stands; blanks and the marks around it do not count."""
        wanted = _flat(quote.strip().strip(_AROUND))
        if not wanted:
            return None
        return next((piece for piece in self.pieces if wanted in _flat(piece.text)), None)


def of_trace(stated: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]) -> Material | None:
    """A trace from its stated input and output (`store.judges.STATED`) and its steps (`store.spans.STEPS`).

    Long texts are cut in their middle, steps in the middle of a long trace are left out. None when there is no text.
    """
    request = _cut((stated or {}).get("input"), _ENDS_CHARACTERS)
    answer = _cut((stated or {}).get("output"), _ENDS_CHARACTERS)
    pieces = [Piece(None, request)] if request else []
    blocks: list[tuple[str, list[Piece]]] = []
    for step in steps:
        texts = [(part, _cut(step[part], _STEP_CHARACTERS)) for part in ("input", "output", "status_message")]
        told = [(part, text) for part, text in texts if text]
        status = f", {step['status']}" if step["status"] else ""
        # A step's name is foreign text too.
        heading = f"STEP {step['step']} ({step['kind']}{status}) {_flat(step['name'] or '')[:200]}"
        body = "\n".join(f"{part.replace('_', ' ')}: {text}" for part, text in told)
        blocks.append((f"{heading}\n{body}".rstrip(), [Piece(step["span_id"], text) for _, text in told]))
    room = MAX_CHARACTERS - len(request) - len(answer)
    kept, left_out = _within(blocks, room)
    parts = [f"REQUEST\n{request}"] if request else []
    for number, (text, found) in enumerate(kept):
        if left_out and number == (len(kept) + 1) // 2:
            parts.append(f"[{left_out} steps left out]")
        parts.append(text)
        pieces += found
    if answer:
        parts.append(f"ANSWER\n{answer}")
        pieces.append(Piece(None, answer))
    return Material("\n\n".join(parts), tuple(pieces)) if pieces else None


def of_comment(comment: Mapping[str, Any]) -> Material | None:
    """A comment (`store.judges.COMMENTS`) after the beginnings of what it is about. None when it is empty."""
    text = _cut(comment["text"], _ENDS_CHARACTERS)
    if not text.strip():
        return None
    about = [
        f"{heading}\n{_cut(comment[part], _STEP_CHARACTERS)}"
        for heading, part in (("BEGINNING OF THE REQUEST", "input"), ("BEGINNING OF THE ANSWER", "output"))
        if comment[part]
    ]
    return Material("\n\n".join([*about, f"COMMENT\n{text}"]), (Piece(None, text),))


def _within(blocks: list[tuple[str, list[Piece]]], room: int) -> tuple[list[tuple[str, list[Piece]]], int]:
    """As many steps from both ends as there is room for, and how many are left out between them."""
    front: list[tuple[str, list[Piece]]] = []
    back: list[tuple[str, list[Piece]]] = []
    low, high = 0, len(blocks) - 1
    while low <= high:
        from_front = len(front) <= len(back)
        block = blocks[low if from_front else high]
        room -= len(block[0]) + 2
        if room < 0 and (front or back):
            break
        if from_front:
            front.append(block)
            low += 1
        else:
            back.append(block)
            high -= 1
    return [*front, *reversed(back)], high - low + 1


def _cut(text: str | None, most: int) -> str:
    """The text, without its middle when it is longer than `most` characters."""
    if not text or len(text) <= most:
        return text or ""
    half = (most - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def _flat(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()
