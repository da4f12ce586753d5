"""API keys: what agents and scripts send with their requests. Made and shown once, listed with their use, revoked."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.learn.tables import height
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from gateway.key_ring import KeyUse
from store import api_keys
from store.api_keys import DEFAULT_RATE_PER_SECOND, MAX_NAME, MAX_RATE_PER_SECOND, SCOPES

__all__ = ["draw"]

_MAKE: Final = "key_make"
_MADE: Final = "key_made"
_CHOSEN: Final = "key_chosen"
_COLUMNS: Final = {
    "last used": st.column_config.DatetimeColumn("last used (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
    "made": st.column_config.DatetimeColumn("made (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
    "rate": st.column_config.NumberColumn("requests a second", format="%g"),
}


def draw() -> None:
    """The keys, and the forms by which admins make and revoke them."""
    st.subheader("Keys", anchor=False)
    st.caption("Agents and scripts name a key with every request. The store holds no key, only a hash of each.")
    _just_made()
    held = data.fresh(api_keys.listed)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if held.is_empty():
            states.nothing("There is no key", "Make one for each agent, so that one can be revoked alone.")
        else:
            _table(held)
            _revoke(held)
    with right:
        _make()


def _just_made() -> None:
    """The text of a new key until it is put away. It is kept in this session only."""
    made: tuple[str, str] | None = st.session_state.get(_MADE)
    if made is None:
        return
    with st.container(border=True):
        st.markdown("**The new key.** Copy it now: it is not shown again.")
        st.code(made[1], language=None, wrap_lines=True)
        st.button("I have copied it", key="key_put_away", icon=":material/check:", on_click=_put_away)


def _table(held: pl.DataFrame) -> None:
    gateway = runtime.current().gateway
    used = {} if gateway is None else gateway.access.use()
    rows = pl.DataFrame([_row(key, used.get(key["key_id"])) for key in held.to_dicts()], infer_schema_length=None)
    export.table(
        "api keys",
        rows, hide_index=True, height=height(held.height), column_config=fmt.columns(_COLUMNS),
        alt=f"{held.height} API keys with their use",
    )  # fmt: skip


def _row(key: dict[str, Any], use: KeyUse | None) -> dict[str, Any]:
    """The process knows of a use up to a minute before the store does."""
    last = use.last_used_at if use is not None and use.last_used_at is not None else key["last_used_at"]
    return {
        "name": one_line(key["name"], MAX_NAME), "key": f"tt_{key['key_id']}",
        "state": "in force" if key["revoked_at"] is None else "revoked", "scopes": ", ".join(key["scopes"]),
        "last used": last, "rate": key["rate_per_second"], "burst": key["burst"], "made": key["created_at"],
        "by": one_line(key["created_by"], 254),
    }  # fmt: skip


def _make() -> None:
    with st.form(_MAKE, clear_on_submit=False):
        st.markdown("**Make a key**")
        st.text_input("Name", key=f"{_MAKE}_name", max_chars=MAX_NAME, placeholder="Which agent or script it is for")
        st.multiselect(
            "It may", list(SCOPES), key=f"{_MAKE}_scopes", default=["ingest", "steer"],
            format_func=lambda scope: f"{scope}: {SCOPES[scope]}",
        )  # fmt: skip
        st.number_input(
            "Requests a second", 0.01, MAX_RATE_PER_SECOND, DEFAULT_RATE_PER_SECOND, key=f"{_MAKE}_rate",
            help="In the long run; twice as many may come at once.",
        )  # fmt: skip
        offer.submit(
            "Make it", role="admin", type="primary", icon=":material/key:", key=f"{_MAKE}_confirm", on_click=_made
        )


def _revoke(held: pl.DataFrame) -> None:
    names = {
        key["key_id"]: f"{one_line(key['name'], 60)} (tt_{key['key_id']})"
        for key in held.to_dicts()
        if key["revoked_at"] is None
    }
    if not names:
        return
    if st.session_state.get(_CHOSEN) not in names:
        st.session_state[_CHOSEN] = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Put a key out of force", list(names), index=None, key=_CHOSEN, format_func=lambda key: names[key],
            placeholder="Choose a key",
        )  # fmt: skip
        with st.popover("Revoke", icon=":material/key_off:", disabled=chosen is None):
            st.text("Requests with it are refused at once, for good. What it brought stays.")
            offer.button("Revoke this key", role="admin", key="key_revoke", type="primary", on_click=_revoked)


def _made() -> None:
    read = st.session_state
    name, rate = str(read[f"{_MAKE}_name"]).strip() or None, float(read[f"{_MAKE}_rate"])

    def work() -> str:
        made = api_keys.create(
            runtime.current().store, scopes=list(read[f"{_MAKE}_scopes"]), name=name, rate_per_second=rate,
            operator=operator(),
        )  # fmt: skip
        read[_MADE] = (made.key.key_id, made.text)
        return f"The key tt_{made.key.key_id} is in force."

    perform(work, role="admin")


def _revoked() -> None:
    key_id = str(st.session_state.get(_CHOSEN) or "")

    def work() -> str:
        revoked = api_keys.revoke(runtime.current().store, key_id, operator=operator())
        made: tuple[str, str] | None = st.session_state.get(_MADE)
        if made is not None and made[0] == revoked.key_id:
            _put_away()
        return f"The key tt_{revoked.key_id} is out of force."

    perform(work, role="admin")


def _put_away() -> None:
    st.session_state.pop(_MADE, None)
