"""Operators: who may sign in, what each role lets them do, and inviting, changing and removing them."""

from typing import Any, Final, cast

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.access.actor import actor
from dashboard.access.configuration import SignIn
from dashboard.learn.actions import operator, perform
from dashboard.learn.tables import height
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe, one_line
from store import operators
from store.errors import ActionRefused
from store.operator_memory import Role
from store.operators import ROLES

__all__ = ["draw"]

_INVITE: Final = "operator_invite"
_CHOSEN: Final = "operator_chosen"
_ROLE: Final = "operator_role"
_ADDRESS: Final = 254
_TIMES: Final = {
    name: st.column_config.DatetimeColumn(label, format="YYYY-MM-DD HH:mm", timezone="UTC")
    for name, label in (("since", "invited (UTC)"), ("seen", "last seen (UTC)"))
}


def draw() -> None:
    """Who may come in, and the forms by which admins change it."""
    st.subheader("Operators", anchor=False)
    signing_in = runtime.current().sign_in
    st.caption(_who(signing_in))
    held = data.fresh(operators.listed)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if held.is_empty():
            states.nothing("Nobody is invited", "Invite people here before sign-in is set up, or after.")
        else:
            _table(held)
            _change(held)
    with right:
        _invite()
        for role, may in ROLES.items():
            st.caption(f"**{role}** {may}")


def _who(signing_in: SignIn | None) -> str:
    if signing_in is None:
        return (
            "Nobody signs in: whoever uses this machine is its admin, and no other machine reaches the pages. "
            "docs/sign-in.md says how to set up sign-in; those listed here may come in then."
        )
    parts = ["whoever is invited here"]
    if signing_in.addresses:
        parts.append(fmt.plural(len(signing_in.addresses), "address", "addresses") + " of the settings, as viewers")
    if signing_in.domains:
        parts.append(f"everybody of {', '.join(sorted(signing_in.domains))}, as viewers")
    hours = signing_in.lasts.total_seconds() / 3600.0
    return f"May come in: {markdown_safe('; '.join(parts))}. A sign-in lasts {hours:g} hours."


def _table(held: pl.DataFrame) -> None:
    rows = [
        {
            "address": one_line(row["email"], 254), "role": row["role"], "state": row["state"],
            "seen": row["last_seen_at"], "since": row["invited_at"], "by": one_line(row["invited_by"], 254),
        }
        for row in held.to_dicts()
    ]  # fmt: skip
    export.table(
        "operators",
        pl.DataFrame(rows, infer_schema_length=None), hide_index=True, height=height(held.height),
        column_config=fmt.columns(_TIMES), alt=f"{held.height} operators with role and state",
    )  # fmt: skip


def _invite() -> None:
    with st.form(_INVITE, clear_on_submit=False):
        st.markdown("**Invite somebody**")
        st.text_input("Address", key=f"{_INVITE}_address", max_chars=_ADDRESS, placeholder="ana@example.com")
        st.selectbox("Role", list(ROLES), key=f"{_INVITE}_role")
        offer.submit(
            "Invite",
            role="admin",
            type="primary",
            icon=":material/person_add:",
            key=f"{_INVITE}_confirm",
            on_click=_invited,
        )


def _change(held: pl.DataFrame) -> None:
    standing = [row["email"] for row in held.to_dicts() if row["state"] != "removed"]
    if not standing:
        return
    if st.session_state.get(_CHOSEN) not in standing:
        st.session_state[_CHOSEN] = None
    chosen = st.selectbox(
        "Change somebody's rights", standing, index=None, key=_CHOSEN, placeholder="Choose an operator"
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("New role", list(ROLES), key=_ROLE, width=140)
        offer.button("Change the role", role="admin", key="operator_change", on_click=_changed, disabled=chosen is None)
        with st.popover("Remove", icon=":material/person_remove:", disabled=chosen is None):
            st.text(
                f"{one_line(chosen or '', _ADDRESS)} loses all rights at once, also in sessions that are open. "
                "The audit log keeps what they did."
            )
            if chosen == actor().email:
                st.warning("That is you: this page closes.", icon=":material/warning:")
            offer.button(
                "Remove this operator", key="operator_remove", type="primary", icon=":material/person_remove:",
                role="admin", on_click=_removed, args=(chosen,),
            )  # fmt: skip


def _invited() -> None:
    read = st.session_state
    address, role = str(read[f"{_INVITE}_address"]), cast(Role, read[f"{_INVITE}_role"])

    def work() -> str:
        invited = operators.invite(runtime.current().store, address, role, operator=operator())
        return f"{invited} may sign in with the role {role}. Nothing is sent to them: tell them where."

    if perform(work, role="admin"):
        read[f"{_INVITE}_address"] = ""


def _changed() -> None:
    email, role = _chosen(), cast(Role, st.session_state[_ROLE])

    def work() -> str:
        if not email:
            # The page may have lost the choice, when it could not be drawn for a moment.
            raise ActionRefused("Change a role", "nobody is chosen.", "Choose an operator and a role first.")
        operators.change(runtime.current().store, email, role, operator=operator())
        return f"{email} has the role {role} now."

    perform(work, role="admin")


def _removed(chosen: str | None) -> None:
    """Remove whom the page named, whatever is chosen by now."""
    email = chosen or ""

    def work() -> str:
        operators.remove(runtime.current().store, email, operator=operator())
        return f"{email} is removed."

    perform(work, role="admin")


def _chosen() -> str:
    chosen: Any = st.session_state.get(_CHOSEN)
    return str(chosen or "")
