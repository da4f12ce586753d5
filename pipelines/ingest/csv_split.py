"""Where CSV records begin and end: one exact grammar, read at the speed of memory where the text is well formed.

A field is either quoted, `"` (any text, a quote written twice) `"`, and then ends at a delimiter, a line end or the end
of the file; or it does not start with a quote and runs to the next delimiter or line end, quotes in it being literal.
Lines end at \\n, \\r\\n or \\r. Empty lines are skipped.

Where a record does not follow this, or spans lines while an unquoted field of it holds a quote, some quote was not
closed: only the physical line where it starts is given up, and reading goes on at the next line. This depends on the
text alone, never on how it is cut into chunks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipelines.ingest.window import Positions, count_lines, line_ends, positions

QUOTE = 34
FEED, RETURN = 10, 13
PIECE_BYTES = 128 << 10
# A quote that finds no partner within this many bytes counts as not closed.
LOOKAHEAD_BYTES = 256 << 20

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Grammar:
    """The record grammar for one delimiter (a single byte)."""

    delimiter: int
    lookahead_bytes: int = LOOKAHEAD_BYTES

    @cached_property
    def field(self) -> re.Pattern[bytes]:
        """One field; group 1 is the inside of a quoted one."""
        return re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"|' + self._plain() + rb")?+")

    @cached_property
    def record(self) -> re.Pattern[bytes]:
        """A record and its line end (group 1), possessive throughout: no input makes it slow."""
        cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"|' + self._plain() + rb")?+"
        return re.compile(cell + rb"(?:" + self._mark() + cell + rb")*+(\r\n|\n|\r|\Z)")

    @cached_property
    def strict_record(self) -> re.Pattern[bytes]:
        """A record without quotes in unquoted fields."""
        cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"' + self._mark() + rb"\r\n]++)?+"
        return re.compile(cell + rb"(?:" + self._mark() + cell + rb")*+")

    @cached_property
    def whole_fields(self) -> re.Pattern[bytes]:
        """As many fields with their delimiters as are well formed."""
        mark = self._mark()
        return re.compile(rb'(?:(?:"[^"]*+(?:""[^"]*+)*+"|[^"' + mark + rb"\r\n]++)?+" + mark + rb")*+")

    @cached_property
    def special(self) -> re.Pattern[bytes]:
        """What ends or disturbs an unquoted field."""
        return re.compile(rb'["\r\n' + self._mark() + rb"]")

    @cached_property
    def beside_quote(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Table over bytes: may stand before an opening and after a closing quote."""
        table = np.zeros(256, np.bool_)
        table[[self.delimiter, FEED, RETURN, QUOTE]] = True
        return table

    def _mark(self) -> bytes:
        return re.escape(bytes([self.delimiter]))

    def _plain(self) -> bytes:
        return rb'[^"' + self._mark() + rb"\r\n][^" + self._mark() + rb"\r\n]*+"


@dataclass
class Records:
    """Records found in some bytes: text from `start` to `stop`, on relative physical `line` (from 0).

    `unclosed` holds the indices of those that are only a physical line with a quote that is not closed properly.
    `end` is how many bytes and `lines` how many physical lines were used up.
    """

    start: Positions
    stop: Positions
    line: Positions
    unclosed: list[int] = field(default_factory=list)
    end: int = 0
    lines: int = 0

    def __len__(self) -> int:
        return len(self.start)


def split(data: bytes, grammar: Grammar, *, final: bool) -> Records:
    """All complete records of `data`, which begins at a record; `final` means that the file ends with it.

    `end == 0`: not even the first record is complete.
    """
    parts: list[Records] = []
    at = lines = count = 0
    size, least = len(data), PIECE_BYTES
    while at < len(data):
        piece = data[at : at + size] if at or size < len(data) else data
        last = at + len(piece) == len(data)
        part = split_clean(piece, grammar, final=final and last)
        if part is None:
            if len(piece) > least:
                size = least  # keep the slow way to the neighbourhood of the fault
                continue
            part = split_exact(piece, grammar, final=final and last)
        if part.end == 0:
            if last:
                break
            size = least = 2 * len(piece)
            continue
        part.start, part.stop, part.line = part.start + at, part.stop + at, part.line + lines
        part.unclosed = [index + count for index in part.unclosed]
        parts.append(part)
        at, lines, count = at + part.end, lines + part.lines, count + len(part)
        least = PIECE_BYTES
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int64)
    return Records(
        start=np.concatenate([none, *(part.start for part in parts)]),
        stop=np.concatenate([none, *(part.stop for part in parts)]),
        line=np.concatenate([none, *(part.line for part in parts)]),
        unclosed=[index for part in parts for index in part.unclosed],
        end=at,
        lines=lines,
    )


def split_clean(data: bytes, grammar: Grammar, *, final: bool) -> Records | None:
    """Records of well-formed text by counting quotes; None where the exact way must decide.

    Outside quotes the number of quotes before a line end is even. If every odd quote stands at the start of a field (or
    right behind another quote) and every even one at the end, counting and the grammar agree.
    """
    view = np.frombuffer(data, np.uint8)
    ends = line_ends(data, final=final)
    stop, after = ends.stop, ends.next
    if final and (not len(after) or after[-1] < len(data)):
        stop, after = np.append(stop, len(data)), np.append(after, len(data))
    if not len(after):
        return None
    if QUOTE in data:
        quotes = positions(view, QUOTE)
        outside = np.flatnonzero(np.searchsorted(quotes, stop) & 1 == 0)
        if not len(outside):
            return None
        end = int(after[outside[-1]])
        quotes = quotes[: np.searchsorted(quotes, end)]
        opening, closing = quotes[0::2], quotes[1::2]
        if len(opening) and opening[0] == 0:
            opening = opening[1:]
        if len(closing) and closing[-1] == len(data) - 1:
            closing = closing[:-1]
        beside = grammar.beside_quote
        if not (beside[view[opening - 1]].all() and beside[view[closing + 1]].all()):
            return None
        stop, start = stop[outside], np.concatenate([np.zeros(1, np.int64), after[outside[:-1]]])
        line, lines = np.searchsorted(after, start, side="right"), int(outside[-1]) + 1
    else:
        end, lines = int(after[-1]), len(after)
        start, line = np.concatenate([np.zeros(1, np.int64), after[:-1]]), np.arange(lines)
    length = stop - start
    if length.max() > grammar.lookahead_bytes:
        return None
    filled = length > 0
    if not filled.all():
        start, stop, line = start[filled], stop[filled], line[filled]
    return Records(start, stop, line, end=end, lines=lines)


def split_exact(data: bytes, grammar: Grammar, *, final: bool) -> Records:
    """Records by the grammar itself, one after another."""
    start: list[int] = []
    stop: list[int] = []
    line: list[int] = []
    unclosed: list[int] = []
    at, lines, size = 0, 0, len(data)
    while at < size:
        mark = _LINE_END.match(data, at)
        if mark is not None:
            if _may_go_on(data, mark.end(), final):
                break
            at, lines = mark.end(), lines + 1
            continue
        match = grammar.record.match(data, at)
        if match is not None:
            if _may_go_on(data, match.end(), final):
                break
            inner = count_lines(data[at : match.start(1)])
            if match.start(1) - at <= grammar.lookahead_bytes and (
                not inner or grammar.strict_record.fullmatch(data, at, match.start(1))
            ):
                start.append(at)
                stop.append(match.start(1))
                line.append(lines)
                at, lines = match.end(), lines + inner + 1
                continue
        elif not final and _undecided(data, at, grammar):
            break
        mark = _LINE_END.search(data, at)
        end = size if mark is None else mark.end()
        if _may_go_on(data, end, final):
            break
        unclosed.append(len(start))
        start.append(at)
        stop.append(size if mark is None else mark.start())
        line.append(lines)
        at, lines = end, lines + 1
    as_array = [np.array(values, np.int64) for values in (start, stop, line)]
    return Records(as_array[0], as_array[1], as_array[2], unclosed, end=at, lines=lines)


def _may_go_on(data: bytes, end: int, final: bool) -> bool:
    """Whether what ends at `end` could continue in bytes that are not here yet."""
    return not final and end == len(data) and data[-1] != FEED


def _undecided(data: bytes, at: int, grammar: Grammar) -> bool:
    """Whether the record at `at` breaks the grammar only because `data` ends."""
    while True:
        match = grammar.field.match(data, at)
        end = at if match is None else match.end()
        if end == len(data):
            return True
        if data[end] == grammar.delimiter:
            at = end + 1
            continue
        return end == at and data[end] == QUOTE  # an opening quote without a partner so far


def fields(record: bytes, grammar: Grammar) -> list[bytes] | None:
    """The unquoted fields of one record; None when it breaks the grammar."""
    values: list[bytes] = []
    at = 0
    while True:
        match = grammar.field.match(record, at)
        if match is None:
            return None
        inside = match.group(1)
        values.append(match.group() if inside is None else inside.replace(b'""', b'"'))
        at = match.end()
        if at == len(record):
            return values
        if record[at] != grammar.delimiter:
            return None
        at += 1


def unclosed_fault(line: bytes, grammar: Grammar, columns: Sequence[str]) -> tuple[str | None, str]:
    """(column, reason) for a physical line on which a quote is opened and not closed properly."""
    at = number = 0
    while (match := grammar.field.match(line, at)) is not None:
        end = match.end()
        if end == len(line) or line[end] != grammar.delimiter:
            break
        at, number = end + 1, number + 1
    column = columns[number] if number < len(columns) else None
    where = f'field {number + 1}, "{column}"' if column is not None else f"field {number + 1}"
    character = len(line[:at].decode("utf-8", errors="replace")) + 1
    return column, (
        f"the quote opened at character {character} ({where}) is not closed properly: a closing quote must be "
        "followed by a delimiter or the line end, and a quote inside quoted text must be written twice"
    )
