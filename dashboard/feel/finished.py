"""Jobs that this operator started: when one has ended, whichever page is open says so."""

from typing import Final

import streamlit as st

from dashboard import data
from dashboard.access import gate
from dashboard.ui.text import markdown_safe
from store import job_runs

__all__ = ["started", "watch"]

_STARTED: Final = "feel_jobs_started"
_WORDS: Final = {"succeeded": "has finished", "failed": "failed", "interrupted": "was interrupted"}


def started(run_id: int) -> None:
    """Remember a run that this operator has just started."""
    st.session_state.setdefault(_STARTED, set()).add(run_id)


def watch() -> None:
    """Look every few seconds for the end of such runs; costs nothing when there is none."""
    if st.session_state.get(_STARTED):
        _look()


@st.fragment(run_every="4s")
def _look() -> None:
    gate.stay()
    waiting: set[int] = st.session_state.get(_STARTED, set())
    for run_id in sorted(waiting):
        run = data.fresh(job_runs.one, run_id)
        if run is not None and run.status == "running":
            continue
        waiting.discard(run_id)
        if run is not None:
            said = (run.error if run.status != "succeeded" else run.message) or ""
            st.toast(
                f"Job **{markdown_safe(run.job)}** {_WORDS[run.status]}. {markdown_safe(said[:200])}",
                icon=":material/check_circle:" if run.status == "succeeded" else ":material/error:", duration="long",
            )  # fmt: skip
