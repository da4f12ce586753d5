"""When backups are made, where, how many are kept."""

from typing import Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.ui.text import block
from store import backup_settings
from store.backup_settings import DAILY, MOST_KEPT, BackupSettings

__all__ = ["draw"]

_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, DAILY)


def draw() -> None:
    """The form."""
    held = data.fresh(backup_settings.settings)
    st.markdown("**Schedule**")
    with st.form("backup_form"):
        st.checkbox("Back up by itself", held.enabled, key="backup_enabled")
        left, right = st.columns(2)
        left.selectbox(
            "How often", _HOURS, _HOURS.index(held.every_hours) if held.every_hours in _HOURS else len(_HOURS) - 1,
            key="backup_every", format_func=lambda hours: "once a day" if hours == DAILY else f"every {hours} h",
        )  # fmt: skip
        right.number_input("Hour of the day (UTC)", 0, 23, held.at_hour, key="backup_hour", help="For once a day.")
        left.number_input("Days kept", 1, MOST_KEPT, held.keep_daily, key="backup_daily",
                          help="The newest backup of each of so many days.")  # fmt: skip
        right.number_input("Weeks kept", 0, MOST_KEPT, held.keep_weekly, key="backup_weekly",
                           help="The newest backup of each of so many weeks.")  # fmt: skip
        st.text_input(
            "Folder", held.folder or "", key="backup_folder", max_chars=1_000,
            placeholder="beside the database", help="Better on another disk. Relative to the database's folder.",
        )  # fmt: skip
        st.checkbox("Verify each by restoring it", held.verify, key="backup_verify")
        offer.submit("Set", role="admin", type="primary", key="backup_set", on_click=_set)
    if data.fresh(lambda store: store.path) is not None:
        st.caption("Backups go to")
        block(str(data.fresh(backup_settings.folder_of, held)), limit=1_000)


def _set() -> None:
    read = st.session_state
    wanted = BackupSettings(
        enabled=bool(read["backup_enabled"]), every_hours=int(read["backup_every"]), at_hour=int(read["backup_hour"]),
        folder=str(read["backup_folder"]).strip() or None, keep_daily=int(read["backup_daily"]),
        keep_weekly=int(read["backup_weekly"]), verify=bool(read["backup_verify"]),
    )  # fmt: skip

    def work() -> str:
        backup_settings.put(runtime.current().store, wanted, by=operator())
        if not wanted.enabled:
            return "Nothing is backed up by itself any more."
        when = (
            f"once a day at {wanted.at_hour}:00 UTC"
            if wanted.every_hours == DAILY
            else (f"every {wanted.every_hours} hours")
        )
        return f"Backups are made {when}."

    perform(work, role="admin")
