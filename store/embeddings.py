"""Embeddings of the texts of lessons: what was embedded once is not sent again, and is compared where it lies.

Which model is in use is written down by the job that asks it (`State`), so that pages need not know the settings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.connection import Store
from store.frames import UTC_TIME, declare, packed, texts_in

__all__ = [
    "METHOD", "TEXT", "State", "content_hash", "cosines", "keep", "kept", "latest", "missing", "note", "origin_of",
    "prune", "state", "text_of",
]  # fmt: skip

METHOD: Final = "embeddings"
"""What the comparison of texts by their vectors is called."""

TEXT: Final = "(v.title || chr(10) || v.when_text || chr(10) || v.do_text)"
"""The text of a lesson that is compared, of a row v of lesson_versions; `text_of` says the same."""

_COMPARED: Final = ("proposed", "approved", "canary", "active")
_KEPT: Final = pl.Schema({"content_hash": pl.String(), "vector": pl.List(pl.Float32())})
_COSINES: Final = pl.Schema({"lesson_id": pl.String(), "cosine": pl.Float64()})
_TEXTS: Final = pl.Schema({"text": pl.String()})
_STATE: Final = declare(
    {
        "origin": pl.String, "model": pl.String, "failures": pl.Int32, "tried_at": UTC_TIME, "error": pl.String,
    }
)  # fmt: skip
_DIGITS: Final = 9


@dataclass(frozen=True)
class State:
    """The model that is in use for embeddings; `failures` in a row since it last answered, the last one `error`."""

    origin: str
    model: str
    failures: int
    tried_at: datetime
    error: str | None


def origin_of(address: str, model: str) -> str:
    """Where vectors come from: only those of one origin can be compared."""
    return sha256(f"{address}\n{model}".encode()).hexdigest()[:16]


def text_of(title: str, when_text: str, do_text: str) -> str:
    """The text of a lesson that is compared."""
    return f"{title}\n{when_text}\n{do_text}"


def content_hash(text: str) -> str:
    """By what the vector of a text is kept: what SQL calls sha256(text)."""
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def kept(store: Store, origin: str, hashes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors that are kept, by the hash of their text."""
    with store.read() as reader:
        found = reader.frame(
            f"""SELECT content_hash, any_value(vector) AS vector FROM lesson_embeddings
            WHERE origin = $origin AND content_hash IN (SELECT {texts_in("hashes")}) GROUP BY content_hash""",
            _KEPT,
            {"origin": origin, "hashes": packed(hashes)},
        )
    return {name: vector.to_numpy() for name, vector in zip(found["content_hash"], found["vector"], strict=True)}


def keep(store: Store, origin: str, call_id: int, vectors: Mapping[str, Sequence[float]]) -> None:
    """Keep vectors by the hashes of their texts, as brought by a call."""
    now = store.clock.now()
    fresh = pl.DataFrame(
        {"content_hash": list(vectors), "vector": [list(vector) for vector in vectors.values()]}, schema=_KEPT
    )

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("fresh_vectors", fresh)
        try:
            connection.execute(
                """INSERT INTO lesson_embeddings
                SELECT $origin, content_hash, vector, $call, $now FROM fresh_vectors AS f
                WHERE NOT EXISTS (FROM lesson_embeddings AS e
                    WHERE e.origin = $origin AND e.content_hash = f.content_hash)""",
                {"origin": origin, "call": call_id, "now": now},
            )
        finally:
            connection.unregister("fresh_vectors")

    store.write(work)


def missing(store: Store, origin: str, most: int) -> list[str]:
    """Texts of lessons that wait or are served and have no vector of this origin, at most so many."""
    with store.read() as reader:
        found = reader.frame(
            f"""SELECT DISTINCT {TEXT} AS text FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
            WHERE list_contains($states, l.state) AND sha256({TEXT}) NOT IN (
                SELECT content_hash FROM lesson_embeddings WHERE origin = $origin)
            ORDER BY text LIMIT $most""",
            _TEXTS,
            {"states": list(_COMPARED), "origin": origin, "most": most},
        )
    return found["text"].to_list()


def cosines(store: Store, origin: str, text: str) -> dict[str, float] | None:
    """The cosines, from 0, of a text with all lessons that wait or are served and have vectors; None: it has none.

    A vector of length 0 is like nothing; vectors of other lengths than the text's are left out.
    """
    with store.read() as reader:
        found = reader.frame(
            f"""WITH own AS MATERIALIZED (
                SELECT any_value(vector) AS vector FROM lesson_embeddings
                WHERE origin = $origin AND content_hash = $hash HAVING count(*) > 0
            ), library AS MATERIALIZED (
                SELECT l.lesson_id, sha256({TEXT}) AS content_hash
                FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
                WHERE list_contains($states, l.state)
            )
            SELECT NULL AS lesson_id, NULL AS cosine FROM own
            UNION ALL
            SELECT n.lesson_id, list_cosine_similarity(e.vector, own.vector)::DOUBLE AS cosine
            FROM library AS n JOIN lesson_embeddings AS e ON e.origin = $origin AND e.content_hash = n.content_hash
            JOIN own ON len(own.vector) = len(e.vector)""",
            _COSINES,
            {"origin": origin, "hash": content_hash(text), "states": list(_COMPARED)},
        )
    if found.is_empty():
        return None
    rows = found.drop_nulls("lesson_id").iter_rows()
    # The engine gives -1 for a vector of length 0, and opposite meanings are as unlike as different ones.
    return {name: max(round(cosine, _DIGITS), 0.0) if math.isfinite(cosine) else 0.0 for name, cosine in rows}


def prune(connection: duckdb.DuckDBPyConnection, origin: str | None = None) -> int:
    """Delete vectors of texts that are no lesson's newest version, and of every other origin where one is named.

    Call inside a transaction; returns how many went.
    """
    rows = connection.execute(
        f"""DELETE FROM lesson_embeddings WHERE ($origin IS NOT NULL AND origin <> $origin)
            OR content_hash NOT IN (
                SELECT sha256({TEXT}) FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version))""",
        {"origin": origin},
    ).fetchall()
    return int(rows[0][0])


def latest(store: Store, origin: str) -> datetime | None:
    """When the newest vector of an origin was made; None: it has none."""
    with store.read() as reader:
        found = reader.frame(
            "SELECT max(made_at) AS at FROM lesson_embeddings WHERE origin = $origin",
            declare({"at": UTC_TIME}),
            {"origin": origin},
        )
    moment: datetime | None = found["at"][0]
    return moment


def state(store: Store) -> State | None:
    """The model that is in use; None when none is configured, or the job has not seen it yet."""
    with store.read() as reader:
        found = reader.frame(
            f"SELECT {', '.join(_STATE.names())} FROM embedding_state ORDER BY tried_at DESC LIMIT 1", _STATE
        )
    return State(**found.row(0, named=True)) if found.height else None


def note(connection: duckdb.DuckDBPyConnection, now: State | None) -> None:
    """Write down which model is in use and how it fares; None: none is. Call inside a transaction.

    Vectors of other models go.
    """
    connection.execute("DELETE FROM embedding_state")
    if now is None:
        connection.execute("DELETE FROM lesson_embeddings")
        return
    connection.execute(
        "INSERT INTO embedding_state VALUES ($origin, $model, $failures, $tried, $error)",
        {
            "origin": now.origin, "model": now.model, "failures": now.failures, "tried": now.tried_at,
            "error": now.error,
        },
    )  # fmt: skip
    prune(connection, now.origin)
