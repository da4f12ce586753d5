"""The gate before every page: who has not signed in, or may not come in, sees this and nothing else."""

from typing import Final

import streamlit as st

from dashboard import runtime
from dashboard.access import actor
from dashboard.access.actor import Actor
from dashboard.access.claims import Identity, NotProven
from dashboard.ui.text import markdown_safe
from gateway.key_ring import PROXY_HEADERS
from store import operators, sign_ins
from store.errors import TrimtabError

__all__ = ["account", "entered", "stay"]

_SIGN_IN: Final = "sign_in"
_SIGN_OUT: Final = "sign_out"


def entered() -> Actor | None:
    """Who uses this session, when they may see pages; None after saying why not. Lets in who was invited or listed.

    Raises: `TrimtabError` when the store cannot be read.
    """
    current = runtime.current()
    if current.sign_in is None:
        if _forwarded():
            _closed()
            return None
        return actor.actor()
    told = actor.claims()
    if not told:
        _front(None)
        return None
    try:
        found = actor.identity(told)
    except NotProven as why:
        _front(str(why))
        return None
    role = operators.enter(current.store, found.email, listed=current.sign_in.lists(found.email))
    sign_ins.record(current.store, found.session, found.email, role, expires_at=found.expires_at)
    if role is None:
        _not_allowed(found, current.sign_in.contact)
        return None
    return Actor(found.email, role, signed_in=True)


def stay() -> None:
    """Begin a part that draws itself again with this: whoever may not see pages any more meets the gate instead."""
    if not operators.allows(actor.actor().role, "viewer"):
        st.rerun()


def account(acting: Actor) -> None:
    """Say in the sidebar who is signed in, with the way out; nothing where nobody signs in."""
    if not acting.signed_in:
        return
    with st.sidebar, st.container(key="account"):
        # Not Markdown, which would make a link of the address.
        st.text(f"{acting.email}\n{acting.role}")
        _out("Sign out")


def _front(why: str | None) -> None:
    st.title("Trimtab", anchor=False)
    if why is not None:
        st.warning(markdown_safe(why), icon=":material/lock_clock:")
    st.text("Sign in to see what your agents learn.")
    st.button("Sign in", key=_SIGN_IN, type="primary", icon=":material/login:", on_click=st.login)
    if why is not None:
        _out("Use another account")


def _not_allowed(found: Identity, contact: str) -> None:
    st.title("You may not come in yet", anchor=False)
    st.text(f"You are signed in as {found.email}, who is no operator of this Trimtab.")
    st.text(f"Ask {contact or 'an admin of this Trimtab'} to invite this address on the page Settings, then reload.")
    _out("Use another account")


def _out(label: str) -> None:
    if st.button(label, key=_SIGN_OUT, icon=":material/logout:"):
        _end()
        st.logout()


def _end() -> None:
    """Have this sign-in be over also for whoever holds a copy of its cookie."""
    current = runtime.current()
    try:
        found = actor.identity(actor.claims())
        # Whoever is no operator has no rights to end, and writes nothing.
        if operators.role_of(current.store, found.email) is None:
            return
        operators.end_session(current.store, found.session, found.email, expires_at=found.expires_at)
    except (NotProven, TrimtabError):
        # It is over already, or the store cannot be written; the cookie goes in any case.
        return


def _forwarded() -> bool:
    """Whether somebody else's request was passed on to this machine's loopback address."""
    return any(st.context.headers.get(name) for name in PROXY_HEADERS)


def _closed() -> None:
    st.title("This server is for its own machine", anchor=False)
    st.text("A proxy passes requests of others on to it, and nobody has to sign in. Set up sign-in first:")
    st.text("docs/sign-in.md says how. Then restart the server.")
