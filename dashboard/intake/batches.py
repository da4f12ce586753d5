"""What was loaded: the list of batches, one of which is described below it."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard.intake.batch_report import report_panel
from dashboard.intake.guidance import STATES
from dashboard.intake.places import BATCH
from dashboard.intake.tables import height
from dashboard.runtime import Runtime
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import batches

__all__ = ["batches_panel"]

_TABLE: Final = "data_batches"
_VERSION: Final = "data_batches_version"
_LISTED: Final = 500

_COLUMNS: Final = {
    "batch_id": st.column_config.NumberColumn("Batch", width=56, pinned=True, format="%d"),
    "file_name": st.column_config.TextColumn("File", width=190),
    "state": st.column_config.TextColumn("State", width=66),
    "received_at": st.column_config.DatetimeColumn("At (UTC)", format="MM-DD HH:mm:ss", timezone="UTC", width=112),
    "received": st.column_config.NumberColumn("Received", width=72, format="localized"),
    "accepted": st.column_config.NumberColumn("Accepted", width=72, format="localized"),
    "duplicate": st.column_config.NumberColumn("Duplicate", width=74, format="localized"),
    "rejected": st.column_config.NumberColumn("Rejected", width=70, format="localized"),
    "traces": st.column_config.NumberColumn("Traces", width=66, format="localized", help="New traces."),
    "spans": st.column_config.NumberColumn("Spans", width=66, format="localized", help="New spans."),
    "signals": st.column_config.NumberColumn("Signals", width=66, format="localized", help="New signals."),
    "source": st.column_config.TextColumn("Source", width=88),
}


def batches_panel(runtime: Runtime) -> None:
    """The table of batches; the one that the URL names as `batch`, else the latest, is described below it."""
    frame = batches.recent(runtime.store, limit=_LISTED)
    if frame.is_empty():
        states.nothing("Nothing was loaded yet", "Send a file on the Upload tab, or put one into the inbox folder.")
        return
    numbers: list[int] = frame["batch_id"].to_list()
    rejecting = int((frame["rejected"] > 0).sum())
    st.caption(
        f"{'The latest ' if len(numbers) == _LISTED else ''}{fmt.plural(len(numbers), 'batch', 'batches')}, "
        f"{rejecting:,} with rejected records."
    )
    table = st.container()
    chosen = st.selectbox("Batch to look at", numbers, key=BATCH, bind="query-params", width=180)
    # A browser may send anything.
    batch_id = chosen if chosen in numbers else numbers[0]
    with table:
        _table(frame, numbers, numbers.index(batch_id))
        export.download(frame.drop("staging_dir", strict=False), "batches", "batches-export")
    report_panel(runtime.store, batch_id)


def _table(frame: pl.DataFrame, numbers: list[int], place: int) -> None:
    """The batches with the one at `place` selected; selecting another one opens it."""
    version = st.session_state.setdefault(_VERSION, 0)
    held: Any = st.session_state.get(f"{_TABLE}_{version}")
    if held is not None and held["selection"]["rows"] != [place]:
        # Chosen elsewhere: only a new table takes another selection.
        version = st.session_state[_VERSION] = version + 1
    st.dataframe(
        _rows(frame),
        key=f"{_TABLE}_{version}",
        hide_index=True,
        on_select=lambda: _choose(f"{_TABLE}_{version}", numbers),
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        height=height(frame.height),
        placeholder="",
        column_config=fmt.columns(_COLUMNS),
        alt="Batches with what became of their records",
    )


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    names = [one_line(name, 80) for name in frame["file_name"].to_list()]
    state = pl.col("state").replace_strict(STATES, default=pl.col("state"))
    return frame.with_columns(file_name=pl.Series(names, dtype=pl.String), state=state).select(*_COLUMNS)


def _choose(key: str, numbers: list[int]) -> None:
    """Open the batch that was selected; `numbers` are those of the table that the operator saw."""
    event: Any = st.session_state[key]
    rows = event["selection"]["rows"]
    if rows and rows[0] < len(numbers):
        st.session_state[BATCH] = numbers[rows[0]]
