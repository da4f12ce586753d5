"""Jobs: when each last ran and will run, how that went, its history, and the button that runs it now."""

from typing import Any, Final, Literal

import polars as pl
import streamlit as st

from dashboard.access import gate, offer
from dashboard.feel import finished
from dashboard.intake.tables import height, shown
from dashboard.learn.actions import perform, show_report
from dashboard.runtime import Runtime
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, line, markdown_safe
from store import job_runs

__all__ = ["failing_panel", "jobs_panel"]

_HISTORY: Final = 100
_ALL: Final = "all"
_TABLE: Final = "data_job_runs"

_BADGES: Final[dict[str, tuple[str, Literal["blue", "green", "red", "orange"], str]]] = {
    "running": ("running", "blue", ":material/progress_activity:"),
    "succeeded": ("succeeded", "green", ":material/check:"),
    "failed": ("failed", "red", ":material/error:"),
    "interrupted": ("interrupted", "orange", ":material/pause:"),
}

_COLUMNS: Final = {
    "run_id": st.column_config.NumberColumn("Run", width=56, pinned=True, format="%d"),
    "job": st.column_config.TextColumn("Job", width=100),
    "status": st.column_config.TextColumn("How it ended", width=96),
    "started_at": st.column_config.DatetimeColumn(
        "Started (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=146
    ),
    "took": st.column_config.TextColumn("Took", width=80, alignment="right"),
    "rows": st.column_config.NumberColumn("Rows", width=76, format="localized"),
    "cause": st.column_config.TextColumn("Why it ran", width=86),
    "attempt": st.column_config.NumberColumn("Attempt", width=66),
    "said": st.column_config.TextColumn("What it said", width=460),
}


def failing_panel(runtime: Runtime) -> None:
    """One line in red when jobs fail, whatever tab is open."""
    failing = job_runs.failing(runtime.store)["job"].to_list()
    if failing:
        registry = runtime.runner.registry
        titles = ", ".join(registry[name].title if name in registry else name for name in failing)
        st.error(
            f"Failing: **{markdown_safe(titles)}**. The Jobs tab says why and when it is tried again.",
            icon=":material/error:",
        )


def jobs_panel(runtime: Runtime) -> None:
    """A row for each job with a button, then the history."""
    if runtime.scheduler is None:
        st.warning(
            "No scheduler runs in this process: jobs run only when asked to. `make run` starts one.",
            icon=":material/schedule:",
        )
    _live(runtime, _ended(runtime))
    _history(runtime)


@st.fragment(run_every="2s")
def _live(runtime: Runtime, ended: frozenset[int]) -> None:
    """The jobs, every two seconds: they also run by themselves. `ended` are the runs that the page has seen end."""
    gate.stay()
    show_report()
    latest = {row["job"]: row for row in job_runs.latest(runtime.store).to_dicts()}
    for name in runtime.runner.registry:
        _job(runtime, name, latest.get(name))
    if _ended(runtime) != ended:
        # What a job found shows on the whole page.
        st.rerun()


def _ended(runtime: Runtime) -> frozenset[int]:
    """The latest run of each job where it has ended."""
    latest = job_runs.latest(runtime.store)
    return frozenset(latest.filter(pl.col("status") != "running")["run_id"].to_list())


def _job(runtime: Runtime, name: str, latest: dict[str, Any] | None) -> None:
    job = runtime.runner.registry[name]
    status = latest["status"] if latest else None
    with st.container(border=True, key=f"data_job_{name}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{job.title}**", width="content")
            if status in _BADGES:
                label, colour, icon = _BADGES[status]
                st.badge(label, color=colour, icon=icon)
            st.caption(_when(runtime, name, latest), width="stretch")
            offer.button(
                "Run now", key=f"data_run_{name}", on_click=_run, args=(runtime, name), disabled=status == "running",
                icon=":material/play_arrow:",
            )  # fmt: skip
        st.caption(job.description)
        if latest is None:
            return
        if status == "running":
            st.progress(latest["progress"] or 0.0, text=markdown_safe((latest["message"] or "")[:120]))
        elif latest["error"]:
            block(latest["error"], limit=2_000)
            if latest["traceback"]:
                with st.expander("Traceback"):
                    block(latest["traceback"])
        elif latest["message"]:
            line(latest["message"][:300])


def _when(runtime: Runtime, name: str, latest: dict[str, Any] | None) -> str:
    """When it ran, how long it took, what it wrote, and when it may run again."""
    now = runtime.clock.now()
    if latest is None:
        parts = ["has not run yet"]
    else:
        parts = [fmt.relative(latest["finished_at"] or latest["started_at"], now)]
        if latest["finished_at"]:
            parts.append(f"took {fmt.duration((latest['finished_at'] - latest['started_at']).total_seconds())}")
        if latest["rows"] is not None:
            parts.append(fmt.plural(latest["rows"], "row"))
        if latest["attempt"] > 1:
            parts.append(f"attempt {latest['attempt']}")
    if runtime.scheduler is not None and (latest is None or latest["status"] != "running"):
        following = runtime.scheduler.next_run(name)
        due = "now" if following <= now else f"at {fmt.when(following)}"
        parts.append(f"{'tried again' if latest and latest['status'] == 'failed' else 'next'} {due}, if there is work")
    return ", ".join(parts)


def _run(runtime: Runtime, name: str) -> None:
    def work() -> str:
        finished.started(runtime.runner.start(name))
        return f"The job {runtime.runner.job(name).title} is running."

    perform(work)


def _history(runtime: Runtime) -> None:
    st.subheader("History", anchor=False)
    names = [_ALL, *runtime.runner.registry]
    chosen = st.selectbox("Job", names, key="job", bind="query-params", width=240)
    frame = job_runs.recent(runtime.store, job=chosen if chosen in names[1:] else None, limit=_HISTORY)
    if frame.is_empty():
        st.caption("Nothing has run yet.")
        return
    took = [
        fmt.duration((ended - begun).total_seconds()) if ended else None
        for begun, ended in frame.select("started_at", "finished_at").rows()
    ]
    rows = frame.with_columns(took=pl.Series(took, dtype=pl.String), said=pl.coalesce("error", "message"))
    event: Any = st.dataframe(
        shown(rows.select(*_COLUMNS)),
        key=_TABLE,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=height(frame.height),
        placeholder="",
        column_config=fmt.columns(_COLUMNS),
        alt="Runs of jobs, newest first",
    )
    export.download(frame, "runs of jobs", "runs-export")
    selected = event["selection"]["rows"]
    if selected and selected[0] < frame.height:
        _one(frame.row(selected[0], named=True))
    elif frame["error"].null_count() < frame.height:
        st.caption("Choose a run by the box at its left to read its error and traceback.")


def _one(run: dict[str, Any]) -> None:
    """What one run said and, where it failed, how."""
    st.markdown(f"**Run {run['run_id']} of {markdown_safe(run['job'])}**, code {markdown_safe(run['code_version'])}")
    if run["message"]:
        line(run["message"])
    for text in (run["error"], run["traceback"]):
        if text:
            block(text)
