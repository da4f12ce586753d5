"""Traces in ranges of their ids: what looks at the steps of all traces does so a range at a time.

The engine may use little memory beside what agents send, and the sorts and joins over ten million spans at once need
more than that.
"""

from dataclasses import dataclass

import polars as pl

__all__ = ["TRACES_AT_ONCE", "TraceRange", "trace_ranges"]

TRACES_AT_ONCE = 200_000


@dataclass(frozen=True)
class TraceRange:
    """The traces from `first` to `last`, both among them; before them in the list come `start` others."""

    start: int
    first: str
    last: str

    @property
    def params(self) -> dict[str, object]:
        """What a query takes that reads `trace_id BETWEEN $first AND $last`."""
        return {"first": self.first, "last": self.last}


def trace_ranges(ids: pl.Series, most: int = TRACES_AT_ONCE) -> list[TraceRange]:
    """Ranges that hold each of `ids` once, `most` in each; none where there are no ids.

    Args: `ids` as the engine orders texts, by their bytes.
    """
    return [TraceRange(start, ids[start], ids[min(start + most, len(ids)) - 1]) for start in range(0, len(ids), most)]
