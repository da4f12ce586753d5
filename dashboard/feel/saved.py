"""Saved views: the filters of a page under a name, in the sidebar, and the dialog in which they are kept in order."""

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from dashboard import runtime
from dashboard.access.actor import actor
from dashboard.feel.pages import PAGES
from dashboard.learn.actions import notice, operator, perform
from dashboard.ui.text import clean, markdown_safe
from store import operators, saved_views

__all__ = ["address", "button", "links"]

_SHOWN: Final = 6


def address() -> dict[str, list[str]]:
    """The parameters of this page's address, each with its values."""
    return {name: st.query_params.get_all(name) for name in st.query_params}


def links() -> None:
    """The views that this operator sees, as links; nothing when there is none. Call inside the sidebar."""
    rows = [row for row in _visible() if row["page"] in PAGES]
    if not rows:
        return
    with st.container(key="saved-views", gap="xsmall"):
        st.caption("Saved views")
        for row in rows[:_SHOWN]:
            _link(row)
        if len(rows) > _SHOWN:
            with st.expander(f"{len(rows) - _SHOWN} more"):
                for row in rows[_SHOWN:]:
                    _link(row)


def button(page: str) -> None:
    """The way to save the filters of this page and to keep views in order. Call inside the sidebar."""
    if st.button(
        "Save view", key="feel_views", icon=":material/bookmark_add:", type="tertiary",
        help="Keep this page with its filters under a name; rename, share and delete views.",
    ):  # fmt: skip
        _dialog(page)


@st.dialog("Saved views", width="medium", on_dismiss="rerun")
def _dialog(page: str) -> None:
    notice()
    query = address()
    title = PAGES[page].title
    with st.form("feel_save", border=False):
        st.text_input(
            f"Name for {title} with its present filters", key="feel_name", max_chars=saved_views.MAX_NAME,
            placeholder="Failed traces of this week",
        )  # fmt: skip
        st.text("; ".join(f"{clean(name)}: {clean(', '.join(values))}" for name, values in query.items())[:600]
                or "No filter is set: the page as it opens.")  # fmt: skip
        st.form_submit_button(
            "Save", icon=":material/bookmark_add:", type="primary", on_click=_saved, args=(page, query)
        )
    acting = actor()
    admin = operators.allows(acting.role, "admin")
    mine = [row for row in _visible() if row["operator"] == acting.email or admin]
    for row in mine:
        _edit(row, others=row["operator"] != acting.email, may_share=operators.allows(acting.role, "reviewer"))


def _edit(row: Mapping[str, Any], *, others: bool, may_share: bool) -> None:
    view = row["view_id"]
    with st.container(border=True, gap="xsmall"):
        if others:
            st.caption(f"Shared by {markdown_safe(row['operator'])}")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input(
                f"Name of a view of {PAGES[row['page']].title if row['page'] in PAGES else 'a page'}",
                clean(row["name"]), key=f"feel_name_{view}", max_chars=saved_views.MAX_NAME,
                on_change=_renamed, args=(view,),
            )  # fmt: skip
            st.toggle(
                "Shared", row["shared"], key=f"feel_share_{view}", disabled=not may_share, on_change=_shared,
                args=(view,), help="Everybody sees it." if may_share else "Sharing needs the role reviewer.",
            )  # fmt: skip
            st.button("Delete", key=f"feel_delete_{view}", icon=":material/delete:", on_click=_removed, args=(view,))


def _visible() -> list[dict[str, Any]]:
    return saved_views.visible(runtime.current().store, actor().email).to_dicts()


def _link(row: Mapping[str, Any]) -> None:
    page = PAGES[row["page"]]
    st.page_link(
        page.path, label=markdown_safe(row["name"]), icon=page.icon, width="stretch",
        query_params=saved_views.query_of(row["query"]),
        help=f"Shared by {markdown_safe(row['operator'])}" if row["operator"] != actor().email else None,
    )  # fmt: skip


def _saved(page: str, query: Mapping[str, list[str]]) -> None:
    name = str(st.session_state.get("feel_name") or "")

    def work() -> str:
        saved_views.save(runtime.current().store, operator=operator(), page=page, name=name, query=query)
        return "The view is saved."

    perform(work, role="viewer")


def _renamed(view: str) -> None:
    name = str(st.session_state.get(f"feel_name_{view}") or "")

    def work() -> str:
        saved_views.rename(runtime.current().store, view, name, operator=operator(), admin=_is_admin())
        return "The view is renamed."

    perform(work, role="viewer")


def _shared(view: str) -> None:
    shared = bool(st.session_state.get(f"feel_share_{view}"))

    def work() -> str:
        saved_views.share(runtime.current().store, view, shared, operator=operator(), admin=_is_admin())
        return "Everybody sees the view now." if shared else "Only you see the view now."

    perform(work, role="reviewer")


def _removed(view: str) -> None:
    def work() -> str:
        saved_views.remove(runtime.current().store, view, operator=operator(), admin=_is_admin())
        return "The view is deleted."

    perform(work, role="viewer")


def _is_admin() -> bool:
    return operators.allows(actor().role, "admin")
