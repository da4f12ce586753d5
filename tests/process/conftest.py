"""Fixtures of the tests that start real processes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_traffic import Ledger
from live_traffic import hold_to_account as hold_store_to_account

from store.connection import Store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 MB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def hold_to_account() -> Callable[[Path, Ledger], None]:
    """Checks the file that a server left against what agents sent: `live_traffic.hold_to_account` of its store."""

    def check(db: Path, ledger: Ledger) -> None:
        store = Store.open(db, threads=1)
        try:
            hold_store_to_account(store, ledger)
        finally:
            store.close()

    return check
