"""Drift: what changed, how sure are we, and what do I do?"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import data, runtime
from dashboard.drift import findings, headline, heat_map, incident, incident_list, models, noting, responding, rules
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.ui import filters, states, theme
from store import drift, incidents

now = runtime.current().clock.now()
selection = filters.current()
chosen = st.query_params.get(incident_list.CHOSEN)
colours = theme.current()


def incidents_tab() -> None:
    """The list, and what operators say was done."""
    incident_list.show(now)
    noting.show(now)


def rules_tab() -> None:
    """What Trimtab does by itself, and what it did."""
    rules.show()
    responding.applied(now=now)


def no_scan_yet() -> None:
    """What a scan needs."""
    states.nothing(
        "No scan yet",
        "The drift job looks for a change in what every user does, says and gets. A user needs 20 events of a metric "
        "with a time; it runs by itself when data arrives."
        + (" Load traces and feedback on the Data page first." if selection.empty else ""),
    )
    st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})


def everything(run: dict[str, Any] | None) -> None:
    """The answer and the tabs."""
    measured = data.query(drift.measured)
    if run is None:
        no_scan_yet()
    else:
        headline.show(run, measured, data.query(incidents.count), now)
    contents: dict[str, Callable[[], None]] = {
        "Findings": lambda: findings.show(run, measured, colours, now),
        "Heat map": lambda: heat_map.show(measured, colours),
        "Incidents": incidents_tab,
        "Models": lambda: models.show(colours, now),
        "Responses": rules_tab,
    }
    drawn = st.tabs(list(contents), key="tab", on_change="rerun", bind="query-params")
    for tab, (name, show) in zip(drawn, contents.items(), strict=True):
        if tab.open:
            with tab, states.guarded(f"The tab {name}", key=f"tab-{name}", height=320):
                show()


if chosen is not None:
    incident.back()
actions.heading("Drift" if chosen is None else "Incident", help=meaning("drift" if chosen is None else "incident"))

if chosen is not None:
    with states.guarded("The incident", key="incident"):
        incident.show(chosen, colours, now)
else:
    with states.guarded("Drift", key="drift"):
        everything(data.query(drift.latest_run))
