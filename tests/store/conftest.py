"""Fixtures for the store's tests: a store on disk, and slices staged from plain rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from publishing import Publish, publisher

from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands at a known moment."""
    return FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    """An empty store on disk."""
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    """Publishes rows given as dictionaries; each row is a record of its own unless it names `record_no`."""
    return publisher(store, tmp_path)
