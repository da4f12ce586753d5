"""The answer on top of the Drift page: what is open, how many flags are expected to be false, who cannot be judged."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl
import streamlit as st

from dashboard.drift import words
from dashboard.ui import format as fmt
from store.incidents import State

__all__ = ["sentence", "show"]


def show(run: dict[str, Any], measured: pl.DataFrame, incidents: Mapping[State, int], now: datetime) -> None:
    """What the newest run found, in one sentence and three numbers.

    Args: `run` of `store.drift.RUNS`, `measured` of `store.drift.METRICS`, `incidents` by state.
    """
    flagged = int(measured["flagged"].sum()) if measured.height else int(run["flagged"])
    st.markdown(f"**{sentence(run, flagged, incidents)}**")
    with st.grid(3, min_column_width=160, gap="small"):
        with st.container(border=True, height="stretch", gap="xsmall"):
            st.metric("Incidents open", fmt.count(incidents.get("open", 0)))
            st.caption(f"{incidents.get('acknowledged', 0):,} acknowledged, {incidents.get('resolved', 0):,} resolved")
        with st.container(border=True, height="stretch", gap="xsmall"):
            st.metric("Findings flagged", fmt.count(flagged))
            expected = words.few(flagged * run["false_discovery_rate"])
            st.caption(
                f"about {expected} of these {flagged:,} expected false; {run['flagged']:,} of {run['scanned']:,} users"
                if flagged
                else f"none of {fmt.plural(run['scanned'], 'user')} scanned"
            )
        with st.container(border=True, height="stretch", gap="xsmall"):
            st.metric("Not enough data", fmt.plural(run["too_few"], "user"))
            missing = run["missing_median"]
            st.caption(
                f"each needs {run['min_events']} events of a metric"
                + ("" if missing is None else f"; half of them lack {missing:.0f} or more")
            )
    looked = run.get("refreshed_at")
    since = f", users that looked changed again {fmt.relative(looked, now)}" if looked is not None else ""
    st.caption(
        f"As of {fmt.when(run['found_at'], seconds=False)} ({fmt.relative(run['found_at'], now)}{since}), on all "
        "events held; the sidebar's filters do not apply. p-values hold for every look so far; q-values are after the "
        f"gate and Benjamini-Hochberg at {fmt.percent(run['false_discovery_rate'])}."
    )


def sentence(run: dict[str, Any], flagged: int, incidents: Mapping[State, int]) -> str:
    """The first thing to know."""
    waiting = incidents.get("open", 0)
    if run["scanned"] == 0 and not flagged:
        return "Not enough data to scan any user."
    opened = f"{fmt.plural(waiting, 'incident')} {'is' if waiting == 1 else 'are'} open. " if waiting else ""
    if not flagged:
        return f"{opened}No user of {run['scanned']:,} has changed, as far as their events can tell."
    if run["flagged"]:
        changed = f"{fmt.plural(run['flagged'], 'user')} of {run['scanned']:,} changed."
    else:
        whose = "is of a segment or an agent" if flagged == 1 else "are of segments and agents"
        changed = f"{fmt.plural(flagged, 'finding')} {whose}; none of {fmt.plural(run['scanned'], 'user')} alone."
    false = words.few(flagged * run["false_discovery_rate"])
    these = "this finding" if flagged == 1 else f"these {flagged:,} findings"
    return f"{opened}{changed} Expect about {false} of {these} to be a false flag."
