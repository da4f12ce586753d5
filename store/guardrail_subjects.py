"""What a guardrail is about, as operators write it: sites and actions, read so that each has one form.

A site is a host, with a port where only that one is meant: `example.com` covers its subdomains, every port and every
way of writing it. Hosts are compared as IDNA A-labels after UTS #46 mapping (RFC 5891; unicode.org/reports/tr46), IPv4
addresses after the notations that browsers accept (WHATWG URL, 3.5).

An action is `NAME` or `NAME(ARGUMENT=PATTERN, ...)`: the name of a tool or of the attribute `action`, and conditions on
its arguments, all of which must hold; `*` stands for any text, upper and lower case are the same, and
`address.city` is the member `city` of the argument `address`.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

import idna

__all__ = ["ActionPattern", "Site", "action_pattern", "host_name", "site", "text_pattern"]

_PORT = re.compile(r"^(?P<host>.*?)(?::(?P<port>\d{1,5}))?$", re.DOTALL)
_ACTION = re.compile(r"^(?P<name>[^()]+?)\s*(?:\((?P<arguments>.+)\))?$", re.DOTALL)
# Letters, digits, dashes and underscores; A-labels are checked below.
_PLAIN = re.compile(r"(?!.*\bxn--)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_IPV4_PART = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


@dataclass(frozen=True)
class Site:
    """A host in its one form (lower case, A-labels, no last dot) and a port, None for any."""

    host: str
    port: int | None = None

    def covers(self, other: "Site") -> bool:
        """Whether the other is this site: the same host or one below it, on this port if one is stated."""
        if self.port is not None and other.port != self.port:
            return False
        return other.host == self.host or (other.host.endswith("." + self.host) and not _is_address(self.host))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True)
class ActionPattern:
    """A pattern of the name, and one of the text of each argument named by its path."""

    name: re.Pattern[str]
    arguments: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]


def site(text: str) -> Site | None:
    """The site that an operator means by `example.com`, `Example.com:8443` or `[::1]:80`; None when it is no host."""
    text = text.strip()
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        port = re.fullmatch(r"(?::(\d{1,5}))?", rest)
        host = host_name(address) if closed and ":" in address else None
        stated = port[1] if port else None
    else:
        if text.count(":") > 1:  # an IPv6 address without brackets
            return Site(found) if (found := host_name(text)) is not None else None
        port = _PORT.fullmatch(text)
        host = host_name(port["host"]) if port else None
        stated = port["port"] if port else None
    if host is None or port is None or (stated is not None and not 0 < int(stated) < 65_536):
        return None
    return Site(host, int(stated) if stated is not None else None)


def host_name(text: str) -> str | None:
    """A host in its one form: lower-case A-labels, or an address in canonical notation; None when it is none."""
    text = unicodedata.normalize("NFKC", unquote(text)).strip().rstrip(".").lower()
    text = text.replace("\u3002", ".").replace("\u00ad", "").replace("\u200b", "")
    if not text or len(text) > 253:
        return None
    if ":" in text:
        return _ipv6(text.strip("[]"))
    if _IPV4_PART.fullmatch(text.rpartition(".")[2]):
        return _ipv4(text)
    if _PLAIN.fullmatch(text):
        return text
    try:
        return idna.encode(text, uts46=True, transitional=False).decode("ascii")
    except idna.IDNAError:
        # What IDNA 2008 does not allow but is in use all the same.
        return text if re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", text) else None


def action_pattern(text: str) -> ActionPattern | None:
    """The pattern that an operator wrote; None when it cannot be read."""
    read = _ACTION.fullmatch(text.strip())
    if read is None or not read["name"].strip():
        return None
    arguments = []
    for part in (read["arguments"] or "").split(",") if read["arguments"] else []:
        name, equals, pattern = part.partition("=")
        path = tuple(step.strip() for step in name.split("."))
        if not equals or not all(path) or not pattern.strip():
            return None
        arguments.append((path, text_pattern(pattern)))
    return ActionPattern(text_pattern(read["name"]), tuple(arguments))


def text_pattern(text: str) -> re.Pattern[str]:
    """A pattern in which only `*` is special, for a whole text in NFC, upper and lower case alike."""
    parts = unicodedata.normalize("NFC", text.strip()).split("*")
    return re.compile(".*".join(map(re.escape, parts)), re.IGNORECASE | re.DOTALL)


def _is_address(host: str) -> bool:
    return ":" in host or _IPV4_PART.fullmatch(host.rpartition(".")[2]) is not None


def _ipv6(text: str) -> str | None:
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)


def _ipv4(text: str) -> str | None:
    """One to four parts, each decimal, octal or hexadecimal; the last fills what is left."""
    parts = text.split(".")
    if len(parts) > 4 or not all(_IPV4_PART.fullmatch(part) for part in parts):
        return None
    try:
        values = [_ipv4_part(part) for part in parts]
    except ValueError:
        return None
    limit = 256 ** (5 - len(values))
    if any(value > 255 for value in values[:-1]) or values[-1] >= limit:
        return None
    number = sum(value * 256 ** (3 - place) for place, value in enumerate(values[:-1])) + values[-1]
    return str(ipaddress.IPv4Address(number))


def _ipv4_part(part: str) -> int:
    if part[:2].lower() == "0x":
        return int(part[2:] or "0", 16)
    return int(part, 8) if len(part) > 1 and part[0] == "0" else int(part)
