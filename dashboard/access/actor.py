"""Who acts: the operator of the running session, with the role that the store gives them at this moment.

Every change made through a page passes `permit`, which asks for the role anew: whoever is demoted or removed loses
their rights in sessions that are open, with the next thing they do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import streamlit as st

from dashboard import runtime
from dashboard.access.claims import Identity, NotProven, judge
from store import operators
from store.errors import Forbidden
from store.operator_memory import Role

__all__ = ["LOCAL", "Actor", "Role", "actor", "claims", "holder", "identity", "permit", "permitting"]

LOCAL: Final = "local operator"


@dataclass(frozen=True)
class Actor:
    """Who acts. `role` is None for somebody who is no operator; `signed_in` is false for the local operator."""

    email: str
    role: Role | None
    signed_in: bool


def actor() -> Actor:
    """Who acts in this session; without sign-in configured, whoever can reach this machine's loopback address."""
    if runtime.current().sign_in is None:
        return Actor(LOCAL, "admin", signed_in=False)
    return holder(claims())


def permit(role: Role, action: str) -> Actor:
    """Who acts, when they hold the `role` or a higher one.

    Args: `action` in words, such as "Approving a lesson", for the refusal.
    Raises: `Forbidden`.
    """
    return _require(actor(), role, action)


def permitting() -> Callable[[Role, str], Actor]:
    """The `permit` of whoever the page is drawn for, for what Streamlit calls in another thread when it is fetched."""
    told = claims() if runtime.current().sign_in is not None else None

    def permit(role: Role, action: str) -> Actor:
        return _require(actor() if told is None else holder(told), role, action)

    return permit


def _require(acting: Actor, role: Role, action: str) -> Actor:
    if not operators.allows(acting.role, role):
        raise Forbidden(action, role, acting.role)
    return acting


def claims() -> Mapping[str, object]:
    """What the provider said about whoever uses this session; nothing when nobody has signed in."""
    return st.user.to_dict() if st.user.get("is_logged_in") is True else {}


def identity(told: Mapping[str, object]) -> Identity:
    """Whose address claims prove at this moment. Raises: `NotProven`, also when the sign-in was ended."""
    current = runtime.current()
    if current.sign_in is None:
        raise NotProven("Nobody signs in here: sign-in is not set up.")
    found = judge(told, lasts=current.sign_in.lasts, now=current.clock.now())
    if operators.is_ended(current.store, found.session):
        raise NotProven("You have signed out. Sign in again.")
    return found


def holder(told: Mapping[str, object]) -> Actor:
    """Who acts by these claims."""
    try:
        found = identity(told)
    except NotProven:
        return Actor("", None, signed_in=False)
    return Actor(found.email, operators.role_of(runtime.current().store, found.email), signed_in=True)
