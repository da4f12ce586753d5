"""The keys that are in force, in memory, and whether a request may do what it asks: no store, no waiting.

A request names its key as `Authorization: Bearer KEY` or `x-api-key: KEY`, percent-encoded or not (the value of
OTEL_EXPORTER_OTLP_HEADERS is, and some exporters send it undecoded). Nothing here trusts a forwarding header.
"""

import hmac
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import unquote

from starlette.datastructures import Headers

from gateway.key_refusals import AccessRefused, KeyMissing, KeyUnknown, RateLimited, ScopeMissing
from store import api_keys
from store.api_keys import ApiKey
from store.settings import is_loopback

__all__ = ["KEYLESS_SCOPES", "KEYLESS_SOURCE", "Bucket", "Caller", "KeyRing", "KeyUse", "Scope"]

Scope = Literal["ingest", "steer", "propose", "admin"]

# What a keyless caller on this machine may do: what agents do, not what operators do.
KEYLESS_SCOPES: frozenset[str] = frozenset({"ingest", "steer", "propose"})
KEYLESS_SOURCE = "local"

_TELL_SECONDS = 60.0
# A percent-encoded key is at most three times as long as a key, with "Bearer" before it.
_LONGEST_CREDENTIAL = 300
_SPACE = " \t"
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(?::\d{1,5})?", re.IGNORECASE)
# Compared with when there is no such key, so that an unknown id takes as long as a wrong secret.
_NO_HASH = "0" * 64
_BROWSER_HEADERS = ("origin", "sec-fetch-site")
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True)
class Caller:
    """Who sends a request: a key, or someone on this machine without one (`key_id` None).

    `source` is the name under which what they send is stored: the key's name, so that it outlives the key's renewal.
    """

    key_id: str | None
    name: str
    source: str


@dataclass(frozen=True)
class KeyUse:
    """What a key did since this process started; `last_used_at` also counts earlier ones."""

    admitted: int
    refused: int
    last_used_at: datetime | None

    def plus(self, other: "KeyUse | None") -> "KeyUse":
        """What it did in two processes."""
        if other is None:
            return self
        moments = [each for each in (self.last_used_at, other.last_used_at) if each is not None]
        return KeyUse(self.admitted + other.admitted, self.refused + other.refused, max(moments) if moments else None)


class Bucket:
    """A token bucket: `burst` requests at once, `rate_per_second` in the long run.

    In any t seconds it admits at most burst + rate * t requests. Times are in seconds of one monotonic clock.
    """

    def __init__(self, rate_per_second: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate_per_second, burst
        self._tokens, self._at = float(burst), now

    def take(self, now: float) -> float:
        """Admit one request, returning 0, or return the seconds until one would be admitted."""
        self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0


class _Held:
    """A key in force, with what it did here."""

    def __init__(self, key: ApiKey, now: float) -> None:
        self.key = key
        self.bucket = Bucket(key.rate_per_second, key.burst, now)
        self.caller = Caller(key.key_id, key.name, key.name)
        self.admitted = 0
        self.refused = 0
        self.last_used_at = key.last_used_at
        # When the last use was told, by the monotonic clock.
        self.told_at = -math.inf


class KeyRing:
    """Checks requests against the keys that it was told of."""

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        keyless_loopback: bool,
        used: Callable[[dict[str, datetime]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: the time of day, `now`; `used`, which is told the last use of a key (by id) at most once a minute and
        must not wait; monotonic `clock` in seconds."""
        self._now, self._used, self._clock = now, used, clock
        self._keyless_loopback = keyless_loopback
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._refused: Counter[str] = Counter()
        self._untold: dict[str, datetime] = {}

    def check(self, headers: Headers, client_host: str | None, scope: Scope) -> Caller:
        """Who sends a request with these headers from this address.

        Raises: `KeyMissing`, `KeyUnknown` (401), `ScopeMissing` (403), `RateLimited` (429), all `AccessRefused`.
        """
        try:
            texts = _credentials(headers)
            if texts is None:
                return self._keyless(headers, client_host, scope)
            return self._by_key(texts, scope)
        except AccessRefused as error:
            with self._lock:
                self._refused[error.reason] += 1
            raise

    def check_reader(self, headers: Headers, client_host: str | None) -> None:
        """Whether a request may read the server's figures: a program on this machine, else a key of scope admin.

        Raises: as `check`.
        """
        local = client_host is not None and is_loopback(client_host) and _host_is_loopback(headers)
        if _credentials(headers) is None and local and not _speaks_for_another(headers):
            return
        self.check(headers, client_host, "admin")

    def refused(self) -> dict[str, int]:
        """How many requests were refused since the start, by reason."""
        with self._lock:
            return dict(self._refused)

    def use(self) -> dict[str, KeyUse]:
        """What each key in force did, by its id."""
        with self._lock:
            return {
                key_id: KeyUse(held.admitted, held.refused, held.last_used_at) for key_id, held in self._held.items()
            }

    def changed(self, key: ApiKey) -> None:
        """Take over a key that was made or revoked. Counts of a revoked key end with it; its last use is kept."""
        with self._lock:
            if key.revoked_at is not None:
                self._held.pop(key.key_id, None)
            else:
                self._held[key.key_id] = _Held(key, self._clock())

    def untold(self) -> dict[str, datetime]:
        """Uses that `used` was not told of, which count as told from now on."""
        with self._lock:
            untold, self._untold = self._untold, {}
        return untold

    def tell_again(self, used: dict[str, datetime]) -> None:
        """These uses could not be written: they count as untold again."""
        with self._lock:
            self._untold = used | self._untold

    def _by_key(self, texts: set[str], scope: Scope) -> Caller:
        # Two different keys in one request: whichever is meant, the request is not what its sender believes.
        parts = api_keys.split(texts.pop()) if len(texts) == 1 else None
        if parts is None:
            raise KeyUnknown
        key_id, given = parts[0], api_keys.secret_hash(parts[1])
        with self._lock:
            held = self._held.get(key_id)
            right = hmac.compare_digest(given, held.key.secret_hash if held else _NO_HASH)
            if held is None or not right:
                raise KeyUnknown
            now = self._clock()
            wait = held.bucket.take(now)
            if wait > 0 or scope not in held.key.scopes:
                held.refused += 1
                if wait > 0:
                    raise RateLimited(max(1, math.ceil(wait)), held.key.rate_per_second, held.key.burst)
                raise ScopeMissing(scope, held.key.scopes)
            held.admitted += 1
            held.last_used_at = self._untold[key_id] = self._now()
            due = now - held.told_at >= _TELL_SECONDS
            if due:
                held.told_at = now
                self._untold.pop(key_id)
        if due:
            self._used({key_id: held.last_used_at})
        return held.caller

    def _keyless(self, headers: Headers, client_host: str | None, scope: Scope) -> Caller:
        """The caller without a key, on this machine and not through anything that speaks for others."""
        if not self._keyless_loopback:
            raise KeyMissing(scope)
        if client_host is None or not is_loopback(client_host) or not _host_is_loopback(headers):
            raise KeyMissing(scope, ": only programs on this machine that ask for a loopback address may do without")
        if any(name in headers for name in _BROWSER_HEADERS):
            raise KeyMissing(scope, ": web pages may not do without, also on this machine")
        if any(name in headers for name in PROXY_HEADERS):
            raise KeyMissing(scope, ": requests through a proxy may not do without")
        if scope not in KEYLESS_SCOPES:
            raise KeyMissing(scope, ", also on this machine")
        return Caller(None, KEYLESS_SOURCE, KEYLESS_SOURCE)


def _credentials(headers: Headers) -> set[str] | None:
    """The keys that a request names, as text; None when it names none.

    Whatever stands in these headers was meant to identify the caller: when it is no key of ours it is an unknown key,
    and the request is not treated as one without.
    """
    values = headers.getlist("authorization")
    own = headers.getlist("x-api-key")
    if not values and not own:
        return None
    texts = set()
    for value in values:
        scheme, _, text = _decoded(value).partition(" ")
        texts.add(text.strip(_SPACE) if scheme.lower() == "bearer" else "")
    texts.update(_decoded(value) for value in own)
    return texts


def _decoded(value: str) -> str:
    """A header value without percent-encoding; an overlong one is none of ours and is not looked at."""
    if len(value) > _LONGEST_CREDENTIAL:
        return ""
    return unquote(value).strip(_SPACE)


def _speaks_for_another(headers: Headers) -> bool:
    """Whether a web page or a proxy sends the request."""
    return any(name in headers for name in (*_BROWSER_HEADERS, *PROXY_HEADERS))


def _host_is_loopback(headers: Headers) -> bool:
    """Whether the one Host header names this machine by a loopback address, not by a name that DNS may rebind."""
    hosts = headers.getlist("host")
    parts = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return parts is not None and is_loopback((parts["six"] or parts["name"]).lower())
