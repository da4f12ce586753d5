"""Where somebody wanted to go when they were asked to sign in: kept in a cookie until the provider sends them back.

Signing in goes by the provider and ends at the first page. The page from which somebody leaves for the provider is in
the Referer of their request; it comes back as the place of the answer that makes their session. Only pages of ours, by
name, and their parameters are ever kept or gone to: whoever can set the cookie or the Referer chooses among these.
"""

from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dashboard.feel import pages

__all__ = ["COOKIE", "LEAVING", "RETURNING", "forget", "keep", "place"]

COOKIE: Final = "trimtab_place"
LEAVING: Final = "/auth/login"
RETURNING: Final = "/oauth2callback"
_PAGES: Final = frozenset(pages.PAGES) - {"overview"}  # where signing in ends by itself

_LONGEST: Final = 2_000
_MOST_FIELDS: Final = 50
_SECONDS: Final = 900


def keep(referer: str | None, origin: str) -> str | None:
    """The cookie (as in Set-Cookie) that keeps the page of ours that is named; None when it names none."""
    try:
        parts = urlsplit(referer or "")
        if f"{parts.scheme}://{parts.netloc}".lower() != origin:
            return None
    except ValueError:
        return None
    wanted = _ours(parts.path, parts.query)
    return None if wanted is None else _cookie(quote(wanted, safe=""), _SECONDS)


def forget() -> str:
    """The cookie that takes the kept one away."""
    return _cookie("", 0)


def place(kept: str | None) -> str | None:
    """The page that a cookie keeps, as a path of ours with its parameters; None when it keeps none."""
    path, _, query = unquote(kept or "").partition("?")
    return _ours(path, query)


def _ours(path: str, query: str) -> str | None:
    """The same place, put together anew; None when it is none of our pages."""
    name = path.removeprefix("/")
    if name not in _PAGES or len(query) > _LONGEST:
        return None
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    # Encoded anew nothing is left that could end a header or a cookie.
    made = f"/{name}?{urlencode(fields)}" if fields else f"/{name}"
    return made if len(made) <= 3 * _LONGEST else None


def _cookie(value: str, seconds: int) -> str:
    return f"{COOKIE}={value}; Path={RETURNING}; Max-Age={seconds}; HttpOnly; SameSite=Lax"
