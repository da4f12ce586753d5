"""Embeddings of texts, kept among the answers of the model: what was embedded once is not sent again."""

import json
from collections.abc import Mapping, Sequence

import duckdb
import polars as pl

from store.connection import Store

__all__ = ["keep", "kept"]

_KEPT = pl.Schema({"content_hash": pl.String(), "answer": pl.String()})


def kept(store: Store, hashes: Sequence[str]) -> dict[str, list[float]]:
    """The embeddings that are kept, by the hash of address, model and text."""
    with store.read() as reader:
        found = reader.frame(
            "SELECT content_hash, any_value(answer) AS answer FROM llm_answers "
            "WHERE content_hash IN (SELECT unnest($hashes::VARCHAR[])) GROUP BY content_hash",
            _KEPT,
            {"hashes": list(hashes)},
        )
    return {name: json.loads(answer)["embedding"] for name, answer in found.iter_rows()}


def keep(store: Store, call_id: int, model: str, embedded: Mapping[str, Sequence[float]]) -> None:
    """Keep embeddings by their hashes, as answers of a call."""
    now = store.clock.now()

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for content_hash, vector in embedded.items():
            connection.execute(
                "INSERT INTO llm_answers VALUES ($hash, $answer, $model, $now, $call)",
                {
                    "hash": content_hash, "answer": json.dumps({"embedding": list(vector)}), "model": model,
                    "now": now, "call": call_id,
                },
            )  # fmt: skip

    store.write(work)
