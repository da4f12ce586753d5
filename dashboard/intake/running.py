"""Loads that wait, run or have just ended, refreshed every second while one is under way."""

import streamlit as st

from dashboard.runtime import Runtime
from pipelines.ingest.loads import LoadStatus

_PHASES = {"reading": "Reading and checking", "publishing": "Storing"}


def running_panel(runtime: Runtime) -> None:
    """Progress of the loads of this browser session and of any other that is under way."""
    started: dict[str, str] = st.session_state.setdefault("data_started", {})
    statuses = [status for load in started.values() if (status := runtime.loads.status(load)) is not None]
    known = {status.load_id for status in statuses}
    statuses += [status for status in runtime.loads.active() if status.load_id not in known]
    if not statuses:
        return
    active = any(status.state in ("queued", "running") for status in statuses)

    @st.fragment(run_every="1s" if active else None)
    def live() -> None:
        for status in statuses:
            _status(runtime, status)
        if active and not any(status.state in ("queued", "running") for status in statuses):
            st.rerun()

    live()


def _status(runtime: Runtime, status: LoadStatus) -> None:
    with st.container(border=True):
        name, action = st.columns([5, 1], vertical_alignment="center")
        name.text(status.file)
        if status.state == "queued":
            name.caption("Waiting for the load before it.")
        elif status.state == "running":
            _progress(status)
        elif status.state == "done" and status.report is not None:
            report = status.report
            st.success(
                f"{report.received:,} records = {report.accepted:,} accepted + {report.duplicate:,} duplicate "
                f"+ {report.rejected:,} rejected: {report.traces:,} new traces, {report.spans:,} spans, "
                f"{report.signals:,} signals in {report.seconds:.1f} s.",
                icon=":material/check_circle:",
            )
        else:
            st.error(status.error or f"The load was {status.state}.", icon=":material/error:")
        if status.state in ("queued", "running"):
            action.button(
                "Cancel",
                key=f"data_cancel_{status.load_id}",
                on_click=runtime.loads.cancel,
                args=(status.load_id,),
                width="stretch",
            )


def _progress(status: LoadStatus) -> None:
    progress = status.progress
    if progress is None:
        st.progress(0.0, text="Opening the file")
        return
    if progress.phase == "reading":
        share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
    else:
        share = progress.slices_done / progress.slices_total if progress.slices_total else 0.0
    st.progress(min(1.0, share), text=f"{_PHASES[progress.phase]}: {progress.received:,} records")
