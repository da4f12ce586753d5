"""Ask Trimtab which arm to run. One file, Python 3.9 or later, standard library only: copy it into your agent.

    client = Trimtab("https://trimtab.example", api_key=KEY, agent="support", fallback_arm="v1")
    decision = client.steer(user_id="u7", session_id="s3", task="refund", input=question, arms=["v1", "v2"])
    run(decision.arm, decision.definition, decision.instructions, decision.limits)

An answer comes within `timeout` seconds in all, or the decision falls open: to the last answer for the session, else to
the fallback arm. Nothing the server does raises. Threads share one client; a process that forks may go on using it.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import io
import json
import logging
import math
import os
import re
import socket
import ssl
import sys
import threading
import time
import unicodedata
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Decision", "Limits", "Trimtab"]

_LOG = logging.getLogger("trimtab_steer")
_LONGEST_INPUT = 20_000  # characters; lessons are matched by the beginning of what was asked
_LONGEST_NAME = 1_000
_NAMES = ("arm", "decision_id")
_LARGEST_ANSWER = 256 << 10  # bytes
_MOST_SESSIONS = 10_000
_MOST_ARMS = 1_000
_KEEP_SECONDS = 3600.0  # for how long the last answer of a session serves while the server does not
_LONGEST_TTL = 86_400.0
_CONNECT_SECONDS = 5.0  # in the background: the caller waits no longer than its own timeout
_MOST_CONNECTING = 32
_MOST_IDLE = 64
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}
_TARGETS = ("url", "uri", "href", "link", "host", "hostname", "domain", "site", "website", "endpoint", "webpage")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://+([^/\\?#\s\"'<>`|^{}]+)", re.IGNORECASE)
_FAILURES = 3  # in a row, then nothing is asked for a while that doubles from the first to the last of these
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0


@dataclass(frozen=True)
class Limits:
    """What the agent must not do; None and empty mean no limit.

    Actions are calls of tools. The delay is from start to start, both it and actions per minute hold for a session, the
    spend for one request. In names of tools and in actions such as `pay(amount=1*, to.city=Oslo)` only `*` is special.
    """

    off_limits_tools: tuple[str, ...] = ()
    off_limits_sites: tuple[str, ...] = ()
    off_limits_actions: tuple[str, ...] = ()
    min_delay_seconds: float | None = None
    max_actions_per_minute: float | None = None
    max_spend_usd: float | None = None

    def forbids(self, tool: str, arguments: Mapping[str, Any] | None = None) -> str | None:
        """Why a tool may not be called with these arguments; None when it may. Ask before every call."""
        given = arguments or {}
        for subject in self.off_limits_tools:
            if _matches(subject, tool):
                return f"the tool {subject} is off limits"
        for subject in self.off_limits_actions:
            name, _, conditions = subject.partition("(")
            parts = conditions[: conditions.rfind(")")].split(",") if conditions else []
            if _matches(name, tool) and all(_holds(part, given) for part in parts):
                return f"the action {subject} is off limits"
        asked = (
            [site for key, text in _members("", given) for site in _sites(key, text)] if self.off_limits_sites else []
        )
        for subject in self.off_limits_sites:
            host, port = _site(subject)
            if any((at == host or at.endswith("." + host)) and port in (None, on) for at, on in asked):
                return f"the site {subject} is off limits"
        return None


@dataclass(frozen=True)
class Decision:
    """What to run.

    `source` is server, cache (an earlier answer for the session, perhaps expired: see `note`) or fallback (no answer:
    `decision_id` and `propensity` are None, so nothing is logged that was not drawn). `arm` is None when there is no
    answer, no fallback arm and no list of arms: run what you would run without Trimtab.
    """

    arm: str | None
    source: str
    decision_id: str | None = None
    explore: bool = False
    propensity: float | None = None  # with which `arm` was drawn
    propensities: Mapping[str, float] = field(default_factory=dict)
    policy_version: int | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)  # what it takes to run the arm: prompt, model, tools
    lessons: tuple[str, ...] = ()  # ids of the lessons in `instructions`
    instructions: str = ""
    limits: Limits = Limits()
    solicit: bool = False  # ask for explicit feedback, once
    solicit_propensity: float | None = None  # state it with the feedback that was asked for
    note: str | None = None
    task: str | None = None
    ttl_s: float = 0.0

    def set_attributes(self, span: Any = None) -> None:
        """State the decision on an OpenTelemetry span, by default the current one; `Trimtab.steer` does so itself.

        Call it where the span of the whole request is current, or give that span: Trimtab reads the root span. An arm
        that was not drawn is stated with propensity 1, since it was certain; its trace enters no off-policy estimate.
        """
        trace = sys.modules.get("opentelemetry.trace")  # not imported: no span can be recording
        with contextlib.suppress(Exception):  # telemetry must not stop an agent
            span = span if span is not None or trace is None else trace.get_current_span()
            if span is not None and span.is_recording():
                span.set_attributes(self._attributes())

    def cited(self, text: str) -> tuple[str, ...]:
        """The ids of the lessons served that a text cites; `instructions` ask the model to cite those it used."""
        return tuple(each for each in self.lessons if re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", text))

    def executed(self, arm: str, span: Any = None) -> Decision:
        """The decision as it was carried out, where the agent ran another arm than `self.arm`; states it on the span.

        The decision's id stays, so that Trimtab counts the deviation and leaves the trace out of its estimates.
        """
        if arm == self.arm:
            return self
        note = f"ran {arm} instead of {self.arm}"
        ran = replace(self, arm=arm, explore=False, propensity=None, propensities={}, definition={}, note=note)
        ran.set_attributes(span)
        return ran

    def _attributes(self) -> dict[str, Any]:
        stated: dict[str, Any] = {"steer.source": self.source, "steer.decision_id": self.decision_id}
        if self.arm is not None:
            drawn = self.propensity is not None
            stated["steer.arm"] = self.arm
            stated["steer.propensity"] = self.propensity if drawn else 1.0
            stated["steer.propensities"] = json.dumps(dict(self.propensities) if drawn else {self.arm: 1.0})
            stated["steer.explore"] = self.explore
        stated["steer.policy.version"] = self.policy_version
        stated["steer.lesson.ids"] = list(self.lessons) or None
        stated["steer.task"] = self.task
        return {name: value for name, value in stated.items() if value is not None}


class Trimtab:
    """A client for one agent. Keep one for the life of the process."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        agent: str,
        timeout: float = 0.05,
        fallback_arm: str | None = None,
        fallback_limits: Limits = Limits(),
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`base_url` is the server's address, http or https; `api_key` has the scope steer.

        `timeout` is in seconds and covers everything: name lookup, connection, request and answer. `fallback_arm` runs
        when there is no answer (without one the first of those asked for), under the limits last heard of it, before
        that `fallback_limits`. No proxy is used.
        Raises: ValueError for an address, key or timeout that cannot be used.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                f"base_url must be like https://trimtab.example, without user and query; it is {base_url!r}."
            )
        if parts.query or parts.fragment or not re.fullmatch(r"[!-~]*", base_url):
            raise ValueError(f"base_url must be plain ASCII without a query; it is {base_url!r}.")
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            raise ValueError("api_key must be printable ASCII without spaces.")
        if not agent.strip():
            raise ValueError("agent must be the name under which Trimtab knows this agent.")
        if not (0.0 < timeout <= 60.0):
            raise ValueError(f"timeout must be over 0 and at most 60 seconds; it is {timeout!r}.")
        key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._head = (
            f"POST {parts.path.rstrip('/')}/v1/steer HTTP/1.1\r\nHost: {parts.netloc}\r\n{key}"
            "Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: trimtab-steer/1\r\n"
        )
        tls = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._pool = _Pool(parts.hostname, parts.port or (443 if tls else 80), tls)
        self._agent, self._timeout, self._clock = agent, timeout, clock
        self._fallback_arm = None if fallback_arm is None else _clean(fallback_arm)
        self._fallback_limits = fallback_limits
        self._breaker = _Breaker(clock)
        self._sessions: OrderedDict[tuple[Any, ...], tuple[float, Decision]] = OrderedDict()
        self._arms: OrderedDict[str, Decision] = OrderedDict()  # the last decision for each
        self._lock = threading.Lock()
        _CLIENTS.add(self)

    def __enter__(self) -> Trimtab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    def steer(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        task: str | None = None,
        input: str | None = None,
        arms: Iterable[str] | None = None,
    ) -> Decision:
        """Which arm to run now, of `arms` where they are given, else of those that Trimtab knows.

        Of arms of which none may run, the answer is the fallback arm. Names of arms are trimmed and in composed form.

        The answer for a session is kept for as long as the server says, for the same user, task and arms; without a
        session every call is a decision of its own. Only the first 20,000 characters of `input` are sent. It blocks
        for at most the timeout: an asynchronous agent calls it by `asyncio.to_thread`.
        Raises: ValueError when `arms` is empty.
        """
        user_id, session_id, task = (each if each and each.strip() else None for each in (user_id, session_id, task))
        offered = None if arms is None else tuple(filter(None, map(_clean, arms)))
        if offered == ():
            raise ValueError("arms is empty; leave it out to choose among all arms that Trimtab knows.")
        key = None if session_id is None else (session_id, user_id, task, offered)
        decision = self._kept(key, fresh=True)
        if decision is None:
            asked = {"agent": self._agent, "user_id": user_id, "session_id": session_id, "task": task}
            asked["input"] = None if input is None else input[:_LONGEST_INPUT]
            decision, problem = self._ask({**asked, "arms": offered})
            if decision is None:
                decision = self._kept(key, fresh=False, problem=problem) or self._fall_back(offered, problem)
            else:
                self._keep(key, decision)
            decision = replace(decision, task=task)
        decision.set_attributes()
        return decision

    def _ask(self, question: Mapping[str, Any]) -> tuple[Decision | None, str]:
        """The server's decision, or None and why there is none."""
        deadline, began = time.monotonic() + self._timeout, self._clock()
        if not self._breaker.allows():
            return None, "the server is not asked for some seconds after it failed"
        try:
            content = json.dumps({name: value for name, value in question.items() if value is not None}).encode()
            request = f"{self._head}Content-Length: {len(content)}\r\n\r\n".encode() + content
            status, headers, body = self._pool.exchange(request, deadline)
            if status == 200:
                decision = _read(body)
                self._breaker.succeeded()
                if question["arms"] is None or decision.arm in (*question["arms"], self._fallback_arm):
                    return decision, ""
                return None, f"the server answered {decision.arm!r}, which was not offered: {decision.note or ''}"
            problem = f"the server answered with status {status}: {_reason(body)}"
            if status in (400, 413, 422):  # of this request only
                return None, problem
            pause = headers.get("Retry-After", "") if status in (429, 503) else ""
            self._breaker.failed(problem, began, float(pause) if re.fullmatch("[0-9]{1,4}", pause) else 0.0)
        except Exception as error:  # whatever it is, the agent goes on and the reason is in the decision's note
            problem = f"{type(error).__name__}: {error}"[:_LONGEST_NAME]
            self._breaker.failed(problem, began)
        return None, problem

    def _keep(self, key: tuple[Any, ...] | None, decision: Decision) -> None:
        decision = _copy(decision)
        with self._lock:
            if decision.arm is not None:
                _put(self._arms, decision.arm, decision, _MOST_ARMS)
            if key is not None:
                _put(self._sessions, key, (self._clock(), decision), _MOST_SESSIONS)

    def _kept(self, key: tuple[Any, ...] | None, *, fresh: bool, problem: str = "") -> Decision | None:
        """The last answer for the session; `solicit` is False, as whoever got it first was to ask."""
        if key is None:
            return None
        with self._lock:
            since, decision = self._sessions.get(key, (0.0, None))
            if decision is not None:
                self._sessions.move_to_end(key)
        age = self._clock() - since
        if decision is None or not 0.0 <= age < (decision.ttl_s if fresh else _KEEP_SECONDS):
            return None
        note = decision.note if fresh else f"an answer of {age:.0f} s ago, because {problem}"
        return replace(_copy(decision), source="cache", solicit=False, note=note)

    def _fall_back(self, offered: tuple[str, ...] | None, problem: str) -> Decision:
        arm = offered[0] if self._fallback_arm is None and offered else self._fallback_arm
        with self._lock:
            known = None if arm is None else self._arms.get(arm)
            latest = next(reversed(self._arms.values()), None)
        limits = (known or latest).limits if known or latest else self._fallback_limits  # type: ignore[union-attr]
        definition = copy.deepcopy(known.definition) if known else {}
        return Decision(arm=arm, source="fallback", definition=definition, limits=limits, note=problem)

    def _forked(self) -> None:
        """In a child process: locks that others held are replaced, connections belong to the parent."""
        self._lock = threading.Lock()
        self._breaker = _Breaker(self._clock)
        self._pool = self._pool.again()


class _Breaker:
    """Whether the server may be asked: after failures in a row not for a while, then one call tries."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures, self._failed_at, self._paused_until, self._tried_until = 0, -math.inf, -math.inf, -math.inf

    def allows(self) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._paused_until or now < self._tried_until:
                return False
            if self._failures >= _FAILURES:
                self._tried_until = now + _FIRST_PAUSE  # the others wait for what this call finds
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures, self._paused_until, self._tried_until = 0, -math.inf, -math.inf

    def failed(self, problem: str, began: float, pause: float = 0.0) -> None:
        """A call failed that began then. Calls that were on their way together count once, else one hiccup of the
        server would stop a busy agent."""
        with self._lock:
            now = self._clock()
            if began < self._failed_at or now < self._paused_until:
                return
            self._failures, self._failed_at = self._failures + 1, now
            if self._failures >= _FAILURES:
                pause = max(pause, _FIRST_PAUSE * 2.0 ** min(self._failures - _FAILURES, 10))
            pause = min(pause, _LAST_PAUSE)
            self._paused_until = now + pause
        if pause:
            _LOG.warning("Trimtab does not decide (%s); not asked again for %.0f s.", problem, pause)


class _Pool:
    """Connections that are kept open. They are opened by threads of their own, as a name lookup cannot be cut short;
    one that comes too late for its caller serves the next."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._address = (host, port, tls)
        self._changed = threading.Condition()
        self._idle: list[tuple[socket.socket, bool]] = []  # and whether it was used
        self._waiting = self._connecting = self._failures = 0
        self._error = ""
        self._closed = False

    def again(self) -> _Pool:
        """A new pool to the same server; what this one keeps is closed."""
        self._drop()
        return _Pool(*self._address)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._drop()
            self._changed.notify_all()

    def exchange(self, request: bytes, deadline: float) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the answer. Raises: OSError, http.client.HTTPException, ValueError."""
        connection, used = self._take(deadline)
        try:
            return self._over(connection, request, deadline)
        except ConnectionError:
            if not used:
                raise
            with self._changed:  # closed by the server just now, and so are the others
                self._drop()
        return self._over(self._take(deadline)[0], request, deadline)

    def _over(
        self, connection: socket.socket, request: bytes, deadline: float
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        keep = False
        try:
            unsent = memoryview(request)
            while unsent:
                connection.settimeout(_left(deadline))
                unsent = unsent[connection.send(unsent) :]
            response = http.client.HTTPResponse(_Incoming(connection, deadline), method="POST")  # type: ignore[arg-type]
            response.begin()
            body = response.read(_LARGEST_ANSWER + 1)
            if len(body) > _LARGEST_ANSWER:
                raise ValueError(f"the answer is larger than {_LARGEST_ANSWER:,} bytes")
            keep = not response.will_close
            return response.status, response.headers, body
        finally:
            self._give(connection, keep, used=True)

    def _take(self, deadline: float) -> tuple[socket.socket, bool]:
        """A connection, and whether it was in use before."""
        with self._changed:
            failures = self._failures
            self._waiting += 1
            try:
                while True:
                    while self._idle:
                        connection, used = self._idle.pop()
                        if _alive(connection):
                            return connection, used
                        connection.close()
                    if self._closed:
                        raise ConnectionError("the client was closed")
                    if self._failures != failures:
                        raise ConnectionError(self._error)
                    if self._connecting < min(self._waiting, _MOST_CONNECTING):
                        threading.Thread(target=self._connect, name="trimtab-connect", daemon=True).start()
                        self._connecting += 1
                    self._changed.wait(_left(deadline))
            finally:
                self._waiting -= 1

    def _give(self, connection: socket.socket, keep: bool, used: bool) -> None:
        with self._changed:
            if keep and not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append((connection, used))
                self._changed.notify()
            else:
                connection.close()

    def _connect(self) -> None:
        host, port, tls = self._address
        connection, error = None, ""
        try:
            connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                connection = tls.wrap_socket(connection, server_hostname=host)
        except Exception as raised:  # told to whoever waits
            error = f"no connection: {raised}"
        with self._changed:
            self._connecting -= 1
            if error:
                self._failures, self._error = self._failures + 1, error
                self._changed.notify_all()
        if connection is not None:
            self._give(connection, keep=not error, used=False)

    def _drop(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()


class _Incoming(io.RawIOBase):
    """What comes over a connection, until the deadline, however slowly it drips."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


def _left(deadline: float) -> float:
    """Seconds until then. Raises: TimeoutError."""
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError("no answer in time")
    return left


def _alive(connection: socket.socket) -> bool:
    """Whether a connection that nothing was asked of is silent, as it should be."""
    try:
        connection.settimeout(0.0)
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except (OSError, ValueError):
        return False
    return False  # closed, or an answer that nobody asked for


def _read(body: bytes) -> Decision:
    """The decision in an answer. Raises: ValueError for any answer that is not one in full."""
    answer = json.loads(body, parse_constant=_refuse_number, parse_int=_whole)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    arm = _text(answer, "arm")
    stated = _object(answer, "propensities")
    propensities = {name: _number(stated, name, 1.0) for name in stated}
    propensity = _number(answer, "propensity", 1.0)
    if propensity <= 0.0 or abs(sum(propensities.values()) - 1.0) > 1e-6:
        raise ValueError("the answer's propensities are not a distribution")
    if abs(propensities.get(arm, -1.0) - propensity) > 1e-9:
        raise ValueError("the answer's propensity is not that of its arm")
    version = answer.get("policy_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError("the answer's policy_version is not a whole number")
    return Decision(
        arm=arm,
        source="server",
        decision_id=_text(answer, "decision_id"),
        explore=_flag(answer, "explore"),
        propensity=propensity,
        propensities=propensities,
        policy_version=version,
        definition=_object(answer, "definition"),
        lessons=_texts(answer, "lessons"),
        instructions=_text(answer, "instructions") if answer.get("instructions") else "",
        limits=_limits(_object(answer, "limits")),
        solicit=_flag(answer, "solicit"),
        solicit_propensity=_maybe_number(answer, "solicit_propensity", 1.0),
        note=_text(answer, "note") if answer.get("note") else None,
        ttl_s=min(_maybe_number(answer, "ttl_s", math.inf) or 0.0, _LONGEST_TTL),
    )


def _limits(stated: Mapping[str, Any]) -> Limits:
    return Limits(
        off_limits_tools=_texts(stated, "off_limits_tools"),
        off_limits_sites=_texts(stated, "off_limits_sites"),
        off_limits_actions=_texts(stated, "off_limits_actions"),
        min_delay_seconds=_maybe_number(stated, "min_delay_seconds", math.inf),
        max_actions_per_minute=_maybe_number(stated, "max_actions_per_minute", math.inf),
        max_spend_usd=_maybe_number(stated, "max_spend_usd", math.inf),
    )


def _text(stated: Mapping[str, Any], name: str) -> str:
    value = stated.get(name)
    if not isinstance(value, str) or not value or (name in _NAMES and len(value) > _LONGEST_NAME):
        raise ValueError(f"the answer's {name} is not a text of the right length")
    return value


def _texts(stated: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = stated.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"the answer's {name} is not a list of texts")
    return tuple(value)


def _flag(stated: Mapping[str, Any], name: str) -> bool:
    value = stated.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"the answer's {name} is neither true nor false")
    return value


def _number(stated: Mapping[str, Any], name: str, most: float) -> float:
    value = stated.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most or value == math.inf:
        raise ValueError(f"the answer's {name} is not a number from 0 to {most:g}")
    return float(value)


def _maybe_number(stated: Mapping[str, Any], name: str, most: float) -> float | None:
    return None if stated.get(name) is None else _number(stated, name, most)


def _object(stated: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = stated.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"the answer's {name} is not an object")
    return value or {}


def _refuse_number(text: str) -> float:
    raise ValueError(f"the answer holds {text}, which is no JSON")


def _whole(text: str) -> int:
    if len(text) > 18:
        raise ValueError("the answer holds a number of many digits")
    return int(text)


def _reason(body: bytes) -> str:
    """What a refusal says."""
    with contextlib.suppress(ValueError, RecursionError):
        stated = json.loads(body)
        if isinstance(stated, dict) and isinstance(stated.get("error"), str):
            return str(stated["error"])[:_LONGEST_NAME]
    return "no reason given"


def _copy(decision: Decision) -> Decision:
    """With a definition of its own, so that whoever changes it changes nobody else's."""
    return replace(decision, definition=copy.deepcopy(decision.definition), propensities=dict(decision.propensities))


def _matches(pattern: str, text: str) -> bool:
    parts = map(re.escape, _clean(pattern).split("*"))
    return re.fullmatch(".*".join(parts), _clean(text), re.IGNORECASE | re.DOTALL) is not None


def _holds(condition: str, given: Any) -> bool:
    """Whether an argument, or a member of it, is as `path=pattern` says."""
    path, _, pattern = condition.partition("=")
    values = [given]
    for step in path.split("."):
        members = [value for each in values for value in (each if isinstance(each, list) else [each])]
        values = [each[step.strip()] for each in members if isinstance(each, dict) and step.strip() in each]
    leaves = [value for each in values for value in (each if isinstance(each, list) else [each])]
    return any(_matches(pattern, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) for v in leaves)


def _members(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in arguments with the name that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _members(str(name).strip().lower(), member)
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from _members(key, member)


def _sites(key: str, text: str) -> Iterator[tuple[str, int | None]]:
    """Hosts and ports of the URLs in a text, and the host that it is where its name says so."""
    for scheme, authority in _URL.findall(text):
        host, port = _site(authority.rpartition("@")[2].rstrip(",;:!)"))
        yield host, port or _PORTS.get(scheme.lower())
    if "://" not in text and (key in _TARGETS or key.endswith(("_url", "_uri", "_host"))):
        yield _site(re.split(r"[/\\?#\s]", text.strip().lstrip("/\\"))[0].rpartition("@")[2])


def _site(text: str) -> tuple[str, int | None]:
    """Host, lower-case and in ASCII, and port of `host`, `host:port` or `[v6]:port`."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::(\d{1,5}))?", unicodedata.normalize("NFKC", text.strip()))
    host, port = found.groups() if found else (text, None)
    host = host.strip("[]").rstrip(".").lower()
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode()
    return host, int(port) if port else None


def _clean(name: str) -> str:
    """An arm's name as Trimtab compares and stores it."""
    return unicodedata.normalize("NFC", name).strip()


def _put(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Remember as the latest, forget the earliest beyond `most`."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def _forked() -> None:
    for client in list(_CLIENTS):
        client._forked()


_CLIENTS: weakref.WeakSet[Trimtab] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
