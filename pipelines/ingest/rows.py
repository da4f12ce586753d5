"""What one source record becomes: rows for the three fact tables, keyed by their column names.

Importers of nested formats (chat, tau-bench, Langfuse) are functions from one record to `Rows`; a record that cannot be
understood raises `RecordRejected` and becomes one line of the reject file while the rest of the file goes on.
"""

from dataclasses import dataclass, field
from typing import Any

from store.errors import RecordRejected

__all__ = ["RecordRejected", "Row", "Rows"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of one source record: keys are columns of `trace_records`, `spans` and `signals`; absent means null.

    Times are aware UTC datetimes; `metadata`, `attributes` and `links` are Python objects that JSON can hold.
    """

    traces: list[Row] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)
    signals: list[Row] = field(default_factory=list)
