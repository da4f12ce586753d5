"""The recommended rate of an agent: why, what applying it would do, and the decision."""

from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.explore import in_force
from dashboard.explore.preview import Exposure, Preview, preview
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, text
from dashboard.ui import format as fmt
from pipelines.exploration import bounds
from store import decisions, exploration, guardrails, overview
from store.errors import ActionRefused
from store.scope import Scope

__all__ = ["history", "show"]

_PREVIEWED: Final = "explore_previewed"
_DAYS: Final = 14
_ALL_UNITS: Final = 10_000_000


def show(agent: str, now: datetime) -> None:
    """What waits and what is applied, with the reason, the preview and the decision."""
    own = data.query(exploration.current).filter(agent=agent)
    waiting = own.filter(state="recommended").to_dicts()
    applied = own.filter(state="applied").to_dicts()
    with st.container(border=True):
        left, right = st.columns([2, 3], gap="large")
        with left:
            _rates(waiting[0] if waiting else None, applied[0] if applied else None, now)
        with right:
            rated = waiting or applied
            if not rated:
                st.markdown("**No rate is recommended yet**")
                st.caption(
                    f"{fmt.percent(exploration.RATE_WITHOUT_DECISION)} of decisions may leave the best arm until one "
                    "is applied. A rate is recommended once two arms have 30 traces with signals each."
                )
            else:
                st.caption("Why" if waiting else "Why it was recommended")
                text.line(rated[0]["reason"])
        if waiting:
            _decide(agent, waiting[0])


def history(agent: str) -> None:
    """Every recommendation for the agent and what became of it."""
    frame = data.query(exploration.history, agent=agent)
    if frame.is_empty():
        return
    st.subheader("History", anchor=False)
    export.table(
        "recommended rates",
        frame.select(
            pl.col("recommended_at").alias("recommended"), "rate", "lower", "upper", pl.col("decisions").alias("n"),
            "state", pl.col("decided_by").alias("by"), pl.col("decided_at").alias("decided"),
        ),
        hide_index=True, height=tables.height(frame.height),
        column_config=fmt.columns({
            **{
                name: st.column_config.DatetimeColumn(f"{name} (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC")
                for name in ("recommended", "decided")
            },
            **{name: st.column_config.NumberColumn(format="percent") for name in ("rate", "lower", "upper")},
            "n": st.column_config.NumberColumn(format="localized", help="Traces with signals behind the estimate"),
        }),
        alt=f"{frame.height} recommendations",
    )  # fmt: skip


def _rates(waiting: dict[str, Any] | None, applied: dict[str, Any] | None, now: datetime) -> None:
    left, right = st.columns(2)
    if waiting is None:
        left.metric("recommended", fmt.NONE, help="Nothing new to recommend on the present evidence")
    else:
        left.metric("recommended", fmt.percent(waiting["rate"]))
        left.caption(
            f"{fmt.percent(waiting['lower'])} to {fmt.percent(waiting['upper'])}, n {waiting['decisions']:,}, "
            f"{fmt.relative(waiting['recommended_at'], now)}"
        )
        users = data.query(exploration.unit_summary, waiting["agent"], waiting["recommended_at"]).filter(scope="user")
        if users.height:
            left.caption(
                f"for whoever has no rate of their own; {fmt.plural(users['units'][0], 'user has', 'users have')} one, "
                f"{fmt.percent(users['mean'][0])} on average"
            )
    if applied is None:
        right.metric("applied", fmt.NONE, help="No rate was ever applied")
    else:
        right.metric("applied", fmt.percent(applied["rate"]))
        right.caption(
            f"{fmt.percent(applied['lower'])} to {fmt.percent(applied['upper'])}, n {applied['decisions']:,}, since "
            f"{fmt.when(applied['decided_at'], seconds=False)}, by {text.markdown_safe(applied['decided_by'] or '')}"
        )


def _decide(agent: str, waiting: dict[str, Any]) -> None:
    seen = st.session_state.get(_PREVIEWED) == (agent, waiting["recommended_at"])
    shown = False
    if seen:
        shown = _preview(agent, waiting)
    with st.container(horizontal=True):
        st.button(
            "Preview", key=f"preview_{agent}", type="secondary" if shown else "primary", icon=":material/visibility:",
            on_click=_look, args=(agent, waiting["recommended_at"]),
            help="Who would be explored, how often, and what that may cost. Apply is enabled then.",
        )  # fmt: skip
        offer.button(
            "Apply", key=f"apply_{agent}", type="primary" if shown else "secondary", icon=":material/check:",
            disabled=not shown, on_click=_apply, args=(agent, waiting["recommended_at"]),
            help=None if shown else "Preview first",
        )  # fmt: skip
        with st.popover("Decline", icon=":material/close:"), st.form(f"decline_form_{agent}", border=False):
            st.text_area(
                "Why is it declined?", key=f"decline_reason_{agent}",
                placeholder="It is not recommended again on the same evidence.",
            )  # fmt: skip
            offer.submit(
                "Decline", type="primary", icon=":material/close:", key=f"decline_{agent}", on_click=_decline,
                args=(agent, waiting["recommended_at"]),
            )  # fmt: skip


def _preview(agent: str, waiting: dict[str, Any]) -> bool:
    """What applying would do; False where there is no policy to compute it from."""
    held = in_force.policy(agent)
    if held is None:
        st.warning(
            "There is no policy of this agent yet, so nothing can be previewed and nothing would change. The job "
            "Policies publishes one; run it on the Data page.", icon=":material/hourglass_empty:",
        )  # fmt: skip
        st.page_link("views/data.py", label="Jobs", icon=":material/database:", query_params={"tab": "Jobs"})
        return False
    with st.spinner("Computing what it would do"):
        units = data.query(exploration.unit_rates, agent, waiting["recommended_at"], limit=_ALL_UNITS)
        per_day, basis = _per_day(agent)
        found = preview(held, waiting["rate"], units.select("scope", "unit", "rate", "decisions"), per_day)
    within = bounds.of_agent(data.query(exploration.bounds, agent))
    st.markdown("**If it is applied**")
    shown = _rows(found)
    st.table(shown, border="horizontal", width="content")
    export.download(shown, f"preview of {agent}", "preview-export")
    if found.arms < 2:
        st.warning(
            f"{fmt.plural(found.arms, 'arm')} enabled: nothing is explored at any rate. Enable another in the tab "
            "Arms.", icon=":material/info:",
        )  # fmt: skip
    notes = [
        f"{fmt.plural(found.never, 'person', 'people')} opted out or on the never-explore list stay out."
        if found.never
        else "",
        f"Computed for {found.sampled:,} of {found.people:,} people, evenly taken."
        if found.sampled < found.people
        else "",
        f"Decisions a day: {basis}.",
        "Regret is what the arms drawn are behind the best one: expected at the posterior means, worst at the "
        "unfavourable ends of 95 % intervals.",
    ]  # fmt: skip
    st.caption(" ".join(note for note in notes if note))
    st.caption(f"Exploring stops: {_stop_rule(agent, within, found.proposed)}")
    return True


def _rows(found: Preview) -> pl.DataFrame:
    def day(value: float, digits: int = 2) -> str:
        return f"{value:,.{digits}f}"

    def column(side: Exposure) -> list[str]:
        share = side.explored / found.per_day if found.per_day else 0.0
        return [
            f"{side.people:,} of {found.people:,}", day(found.per_day, 1),
            f"{day(side.explored, 1)} ({fmt.percent(share)})",
            f"{day(side.expected, 3)} points", f"{day(side.worst, 2)} points",
        ]  # fmt: skip

    names = [
        "people exposed", "decisions a day", "of which leave the best arm", "expected regret a day",
        "worst-case regret a day",
    ]  # fmt: skip
    return pl.DataFrame({"": names, "now": column(found.now), "if applied": column(found.proposed)})


def _stop_rule(agent: str, within: bounds.AgentBounds, proposed: Exposure) -> str:
    budget = within.daily_regret_budget
    rules = [
        f"when the day's worst-case regret reaches {budget:g} points"
        + (" (the preview is above that: the budget will hold it back)" if proposed.worst > budget else "")
        if budget is not None
        else "no daily regret budget is set (below, under Bounds)",
        "as the evidence grows, since the rate never exceeds the probability that another arm is better",
    ]
    floors = data.query(guardrails.listed, agent=agent, state="on").filter(kind="safety_floor")
    off = floors.filter(on_violation="switch_off").height
    rules.append(
        f"for an arm at once when it breaks a safety floor ({off} in force)"
        if off
        else "no safety floor switches an arm off by itself (tab Guardrails)"
    )
    return "; ".join(rules) + "."


def _per_day(agent: str) -> tuple[float, str]:
    """Decisions a day, and what that is counted from."""
    now = runtime.current().clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - timedelta(days=_DAYS)
    days = data.fresh(decisions.ledger, agent, since)
    made = int(days["decisions"].sum())
    if made:
        length = max((now - max(since, _start(days))).total_seconds() / 86_400, 1.0)
        return made / length, f"{made:,} decisions in {fmt.plural(round(length), 'day')}"
    counted = data.query(overview.per_bucket, Scope(agents=(agent,)), "day")
    if counted.is_empty():
        return 0.0, "none so far"
    newest = counted["bucket"].max()
    recent = counted.filter(pl.col("bucket") > pl.lit(newest) - pl.duration(days=_DAYS))
    traces, length = int(recent["traces"].sum()), min(_DAYS, recent["bucket"].n_unique())
    return traces / max(length, 1), (
        f"the agent has not asked for decisions yet, so its traces are counted: {traces:,} on its last "
        f"{fmt.plural(length, 'day')} with traces"
    )


def _start(days: pl.DataFrame) -> datetime:
    first: Any = days["day"].min()
    return datetime(first.year, first.month, first.day, tzinfo=runtime.current().clock.now().tzinfo)


def _look(agent: str, recommended_at: datetime) -> None:
    st.session_state[_PREVIEWED] = (agent, recommended_at)


def _apply(agent: str, recommended_at: datetime) -> None:
    store = runtime.current().store

    def work() -> str:
        if st.session_state.get(_PREVIEWED) != (agent, recommended_at):
            raise ActionRefused("Apply", "it was not previewed.", "Press Preview and look at what it would do.")
        exploration.apply(store, agent, recommended_at, operator=operator())
        return f"Applied: {agent} explores at the recommended rate from now on."

    perform(work)


def _decline(agent: str, recommended_at: datetime) -> None:
    store, reason = runtime.current().store, str(st.session_state[f"decline_reason_{agent}"])

    def work() -> str:
        exploration.decline(store, agent, recommended_at, operator=operator(), reason=reason)
        return f"Declined: {agent} keeps the rate it had."

    perform(work)
