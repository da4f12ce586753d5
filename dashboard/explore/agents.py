"""The agents of the page, and which of them is looked at; the choice is in the URL."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui.text import one_line
from store import arms, exploration, guardrails

__all__ = ["CHOSEN", "choose", "known"]

CHOSEN: Final = "of"


def known(wanted: tuple[str, ...]) -> list[str]:
    """Every agent that has arms, rates or guardrails, by name; `wanted` narrows, () for all."""
    current = data.query(exploration.current)
    listed = pl.concat(
        [
            current["agent"], data.query(arms.listed)["agent"], data.query(guardrails.listed)["agent"],
        ]
    ).unique().sort().to_list()  # fmt: skip
    return [agent for agent in listed if not wanted or agent in wanted]


def choose(listed: list[str]) -> str:
    """The agent looked at: the one of the URL, else the first; a chooser where there are several."""
    if len(listed) == 1:
        return listed[0]
    chosen = st.selectbox(
        "Agent looked at", listed, key=CHOSEN, bind="query-params", width=320,
        format_func=lambda name: one_line(name, 80),
    )  # fmt: skip
    return chosen if chosen in listed else listed[0]
