"""What one user wrote over time, one text a session, as the metric of texts compares it."""

import polars as pl

from store.connection import Store
from store.drift_events import WORDS, sessions
from store.frames import UTC_TIME, declare

__all__ = ["TEXTS", "of_user"]

TEXTS = declare({"occurred_at": UTC_TIME, "text": pl.String})


def of_user(store: Store, user_id: str, *, limit: int, timeout: float | None = None) -> pl.DataFrame:
    """The user's newest sessions in order of time (columns `TEXTS`). Raises: `QueryTimeout`."""
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT occurred_at, category AS text FROM (
                SELECT *, row_number() OVER (ORDER BY occurred_at DESC, agent, block) AS place
                FROM ({sessions(WORDS, "{user} = $user", of_one=True)}))
            WHERE place <= $limit ORDER BY place DESC""",
            TEXTS,
            {"user": user_id, "limit": limit},
        )
