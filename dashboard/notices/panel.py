"""The Notices tab of the Settings page: the routes by which notices leave Trimtab, and what was delivered."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.access.actor import actor
from dashboard.learn.actions import operator, perform
from dashboard.learn.tables import height
from dashboard.notices import open_list, route_form
from dashboard.notices.words import destination
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import line, markdown_safe, one_line
from pipelines.notices import job
from pipelines.notices.planning import quiet_until
from store import notice_deliveries, notice_routes
from store.notice_routes import HeldRoute

__all__ = ["draw"]

_REASON: Final = {"waiting": "waits", "sending": "is being sent"}
_COLUMNS: Final = {
    "planned": st.column_config.DatetimeColumn("planned (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
    "last attempt": st.column_config.DatetimeColumn("last attempt (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
    "next": st.column_config.DatetimeColumn("next (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
    "outcome": st.column_config.TextColumn("outcome", width="large"),
}


def draw() -> None:
    """The routes with their forms, the open notices, and the latest deliveries."""
    st.subheader("Notices", anchor=False)
    st.caption(
        "What needs somebody is on the Overview until it is over. Routes also send it to a webhook or by e-mail; a "
        "route that fails is tried again for about an hour and stops nothing else."
    )
    open_list.draw()
    routes = notice_routes.listed(runtime.current().store)
    if not routes:
        states.nothing("There is no route", "Notices stay on the Overview until you add one below.")
    for held in routes:
        _route(held)
    if actor().role == "admin":
        with st.expander("Add a route", icon=":material/add:"):
            route_form.draw(None)
    _deliveries()


def _route(held: HeldRoute) -> None:
    route = held.route
    with st.container(border=True):
        state = "" if held.enabled else " (stopped)"
        st.markdown(f"**{markdown_safe(one_line(route.name))}**{state}")
        line(f"To {destination(route)}")
        st.caption(markdown_safe(_which(held)))
        with st.container(horizontal=True):
            offer.button(
                "Send a test", key=f"route_test_{held.route_id}", icon=":material/send:", on_click=_tested,
                role="admin", args=(held.route_id,),
            )  # fmt: skip
            label, icon = ("Stop", ":material/pause:") if held.enabled else ("Resume", ":material/play_arrow:")
            offer.button(
                label, role="admin", key=f"route_switch_{held.route_id}", icon=icon, on_click=_switched,
                args=(held.route_id, not held.enabled),
            )  # fmt: skip
            with st.popover("Remove", icon=":material/delete:", key=f"route_remove_{held.route_id}"):
                st.text("Nothing more is sent by it. What it delivered stays listed.")
                offer.button(
                    "Remove this route", key=f"route_removed_{held.route_id}", type="primary", on_click=_removed,
                    role="admin", args=(held.route_id,),
                )  # fmt: skip
        if actor().role == "admin":
            # The address of a webhook may be a secret.
            with st.expander("Change", icon=":material/edit:"):
                route_form.draw(held)


def _which(held: HeldRoute) -> str:
    route = held.route
    kinds = f"of the kinds {', '.join(route.kinds)}" if route.kinds else "of every kind"
    parts = [f"From {route.least_severity} on, {kinds}"]
    if route.group_minutes:
        parts.append(f"those within {fmt.plural(route.group_minutes, 'minute')} together")
    if route.quiet is not None:
        passing = "critical ones pass" if route.critical_passes else "without exception"
        parts.append(f"quiet from {route.quiet.start} to {route.quiet.end} in {route.quiet.zone}, {passing}")
        until = quiet_until(route.quiet, runtime.current().clock.now())
        if until is not None:
            parts.append(f"held now until {until:%H:%M} UTC")
    return "; ".join(parts) + "."


def _deliveries() -> None:
    rows = data.fresh(notice_deliveries.recent)
    st.markdown("**Deliveries**")
    if rows.is_empty():
        st.caption("Nothing was sent yet.")
        return
    table = pl.DataFrame([_delivery(row) for row in rows.iter_rows(named=True)], infer_schema_length=None)
    export.table(
        "deliveries",
        table, hide_index=True, height=height(rows.height), column_config=fmt.columns(_COLUMNS),
        alt=f"The latest {rows.height} deliveries of notices with their outcomes",
    )  # fmt: skip


def _delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    what = f"test by {one_line(row['test_by'], 60)}" if row["test_by"] else fmt.plural(row["notices"], "notice")
    return {
        "route": one_line(row["route"], 80), "what": what, "state": _REASON.get(row["state"], row["state"]),
        "attempts": row["attempts"], "outcome": one_line(row["outcome"], 300), "planned": row["planned_at"],
        "last attempt": row["attempted_at"], "next": row["next_at"],
    }  # fmt: skip


def _tested(route_id: int) -> None:
    current = runtime.current()

    def work() -> str:
        arrived, said = job.try_route(current.store, route_id, job.address(current.settings), operator=operator())
        return f"The test arrived. {said}" if arrived else f"The test did not arrive. {said}"

    perform(work, role="admin")


def _switched(route_id: int, enabled: bool) -> None:
    def work() -> str:
        notice_routes.switch(runtime.current().store, route_id, enabled=enabled, operator=operator())
        return "The route sends what is posted from now on." if enabled else "The route is stopped."

    perform(work, role="admin")


def _removed(route_id: int) -> None:
    def work() -> str:
        notice_routes.remove(runtime.current().store, route_id, operator=operator())
        return "The route is removed."

    perform(work, role="admin")
