"""Loads that wait, run or have just ended, refreshed every second while one is under way."""

from typing import Final

import streamlit as st

from dashboard.access import gate, offer
from dashboard.intake.places import open_batch, open_tab
from dashboard.learn.actions import perform, show_report
from dashboard.runtime import Runtime
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe, one_line
from pipelines.ingest.load import BatchReport
from pipelines.ingest.loads import LoadStatus

__all__ = ["running_panel"]

_UNDER_WAY: Final = ("queued", "running")
_CLEARED: Final = "data_cleared"


def running_panel(runtime: Runtime, started: dict[str, str]) -> None:
    """Progress of the loads that this browser session `started` (load ids by file), and of any other under way."""
    cleared: set[str] = st.session_state.setdefault(_CLEARED, set())
    mine = [load for load in started.values() if load not in cleared]
    statuses = [status for load in reversed(mine) if (status := runtime.loads.status(load)) is not None]
    known = {status.load_id for status in statuses}
    statuses += [status for status in runtime.loads.active() if status.load_id not in known]
    active = [status for status in statuses if status.state in _UNDER_WAY]
    ended = [status for status in statuses if status.state not in _UNDER_WAY]
    if active:
        _watch(runtime, active)
    for status in ended:
        _status(runtime, status)
    if ended:
        st.button(
            "Clear what has ended", key="data_clear", type="tertiary", icon=":material/close:", on_click=cleared.update,
            args=([status.load_id for status in ended],),
        )  # fmt: skip


@st.fragment(run_every="1s")
def _watch(runtime: Runtime, active: list[LoadStatus]) -> None:
    """Loads under way, every second, until one has ended: then the whole page says what is held."""
    gate.stay()
    show_report()
    for status in active:
        _status(runtime, status)
    if any(status.state not in _UNDER_WAY for status in active):
        st.rerun()


def _cancel(runtime: Runtime, load_id: str) -> None:
    def work() -> str:
        runtime.loads.cancel(load_id)
        return "The load is stopped as soon as it can be: nothing of it will have been applied."

    perform(work)


def _status(runtime: Runtime, status: LoadStatus) -> None:
    # The worker changes the status while it is drawn: one look decides.
    state = status.state
    with st.container(border=True, key=f"data_load_status_{status.load_id}"):
        publishing = status.progress is not None and status.progress.phase == "publishing"
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.text(one_line(status.file), width="content")
            if state in _UNDER_WAY and not publishing:
                offer.button(
                    "Cancel", key=f"data_cancel_{status.load_id}", icon=":material/cancel:",
                    on_click=_cancel, args=(runtime, status.load_id),
                )  # fmt: skip
        if state == "queued":
            st.caption("Waits for the load before it.")
        elif state == "running":
            _progress(status)
        elif status.report is not None:
            _done(status.report)
        elif state == "cancelled":
            st.info("Cancelled: nothing of it was applied.", icon=":material/cancel:")
        else:
            st.error(markdown_safe(status.error or f"The load was {state}."), icon=":material/error:")


def _progress(status: LoadStatus) -> None:
    progress = status.progress
    if progress is None:
        st.progress(0.0, text="Opening the file")
    elif progress.phase == "reading":
        share = progress.bytes_done / max(1, progress.bytes_total)
        st.progress(min(1.0, share), text=f"Reading and checking: {fmt.plural(progress.received, 'record')} so far")
    else:
        share = progress.slices_done / max(1, progress.slices_total)
        text = f"Storing: {fmt.plural(progress.received, 'record')} so far. From here on it only goes forward."
        st.progress(min(1.0, share), text=text)


def _done(report: BatchReport) -> None:
    """What came of a load, and where to go from here."""
    sentence = (
        f"**{fmt.plural(report.received, 'record')} = {report.accepted:,} accepted + {report.duplicate:,} duplicate "
        f"+ {report.rejected:,} rejected**, in {fmt.duration(report.seconds)}. "
    )
    if report.received and report.duplicate == report.received:
        sentence += "All of it was loaded before: nothing changed."
    else:
        sentence += (
            f"New: {fmt.plural(report.traces, 'trace')}, {fmt.plural(report.spans, 'span')}, "
            f"{fmt.plural(report.signals, 'signal')}."
        )
    if report.rejected:
        st.warning(sentence, icon=":material/playlist_remove:")
    else:
        st.success(sentence, icon=":material/check_circle:")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button(
            f"Repair {fmt.plural(report.rejected, 'rejected record')}" if report.rejected else "Batch report",
            key=f"data_report_{report.batch_id}", type="tertiary", on_click=open_batch, args=(report.batch_id,),
            icon=":material/build:" if report.rejected else ":material/receipt_long:",
        )  # fmt: skip
        # A file may hold traces of any age.
        st.page_link(
            "views/traces.py", label="Traces", icon=":material/account_tree:", query_params={"range": "all time"}
        )
        st.button(
            "Jobs that learn from it", key=f"data_jobs_{report.batch_id}", type="tertiary", on_click=open_tab,
            args=("Jobs",), icon=":material/manufacturing:",
        )  # fmt: skip
