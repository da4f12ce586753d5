"""Rewards that a test gives to traces, as a reward model in use would have."""

import duckdb
import polars as pl

from store.connection import Store


def give(store: Store, rewards: pl.DataFrame) -> None:
    """Version 1 with these rewards (trace_id, mean), each with an sd of .1 and one signal, is in use."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            "INSERT INTO reward_models VALUES (1, 'test', $now, 1, $n, $n, '{}', 'test', true)",
            {"now": store.clock.now(), "n": rewards.height},
        )
        connection.register("fresh", rewards)
        connection.execute(
            """INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals)
            SELECT trace_id, 1, mean, 0.1, 1 FROM fresh"""
        )
        connection.unregister("fresh")

    store.write(work)
