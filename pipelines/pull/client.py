"""Asking another system over HTTP, politely and warily.

Polite: a pause between requests, so many requests a run, waits as long as a 429 or 503 asks, exponential backoff with
jitter after failures. Wary: timeouts, a limit on the size of an answer while it is read, no redirect to another host,
JSON only. A wait that is too long to sit out ends the run (`ComeBackLater`); the next one continues.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx2
import numpy as np

from pipelines.pull.access import Access
from pipelines.pull.errors import (
    AccessRefused,
    ComeBackLater,
    NotThere,
    PullError,
    RedirectRefused,
    RequestRefused,
    TooLarge,
    UnexpectedAnswer,
    Unreachable,
)
from pipelines.retry_after import retry_after

Params = Sequence[tuple[str, str]]

_RETRIED: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_MOVED: Final = frozenset((301, 302, 303, 307, 308))
_EXCERPT: Final = 300
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
_REDIRECTS: Final = 3
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Limits:
    """What a run may take; times in seconds, `answer_bytes` after decompression."""

    requests: int = 1_000
    requests_per_second: float = 2.0
    seconds: float = 60.0
    attempts: int = 5
    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    answer_bytes: int = 64 << 20


@dataclass(frozen=True)
class Pace:
    """Time and chance, from outside: `wait(seconds)` sleeps, `monotonic()` counts seconds, `now()` tells the time."""

    wait: Callable[[float], None]
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    random: np.random.Generator


class _Failed(Exception):
    """An attempt that may be repeated; `after` is how long the other side wants us to wait."""

    def __init__(self, problem: str, after: float | None = None) -> None:
        self.problem, self.after = problem, after
        super().__init__(problem)


class Client:
    """Asks one system. Close it after use, or use it as a context."""

    def __init__(
        self,
        base_url: str,
        access: Access,
        pace: Pace,
        limits: Limits | None = None,
        *,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`base_url` as `store.pull_sources.checked_url` gives it; `transport` in place of the network.

        Raises: `Unreachable` for an address that no host can have.
        """
        self._limits = limits or Limits()
        self._access = access
        self._pace = pace
        try:
            self._base = httpx2.URL(base_url)
        except httpx2.InvalidURL as error:
            raise Unreachable(base_url, f"the address cannot be used ({error})", 0) from error
        headers = {"Accept": "application/json", "User-Agent": "trimtab-pull"}
        if access.header is not None:
            headers["Authorization"] = access.header
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
            follow_redirects=False,
            transport=transport,
        )
        self._base_url = base_url
        self._began = pace.monotonic()
        self._free_at = self._began
        self.requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def get(self, path: str, params: Params = ()) -> dict[str, Any]:
        """The JSON object at a path below the base address. Raises: `PullError`, `ComeBackLater`."""
        return self._ask("GET", path, params, None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The JSON object that a search answers. Raises: as `get`."""
        return self._ask("POST", path, (), body)

    def _ask(
        self, method: Literal["GET", "POST"], path: str, params: Params, body: Mapping[str, object] | None
    ) -> dict[str, Any]:
        place = f"{self._base_url}{path}"
        failure = _Failed("nothing was asked")
        for attempt in range(self._limits.attempts):
            if attempt:
                self._rest(failure, attempt)
            self._take_turn()
            try:
                return self._attempt(method, place, params, body)
            except _Failed as error:
                failure = error
        raise Unreachable(place, failure.problem, self._limits.attempts)

    def _take_turn(self) -> None:
        """Wait for the next request's time. Raises: `ComeBackLater` when this run has had its share."""
        if self.requests >= self._limits.requests:
            raise ComeBackLater(f"{self.requests:,} requests were made, as many as a run may make")
        now = self._pace.monotonic()
        if now - self._began > self._limits.seconds:
            raise ComeBackLater(f"the run has taken {self._limits.seconds:g} s, as long as one may take")
        if self._free_at > now:
            self._pace.wait(self._free_at - now)
        self._free_at = max(self._free_at, now) + 1 / self._limits.requests_per_second
        self.requests += 1

    def _rest(self, failure: _Failed, attempt: int) -> None:
        """Wait after a failure: as long as was asked for, else 1, 2, 4 … seconds times 0.5 to 1.5."""
        jitter = 0.5 + float(self._pace.random.random())
        seconds = failure.after if failure.after is not None else _FIRST_WAIT * 2 ** (attempt - 1) * jitter
        if seconds > _LONGEST_WAIT:
            raise ComeBackLater(f"the other side asks to wait {seconds:,.0f} s ({failure.problem})", seconds)
        if seconds > 0:
            self._pace.wait(seconds)

    def _attempt(self, method: str, place: str, params: Params, body: Mapping[str, object] | None) -> dict[str, Any]:
        url = httpx2.URL(place, params=list(params)) if params else httpx2.URL(place)
        for _ in range(_REDIRECTS + 1):
            try:
                request = self._http.build_request(method, url, json=body)
                response = self._http.send(request, stream=True)
                try:
                    content = self._read(response, place)
                finally:
                    response.close()
            except httpx2.TimeoutException as error:
                raise _Failed(f"no answer in time ({type(error).__name__})") from error
            except httpx2.DecodingError as error:
                raise _Failed("the answer cannot be decompressed") from error
            except httpx2.TransportError as error:
                detail = self._access.redact(str(error))[:_EXCERPT]
                raise _Failed(f"{type(error).__name__}: {detail}") from error
            if response.status_code not in _MOVED:
                return self._judge(response, content, place)
            url = self._target(response, url, place)
            if method == "POST" and response.status_code not in (307, 308):
                raise RedirectRefused(place, str(url))
        raise RedirectRefused(place, f"{url} and on and on")

    def _read(self, response: httpx2.Response, place: str) -> bytes:
        """The body, as long as it is small and comes in time; a slow drip ends like silence does."""
        content = bytearray()
        began = self._pace.monotonic()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > self._limits.answer_bytes:
                raise TooLarge(place, self._limits.answer_bytes)
            if self._pace.monotonic() - began > 4 * self._limits.read_seconds:
                raise _Failed("the answer came too slowly")
        return bytes(content)

    def _target(self, response: httpx2.Response, url: httpx2.URL, place: str) -> httpx2.URL:
        """Where a redirect leads, when that is the same host and no less secret. Raises: `RedirectRefused`."""
        location = response.headers.get("location", "")
        try:
            target = url.join(location)
        except (httpx2.InvalidURL, ValueError):
            raise UnexpectedAnswer(place, "a redirect to an address", "one to something else") from None
        same = target.host == self._base.host and not target.userinfo
        moved = _port(target) != _port(self._base) or target.scheme != self._base.scheme
        upgraded = (self._base.scheme, target.scheme, target.port) == ("http", "https", None)
        if not location or not same or (moved and not upgraded):
            raise RedirectRefused(
                place, self._access.redact(str(target.copy_with(query=None, userinfo=b"")))[:_EXCERPT]
            )
        return target

    def _judge(self, response: httpx2.Response, content: bytes, place: str) -> dict[str, Any]:
        """The object of a good answer. Raises: `_Failed` for what may pass, `PullError` for what will not."""
        status = response.status_code
        if status in _RETRIED:
            raise _Failed(f"it answered {status}", retry_after(response.headers.get("retry-after"), self._pace.now()))
        if status != 200:
            raise self._refusal(status, content, place)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            if content.lstrip()[:1] not in (b"{", b"["):
                raise UnexpectedAnswer(place, "JSON", self._excerpt(content) or "nothing") from error
            raise _Failed("the answer is no whole JSON document") from error
        if not isinstance(answer, dict):
            raise UnexpectedAnswer(place, "a JSON object", f"a {type(answer).__name__}")
        return answer

    def _refusal(self, status: int, content: bytes, place: str) -> PullError:
        said = self._excerpt(content)
        excerpt = f" It said: {said}" if said else ""
        if status in (401, 403):
            return AccessRefused(place, status, self._access.variables, excerpt)
        if status == 404:
            return NotThere(place, excerpt)
        return RequestRefused(place, status, excerpt)

    def _excerpt(self, content: bytes) -> str:
        # Redacted before it is cut, or half a secret could stay.
        text = self._access.redact(content[: 64 << 10].decode("utf-8", "replace"))
        return " ".join(text.split())[:_EXCERPT]


def _port(url: httpx2.URL) -> int | None:
    return url.port or _PORTS.get(url.scheme)
