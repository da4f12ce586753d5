"""What is taken out of texts before they are stored, by source; '*' is what holds for sources without an entry.

One process holds the store, so what is read here is kept until it is changed here.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare

__all__ = ["EVERY_SOURCE", "NOTHING", "RULES", "Rules", "listed", "of", "put", "remove"]

EVERY_SOURCE: Final = "*"
RULES: Final = declare(
    {
        "source": pl.String, "builtins": pl.List(pl.String), "patterns": pl.String, "set_by": pl.String,
        "set_at": UTC_TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """What is redacted: names of built-in rules, and own patterns as (name, regular expression)."""

    builtins: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is redacted at all."""
        return bool(self.builtins or self.patterns)


NOTHING: Final = Rules()
_known: WeakKeyDictionary[Store, dict[str, Rules]] = WeakKeyDictionary()
_changing = threading.Lock()


def of(store: Store, source: str) -> Rules:
    """What holds for data of a source."""
    held = _known.get(store)
    if held is None:
        # Held while reading, so that what is read before a change is not kept after it.
        with _changing:
            held = {row["source"]: _rules(row) for row in listed(store).iter_rows(named=True)}
            _known[store] = held
    return held.get(source) or (NOTHING if source in held else held.get(EVERY_SOURCE, NOTHING))


def listed(store: Store) -> pl.DataFrame:
    """Every entry (columns `RULES`), by source."""
    with store.read() as reader:
        return reader.frame(f"SELECT {', '.join(RULES)} FROM redaction_settings ORDER BY source", RULES)


def put(store: Store, source: str, rules: Rules, *, by: str) -> None:
    """Set what is redacted of a source, '*' for all others; for what comes from now on.

    Patterns must have been checked (`pipelines.privacy.redaction.checked`). Raises: `ActionRefused` without a person.
    """
    audit.person("Set redaction", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        before = _held(connection, source)
        connection.execute("DELETE FROM redaction_settings WHERE source = $source", {"source": source})
        connection.execute(
            "INSERT INTO redaction_settings VALUES ($source, $builtins, $patterns, $by, $now)",
            {
                "source": source, "builtins": list(rules.builtins), "by": by, "now": now,
                "patterns": _encoded(rules.patterns),
            },
        )  # fmt: skip
        detail = {"before": _told(before), "after": _told(rules)}
        audit.append(connection, now, by, "redaction set", f"source {source}", detail)

    _change(store, work)


def remove(store: Store, source: str, *, by: str) -> None:
    """Take back the entry of a source, which then has that of '*'. Raises: `NotFound`, `ActionRefused`."""
    audit.person("Set redaction", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        before = _held(connection, source)
        if before is None:
            raise NotFound("redaction of source", source)
        connection.execute("DELETE FROM redaction_settings WHERE source = $source", {"source": source})
        detail = {"before": _told(before), "after": None}
        audit.append(connection, store.clock.now(), by, "redaction remove", f"source {source}", detail)

    _change(store, work)


def _change(store: Store, work: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
    with _changing:
        store.write(work)
        _known.pop(store, None)


def _held(connection: duckdb.DuckDBPyConnection, source: str) -> Rules | None:
    rows = connection.execute(
        "SELECT builtins, patterns FROM redaction_settings WHERE source = $source", {"source": source}
    ).fetchall()
    return _rules({"builtins": rows[0][0], "patterns": rows[0][1]}) if rows else None


def _rules(row: dict[str, object]) -> Rules:
    patterns = tuple((each["name"], each["pattern"]) for each in json.loads(str(row["patterns"])))
    builtins = row["builtins"]
    return Rules(tuple(builtins) if isinstance(builtins, list) else (), patterns)


def _encoded(patterns: Sequence[tuple[str, str]]) -> str:
    return json.dumps([{"name": name, "pattern": pattern} for name, pattern in patterns], ensure_ascii=False)


def _told(rules: Rules | None) -> dict[str, object] | None:
    if rules is None:
        return None
    return {"builtins": list(rules.builtins), "patterns": dict(rules.patterns)}
