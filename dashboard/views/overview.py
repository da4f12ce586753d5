"""Overview: is anything wrong, and what waits for me."""

import polars as pl
import streamlit as st

from dashboard import charts, data, runtime
from dashboard.access import gate
from dashboard.feel import arrival, first_run, sidebar, since
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.notices import open_list
from dashboard.overview import panels
from dashboard.overview.measures import measures
from dashboard.ui import filters, states, theme
from dashboard.ui import format as fmt
from store import job_runs, overview

BUCKET_WORDS = {"hour": "hour", "day": "day", "week": "week"}

current = runtime.current()
now = current.clock.now()
selection = filters.current()
scope = selection.scope
colours = theme.current()


@st.fragment(run_every="20s")
def follow(shown: int) -> None:
    """Draw the page anew once there is new data, for those who leave it open."""
    gate.stay()
    if data.version() != shown:
        arrival.by_itself()
        st.rerun()


actions.heading("Overview")
follow(data.version())

if selection.empty:
    first_run.draw(selection.extent, opened=True)
    panels.first_screen(current.settings.inbox.resolve())
    st.stop()

previous = scope.previous()
compared = ", against the equal range before" if previous else ""
stated = (
    f"{selection.words}{compared}. Newest trace {fmt.relative(selection.newest, now)}; held: "
    f"{fmt.plural(selection.traces, 'trace')}, {fmt.plural(selection.spans, 'span')}, "
    f"{fmt.plural(selection.signals, 'signal')}. Shown at {fmt.when(now)}"
)
line = st.empty()
line.caption(f"{stated}.")

with states.guarded("What changed", key="since"):
    since.draw(now)

with states.guarded("The open notices", key="notices"):
    open_list.draw()

failing: pl.DataFrame | None = None
with states.guarded("The state of jobs", key="jobs"):
    failing = data.fresh(job_runs.failing)
    panels.failing(failing, now)

with states.guarded("The headline numbers", key="headline", height=130):
    headline = data.query(overview.headline, scope).row(0, named=True)
    if headline["traces"] == 0 and selection.traces:
        states.nothing(
            "No traces in this range",
            f"The newest is of {fmt.when(selection.newest)}. Choose a longer time range or another segment.",
        )
    before = data.query(overview.headline, previous).row(0, named=True) if previous else None
    panels.cards(measures(headline, before, reward_model=selection.extent["reward_models"] > 0))

side, chart = st.columns([1, 2.6], gap="small")
with side, states.guarded("What waits for you", key="waiting"):
    counts = data.query(overview.waiting, scope).row(0, named=True)
    panels.waiting(counts, (data.fresh(job_runs.failing) if failing is None else failing).height)

unit = BUCKET_WORDS[selection.bucket]
with (
    chart.container(border=True, height="stretch", gap="xsmall"),
    states.guarded("Traces over time", key="traces", height=300),
):
    per_bucket = data.query(overview.per_bucket, scope, selection.bucket)
    ran, failed = int(per_bucket["traces"].sum()), int(per_bucket["errors"].sum())
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**Traces per {unit}, by agent, and how many failed**", width="content")
        st.page_link(
            "views/traces.py", label="Failed traces", icon=":material/arrow_forward:", query_params={"status": "error"}
        )
    if per_bucket.is_empty():
        st.caption("No traces in this range.")
    else:
        st.plotly_chart(
            charts.traces_over_time(per_bucket, selection.bucket, colours),
            key="traces-over-time",
            config=charts.CONFIG,
            alt=f"Traces per {unit} by agent, {ran:,} in all, of which {failed:,} failed",
        )

with st.container(border=True, gap="xsmall"), states.guarded("Rewards over time", key="rewards", height=230):
    st.markdown(f"**Mean reward per {unit}, with its 95 % interval**", help=meaning("reward"))
    rewards = data.query(overview.reward_per_bucket, scope, selection.bucket)
    rewarded = int(rewards["rewarded"].sum())
    if rewarded < fmt.MINIMUM_MEAN:
        why = (
            fmt.missing(rewarded, fmt.MINIMUM_MEAN, "rewarded trace")
            if selection.extent["reward_models"]
            else "not enough data: no reward model yet. The rewards job fits one once traces have outcomes or feedback"
        )
        st.caption(f"{why[0].upper()}{why[1:]}.")
    else:
        enough = rewards.filter(pl.col("rewarded") >= fmt.MINIMUM_POINT)
        limits = fmt.mean_limits(
            enough,
            n="rewarded",
            mean="reward",
            variance="reward_variance",
            sd2="reward_sd2",
            shared_sd="reward_shared_sd",
        )
        st.plotly_chart(
            charts.reward_over_time(limits, selection.bucket, colours, height=230),
            key="reward-over-time",
            config=charts.CONFIG,
            alt=f"Mean reward per {unit} with its interval, {rewarded:,} rewarded traces",
        )
        if enough.height < rewards.height:
            thin = fmt.plural(rewards.height - enough.height, unit)
            st.caption(f"{thin} with fewer than {fmt.MINIMUM_POINT} rewarded traces left out.")

with states.guarded("Agents", key="agents", height=160):
    st.subheader("Agents", anchor=False)
    table = data.query(overview.agents, scope)
    if table.is_empty():
        st.caption("No agent ran in this range.")
    else:
        panels.agents(table, data.query(overview.per_bucket, scope, selection.bucket))

first_run.draw(selection.extent, opened=False)

if data.age() >= sidebar.WORTH_SAYING:
    line.caption(f"{stated}, some of it as of {data.age():.0f} s before: data is coming in.")
