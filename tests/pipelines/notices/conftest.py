"""Fixtures: a store, a web server and a mail server of one's own."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from store.clock import FixedClock
from store.connection import Store
from tests.pipelines.notices.local_servers import WebServer


@pytest.fixture
def clock() -> FixedClock:
    """A Friday at noon, UTC."""
    return FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))


@pytest.fixture
def store(clock: FixedClock) -> Iterator[Store]:
    """An empty store in memory."""
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server that takes whatever is posted, until told otherwise."""
    with WebServer() as server:
        yield server
