"""The Backup tab: how old the newest verified backup is, "back up now", what was made, and the settings."""

from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import gate, offer
from dashboard.backups import settings_form
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform, show_report
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, line, markdown_safe, one_line
from pipelines.backups.job import remove_outdated
from store import backup_settings, job_runs

__all__ = ["draw"]

_JOB: Final = "backup"
_SHOWN: Final = 200


def draw() -> None:
    """Draw the tab."""
    st.subheader("Backup", anchor=False)
    st.caption(
        "A backup is one file, made while the store is in use. Verifying restores it into a scratch file and reads all "
        "of it. `python -m pipelines restore FILE` puts one in the store's place while no server runs."
    )
    _age()
    _now(_ended())
    left, right = st.columns([3, 2], gap="large")
    with left:
        _made()
    with right:
        settings_form.draw()


def _age() -> None:
    """How old the newest verified backup is, and whether that is too old."""
    current = runtime.current()
    chosen = data.fresh(backup_settings.settings)
    latest, sound = data.fresh(backup_settings.newest)
    now, last = current.clock.now(), sound if chosen.verify else latest
    what = "verified backup" if chosen.verify else "backup"
    if last is None:
        st.warning(f"There is no {what} yet.", icon=":material/backup:")
    elif chosen.enabled and now - last > chosen.oldest_allowed:
        st.error(
            f"The newest {what} is of {fmt.when(last)}, {fmt.relative(last, now)}: too old.", icon=":material/error:"
        )
    else:
        st.success(f"The newest {what} is of {fmt.when(last)}, {fmt.relative(last, now)}.", icon=":material/check:")
    if not chosen.enabled:
        st.caption("Nothing is backed up by itself: switch it on below.")


@st.fragment(run_every="2s")
def _now(ended: int) -> None:
    """The button, and the run that goes on. `ended` is the latest run that the page has seen end."""
    gate.stay()
    show_report()
    latest = _latest()
    running = latest is not None and latest["status"] == "running"
    offer.button(
        "Back up now",
        role="admin",
        key="backup_now",
        type="primary",
        on_click=_begin,
        disabled=running,
        icon=":material/backup:",
    )
    if latest is not None and running:
        st.progress(float(str(latest["progress"] or 0.0)), text=markdown_safe(str(latest["message"] or "")[:120]))
    elif latest is not None and latest["error"]:
        st.caption("The last run failed:")
        block(str(latest["error"]), limit=2_000)
    elif latest is not None and latest["message"]:
        line(str(latest["message"])[:300])
    if _ended() != ended:
        # What was made shows in the table.
        st.rerun()


def _latest() -> dict[str, object] | None:
    rows = data.fresh(job_runs.latest).filter(pl.col("job") == _JOB).to_dicts()
    return rows[0] if rows else None


def _ended() -> int:
    latest = _latest()
    return int(str(latest["run_id"])) if latest is not None and latest["status"] != "running" else 0


def _begin() -> None:
    def work() -> str:
        current = runtime.current()
        backup_settings.asked(current.store, by=operator())
        current.runner.start(_JOB)
        return "A backup is being made."

    perform(work, role="admin")


def _made() -> None:
    """The backups that are there, newest first; those that still hold somebody who was forgotten since."""
    st.markdown("**Backups**")
    held = data.query(backup_settings.held, limit=_SHOWN)
    if held.is_empty():
        st.caption("None was made yet.")
        return
    since = data.query(backup_settings.forgotten_since)
    rows = held.to_dicts()
    export.table(
        "backups",
        pl.DataFrame(
            {
                "made": held["made_at"],
                "file": [one_line(Path(row["path"]).name, 120) for row in rows],
                "state": [_state(row["verified_at"], row["problem"]) for row in rows],
                "rows": held["table_rows"], "bytes": held["bytes"],
                "seconds": held["seconds"].round(1), "verifying": held["verify_seconds"].round(1),
                "audit rows": held["audit_rows"],
                "audit hash": [(row["newest_hash"] or "")[:12] for row in rows],
                "forgotten since": [since is not None and row["made_at"] <= since for row in rows],
            }
        ),
        hide_index=True, height=tables.height(held.height), alt=f"{held.height} backups, newest first",
        column_config=fmt.columns({
            "made": st.column_config.DatetimeColumn("made (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
            "rows": st.column_config.NumberColumn("rows", format="localized"),
            "bytes": st.column_config.NumberColumn("size", format="bytes"),
            "verifying": st.column_config.NumberColumn("verifying (s)"),
            "forgotten since": st.column_config.CheckboxColumn(
                "holds forgotten", help="Made before somebody was forgotten: it still holds what is known of them."
            ),
        }),
    )  # fmt: skip
    for row in rows:
        if row["problem"]:
            st.caption(f"Backup {row['backup_id']} could not be verified:")
            block(row["problem"], limit=1_000)
            break
    _outdated(held, since)


def _state(verified_at: datetime | None, problem: str | None) -> str:
    return "not sound" if problem else "verified" if verified_at is not None else "not verified"


def _outdated(held: pl.DataFrame, since: datetime | None) -> None:
    old = 0 if since is None else held.filter(pl.col("made_at") <= since).height
    if old:
        st.caption(f"{fmt.plural(old, 'backup')} made before {fmt.when(since)} still hold somebody who was forgotten.")
        offer.button(
            "Remove them", role="admin", key="backup_remove_outdated", on_click=_remove, icon=":material/delete:"
        )


def _remove() -> None:
    def work() -> str:
        return f"{fmt.plural(remove_outdated(runtime.current().store, by=operator()), 'backup')} removed."

    perform(work, role="admin")
