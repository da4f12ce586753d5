"""Which of many JSON texts need a second look, found by their bytes: nested too deep, or more lenient than RFC 8259.

Works through the texts about a megabyte at a time, which bounds the memory that hostile texts can take.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.ingest.json_structure import siblings, unescaped
from pipelines.ingest.window import Bytes, Positions, positions

Bounds = npt.NDArray[np.int32]

MAX_DEPTH = 64
BATCH_BYTES = 1 << 20


def suspects(bounds: Bounds, data: Bytes) -> tuple[set[int], set[int]]:
    """(texts nested deeper than 64 levels, texts with what the engine takes and RFC 8259 perhaps does not).

    Text i is data[bounds[i]:bounds[i + 1]]. The second kind has NaN or Infinity (in any case) where a value may stand,
    or a comma before a closing bracket; inside strings these mean nothing, which only a parser can tell.
    """
    deep: set[int] = set()
    lenient: set[int] = set()
    first, count = 0, len(bounds) - 1
    while first < count:
        start = int(bounds[first])
        last = max(int(np.searchsorted(bounds, start + BATCH_BYTES, side="right")) - 1, first + 1)
        last = min(last, count)
        part = data[start : int(bounds[last])]
        if len(part) > BATCH_BYTES:
            lenient.add(first)
            if siblings(part.tobytes()).deepest > MAX_DEPTH:
                deep.add(first)
        elif len(part):
            within = bounds[first : last + 1] - start
            deep.update(first + index for index in _deep(within, part))
            lenient.update(first + index for index in _lenient(within, part))
        first = last
    return deep, lenient


def _deep(bounds: Bounds, data: Bytes) -> list[int]:
    """Texts nested deeper than 64 levels."""
    # `[` and `{` differ in one bit, and so do `]` and `}`.
    opening = np.flatnonzero((data | 32) == 123)
    if not (np.diff(np.searchsorted(opening, bounds)) > MAX_DEPTH).any():
        return []
    closing = np.flatnonzero((data | 32) == 125)
    quotes, _ = unescaped(data, positions(data, 34))
    places = np.concatenate([opening, closing])
    order = np.argsort(places, kind="stable")
    places, steps = places[order], np.repeat([1, -1], [len(opening), len(closing)])[order]
    text = np.searchsorted(bounds, places, side="right") - 1
    outside = (np.searchsorted(quotes, places) - np.searchsorted(quotes, bounds)[text]) & 1 == 0
    places, steps, text = places[outside], steps[outside], text[outside]
    total = np.concatenate([[0], np.cumsum(steps)])
    depth = total[1:] - total[np.searchsorted(places, bounds)][text]
    return [int(index) for index in np.unique(text[depth > MAX_DEPTH])]


def _lenient(bounds: Bounds, data: Bytes) -> list[int]:
    """Texts with NaN, Infinity or a comma before a closing bracket."""
    last = len(data) - 1
    marks = [positions(data, byte) for byte in b"[,:"]
    at, comma = np.concatenate(marks) + 1, np.repeat([False, True, False], [len(mark) for mark in marks])
    at, spaces = _skip_space(np.minimum(at, last), data)
    byte = data[at]
    odd = spaces | (comma & ((byte == 93) | (byte == 125)))
    word = np.flatnonzero(_MAYBE[byte])
    start = at[word] + (byte[word] == 45)
    letters = [data[np.minimum(start + ahead, last)] | 32 for ahead in range(3)]
    nan = (letters[0] == 110) & (letters[1] == 97) & (letters[2] == 110)
    inf = (letters[0] == 105) & (letters[1] == 110) & (letters[2] == 102)
    ending = data[np.minimum(start + 3, last)]
    odd[word] |= (nan & _AFTER[ending]) | (inf & (_AFTER[ending] | (ending | 32 == 105)))
    return [int(index) for index in np.unique(np.searchsorted(bounds, at[odd], side="right") - 1)]


def _skip_space(at: Positions, data: Bytes) -> tuple[Positions, np.ndarray[Any, np.dtype[np.bool_]]]:
    """(positions moved behind white space, where more than 64 characters of it are left)."""
    moving = np.flatnonzero(_SPACE[data[at]])
    for _ in range(64):
        if not len(moving):
            break
        at[moving] = np.minimum(at[moving] + 1, len(data) - 1)
        moving = moving[_SPACE[data[at[moving]]]]
    left = np.zeros(len(at), np.bool_)
    left[moving] = True
    return at, left


def _table(members: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether a byte is one of `members`, by byte."""
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table


_SPACE, _MAYBE, _AFTER = _table(b" \t\r\n"), _table(b"nNiI-"), _table(b" \t\r\n,]}")
