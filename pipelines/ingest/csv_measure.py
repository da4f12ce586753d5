"""How far a CSV record reaches that is too large to hold: the grammar of csv_split as a state machine over blocks."""

import re
from collections.abc import Iterable

from pipelines.ingest.csv_split import FEED, QUOTE, RETURN, Grammar
from pipelines.ingest.window import Extent, count_lines

_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')


def measure(blocks: Iterable[bytes], grammar: Grammar) -> Extent | None:
    """How far the record at the start of `blocks` reaches, without holding it; None when its first line is given up."""
    state, stray, size, breaks, last = "start", False, 0, 0, -1
    for block in blocks:
        at = 0
        while at < len(block):
            byte = block[at]
            if state == "start":
                match = grammar.whole_fields.match(block, at)
                if match is not None and match.end() > at:
                    at = match.end()
                    continue
                state = "quoted" if byte == QUOTE else "plain"
                at += byte == QUOTE
            elif state == "quoted":
                match = _QUOTED.match(block, at)
                at = at if match is None else match.end()
                if at < len(block):
                    state, at = "closed", at + 1
            elif state == "closed" and byte == QUOTE:
                state, at = "quoted", at + 1
            elif state == "return":
                return Extent(size - 1, size + (byte == FEED), breaks)
            else:
                if state == "plain":
                    match = grammar.special.search(block, at)
                    at = len(block) if match is None else match.end()
                    if match is None:
                        continue
                    byte = block[at - 1]
                    if byte == QUOTE:
                        stray = True
                        continue
                else:
                    at += 1
                if byte == grammar.delimiter:
                    state = "start"
                elif byte in (FEED, RETURN):
                    text = size + at - 1
                    breaks += count_lines(block[: at - 1], last)
                    if text > grammar.lookahead_bytes or (stray and breaks):
                        return None
                    if byte == RETURN and at == len(block):
                        state, breaks = "return", breaks + 1
                        continue
                    pair = byte == RETURN and block[at] == FEED
                    return Extent(text, size + at + pair, breaks + 1)
                else:
                    return None
        if state != "return":
            breaks += count_lines(block, last)
        last = block[-1] if block else last
        size += len(block)
        if size > grammar.lookahead_bytes + 1:
            return None
    if state == "return":
        return Extent(size - 1, size, breaks)
    return (
        None
        if state == "quoted" or (stray and breaks) or size > grammar.lookahead_bytes
        else Extent(size, size, breaks + 1)
    )
