"""The job `notices` from post to delivery: once per route and opening, failures, hangs, and a kill in between."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipelines.notices import job
from pipelines.notices.message import Message
from pipelines.notices.planning import MOST_ATTEMPTS
from pipelines.notices.wire import NotSent
from pipelines.runner import Runner
from store import audit, notice_deliveries, notice_routes, notices
from store.clock import FixedClock
from store.connection import Store
from store.notice_route import QuietHours, Route, Webhook
from store.settings import Settings
from tests.pipelines.notices.local_servers import WebServer
from tests.pipelines.notices.written import BASE, MOMENT, close, hook, post

RANDOM = np.random.default_rng(7)


class Transport:
    """Keeps what was sent; fails as long as `broken` names the route."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []
        self.tried: list[Message] = []
        self.broken: set[str] = set()
        self.lock = threading.Lock()

    def __call__(self, message: Message, route: Route) -> str:
        with self.lock:
            self.tried.append(message)
            if route.name in self.broken:
                raise NotSent("Answered 500.")
            self.sent.append((route.name, [row["notice_key"] for row in message.notices]))
        return "Answered 204."


def send(store: Store, transport: Callable[[Message, Route], str]) -> int:
    return job.send_due(store, transport, RANDOM, BASE).rows


def states(store: Store) -> list[str]:
    return notice_deliveries.recent(store)["state"].to_list()


def test_once_per_route_and_opening(store: Store) -> None:
    transport = Transport()
    hook(store, name="a")
    hook(store, name="b")
    post(store)
    assert job.has_work(store, Settings())
    assert send(store, transport) == 2
    for _ in range(3):
        post(store)  # The same opening: counted up, not told again.
        assert not job.has_work(store, Settings())
        assert send(store, transport) == 0
    assert sorted(transport.sent) == [("a", ["incident 1"]), ("b", ["incident 1"])]
    close(store)
    post(store)
    assert send(store, transport) == 2
    assert len({message.delivery_id for message in transport.tried}) == 4


def test_a_new_or_resumed_route_is_not_told_of_old_notices(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    post(store, "old")
    clock.moment += timedelta(seconds=1)
    route = hook(store)
    assert send(store, transport) == 0
    notice_routes.switch(store, route, enabled=False, operator="ada")
    clock.moment += timedelta(seconds=1)
    post(store, "while off")
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(seconds=1)
    notice_routes.switch(store, route, enabled=True, operator="ada")
    post(store, "new")
    send(store, transport)
    assert transport.sent == [("chat", ["new"])]


def test_grouped_into_one_message(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store, group_minutes=5)
    post(store, "first")
    clock.moment += timedelta(minutes=4)
    post(store, "second", severity="critical")
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(minutes=1)
    assert job.has_work(store, Settings())
    assert send(store, transport) == 1
    assert transport.sent == [("chat", ["second", "first"])]  # The gravest first.


def test_closed_before_it_left_is_not_sent(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store, group_minutes=5)
    post(store)
    close(store)
    clock.moment += timedelta(minutes=10)
    assert send(store, transport) == 0
    transport.broken = {"chat"}
    post(store, "other")
    clock.moment += timedelta(minutes=5)
    assert send(store, transport) == 0
    assert states(store) == ["waiting"]
    close(store, "other")
    clock.moment += timedelta(hours=1)
    transport.broken = set()
    assert send(store, transport) == 0
    assert states(store) == ["withdrawn"]
    assert transport.sent == []


def test_quiet_hours_hold_what_is_not_critical_until_they_end(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store, quiet=QuietHours("11:00", "14:00", "UTC"))
    post(store, "calm")
    post(store, "urgent", severity="critical")
    assert send(store, transport) == 1
    clock.moment += timedelta(hours=1, minutes=59)
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(minutes=1)
    assert send(store, transport) == 1
    assert transport.sent == [("chat", ["urgent"]), ("chat", ["calm"])]


def test_quiet_hours_hold_repeats_too(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store, quiet=QuietHours("12:30", "14:00", "UTC"))
    transport.broken = {"chat"}
    post(store)
    send(store, transport)
    transport.broken = set()
    clock.moment += timedelta(hours=1)
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(hours=1)
    assert send(store, transport) == 1


def test_failures_are_tried_again_later_and_given_up_in_the_end(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store)
    other = hook(store, name="mail")
    transport.broken = {"chat"}
    post(store)
    assert send(store, transport) == 1  # The other route has it at once.
    assert send(store, transport) == 0  # Not before the wait is over.
    for attempt in range(2, MOST_ATTEMPTS + 1):
        clock.moment += timedelta(hours=2)
        assert job.has_work(store, Settings())
        send(store, transport)
        mine = [message for message in transport.tried if message.route == "chat"]
        assert [message.attempt for message in mine] == list(range(1, attempt + 1))
        assert len({message.delivery_id for message in mine}) == 1
    clock.moment += timedelta(hours=2)
    listed = notice_deliveries.recent(store).filter(state="given up")
    assert listed.select("route", "attempts", "outcome").rows() == [("chat", MOST_ATTEMPTS, "Answered 500.")]
    # That a route fails is told by the others, not by itself.
    own = notices.open_(store).filter(kind="notices")
    assert own["title"].to_list() == ["Notices do not reach chat"]
    transport.broken = set()
    send(store, transport)
    assert transport.sent[-1] == ("mail", ["notice route 1"])
    post(store, "another")
    send(store, transport)
    assert notices.open_(store).filter(kind="notices").is_empty()
    assert notice_routes.held(store, other).route.name == "mail"


def test_after_a_failure_the_rest_of_the_route_waits_for_the_next_run(store: Store, clock: FixedClock) -> None:
    transport = Transport()
    hook(store)
    transport.broken = {"chat"}
    for number in range(3):
        post(store, f"incident {number}")
        send(store, transport)
    transport.tried.clear()
    clock.moment += timedelta(hours=2)
    send(store, transport)
    assert len(transport.tried) == 1
    transport.broken = set()
    clock.moment += timedelta(hours=2)
    assert send(store, transport) == 3


def test_an_error_nobody_foresaw_stops_nothing(store: Store) -> None:
    transport = Transport()
    hook(store, name="a")
    hook(store, name="b")
    post(store)

    def breaks(message: Message, route: Route) -> str:
        if route.name == "a":
            raise RuntimeError("no such thing")
        return transport(message, route)

    assert send(store, breaks) == 1
    listed = notice_deliveries.recent(store).filter(route="a")
    assert listed["state"].to_list() == ["waiting"]
    assert "no such thing" in listed["outcome"][0]


def test_a_hanging_webhook_does_not_hold_up_another_route(store: Store, web: WebServer) -> None:
    hanging = threading.Event()
    arrived = threading.Event()
    hook(store, name="hangs")
    hook(store, web.url, name="works")
    post(store)

    def transport(message: Message, route: Route) -> str:
        if route.name == "hangs":
            # Until the other has it: if routes waited for each other, this would never end.
            assert arrived.wait(60)
            hanging.set()
            raise NotSent("There was no answer within 10 seconds.")
        said = job.send(message, route, {})
        arrived.set()
        return said

    assert send(store, transport) == 1
    assert hanging.is_set()
    assert len(web.got) == 1


def test_other_jobs_run_while_a_webhook_hangs_and_the_run_ends_well(store: Store, web: WebServer) -> None:
    hook(store, web.url)
    web.behaviour = web.hang
    post(store)
    runner = Runner(store, Settings())
    ended = threading.Event()

    def deliver() -> None:
        assert runner.run("notices", "schedule").status == "succeeded"
        ended.set()

    thread = threading.Thread(target=deliver)
    thread.start()
    assert web.arrived.wait(60)
    assert runner.run("segments", "schedule").status == "succeeded"
    assert states(store) == ["sending"]
    web.release.set()  # The server closes without an answer.
    thread.join(60)
    assert ended.is_set()
    assert states(store) == ["waiting"]
    runner.close(1.0)


def test_over_http_with_failures(store: Store, web: WebServer, clock: FixedClock) -> None:
    def real(message: Message, route: Route) -> str:
        return job.send(message, route, {})

    hook(store, web.url)
    web.behaviour = 500
    post(store)
    send(store, real)
    web.behaviour = WebServer.busy("1800")
    clock.moment += timedelta(minutes=1)
    send(store, real)
    clock.moment += timedelta(minutes=29)
    assert not job.has_work(store, Settings())
    web.behaviour = 204
    clock.moment += timedelta(minutes=2)
    assert send(store, real) == 1
    assert [got.headers["trimtab-attempt"] for got in web.got] == ["1", "2", "3"]
    assert len({got.headers["trimtab-delivery"] for got in web.got}) == 1


def test_a_test_says_what_came_of_it_and_is_audited(store: Store, web: WebServer) -> None:
    route = hook(store, web.url)
    assert job.try_route(store, route, BASE, operator="ada") == (True, "Answered 204.")
    assert json.loads(web.got[0].body)["test"] is True
    web.behaviour = 404
    assert job.try_route(store, route, BASE, operator="ada") == (False, "Answered 404.")
    assert len(web.got) == 2
    listed = notice_deliveries.recent(store)
    assert sorted(listed["state"]) == ["delivered", "given up"]
    assert set(listed["test_by"]) == {"ada"}
    assert not job.has_work(store, Settings())  # A test is not tried again.
    assert notices.open_count(store) == 0
    actions = audit.recent(store)["action"].to_list()
    assert actions == ["notice route test", "notice route test", "notice route add"]


_KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from pipelines.notices import job
from store.clock import FixedClock
from store.connection import Store
from tests.pipelines.notices.written import hook, post

store = Store.open(Path(sys.argv[1]), clock=FixedClock(datetime(2026, 11, 20, 12, tzinfo=UTC)), threads=1)
if sys.argv[3] == "first":
    hook(store, sys.argv[2])
    post(store)
job.send_due(store, lambda message, route: job.send(message, route, {}), np.random.default_rng(1), "http://x")
"""


@pytest.mark.process
def test_killed_between_sending_and_the_outcome_is_sent_again_under_the_same_id(tmp_path: Path, web: WebServer) -> None:
    path = tmp_path / "killed.duckdb"
    web.behaviour = web.hang
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path), web.url, "first"],
        cwd=Path(__file__).resolve().parents[3],
    )
    assert web.arrived.wait(60)  # The message is out; the process waits for the answer.
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    web.release.set()
    web.behaviour = 204
    reopened = Store.open(path, clock=FixedClock(MOMENT), threads=1)
    try:
        assert states(reopened) == ["sending"]
        assert job.has_work(reopened, Settings())
        assert send(reopened, lambda message, route: job.send(message, route, {})) == 1
        assert not job.has_work(reopened, Settings())
        assert states(reopened) == ["delivered"]
    finally:
        reopened.close()
    assert [got.headers["trimtab-attempt"] for got in web.got] == ["1", "2"]
    assert len({got.headers["trimtab-delivery"] for got in web.got}) == 1


def test_killed_every_time_is_given_up(store: Store) -> None:
    transport = Transport()
    route = hook(store)
    delivery = notice_deliveries.plan(store, route, [post(store)])
    assert delivery is not None
    for _ in range(MOST_ATTEMPTS):
        notice_deliveries.begin_attempt(store, delivery)
    assert send(store, transport) == 0
    assert transport.tried == []
    assert states(store) == ["given up"]


def test_the_secret_address_is_not_in_the_audit_log(store: Store) -> None:
    notice_routes.add(
        store, Route("chat", Webhook("https://chat.example.com/hooks/very-secret?token=abc")), operator="ada"
    )
    detail = audit.recent(store)["detail"][0]
    assert "very-secret" not in detail
    assert "abc" not in detail
    assert "chat.example.com" in detail
