"""A store on disk to load files into."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on disk, in a folder of its own."""
    clock = FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
    opened = Store.open(tmp_path / "store" / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()
