"""Pages under test with operators who sign in: the provider's claims are made up here, all after them is real."""

from dataclasses import replace
from typing import Any

import pytest
from loop_data import NOW

from dashboard import runtime
from dashboard.access import actor
from store import operators, sign_ins
from store.connection import Store
from store.settings import Settings

ADMIN, REVIEWER, VIEWER = "admin@example.com", "reviewer@example.com", "viewer@example.com"
PEOPLE = {ADMIN: "admin", REVIEWER: "reviewer", VIEWER: "viewer"}
SETTINGS: dict[str, Any] = {
    "sign_in_metadata_url": "https://accounts.example.com/.well-known/openid-configuration",
    "sign_in_client_id": "trimtab",
    "sign_in_redirect": "https://trimtab.example.com/oauth2callback",
    "sign_in_domains": "team.example",
    "sign_in_contact": "Grace of the platform team",
}


def claims(email: str, **changed: object) -> dict[str, object]:
    """What the provider says about somebody who signed in a minute ago."""
    told = {"email": email, "email_verified": True, "sub": email, "iss": "x", "nonce": "n"}
    return {**told, "iat": NOW.timestamp() - 60, **changed}


def come(patched: pytest.MonkeyPatch, email: str | None, **changed: object) -> None:
    """From now on the session is this person's; None for somebody who has not signed in."""
    told = {} if email is None else claims(email, **changed)
    patched.setattr(actor, "claims", lambda: told)


def signing_in(store: Store, patched: pytest.MonkeyPatch) -> None:
    """Set sign-in up for the pages of this store, with one operator of each role who has come in."""
    patched.setenv("OIDC_CLIENT_SECRET", "the secret of the client")
    runtime.install(replace(runtime.current(), settings=Settings(**SETTINGS)))
    for email, role in PEOPLE.items():
        operators.invite(store, email, role, operator="Ada")  # type: ignore[arg-type]
        operators.enter(store, email, listed=False)
        come(patched, email)
        found = actor.identity(actor.claims())
        sign_ins.record(store, found.session, email, operators.role_of(store, email), expires_at=found.expires_at)
    come(patched, ADMIN)
