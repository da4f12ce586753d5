"""The first records of a file as they will be stored, and those that will be rejected, with the reason."""

from typing import Final

import streamlit as st

from dashboard.intake.tables import height, shown
from dashboard.ui import format as fmt
from pipelines.ingest.inspection import Inspection

__all__ = ["preview"]

_KINDS: Final = {"trace_records": "Traces", "spans": "Spans", "signals": "Signals"}
_ROWS: Final = 50

_TIMES: Final = {
    name: st.column_config.DatetimeColumn(name, format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140)
    for name in ("started_at", "ended_at", "occurred_at")
}


def preview(inspection: Inspection) -> None:
    """A tab for each table that the file fills, and one for rejects."""
    tables = [(_KINDS[kind], rows) for kind, rows in inspection.previews.items()]
    if inspection.rejects.height:
        rejects = inspection.rejects.rename({"record_no": "record"})
        tables.append(("Rejected", rejects.select("record", "line", "column", "reason", "raw")))
    if not tables:
        return
    for tab, (label, rows) in zip(st.tabs([label for label, _ in tables]), tables, strict=True):
        with tab:
            if label == "Rejected":
                st.caption("They are kept: after loading, download them, repair them, and send them again.")
            filled = [name for name in rows.columns if rows[name].null_count() < rows.height]
            st.dataframe(
                shown(rows.select(filled).head(_ROWS)),
                hide_index=True,
                height=height(min(rows.height, _ROWS)),
                placeholder="",
                column_config=fmt.columns(_TIMES),
                alt=f"{label} of the first records",
            )
            if rows.height > _ROWS:
                st.caption(f"The first {_ROWS} are listed.")
