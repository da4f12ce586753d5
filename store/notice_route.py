"""A route of notices as an operator states it, and what it has to be.

A route holds names of environment variables, never a secret. Their names begin with NOTICE_, so that no route can send
another secret of this machine, such as the model's key, to a server of its choice.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Final, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from store.errors import ActionRefused
from store.notices import SEVERITIES, Severity

__all__ = [
    "ACTION", "Email", "QuietHours", "Route", "Security", "Webhook", "checked", "checked_address", "is_quiet",
    "require",
]  # fmt: skip

Security = Literal["starttls", "tls", "plain"]

ACTION: Final = "Save the route"
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,80}")
_VARIABLE: Final = re.compile(r"NOTICE_[A-Z0-9_]{1,120}")
_MAILBOX: Final = re.compile(r"[^\s@<>,;:\"\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.\-\[\]:]{1,255}")
_HOST: Final = re.compile(r"[A-Za-z0-9.\-:_]{1,255}")
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_MOST_RECIPIENTS: Final = 50
_LONGEST_GROUP: Final = 1_440  # minutes


@dataclass(frozen=True)
class Webhook:
    """An address that is sent JSON: `url`, or what `url_variable` holds where the address itself is a secret."""

    url: str | None = None
    url_variable: str | None = None
    secret_variable: str | None = None  # of the signature; None: not signed


@dataclass(frozen=True)
class Email:
    """A mail server and who gets the messages."""

    host: str
    port: int
    security: Security
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password_variable: str | None = None


@dataclass(frozen=True)
class QuietHours:
    """From `start` to before `end` (HH:MM by the clock on the wall in `zone`); over midnight when `end` is earlier."""

    start: str
    end: str
    zone: str


@dataclass(frozen=True)
class Route:
    """Where notices go, which and when; no `kinds`: all.

    Notices within `group_minutes` of the first are one message. In quiet hours they wait, critical ones only if not
    `critical_passes`.
    """

    name: str
    target: Webhook | Email
    kinds: tuple[str, ...] = ()
    least_severity: Severity = "warning"
    quiet: QuietHours | None = None
    critical_passes: bool = True
    group_minutes: int = 5


def is_quiet(quiet: QuietHours | None, now: datetime) -> bool:
    """Whether the clock on the wall shows a time within the quiet hours. `now` aware."""
    if quiet is None:
        return False
    wall = now.astimezone(ZoneInfo(quiet.zone)).time().replace(tzinfo=None)
    start, end = time.fromisoformat(quiet.start), time.fromisoformat(quiet.end)
    return start <= wall < end if start < end else wall >= start or wall < end


def checked(route: Route) -> Route:
    """The route in its final form. Raises: `ActionRefused` naming the first value that cannot be used."""
    name = route.name.strip()
    require(_NAME.fullmatch(name) is not None, f"the name is {name[:100]!r}", "Use 1 to 80 characters on one line.")
    require(route.least_severity in SEVERITIES, f"the least severity is {route.least_severity!r}",
             f"Expected one of {', '.join(SEVERITIES)}.")  # fmt: skip
    require(0 <= route.group_minutes <= _LONGEST_GROUP, f"notices are grouped over {route.group_minutes} minutes",
             f"Expected 0 to {_LONGEST_GROUP}.")  # fmt: skip
    kinds = tuple(sorted({kind.strip() for kind in route.kinds if kind.strip()}))
    require(len(kinds) <= 100 and all(len(kind) <= 80 for kind in kinds), "the kinds are too many or too long",
             "Use at most 100 kinds of 80 characters.")  # fmt: skip
    if route.quiet is not None:
        _check_quiet(route.quiet)
    target = _checked_webhook(route.target) if isinstance(route.target, Webhook) else _checked_email(route.target)
    return replace(route, name=name, kinds=kinds, target=target)


def checked_address(url: str) -> str:
    """An address that a webhook may have. Raises: `ActionRefused` for anything but plain http and https.

    The address is not repeated in the text: it may hold a secret.
    """
    text = url.strip()
    remedy = "Expected an address such as https://chat.example.com/hooks/trimtab, without user or fragment."
    unusable = len(text) > 2_000 or not text.isascii() or re.search(r"[\s\x00-\x1f\\@]", text)
    require(not unusable, "the address has a user, blanks or characters that are not ASCII", remedy)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ActionRefused(ACTION, "the address cannot be read.", remedy) from None
    plain = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment and port != 0
    require(bool(plain), "the address is not one of http or https", remedy)
    return text


def _checked_webhook(target: Webhook) -> Webhook:
    url = (target.url or "").strip() or None
    url_variable = _variable("address", target.url_variable)
    require((url is None) != (url_variable is None), "there is not one address",
             "Give the address, or the name of the variable that holds it.")  # fmt: skip
    return Webhook(
        checked_address(url) if url is not None else None, url_variable, _variable("secret", target.secret_variable)
    )


def _checked_email(target: Email) -> Email:
    host, sender = target.host.strip(), target.sender.strip()
    recipients = tuple(dict.fromkeys(each.strip() for each in target.recipients if each.strip()))
    require(_HOST.fullmatch(host) is not None, f"the mail server is {host[:100]!r}",
             "Expected a name such as smtp.example.com.")  # fmt: skip
    require(1 <= target.port <= 65_535, f"the port is {target.port}", "Expected 1 to 65535.")
    require(target.security in get_args(Security), f"the security is {target.security!r}",
             f"Expected one of {', '.join(get_args(Security))}.")  # fmt: skip
    for each in (sender, *recipients):
        require(_MAILBOX.fullmatch(each) is not None and each.isascii(), f"{each[:100]!r} is no e-mail address",
                 "Expected addresses such as operators@example.com.")  # fmt: skip
    require(1 <= len(recipients) <= _MOST_RECIPIENTS, f"there are {len(recipients)} recipients",
             f"Expected 1 to {_MOST_RECIPIENTS}.")  # fmt: skip
    user = (target.user or "").strip() or None
    password_variable = _variable("password", target.password_variable)
    require((user is None) == (password_variable is None), "there is a user or a password alone",
             "Give both, or neither for a server that asks for none.")  # fmt: skip
    open_password = target.security == "plain" and user is not None
    require(not open_password or host in ("localhost", "127.0.0.1", "::1"), "the password would be sent readable",
             "Use starttls or tls.")  # fmt: skip
    return replace(target, host=host, sender=sender, recipients=recipients, user=user,
                   password_variable=password_variable)  # fmt: skip


def _check_quiet(quiet: QuietHours) -> None:
    for label, clock in (("begin", quiet.start), ("end", quiet.end)):
        require(_CLOCK.fullmatch(clock) is not None, f"the quiet hours {label} at {clock[:20]!r}",
                 "Expected a time such as 22:00.")  # fmt: skip
    require(quiet.start != quiet.end, "the quiet hours end when they begin",
             "Stop the route to hold everything; leave them out to hold nothing.")  # fmt: skip
    require(quiet.zone in available_timezones(), f"the time zone is {quiet.zone[:60]!r}",
             "Expected a name such as Europe/Berlin.")  # fmt: skip


def _variable(what: str, name: str | None) -> str | None:
    name = (name or "").strip() or None
    # What was typed is not repeated: it may be the secret itself.
    require(
        name is None or _VARIABLE.fullmatch(name) is not None,
        f"the {what} variable is not the name of a variable for notices",
        "Give the name of an environment variable that begins with NOTICE_, never the secret itself.",
    )
    return name


def require(condition: bool, why: str, remedy: str) -> None:
    """Refuse to save a route where the condition does not hold. Raises: `ActionRefused`."""
    if not condition:
        raise ActionRefused(ACTION, f"{why}.", remedy)
