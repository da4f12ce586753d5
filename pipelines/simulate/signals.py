"""The frame of signals that all kinds of feedback share, and what each of them needs to know about the traces."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate.arrays import Bools, Ints, Texts
from pipelines.simulate.outcomes import World
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.sessions import DAY_MS, Sessions
from pipelines.simulate.spans import moments

__all__ = ["SIGNAL_SCHEMA", "Scene"]

SIGNAL_SCHEMA = pl.Schema(
    {
        "signal_id": pl.String(),
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "session_id": pl.String(),
        "user_id": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "item": pl.String(),
        "value": pl.Float64(),
        "text": pl.String(),
        "position": pl.Int64(),
        "propensity": pl.Float64(),
        "solicited": pl.Boolean(),
        "annotator_kind": pl.String(),
        "annotator_id": pl.String(),
        "occurred_at": pl.Datetime("us", "UTC"),
        "metadata": pl.String(),
    }
)


@dataclass(frozen=True)
class Scene:
    """The traces as feedback sees them, with their places in time (milliseconds since the start of the period)."""

    world: World
    sessions: Sessions
    rollouts: Rollouts
    start_ms: Ints
    end_ms: Ints

    @property
    def until_ms(self) -> int:
        """End of the period: what happens later is not in the files."""
        return self.world.config.days * DAY_MS

    def agent(self, index: int) -> Bools:
        """Which traces are one agent's."""
        return np.asarray(self.rollouts.context.agent == index)

    def users(self, rows: Ints) -> list[str]:
        """User ids of the traces at `rows`."""
        return [self.world.people.user_id[user] for user in self.rollouts.context.user[rows].tolist()]

    def session_ids(self, rows: Ints) -> list[str]:
        """Session ids of the traces at `rows`."""
        return [self.sessions.session_id[session] for session in self.rollouts.session[rows].tolist()]

    def signals(self, rows: Ints, kind: str, at_ms: Ints, *, by_session: bool = False, **columns: Any) -> pl.DataFrame:
        """Signals of one kind on the traces at `rows`, at `at_ms`; other columns by name, scalar or one per row.

        `by_session` leaves out the trace id, as systems do that only know the session. Later than the period is cut.
        """
        frame = pl.DataFrame(
            {
                "trace_id": pl.Series(
                    [None if by_session else self.rollouts.trace_id[row] for row in rows.tolist()], dtype=pl.String
                ),
                "session_id": pl.Series(self.session_ids(rows), dtype=pl.String),
                "user_id": pl.Series(self.users(rows), dtype=pl.String),
                "occurred_at": moments(self.world, at_ms),
                "in_period": at_ms < self.until_ms,
            }
        )
        return conform(frame.with_columns(pl.lit(kind).alias("kind"), *columns_of(columns)).filter("in_period"))


def columns_of(columns: dict[str, Any]) -> list[pl.Series | pl.Expr]:
    """Columns of the signal schema from scalars, lists and arrays."""
    made: list[pl.Series | pl.Expr] = []
    for name, value in columns.items():
        if isinstance(value, list | np.ndarray):
            made.append(
                pl.Series(name, value if isinstance(value, list) else value.tolist(), dtype=SIGNAL_SCHEMA[name])
            )
        else:
            made.append(pl.lit(value, dtype=SIGNAL_SCHEMA[name]).alias(name))
    return made


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of the signal layout in order; what a kind does not have is null."""
    present = set(frame.columns)
    return frame.select(
        pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in SIGNAL_SCHEMA.items()
    )


def objects(texts: list[str]) -> Texts:
    """Texts as an array to be indexed by arrays."""
    return np.array(texts, dtype=np.object_)
