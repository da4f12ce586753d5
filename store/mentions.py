"""Taking a person out of texts: places that hold one of their ids, and passages that repeat what only they said.

An id is looked for as a word of its own: "u-17" is not found in "u-170". One that is too short or too plain to be told
from ordinary words (`distinctive`) is only taken out where it is a whole JSON string, since replacing every "7" or
"green" would spoil what others said.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

__all__ = ["REMOVED", "Person", "distinctive", "in_facts", "passages", "sweep"]

REMOVED: Final = "[removed]"
"""What stands where something of a forgotten person stood."""

WINDOW: Final = 20
"""A passage of so many characters or more that a text has in common with a person's is a repetition of it."""

_WORD: Final = re.compile(r"[\w.:@/+%=~-]+")
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_BLOCK: Final = 5_000
_MOST_ODD: Final = 200


def distinctive(identity: str) -> bool:
    """Whether an id is unlike anything that people write by chance."""
    digits = any(each.isdigit() for each in identity)
    mixed = digits and any(each.isalpha() for each in identity)
    least = 4 if mixed else 8 if digits else 12
    return "@" in identity or len(identity) >= least


@dataclass
class Person:
    """What is looked for: the person's own ids, ids of what they did, and texts that they alone said."""

    user_ids: Sequence[str]
    other_ids: frozenset[str] = frozenset()
    texts: Sequence[str] = ()
    unique: Callable[[str], bool] = lambda passage: True
    _index: NDArray[np.uint64] | None = None
    _words: frozenset[str] = field(default_factory=frozenset)
    _odd: re.Pattern[str] | None = None
    _whole: tuple[str, ...] = ()
    _known: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = [each for each in (*self.user_ids, *self.other_ids) if distinctive(each)]
        plain = {each for each in told if _WORD.fullmatch(each)}
        self._words = frozenset(plain)
        direct = [*self.user_ids, *(each for each in self.other_ids if each not in plain)][:_MOST_ODD]
        spelt = {form for each in direct if distinctive(each) for form in _spellings(each)}
        ordered = sorted(spelt, key=len, reverse=True)
        joined = "|".join(re.escape(each) for each in ordered)
        self._odd = re.compile(rf"(?<!\w)(?:{joined})(?!\w)") if ordered else None
        self._whole = tuple(f'"{form}"' for each in self.user_ids for form in _spellings(each))
        spoken = {form for text in self.texts if len(text) >= WINDOW for form in _spellings(text)}
        hashed = [_hashes(text) for text in spoken]
        self._index = np.unique(np.concatenate(hashed)) if hashed else None

    def removed(self, text: str) -> str:
        """The text without anything of this person; what was JSON stays JSON."""
        new = self._removed(text)
        if new != text and text[:1] in ("{", "[") and _json(new) is None and (value := _json(text)) is not None:
            new = json.dumps(self._cleaned(value), ensure_ascii=False, separators=(",", ":"))
        return new

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._removed(value)
        if isinstance(value, list):
            return [self._cleaned(each) for each in value]
        if isinstance(value, dict):
            return {self._removed(name): self._cleaned(each) for name, each in value.items()}
        return value

    def _removed(self, text: str) -> str:
        for quoted in self._whole:
            text = text.replace(quoted, f'"{REMOVED}"')
        if self._odd is not None:
            text = self._odd.sub(REMOVED, text)
        if self._words:
            text = _WORD.sub(self._word, text)
        return self._without_passages(text)

    def _word(self, found: re.Match[str]) -> str:
        word = found.group()
        bare = word.rstrip(".:,")
        if bare in self._words:
            return REMOVED + word[len(bare) :]
        # An id within a longer word: a path, an address, key=value.
        parts = re.split(r"([/:=%,]+)", word)
        if len(parts) > 1 and any(part in self._words for part in parts):
            return "".join(REMOVED if part in self._words else part for part in parts)
        return word

    def _without_passages(self, text: str) -> str:
        if self._index is None or len(text) < WINDOW:
            return text
        found = _hashes(text)
        # The index is in order: numpy's own isin would hash all of it for each text.
        place = np.minimum(np.searchsorted(self._index, found), self._index.size - 1)
        hits = np.flatnonzero(self._index[place] == found)
        if not hits.size:
            return text
        kept, end = [], 0
        for first, last in _runs(hits):
            passage = text[first : last + WINDOW]
            if first >= end and self._theirs(passage):
                kept.append(text[end:first])
                kept.append(REMOVED)
                end = last + WINDOW
        kept.append(text[end:])
        return "".join(kept)

    def _theirs(self, passage: str) -> bool:
        if passage not in self._known:
            self._known[passage] = self.unique(passage)
        return self._known[passage]


def sweep(connection: duckdb.DuckDBPyConnection, person: Person, tables: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Take the person out of these columns; returns how many cells changed, by table. Call inside a transaction."""
    changed = {}
    for table, columns in tables.items():
        count = sum(_column(connection, person, table, column) for column in columns)
        if count:
            changed[table] = count
    return changed


def in_facts(
    connection: duckdb.DuckDBPyConnection, user_id: str, tables: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Take an id out of other people's texts, where it is distinctive; the engine reads them, not Python."""
    if not distinctive(user_id):
        return {}
    changed: dict[str, int] = {}
    for form in _spellings(user_id):
        escaped = re.sub(r"([^\w])", r"\\\1", form, flags=re.ASCII)
        pattern = rf"(^|[^0-9A-Za-z_]){escaped}($|[^0-9A-Za-z_])"
        params = {"form": form, "pattern": pattern, "to": rf"\1{REMOVED}\2"}
        for table, columns in tables.items():
            held = " OR ".join(f"contains({column}, $form)" for column in columns)
            if not connection.execute(f"SELECT 1 FROM {table} WHERE {held} LIMIT 1", {"form": form}).fetchall():
                continue
            for column in columns:
                where = f"contains({column}, $form) AND regexp_matches({column}, $pattern)"
                # Twice: two in a row share the character between them.
                new = f"regexp_replace(regexp_replace({column}, $pattern, $to, 'g'), $pattern, $to, 'g')"
                rows = connection.execute(f"UPDATE {table} SET {column} = {new} WHERE {where}", params).fetchall()
                if rows[0][0]:
                    changed[table] = changed.get(table, 0) + int(rows[0][0])
    return changed


def passages(texts: Iterable[str | None]) -> list[str]:
    """Texts that are long enough to be recognised, each once."""
    return list(dict.fromkeys(text for text in texts if text is not None and len(text) >= WINDOW))


def _column(connection: duckdb.DuckDBPyConnection, person: Person, table: str, column: str) -> int:
    after, count = -1, 0
    while True:
        rows: list[Any] = connection.execute(
            f"""SELECT rowid, {column} FROM {table} WHERE rowid > $after AND {column} IS NOT NULL
            ORDER BY rowid LIMIT $most""",
            {"after": after, "most": _BLOCK},
        ).fetchall()
        if not rows:
            return count
        after = rows[-1][0]
        for row, text in rows:
            new = person.removed(text)
            if new == text and text in person.user_ids:
                new = REMOVED
            if new != text:
                connection.execute(f"UPDATE {table} SET {column} = $new WHERE rowid = $row", {"new": new, "row": row})
                count += 1


def _json(text: str) -> Any:
    """The value of a JSON text; None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _spellings(identity: str) -> list[str]:
    """An id as it is, and as JSON writes it."""
    forms = [identity, json.dumps(identity, ensure_ascii=False)[1:-1], json.dumps(identity)[1:-1]]
    return list(dict.fromkeys(forms))


def _hashes(text: str) -> NDArray[np.uint64]:
    """A hash of every `WINDOW` characters in a row (polynomial, modulo 2^64)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if codes.size < WINDOW:
        return np.empty(0, dtype=np.uint64)
    hashed = np.zeros(codes.size - WINDOW + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(WINDOW):
            hashed = hashed * _FACTOR + (codes[place : codes.size - WINDOW + 1 + place] + np.uint64(1))
    return hashed


def _runs(places: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    breaks = np.flatnonzero(np.diff(places) > 1)
    firsts = np.concatenate([places[:1], places[breaks + 1]])
    lasts = np.concatenate([places[breaks], places[-1:]])
    return [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]
