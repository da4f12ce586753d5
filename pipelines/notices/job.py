"""The job `notices`: sends what routes have not had yet, and tries failed deliveries again.

Routes go beside each other, so that a server that hangs holds up its own messages only; each attempt has a deadline.
After a failure the other messages of that route wait for the next run.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from pipelines.jobs import JobResult
from pipelines.notices import mail, webhook
from pipelines.notices.message import Message
from pipelines.notices.planning import MOST_ATTEMPTS, due, retry_at
from pipelines.notices.wire import NotSent
from store import notice_deliveries, notice_routes
from store.connection import Store
from store.notice_deliveries import Ending
from store.notice_route import Route, Webhook, is_quiet
from store.notice_routes import HeldRoute
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["Send", "has_work", "run", "send", "send_due", "try_route"]

Send = Callable[[Message, Route], str]

_AT_ONCE: Final = 8  # routes
_CRITICAL: Final = 2
_CUT_SHORT: Final = "Trimtab ended during every attempt; whether one arrived is not known."


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a message is to be made or sent now."""
    if not notice_deliveries.has_any(store):
        return False
    now = store.clock.now()
    routes = {held.route_id: held for held in notice_routes.listed(store) if held.enabled}
    return bool(_ready(store, routes, now)) or any(_fresh(store, routes, now).values())


def run(context: "JobContext") -> JobResult:
    """Send what is due; `rows` counts the messages delivered. A message that fails is tried again later."""
    environ, base = dict(os.environ), address(context.settings)
    return send_due(context.store, lambda message, route: send(message, route, environ), context.random, base)


def address(settings: Settings) -> str:
    """Where operators find the pages: where they come back to from signing in, else on this machine."""
    if settings.sign_in_redirect:
        parts = urlsplit(settings.sign_in_redirect)
        return f"{parts.scheme}://{parts.netloc}"
    return f"http://{settings.host}:{settings.port}"


def send(message: Message, route: Route, environ: Mapping[str, str]) -> str:
    """Send a message to where the route leads; returns the answer in words. Raises: `NotSent`."""
    if isinstance(route.target, Webhook):
        return webhook.send(message, route.target, environ)
    return mail.send(message, route.target, environ)


def send_due(store: Store, transport: Send, random: np.random.Generator, base: str) -> JobResult:
    """As `run`, with the way out from outside."""
    now = store.clock.now()
    routes = {held.route_id: held for held in notice_routes.listed(store) if held.enabled}
    for route_id, notice_ids in _fresh(store, routes, now).items():
        if notice_ids:
            notice_deliveries.plan(store, route_id, notice_ids)
    ready = _ready(store, routes, now)
    if not ready:
        return JobResult(0, "Nothing is to be sent.")
    # Generators are not for several threads at once.
    jobs = [
        (_Outward(store, routes[route_id], transport, chance, base), deliveries)
        for (route_id, deliveries), chance in zip(ready.items(), random.spawn(len(ready)), strict=True)
    ]
    with ThreadPoolExecutor(min(_AT_ONCE, len(jobs)), thread_name_prefix="notices") as pool:
        counts = list(pool.map(lambda job: job[0].send_all(job[1]), jobs))
    sent, failed, over = (sum(count[place] for count in counts) for place in range(3))
    said = [f"{sent} messages delivered", *([f"{failed} failed"] if failed else [])]
    return JobResult(sent, "; ".join([*said, *([f"{over} withdrawn"] if over else [])]) + ".")


def try_route(
    store: Store, route_id: int, base: str, *, operator: str, transport: Send | None = None
) -> tuple[bool, str]:
    """Send a test by a route now; returns whether it arrived, and what the other side said.

    Raises: `NotFound`, `ActionRefused`.
    """
    held = notice_routes.held(store, route_id)
    delivery_id = notice_deliveries.begin_test(store, route_id, operator=operator)
    message = Message(delivery_id, 1, held.route.name, (), store.clock.now(), base, test=True)
    way_out = transport or (lambda each, route: send(each, route, os.environ))
    try:
        ending = Ending(True, way_out(message, held.route))
    except NotSent as failure:
        ending = Ending(False, failure.why)
    except Exception as error:
        ending = Ending(False, _unforeseen(error))
    notice_deliveries.end_attempt(store, delivery_id, ending)
    return ending.delivered, ending.outcome


@dataclass(frozen=True)
class _Outward:
    """One route, and the way out."""

    store: Store
    held: HeldRoute
    transport: Send
    random: np.random.Generator
    base: str

    def send_all(self, deliveries: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
        """Send messages until one fails; returns how many were delivered, failed and withdrawn."""
        sent = over = 0
        for row in deliveries:
            if not row["still_open"]:
                notice_deliveries.withdraw(self.store, row["delivery_id"])
                over += 1
            elif row["attempts"] >= MOST_ATTEMPTS:
                # Its process was killed each time: it may be what kills it.
                notice_deliveries.end_attempt(self.store, row["delivery_id"], Ending(False, _CUT_SHORT))
                return sent, 1, over
            elif self._attempt(row["delivery_id"]):
                sent += 1
            else:
                return sent, 1, over
        return sent, 0, over

    def _attempt(self, delivery_id: str) -> bool:
        attempt = notice_deliveries.begin_attempt(self.store, delivery_id)
        rows = notice_deliveries.carried(self.store, delivery_id).filter(pl.col("closed_at").is_null())
        message = Message(
            delivery_id, attempt, self.held.route.name, rows.to_dicts(), self.store.clock.now(), self.base
        )
        try:
            ending = Ending(True, self.transport(message, self.held.route))
        except NotSent as failure:
            ending = self._later(attempt, failure.why, failure.asked_seconds)
        except Exception as error:
            # Whatever a server makes of us must not stop the other routes; it is kept for the operator.
            ending = self._later(attempt, _unforeseen(error), None)
        notice_deliveries.end_attempt(self.store, delivery_id, ending)
        return ending.delivered

    def _later(self, attempt: int, why: str, asked_seconds: float | None) -> Ending:
        again = retry_at(attempt, self.store.clock.now(), self.random, asked_seconds=asked_seconds)
        return Ending(False, why, again)


def _fresh(store: Store, routes: Mapping[int, HeldRoute], now: datetime) -> dict[int, list[int]]:
    """By route the notices that make up a new message now."""
    waiting = notice_deliveries.pending(store)
    return {
        route_id: due(held.route, waiting.filter(pl.col("route_id") == route_id), now)
        for route_id, held in routes.items()
    }


def _ready(store: Store, routes: Mapping[int, HeldRoute], now: datetime) -> dict[int, list[dict[str, Any]]]:
    """By route the messages to be sent now. Those left `sending` are of a process that was killed: one job runs once at
    a time. Quiet hours hold repeats as well."""
    ready: dict[int, list[dict[str, Any]]] = {}
    for row in notice_deliveries.under_way(store).iter_rows(named=True):
        held = routes.get(row["route_id"])
        if held is None or (row["state"] == "waiting" and row["next_at"] is not None and row["next_at"] > now):
            continue
        passes = held.route.critical_passes and row["severity"] == _CRITICAL
        if passes or not is_quiet(held.route.quiet, now):
            ready.setdefault(row["route_id"], []).append(row)
    return ready


def _unforeseen(error: Exception) -> str:
    return f"It could not be sent: {type(error).__name__}: {str(error)[:200]}"
