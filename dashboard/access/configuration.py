"""How operators sign in, from the settings and the environment: all of it or nothing of it.

What is half set up is refused at start: a server that looks protected must not be open.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from store import operators
from store.errors import SettingsError
from store.settings import SETTINGS, Settings, is_loopback

__all__ = ["SignIn", "require_sign_in", "sign_in"]

_SHORTEST_SECRET = 32
_BEGINNING = "sign_in_"
_DOCS = "see docs/sign-in.md"


@dataclass(frozen=True)
class SignIn:
    """Sign-in by OpenID Connect. `redirect` is where the provider sends operators back."""

    metadata_url: str
    client_id: str
    client_secret: str = field(repr=False)
    cookie_secret: str = field(repr=False)
    redirect: str
    addresses: frozenset[str]
    domains: frozenset[str]
    admins: tuple[str, ...]
    lasts: timedelta
    contact: str

    @property
    def origin(self) -> str:
        """The only origin at which the pages are used."""
        parts = urlsplit(self.redirect)
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @property
    def host(self) -> str:
        """The host of that origin."""
        return urlsplit(self.redirect).hostname or ""

    def lists(self, email: str) -> bool:
        """Whether an address may come in without an invitation."""
        return email in self.addresses or email.partition("@")[2] in self.domains

    def secrets(self) -> dict[str, Any]:
        """What Streamlit reads as its secrets; they are handed over in memory and written nowhere."""
        return {
            "auth": {
                "redirect_uri": self.redirect,
                "cookie_secret": self.cookie_secret,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "server_metadata_url": self.metadata_url,
            }
        }


def sign_in(settings: Settings, environ: Mapping[str, str] | None = None) -> SignIn | None:
    """How operators sign in, None when nothing of it is set up.

    Args: `environ` holds the secrets (default: this process's).
    Raises: `SettingsError` when it is half set up.
    """
    if not settings.sign_in_metadata_url:
        for setting in SETTINGS:
            if setting.name.startswith(_BEGINNING) and getattr(settings, setting.name) != setting.default:
                raise _missing("sign_in_metadata_url", f"because {setting.variable} is set")
        return None
    environment = os.environ if environ is None else environ
    for name in ("sign_in_client_id", "sign_in_redirect"):
        if not getattr(settings, name):
            raise _missing(name, "because TRIMTAB_SIGN_IN_METADATA_URL is set")
    for name in ("sign_in_metadata_url", "sign_in_redirect"):
        _require_https(name, getattr(settings, name))
    client_secret = environment.get(settings.sign_in_secret_env, "")
    if not client_secret:
        expected = f"a variable of the environment that holds the secret which the provider gave; {_DOCS}"
        raise SettingsError("TRIMTAB_SIGN_IN_SECRET_ENV", settings.sign_in_secret_env, expected)
    reached = urlsplit(settings.sign_in_redirect).hostname or ""
    if settings.allow_keyless_loopback and not is_loopback(reached):
        # Behind a proxy on this machine everybody comes from loopback.
        raise SettingsError("TRIMTAB_ALLOW_KEYLESS_LOOPBACK", True, f"false while others sign in at {reached}")
    return SignIn(
        metadata_url=settings.sign_in_metadata_url,
        client_id=settings.sign_in_client_id,
        client_secret=client_secret,
        cookie_secret=_cookie_secret(settings, environment),
        redirect=settings.sign_in_redirect,
        addresses=frozenset(_addresses("sign_in_addresses", settings.sign_in_addresses)),
        domains=frozenset(domain.lower() for domain in settings.sign_in_domains.split(",") if domain),
        admins=_addresses("sign_in_admins", settings.sign_in_admins),
        lasts=timedelta(hours=settings.sign_in_hours),
        contact=settings.sign_in_contact,
    )


def require_sign_in(settings: Settings, held: SignIn | None) -> None:
    """Refuse to listen where other machines could reach pages that nobody has to sign in for. Raises: `SettingsError`.

    Agents elsewhere need API keys beside this: see `gateway.access.require_keys`.
    """
    if held is None and not is_loopback(settings.host):
        expected = (
            "a loopback address such as 127.0.0.1, or sign-in: set TRIMTAB_SIGN_IN_METADATA_URL, "
            "TRIMTAB_SIGN_IN_CLIENT_ID, TRIMTAB_SIGN_IN_REDIRECT and TRIMTAB_SIGN_IN_ADMINS, and put the provider's "
            f"secret into {settings.sign_in_secret_env}; {_DOCS}"
        )
        raise SettingsError("TRIMTAB_HOST", settings.host, expected)


def _cookie_secret(settings: Settings, environ: Mapping[str, str]) -> str:
    given = environ.get(settings.sign_in_cookie_secret_env)
    if given is None:
        return _secret_of_this_process()
    if len(given) < _SHORTEST_SECRET:
        expected = f"a variable that holds {_SHORTEST_SECRET} random characters or more, or none; {_DOCS}"
        raise SettingsError("TRIMTAB_SIGN_IN_COOKIE_SECRET_ENV", settings.sign_in_cookie_secret_env, expected)
    return given


@lru_cache(maxsize=1)
def _secret_of_this_process() -> str:
    return secrets.token_urlsafe(48)


def _addresses(name: str, text: str) -> tuple[str, ...]:
    found = []
    for given in filter(None, text.split(",")):
        address = operators.normal(given)
        if address is None:
            raise SettingsError(f"TRIMTAB_{name.upper()}", given, "addresses such as ana@example.com")
        found.append(address)
    return tuple(dict.fromkeys(found))


def _require_https(name: str, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise SettingsError(f"TRIMTAB_{name.upper()}", address, "an address that begins with https://")


def _missing(name: str, why: str) -> SettingsError:
    (expected,) = (setting.expected for setting in SETTINGS if setting.name == name)
    return SettingsError(f"TRIMTAB_{name.upper()}", "", f"{expected}, {why}; {_DOCS}")
