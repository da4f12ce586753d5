"""Verdicts and labels as signals: written like live data of the source `trimtab`, so that every law of facts holds.

The id of a verdict is made of the rubric and of what is judged: a later version's verdict takes the place of an earlier
one, which is kept among the superseded signals. The id of a label is made of the rubric, the trace and the operator.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from pipelines.ingest.rows import Row
from pipelines.ingest.tables import table_of
from store import live
from store.connection import Store
from store.errors import ActionRefused
from store.judged import OWN_SOURCE
from store.live import LiveRows
from store.rubrics import Rubric

__all__ = ["label", "publish", "verdict_row"]

_SEPARATOR: Final = "\x1f"


def verdict_row(
    rubric: Rubric,
    *,
    subject_id: str,
    trace_id: str | None,
    span_id: str | None,
    score: float,
    reason: str,
    model: str,
    judged_at: datetime,
    probability: float,
    metadata: dict[str, Any],
    user_id: str | None = None,
    session_id: str | None = None,
) -> Row:
    """The signal of a verdict. `probability` is that with which the subject was chosen to be judged."""
    return {
        "signal_id": _identity("judge", rubric.rubric, rubric.subject, subject_id),
        "trace_id": trace_id,
        "span_id": span_id,
        "session_id": session_id,
        "user_id": user_id,
        "kind": "judge",
        "name": rubric.rubric,
        "value": score,
        "text": reason or None,
        "propensity": probability,
        "annotator_kind": "llm",
        "annotator_id": model,
        "occurred_at": judged_at,
        "source": OWN_SOURCE,
        "metadata": {"rubric_version": rubric.version, **metadata},
    }


def publish(store: Store, rows: Sequence[Row]) -> None:
    """Write signals; those that are held already change nothing."""
    if not rows:
        return
    table = table_of("signals", list(enumerate(rows)))
    table = table.append_column("file_row_number", pa.array(range(table.num_rows), pa.int64()))
    live.commit(store, [LiveRows(OWN_SOURCE, {"signals": table}, len(rows))])


def label(
    store: Store, rubric: Rubric, trace_id: str, *, value: float, probability: float | None, operator: str
) -> None:
    """Keep what an operator says of a trace by a rubric, as an annotation; a later label by the same operator counts.

    Args: `value` from 0 to 1; `probability` with which the operator was asked for this one, None when nobody asked.
    Raises: `ActionRefused` for a value outside; `StoreError`.
    """
    if not 0 <= value <= 1:
        raise ActionRefused("Labelling", f"the value is {value:g}.", "Expected a number from 0 to 1.")
    row: Row = {
        "signal_id": _identity("label", rubric.rubric, trace_id, operator),
        "trace_id": trace_id,
        "kind": "annotation",
        "name": rubric.rubric,
        "value": value,
        "propensity": probability,
        "solicited": probability is not None,
        "annotator_kind": "operator",
        "annotator_id": operator,
        "occurred_at": store.clock.now(),
        "source": OWN_SOURCE,
        "metadata": {"rubric_version": rubric.version},
    }
    publish(store, [row])


def _identity(*parts: str) -> str:
    return hashlib.md5(_SEPARATOR.join(("trimtab", *parts)).encode(), usedforsecurity=False).hexdigest()
