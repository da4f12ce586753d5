"""Data: send files, see what became of them, and what the jobs are doing."""

from collections.abc import Callable

import streamlit as st

from dashboard import data
from dashboard.intake import guidance
from dashboard.intake.batches import batches_panel
from dashboard.intake.jobs import failing_panel, jobs_panel
from dashboard.intake.live_panel import live_panel
from dashboard.intake.mappings import mappings_panel
from dashboard.intake.places import TAB, TABS, Tab
from dashboard.intake.sources_panel import sources_panel
from dashboard.intake.upload import upload_panel
from dashboard.learn import actions
from dashboard.runtime import current
from dashboard.ui import states
from store import overview

runtime = current()
actions.heading("Data")

with states.guarded("What is held", key="held"):
    guidance.held(runtime, data.query(overview.extent).row(0, named=True))
    failing_panel(runtime)

panels: dict[Tab, Callable[[], None]] = {
    "Upload": lambda: upload_panel(runtime),
    "Live": lambda: live_panel(runtime),
    "Sources": lambda: sources_panel(runtime),
    "Batches": lambda: batches_panel(runtime),
    "Mappings": lambda: mappings_panel(runtime),
    "Jobs": lambda: jobs_panel(runtime),
}
for tab, name in zip(st.tabs(TABS, key=TAB, on_change="rerun", bind="query-params"), TABS, strict=True):
    if tab.open:
        with tab, states.guarded(f"The tab {name}", key=name):
            panels[name]()
