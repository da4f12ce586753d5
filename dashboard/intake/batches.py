"""What was loaded: batches, the report of one, its rejects and the file to repair them with."""

import json
from typing import Any

import polars as pl
import streamlit as st

from dashboard.runtime import Runtime
from pipelines.ingest.repair import rejects_file
from store import batches

_SHOWN = 200
_STATES = {
    "staging": "reading",
    "publishing": "storing",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


def batches_panel(runtime: Runtime) -> None:
    """The table of batches; the chosen one is described below it and kept in the URL as `batch`."""
    frame = batches.recent(runtime.store, limit=500)
    if frame.is_empty():
        st.info("Nothing was loaded yet. Send a file on the Upload tab.", icon=":material/inbox:")
        return
    numbers = frame["batch_id"].to_list()
    event: Any = st.dataframe(
        _table(frame),
        key="data_batches",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=min(380, 36 * (frame.height + 1)),
        column_config={
            "received at": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
        },
    )
    chosen = event.selection.rows
    if chosen:
        st.query_params["batch"] = str(numbers[chosen[0]])
    batch_id = _stated(numbers)
    if batch_id is None:
        st.caption("Choose a batch to see its report and its rejects.")
        return
    _report(runtime, batch_id)


def _stated(numbers: list[int]) -> int | None:
    stated = st.query_params.get("batch", "")
    if stated.isdecimal() and int(stated) in numbers:
        return int(stated)
    return None


def _table(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(
        pl.col("batch_id").alias("batch"),
        pl.col("file_name").alias("file"),
        pl.col("source"),
        pl.col("format"),
        pl.col("state").replace_strict(_STATES, default=pl.col("state")),
        "received",
        "accepted",
        "duplicate",
        "rejected",
        pl.col("traces").alias("new traces"),
        "spans",
        "signals",
        pl.col("received_at").alias("received at"),
    )


def _report(runtime: Runtime, batch_id: int) -> None:
    batch = batches.one(runtime.store, batch_id)
    st.subheader(f"Batch {batch_id}")
    st.text(batch["file_name"])
    if batch["error"]:
        st.error(batch["error"], icon=":material/error:")
    columns = st.columns(4)
    for column, name in zip(columns, ("received", "accepted", "duplicate", "rejected"), strict=True):
        column.metric(name, f"{batch[name]:,}")
    holds = batch["received"] == batch["accepted"] + batch["duplicate"] + batch["rejected"]
    st.caption(
        "Conservation: received = accepted + duplicate + rejected "
        + ("holds." if holds else "does NOT hold: report this as a defect.")
    )
    if batch["fidelity"]:
        _fidelity(json.loads(batch["fidelity"]))
    if batch["rejected"]:
        _rejects(runtime, batch_id, batch["rejected"])


def _fidelity(report: dict[str, Any]) -> None:
    """What was kept, where unknown columns went, what was guessed, what is missing."""
    with st.expander("Fidelity report", expanded=True):
        st.markdown(f"**{report['format']}.** {report['why']}")
        times = (
            f"Times from {report['first_time']} to {report['last_time']}."
            if report["first_time"]
            else "The file states no times: traces are placed when they were received."
        )
        without = report["without_time"]
        st.caption(times + (f" {without:,} rows have no time." if without and report["first_time"] else ""))
        rows = [
            {"table": kind, "column": column, "values": count, "share": count / report["rows"][kind]}
            for kind, kept in report["kept"].items()
            for column, count in kept.items()
        ]
        left, right = st.columns(2)
        left.caption("Columns filled")
        left.dataframe(
            pl.DataFrame(
                rows, schema={"table": pl.String, "column": pl.String, "values": pl.Int64, "share": pl.Float64}
            ),
            hide_index=True,
            height=260,
            column_config={"share": st.column_config.ProgressColumn("of rows", format="percent", max_value=1.0)},
        )
        right.caption("Unknown columns, kept as they are" if report["extras"] else "No unknown columns")
        if report["extras"]:
            right.dataframe(
                pl.DataFrame(
                    {"column": list(report["extras"]), "kept in": list(report["extras"].values())},
                ),
                hide_index=True,
                height=120,
            )
        if report["guessed"]:
            right.caption("Guessed")
            right.dataframe(pl.DataFrame(report["guessed"]), hide_index=True, height=200)


def _rejects(runtime: Runtime, batch_id: int, count: int) -> None:
    st.markdown(f"**{count:,} rejected records**")
    reasons = batches.reject_reasons(runtime.store, batch_id)
    st.dataframe(reasons, hide_index=True, height=min(220, 36 * (reasons.height + 1)))
    rows = batches.rejects(runtime.store, batch_id, limit=_SHOWN)
    with st.expander(f"The first {rows.height:,} of them"):
        st.dataframe(rows, hide_index=True, height=300)
    name, content = rejects_file(runtime.store, batch_id)
    st.download_button(
        "Download the rejects to repair them",
        data=content,
        file_name=name,
        key="data_rejects_download",
        icon=":material/build:",
        on_click="ignore",
        help="The records as they came. Repair the file and send it again from the same source.",
    )
