"""Settings: who may come in, keys, notices, segments, privacy, the log of what operators did, backups."""

from collections.abc import Callable

import streamlit as st

from dashboard.audit import panel as audit_panel
from dashboard.backups import panel as backups_panel
from dashboard.learn import actions
from dashboard.notices import panel as notices_panel
from dashboard.privacy import panel as privacy_panel
from dashboard.segments import panel as segments_panel
from dashboard.settings_page import keys_panel, operators_panel
from dashboard.settings_page.places import TAB, TABS, Tab
from dashboard.ui import states

actions.heading("Settings")

panels: dict[Tab, Callable[[], None]] = {
    "Operators": operators_panel.draw,
    "Keys": keys_panel.draw,
    "Notices": notices_panel.draw,
    "Segments": segments_panel.draw,
    "Privacy": privacy_panel.draw,
    "Audit": audit_panel.draw,
    "Backup": backups_panel.draw,
}
for tab, name in zip(st.tabs(TABS, key=TAB, on_change="rerun", bind="query-params"), TABS, strict=True):
    if tab.open:
        with tab, states.guarded(f"The tab {name}", key=f"settings-{name}"):
            panels[name]()
