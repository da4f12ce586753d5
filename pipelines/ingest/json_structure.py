"""The skeleton of JSON text without parsing it: brackets and commas outside strings, found many at a time."""

import re
from dataclasses import dataclass

import numpy as np

from pipelines.ingest.window import Bytes, Extent, Positions, Window, count_lines, positions

PIECE_BYTES = 1 << 20
QUOTE, BACKSLASH = 34, 92

_MEMBER = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*+")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)


@dataclass(frozen=True)
class Nesting:
    """Where a scan stands between two pieces of text; the default is outside of everything."""

    in_string: bool = False
    escaped: bool = False
    depth: int = 0


OUTSIDE = Nesting()


@dataclass(frozen=True)
class Siblings:
    """Texts that stand side by side in an array or object: they end at `ends` (commas), the list itself at `close`.

    `close` is -1 where the text ends first; `after` is where the scan then stands; `deepest` is the deepest level seen.
    """

    ends: Positions
    close: int
    after: Nesting
    deepest: int


def siblings(data: bytes, before: Nesting = OUTSIDE) -> Siblings:
    """Commas of the current level in `data`, which begins inside that level, and the bracket that closes it."""
    ends, deepest = [np.zeros(0, np.int64)], 0
    for at in range(0, len(data), PIECE_BYTES):
        found = _scan(data[at : at + PIECE_BYTES], before)
        ends.append(found.ends + at)
        before, deepest = found.after, max(deepest, found.deepest)
        if found.close >= 0:
            return Siblings(np.concatenate(ends), found.close + at, before, deepest)
    return Siblings(np.concatenate(ends), -1, before, deepest)


def _scan(data: bytes, before: Nesting) -> Siblings:
    view = np.frombuffer(data, np.uint8)
    quotes, escaped = positions(view, QUOTE), False
    if before.escaped or b"\\" in data:
        quotes, escaped = unescaped(view, quotes, escaped=before.escaped)
    marks = [positions(view, byte) for byte in b"[{]},"]
    places = np.concatenate(marks)
    order = np.argsort(places, kind="stable")
    places, steps = places[order], np.repeat(np.array([1, 1, -1, -1, 0]), [len(mark) for mark in marks])[order]
    outside = (np.searchsorted(quotes, places) + before.in_string) & 1 == 0
    places, steps = places[outside], steps[outside]
    depth = np.cumsum(steps) + before.depth
    below = np.flatnonzero(depth < 0)
    close = int(places[below[0]]) if len(below) else -1
    if len(below):
        places, steps, depth = places[: below[0]], steps[: below[0]], depth[: below[0]]
    after = Nesting(
        in_string=bool((len(quotes) + before.in_string) & 1),
        escaped=escaped,
        depth=int(depth[-1]) if len(depth) else before.depth,
    )
    deepest = int(depth.max()) if len(depth) else before.depth
    return Siblings(places[(steps == 0) & (depth == 0)], close, after, deepest)


def unescaped(view: Bytes, quotes: Positions, *, escaped: bool = False) -> tuple[Positions, bool]:
    """(the `quotes` that no backslash escapes, whether the byte behind `view` is escaped).

    `escaped` tells whether the first byte is.
    """
    slashes = positions(view, BACKSLASH)
    if escaped:
        quotes, slashes = quotes[quotes > 0], slashes[slashes > 0]
    if not len(slashes):
        return quotes, False
    # In a run of backslashes every second one is itself escaped.
    first = np.concatenate([[True], np.diff(slashes) != 1])
    nth = slashes - np.maximum.accumulate(np.where(first, slashes, 0))
    escaping = slashes[nth & 1 == 0]
    behind = np.searchsorted(escaping, quotes - 1)
    hit = behind < len(escaping)
    hit[hit] = escaping[behind[hit]] == quotes[hit] - 1
    return quotes[~hit], bool(escaping[-1] == len(view) - 1)


def member_key(data: bytes) -> tuple[bytes, int] | None:
    """(quoted key, where its value begins) of the object member at the start of `data`; None if there is none."""
    match = _MEMBER.match(data)
    return None if match is None else (match.group(1), match.end())


def skip_sibling(window: Window) -> Extent | None:
    """Consume one sibling of any size, up to the comma or bracket behind it; None when the file ends first."""
    size, lines, last, before = 0, 0, None, OUTSIDE
    while True:
        if not window.data:
            window.fill(PIECE_BYTES)
            if not window.data:
                return None
        piece = window.data[:PIECE_BYTES]
        found = _scan(piece, before)
        stop = int(found.ends[0]) if len(found.ends) else found.close
        end = len(piece) if stop < 0 else stop
        lines += count_lines(piece[:end], last)
        last, before, size = piece[-1], found.after, size + end
        window.consume(end)
        if stop >= 0:
            return Extent(size, size, lines)
