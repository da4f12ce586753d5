"""How notices, routes and deliveries are named on pages."""

from typing import Final
from urllib.parse import urlsplit

from store.notice_route import Email, Route
from store.notices import Severity

__all__ = ["ICONS", "KINDS", "destination", "times"]

ICONS: Final[dict[Severity, str]] = {
    "critical": ":material/error:",
    "warning": ":material/warning:",
    "info": ":material/info:",
}
# What routes may be limited to, beside kinds that were posted already.
KINDS: Final = ("backup", "drift", "guardrail", "incident", "job", "lesson", "model change", "notices")


def destination(route: Route) -> str:
    """Where a route leads, without the part of an address that may be a secret."""
    target = route.target
    if isinstance(target, Email):
        first, more = target.recipients[0], len(target.recipients) - 1
        return f"{first}{f' and {more} more' if more else ''}, by {target.host}:{target.port} ({target.security})"
    if target.url is None:
        return f"the address in {target.url_variable}"
    parts = urlsplit(target.url)
    return f"{parts.scheme}://{parts.netloc}/…"


def times(count: int) -> str:
    """How often something was seen, if more than once."""
    return f", {count:,} times" if count > 1 else ""
