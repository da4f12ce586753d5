"""What if: the answer of the log to "everyone gets arm B" and "what if the rate were 10 %", or why it has none."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.explore import in_force
from dashboard.explore.answers import Asked, show_answer, show_comparison
from dashboard.ui import states
from dashboard.ui.text import one_line
from pipelines.off_policy import question, what_if
from pipelines.off_policy.estimate import Estimates
from pipelines.off_policy.targets import AsLogged, FixedArm, Rate, Target
from store import arms
from store.connection import Store

__all__ = ["show"]

_EVERY_ARM: Final = "compare all arms"
_ONE_ARM: Final = "everyone gets one arm"
_RATE: Final = "another exploration rate"
_KINDS: Final = (_EVERY_ARM, _ONE_ARM, _RATE)
_PERIODS: Final = {"all time": None, "90 days": 90, "30 days": 30, "7 days": 7}


@dataclass(frozen=True)
class _Question:
    """What was asked; `arm` for one arm, `rate` a share, `days` None for all time."""

    agent: str
    kind: str
    arm: str
    rate: float
    segment: str | None
    days: int | None
    where_possible: bool
    asked_at: datetime


def show(agent: str, now: datetime) -> None:
    """The question, and the answer once it was asked."""
    names = data.query(arms.listed, agent=agent)["arm"].to_list()
    kind = st.segmented_control("What if", _KINDS, default=_EVERY_ARM, required=True, key=f"what_if_kind_{agent}")
    with st.form(f"what_if_{agent}"):
        first, second, third = st.columns(3)
        with first:
            if kind == _RATE:
                st.slider("Rate, %", 0.0, 50.0, 10.0, 0.5, key=f"what_if_rate_{agent}", format="%.1f")
            elif kind == _ONE_ARM:
                st.selectbox("Arm", names, key=f"what_if_arm_{agent}", format_func=lambda name: one_line(name, 80))
            else:
                st.text("Each arm, for everyone,\nbeside what ran")
        with second:
            held = in_force.policy(agent)
            st.selectbox(
                "Segment", held.segments if held is not None else (), index=None, key=f"what_if_segment_{agent}",
                placeholder="everyone, and by segment", format_func=lambda name: one_line(name, 60),
            )  # fmt: skip
        with third:
            st.selectbox("Decisions of", list(_PERIODS), key=f"what_if_period_{agent}")
        st.checkbox(
            "Only decisions in which it could have been drawn", key=f"what_if_possible_{agent}",
            help="Else an arm that was not open to some decisions is refused: no reweighting shows the untried",
        )  # fmt: skip
        pressed = st.form_submit_button(
            "Ask the log", type="primary", icon=":material/query_stats:", key=f"what_if_ask_{agent}"
        )
    if pressed:
        read = st.session_state
        st.session_state[f"what_if_question_{agent}"] = _Question(
            agent, str(kind), str(read.get(f"what_if_arm_{agent}") or ""), 
            float(read.get(f"what_if_rate_{agent}") or 0.0) / 100,
            read[f"what_if_segment_{agent}"], _PERIODS.get(read[f"what_if_period_{agent}"]),
            bool(read[f"what_if_possible_{agent}"]), now.replace(second=0, microsecond=0),
        )  # fmt: skip
    asked = st.session_state.get(f"what_if_question_{agent}")
    if asked is None:
        states.nothing(
            "Ask what another policy would have earned",
            "The answer comes from decisions that were drawn at random with logged propensities, reweighted and "
            "corrected by an outcome model (doubly robust). Where the log cannot answer, it says why and gives no "
            "number.",
        )
        return
    with states.guarded("The question", key="what-if"), st.spinner("Reading the decisions and reweighting them"):
        _answer(asked)


def _answer(asked: _Question) -> None:
    since = None if asked.days is None else asked.asked_at - timedelta(days=asked.days)
    if asked.kind == _EVERY_ARM:
        found = data.query(_compared, asked.agent, since, asked.segment, asked.where_possible)
        show_comparison(found)
        return
    target: Target = FixedArm(asked.arm) if asked.kind == _ONE_ARM else Rate(asked.rate)
    show_answer(data.query(_asked, asked.agent, target, since, asked.segment, asked.where_possible))


def _asked(
    store: Store, agent: str, target: Target, since: datetime | None, segment: str | None, where_possible: bool,
    *, timeout: float | None = None,
) -> Asked:  # fmt: skip
    log = question.read(store, agent, since=since, segment=segment, timeout=timeout)
    answer = log.ask(target, where_possible=where_possible)
    return Asked(answer.overall, answer.segments, log.draws, log.dropped, log.settled, segment)


def _compared(
    store: Store, agent: str, since: datetime | None, segment: str | None, where_possible: bool, *,
    timeout: float | None = None,
) -> Asked:  # fmt: skip
    log = question.read(store, agent, since=since, segment=segment, timeout=timeout)
    ran: Estimates = log.ask(AsLogged()).overall
    rows: pl.DataFrame = pl.DataFrame(schema=what_if.CHANGES)
    if log.prepared is not None:
        targets: list[Any] = what_if.every_arm(log.prepared)
        rows = what_if.compare(log.prepared, targets, dropped=log.dropped, where_possible=where_possible)
    return Asked(ran, rows, log.draws, log.dropped, log.settled, segment)
