"""The Overview's panels: first screen of an empty store, cards, failing jobs, what waits, agents."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard.overview.measures import Measure
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe
from pipelines.stats.proportion import wilson_interval

__all__ = ["AGENT_COLUMNS", "agent_rows", "agents", "cards", "failing", "first_screen", "waiting"]


def first_screen(inbox: Path) -> None:
    """What an empty store shows: the three ways to get data in."""
    st.markdown(
        "**There are no traces yet.** Bring your own in one of these ways, or look at a sample deployment first."
    )
    with st.grid(3, min_column_width=260, gap="medium"):
        with st.container(border=True, height="stretch"):
            st.markdown("**Upload a file**")
            st.caption(
                "CSV, JSONL, JSON or Parquet, plain or compressed: OpenAI chat logs, tau-bench trajectories, Langfuse "
                "exports, or a table of your own, whose columns you map while looking at the first rows."
            )
            st.page_link("views/data.py", label="Upload on the Data page", icon=":material/upload_file:")
        with st.container(border=True, height="stretch"):
            st.markdown("**Drop files into the inbox**")
            st.caption(
                "Files in this folder are loaded as they arrive and then moved to done/ or failed/ with a report."
            )
            st.code(str(inbox), language=None, wrap_lines=True)
        with st.container(border=True, height="stretch"):
            st.markdown("**Look at a sample deployment**")
            st.caption(
                "A simulated deployment with agents, users, feedback, planted faults and drifting users. In a terminal:"
            )
            st.code("make demo", language=None)
    st.caption(
        "Clicks and feedback may come in the same file, in one of their own, before their traces or weeks after them: "
        "they are joined by trace, session, or user and time."
    )


def cards(listed: Sequence[Measure]) -> None:
    """The headline measures, six in a row where there is room."""
    with st.grid(6, min_column_width=148, gap="small"):
        for measure in listed:
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.metric(
                    measure.label,
                    _metric_text(measure.value),
                    measure.delta,
                    delta_color=measure.colour,
                    delta_description=measure.against and _metric_text(measure.against),
                    help=measure.help,
                )
                st.caption(_metric_text(measure.detail))


def failing(jobs: pl.DataFrame, now: datetime) -> None:
    """Jobs whose latest run failed (`store.job_runs.RUNS`), in red with their error."""
    for run in jobs.to_dicts():
        when = fmt.relative(run["finished_at"] or run["started_at"], now)
        attempt = f", attempt {run['attempt']}" if run["attempt"] > 1 else ""
        with st.container(key=f"failing-{run['run_id']}", gap="xsmall"):
            st.error(f"Job **{markdown_safe(run['job'])}** failed {when}{attempt}.", icon=":material/error:")
            if run["error"]:
                st.code(run["error"][:1_000], language=None, wrap_lines=True)


def waiting(counts: Mapping[str, Any], failing_jobs: int) -> None:
    """What an operator has to do, each with a link to where it is done; `counts` as `store.overview.WAITING`."""
    entries = (
        (failing_jobs, "failed job", "failed jobs", "views/data.py", None, ":material/error:"),
        (counts["lessons"], "proposed lesson to review", "proposed lessons to review", "views/review.py", None,
         ":material/rate_review:"),
        (counts["exploration_rates"], "recommended exploration rate", "recommended exploration rates",
         "views/exploration.py", "Rates", ":material/explore:"),
        (counts["violations"], "guardrail violation", "guardrail violations", "views/exploration.py", "Guardrails",
         ":material/gpp_maybe:"),
        (counts["arms_off"], "arm switched off by a guardrail", "arms switched off by a guardrail",
         "views/exploration.py", "Arms", ":material/power_off:"),
        (counts["flagged_users"], "user flagged for drift", "users flagged for drift", "views/drift.py", None,
         ":material/trending_down:"),
        (counts["reject_batches"], "batch with rejected records", "batches with rejected records", "views/data.py",
         None, ":material/playlist_remove:"),
    )  # fmt: skip
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**Waits for you**")
        for count, one, many, page, tab, icon in entries:
            if count:
                st.page_link(
                    page, label=fmt.plural(count, one, many), icon=icon, width="stretch",
                    query_params=None if tab is None else {"tab": tab},
                )  # fmt: skip
        if not any(entry[0] for entry in entries):
            st.caption("Nothing. Lessons to review, exploration rates to apply, drifting users and faults appear here.")
        elif counts["reject_batches"]:
            st.caption(f"{fmt.plural(counts['rejects'], 'record')} rejected since the range began.")


AGENT_COLUMNS: Final = {
    "agent": st.column_config.TextColumn("Agent", pinned=True, width=130),
    "traces": st.column_config.NumberColumn("Traces", format="localized", width=66),
    "course": st.column_config.BarChartColumn("Over the range", width=104, y_min=0),
    "error_rate": st.column_config.NumberColumn("Error rate", format="%.1f %%", width=78),
    "error_interval": st.column_config.TextColumn("95 % interval", width=100, alignment="right"),
    "reward": st.column_config.NumberColumn("Reward", format="%.3f", width=66),
    "reward_interval": st.column_config.TextColumn("95 % interval", width=108, alignment="right"),
    "p50": st.column_config.NumberColumn("p50, s", format="%.1f", width=60),
    "p95": st.column_config.NumberColumn("p95, s", format="%.1f", width=60),
    "cost": st.column_config.NumberColumn("Cost", format="$%.2f", width=66),
    "users": st.column_config.NumberColumn("Users", format="localized", width=56),
    "feedback": st.column_config.NumberColumn(
        "Feedback", format="%.1f %%", width=76, help="Traces with explicit feedback."
    ),
    "newest": st.column_config.DatetimeColumn("Newest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=132),
}


def agents(frame: pl.DataFrame, per_bucket: pl.DataFrame) -> None:
    """The agents table, from `store.overview.AGENTS` and `PER_BUCKET`."""
    st.dataframe(
        agent_rows(frame, per_bucket),
        column_config=fmt.columns(AGENT_COLUMNS),
        hide_index=True,
        height="content",
        placeholder=fmt.NONE,
        key="agents",
        alt="Agents with their traces, error rate, reward, duration, cost and feedback in the range",
    )
    export.download(frame, "agents", "agents-export")


def agent_rows(frame: pl.DataFrame, per_bucket: pl.DataFrame) -> pl.DataFrame:
    """One row an agent as the table shows it: numbers below their minimum n are left out."""
    buckets = per_bucket["bucket"].unique().sort().to_list()[-60:]
    courses = {
        agent: dict(part.select("bucket", "traces").rows())
        for (agent,), part in per_bucket.partition_by("agent", as_dict=True).items()
    }
    rows = []
    for row in frame.to_dicts():
        rate = wilson_interval(row["errors"], row["known"]) if row["known"] >= fmt.MINIMUM_RATE else None
        rewarded = row["rewarded"] >= fmt.MINIMUM_MEAN
        mean = (
            fmt.mean_interval(
                row["rewarded"], row["reward"], row["reward_variance"], row["reward_sd2"], row["reward_shared_sd"]
            )
            if rewarded
            else None
        )
        timed = row["timed"] >= fmt.MINIMUM_RATE
        course = courses.get(row["agent"], {})
        rows.append(
            {
                "agent": row["agent"],
                "traces": row["traces"],
                "course": [float(course.get(bucket, 0)) for bucket in buckets],
                "error_rate": rate and rate.estimate * 100,
                "error_interval": rate and fmt.interval_percent(rate),
                "reward": mean and mean.estimate,
                "reward_interval": mean and f"{mean.lower:.3f} to {mean.upper:.3f}",
                "p50": row["seconds_p50"] if timed else None,
                "p95": row["seconds_p95"] if timed else None,
                "cost": row["cost_usd"],
                "users": row["users"],
                "feedback": row["feedback"] / row["traces"] * 100 if row["traces"] >= fmt.MINIMUM_RATE else None,
                "newest": row["newest"],
            }
        )
    return pl.DataFrame(rows, schema=_AGENT_ROWS)


_AGENT_ROWS: Final = pl.Schema(
    {
        "agent": pl.String(), "traces": pl.Int64(), "course": pl.List(pl.Float64), "error_rate": pl.Float64(),
        "error_interval": pl.String(), "reward": pl.Float64(), "reward_interval": pl.String(), "p50": pl.Float64(),
        "p95": pl.Float64(), "cost": pl.Float64(), "users": pl.Int64(), "feedback": pl.Float64(),
        "newest": pl.Datetime("us", "UTC"),
    }
)  # fmt: skip


def _metric_text(text: str) -> str:
    # Two dollar signs would be read as mathematics.
    return text.replace("$", "\\$")
