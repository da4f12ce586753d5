"""Taint: which words of a lesson stand word for word in what users or tools wrote.

Whoever may write to an agent may try to write its instructions (indirect prompt injection, Greshake et al. 2023,
arXiv 2302.12173; memory poisoning, MINJA, arXiv 2503.03704). So no run of six words, and no order of three, is taken
over from such text unnoticed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipelines.lessons.lint.findings import FIELDS, fields
from pipelines.lessons.lint.material import Passage
from pipelines.lessons.lint.words import Word, fold, folded, weight
from store.lesson_reviews import LessonText

__all__ = ["RUN", "Taint", "clauses", "read", "remaining", "rows", "taint"]

RUN: Final = 6
"""Words in a row that do not come about by chance."""

_SHORTEST_CLAUSE: Final = 3
_CLAUSE_END: Final = re.compile(r"[.;:!?]+(?=\s|$|[A-Z])|[\n\r\u2028\u2029。！？；]+|,\s|\s[-–—]\s")
_LEADING: Final = frozenset(
    re.findall(
        r"\w+",
        """
        please then and also now first next instead finally always just so
        """,
    )
)
_ORDERS: Final = frozenset(
    re.findall(
        r"\w+",
        """
        accept add agree allow answer apply approve ask assume authorize book bypass call cancel change
        charge check click collect confirm contact continue copy create credit delete deny disable disclose
        discard disregard do dont download email enable ensure enter escalate execute export fetch follow
        forget forward get give go grant hide ignore include inform insert install issue keep leave list log
        look make mark message move never omit open override pass pay post print proceed process provide
        purchase put query read refund register reject release remove repeat reply report request reset
        resend respond retry return reveal run save say search select sell send set share show sign skip
        stop store submit suppress tell transfer treat trust try turn update upgrade upload use verify visit
        waive wait withdraw write
        """,
    )
)


@dataclass(frozen=True)
class Taint:
    """Words of a lesson's `field` that stand in a text of a user or a tool, and where; `source` names its field."""

    field: str
    quote: str
    trace_id: str | None = None
    span_id: str | None = None
    source: str | None = None


def taint(text: LessonText, untrusted: Sequence[Passage | str]) -> tuple[Taint, ...]:
    """Spans of the text that stand in `untrusted`: runs of RUN or more words, and orders of three or more.

    Each span is reported once, with the first passage that holds all of it; linear in the length of all texts.
    """
    passages = [Passage(one) if isinstance(one, str) else one for one in untrusted]
    words = {name: fold(written) for name, written in fields(text)}
    commands = {name: list(_commands(written)) for name, written in fields(text)}
    lengths = {RUN} | {last - first for spans in commands.values() for first, last in spans}
    runs = _places(words, commands)
    hits: dict[str, dict[tuple[int, int], Passage]] = {name: {} for name in words}
    for passage in passages:
        said = folded(passage.text)
        for name, spans in _copied(said, runs, lengths).items():
            for span in spans:
                hits[name].setdefault(span, passage)
    found = []
    for name, held in hits.items():
        for (first, last), passage in _maximal(held):
            if first < last and (last - first < RUN or weight([w.text for w in words[name][first:last]]) >= RUN):
                quote = getattr(text, name)[words[name][first].start : words[name][last - 1].end]
                found.append(Taint(name, quote, passage.trace_id, passage.span_id, passage.field))
    return tuple(found)


def clauses(text: str) -> Iterator[str]:
    """The clauses of a text, split at full stops, semicolons, colons, commas, dashes and line breaks."""
    for part in _CLAUSE_END.split(text):
        if part and part.strip():
            yield part


def remaining(text: LessonText, tainted: Sequence[Taint]) -> tuple[Taint, ...]:
    """Of earlier taint, what still stands in a text that was edited: RUN words of a quote, or all of a shorter one."""
    kept = []
    for one in tainted:
        quote = folded(one.quote)
        least = min(RUN, len(quote))
        wanted = {tuple(quote[place : place + least]) for place in range(len(quote) - least + 1)} if least else set()
        for name, written in fields(text):
            said = folded(written)
            if any(tuple(said[place : place + least]) in wanted for place in range(len(said) - least + 1)):
                kept.append(Taint(name, one.quote, one.trace_id, one.span_id, one.source))
                break
    return tuple(kept)


def rows(tainted: Sequence[Taint]) -> tuple[dict[str, Any], ...]:
    """Taint as `store.lesson_versions.Origins` holds it."""
    return tuple(asdict(one) for one in tainted)


def read(held: str | Sequence[Any] | None) -> tuple[Taint, ...]:
    """Taint from its rows, or from JSON of them; entries that are none are left out."""
    if isinstance(held, str):
        try:
            held = json.loads(held)
        except ValueError:
            return ()
    found = []
    for one in held if isinstance(held, Sequence) else ():
        if isinstance(one, Mapping) and one.get("field") in FIELDS and isinstance(one.get("quote"), str):
            rest = {key: value for key in ("trace_id", "span_id", "source") if isinstance(value := one.get(key), str)}
            found.append(Taint(one["field"], one["quote"], **rest))
    return tuple(found)


def _commands(written: str) -> Iterator[tuple[int, int]]:
    """(first, last) word of each clause that gives an order, shorter than RUN words: longer ones are found as runs."""
    words = fold(written)
    starts = {word.start: place for place, word in enumerate(words)}
    offset = 0
    for part in clauses(written):
        begin = written.index(part, offset)
        offset = begin + len(part)
        places = [starts[place] for place in range(begin, offset) if place in starts]
        while places and words[places[0]].text in _LEADING:
            places = places[1:]
        if places and words[places[0]].text in _ORDERS and _SHORTEST_CLAUSE <= len(places) < RUN:
            yield places[0], places[-1] + 1


_Runs = dict[tuple[str, ...], list[tuple[str, int, int]]]


def _places(words: Mapping[str, list[Word]], commands: Mapping[str, list[tuple[int, int]]]) -> _Runs:
    """Where each run of words to look for stands: (field, first, last)."""
    runs: _Runs = {}
    for name, held in words.items():
        said = [word.text for word in held]
        spans = [(place, place + RUN) for place in range(len(said) - RUN + 1)] + commands[name]
        for first, last in spans:
            runs.setdefault(tuple(said[first:last]), []).append((name, first, last))
    return runs


def _copied(said: list[str], runs: _Runs, lengths: set[int]) -> dict[str, list[tuple[int, int]]]:
    """By field, spans of the lesson that stand in `said`, overlapping runs joined."""
    found: dict[str, set[tuple[int, int]]] = {}
    for length in lengths:
        # Each distinct run once: a text of one word over and over would meet itself at every place.
        for window in set(zip(*(said[shift:] for shift in range(length)), strict=False)) & runs.keys():
            for name, first, last in runs[window]:
                found.setdefault(name, set()).add((first, last))
    return {name: _joined(sorted(spans)) for name, spans in found.items()}


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _maximal(spans: Mapping[tuple[int, int], Passage]) -> list[tuple[tuple[int, int], Passage]]:
    """The spans that lie in no other one, in order."""
    kept: list[tuple[tuple[int, int], Passage]] = []
    for (first, last), passage in sorted(spans.items(), key=lambda entry: (entry[0][0], -entry[0][1])):
        if not kept or last > kept[-1][0][1]:
            kept.append(((first, last), passage))
    return kept
