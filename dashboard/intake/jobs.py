"""Jobs: when each last ran and will run, how that went, its history, and the button that runs it now."""

from typing import Any

import polars as pl
import streamlit as st

from dashboard.runtime import Runtime
from pipelines.jobs import REGISTRY
from store import job_runs
from store.errors import JobError

_HISTORY = 100

_MARKS = {"running": "running", "succeeded": "✓ succeeded", "failed": "✗ failed", "interrupted": "◌ interrupted"}


def jobs_panel(runtime: Runtime) -> None:
    """One row a job with a button, then the history of the chosen one."""
    if runtime.scheduler is None:
        st.warning(
            "No scheduler runs in this process: jobs run when asked to. Start Trimtab with `make run`.",
            icon=":material/schedule:",
        )
    _problem()
    running = bool(runtime.runner.running())

    @st.fragment(run_every="2s" if running else None)
    def live() -> None:
        latest = {row["job"]: row for row in job_runs.latest(runtime.store).to_dicts()}
        for name in REGISTRY:
            _job(runtime, name, latest.get(name))
        if running and not runtime.runner.running():
            st.rerun()

    live()
    _history(runtime)


def _problem() -> None:
    problem = st.session_state.pop("data_job_problem", None)
    if problem:
        st.error(problem, icon=":material/error:")


def _job(runtime: Runtime, name: str, latest: dict[str, Any] | None) -> None:
    job = REGISTRY[name]
    about, last, action = st.columns([5, 4, 2], vertical_alignment="center")
    about.markdown(f"**{job.title}** `{name}`")
    about.caption(job.description)
    if latest is None:
        last.caption("Has not run yet.")
    else:
        took = (
            f"{(latest['finished_at'] - latest['started_at']).total_seconds():.1f} s" if latest["finished_at"] else ""
        )
        rows = f", {latest['rows']:,} rows" if latest["rows"] is not None else ""
        last.caption(f"{_MARKS[latest['status']]} {latest['started_at']:%Y-%m-%d %H:%M:%S} UTC {took}{rows}")
        if latest["status"] == "running":
            last.progress(latest["progress"] or 0.0, text=(latest["message"] or "")[:120])
        elif latest["status"] == "failed":
            last.code((latest["error"] or "")[:400], language=None, wrap_lines=True)
        elif latest["message"]:
            last.text(latest["message"][:200])
    if runtime.scheduler is not None and (latest is None or latest["status"] != "running"):
        action.caption(f"next {runtime.scheduler.next_run(name):%H:%M:%S} UTC, if there is work")
    action.button(
        "Run now",
        key=f"data_run_{name}",
        on_click=_run,
        args=(runtime, name),
        disabled=latest is not None and latest["status"] == "running",
        icon=":material/play_arrow:",
        width="stretch",
    )


def _run(runtime: Runtime, name: str) -> None:
    try:
        runtime.runner.start(name)
    except JobError as error:
        st.session_state["data_job_problem"] = str(error)


def _history(runtime: Runtime) -> None:
    with st.expander("History"):
        names = ["all", *REGISTRY]
        chosen = st.selectbox("Job", names, key="job", bind="query-params")
        frame = job_runs.recent(runtime.store, job=None if chosen == "all" else chosen, limit=_HISTORY)
        if frame.is_empty():
            st.caption("Nothing has run yet.")
            return
        seconds = (pl.col("finished_at") - pl.col("started_at")).dt.total_milliseconds() / 1000
        st.dataframe(
            frame.select(
                "run_id", "job", "cause", "attempt", "status", "started_at", seconds.alias("seconds"), "rows", "message"
            ),
            hide_index=True,
            height=320,
        )
        for row in frame.filter(pl.col("traceback").is_not_null()).head(5).to_dicts():
            st.caption(f"Run {row['run_id']} of {row['job']} failed: ")
            st.code(f"{row['error']}\n\n{row['traceback']}", language=None, wrap_lines=True)
