"""The sites that a tool call asks for: hosts of the URLs in its arguments and in the attributes that name its target.

A URL is read the way clients read it, not the way it looks: what stands before @ is no host, backslashes are slashes,
the case, a last dot, percent signs, IDN and the notation of an address make no difference.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from store.guardrail_subjects import Site, host_name, site

__all__ = ["sites"]

# Arguments and attributes whose value is a URL or a host even if it does not look like one.
_TARGETS: Final = frozenset(
    {
        "url", "uri", "href", "link", "host", "hostname", "domain", "site", "website", "endpoint", "webpage",
        "url.full", "url.domain", "http.url", "http.host", "server.address", "net.peer.name", "net.peer.ip",
        "peer.address", "http.request.header.host",
    }
)  # fmt: skip
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}
_URL: Final = re.compile(
    r"""(?P<scheme>[a-z][a-z0-9+.-]*):(?:(?<=http:)|(?<=https:)|(?<=ws:)|(?<=wss:)|(?<=ftp:)|(?=[/\\]{2}))[/\\]*"""
    r"""(?P<authority>[^/\\?\#\s"'<>`|^{}]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE: Final = re.compile(r"""^[/\\]*(?P<authority>[^/\\?#\s"'<>`|^{}]+)""")
_PLAIN_SCHEME: Final = re.compile(r"^[a-z][a-z0-9+.-]*:[/\\]*", re.IGNORECASE)
_CONTROLS: Final = re.compile(r"[\t\r\n]")
_DEPTH: Final = 40


def sites(arguments: str | None, attributes: str | None) -> set[Site]:
    """The sites in the text of a call's arguments, and in those of its attributes that name where it went."""
    found: set[Site] = set()
    for key, text in _texts(_read(arguments), "", 0):
        found.update(_sites(text, key))
    stated = _read(attributes)
    if isinstance(stated, dict):
        for key, value in stated.items():
            if key.lower() in _TARGETS and isinstance(value, str):
                found.update(_sites(value, key.lower()))
    return found


def _read(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _texts(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every text with the key that it stands under; JSON inside a text is read too."""
    if depth > _DEPTH:
        yield key, json.dumps(value)
    elif isinstance(value, str):
        inner = _read(value) if value[:1] in ("{", "[") else None
        if isinstance(inner, (dict, list)):
            yield from _texts(inner, key, depth + 1)
        else:
            yield key, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(name, "", depth + 1)
            yield from _texts(member, str(name).strip().lower(), depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, key, depth + 1)


def _sites(text: str, key: str) -> Iterator[Site]:
    target = key in _TARGETS or key.endswith(("_url", "_uri", "_host"))
    if target:
        text = _CONTROLS.sub("", text)
    for match in _URL.finditer(text) if ":" in text else ():
        found = _site(match["authority"])
        if found is not None:
            port = _PORTS.get(match["scheme"].lower()) if found.port is None else found.port
            yield Site(found.host, port)
    if target and not _PLAIN_SCHEME.match(text.strip()):
        bare = _BARE.match(text.strip())
        found = _site(bare["authority"]) if bare else None
        if found is not None:
            yield found


def _site(authority: str) -> Site | None:
    """The site of `user:password@host:port`; a port that is none is left out rather than the host."""
    host = authority.rpartition("@")[2].rstrip(",;:!)")
    found = site(host)
    if found is None and ":" in host and not host.startswith("["):
        name = host_name(host.partition(":")[0])
        return None if name is None else Site(name)
    return found
