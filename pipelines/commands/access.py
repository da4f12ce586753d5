"""Where a command does its work: in the server that holds the file when there is one, else on the file itself."""

import getpass
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.commands.remote import find_server
from pipelines.ingest.loads import Loads
from pipelines.operations import LocalOperations, Operations
from pipelines.runner import Runner
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings


@contextmanager
def operations(settings: Settings, *, create: bool) -> Iterator[Operations]:
    """What the command can ask for, wherever the store is open.

    Args: `create` whether a missing file is made; else it is an error.
    Raises: `StoreLocked` naming a process that holds the file and does not take work over; `ActionRefused`.
    """
    server = find_server(settings.db)
    if server is not None:
        yield server
        return
    with opened(settings, create=create) as (store, loads, runner):
        yield LocalOperations(store, loads, runner, threading.Event())


def operator() -> str:
    """Who is at the command line, for the audit log."""
    try:
        return f"command line ({getpass.getuser()})"
    except (KeyError, OSError, ImportError):
        # In a container the user's number may have no name.
        return "command line"


@contextmanager
def opened(settings: Settings, *, create: bool) -> Iterator[tuple[Store, Loads, Runner]]:
    """The store opened in this process, with what loads files and runs jobs. Raises: as `operations`."""
    if not create and not settings.db.exists():
        raise ActionRefused(
            f"Opening {settings.db}", "there is no such file.", "Check --db or TRIMTAB_DB, or load a file first."
        )
    store = Store.open(settings.db, memory_limit=settings.memory_limit)
    try:
        loads = Loads(store)
        runner = Runner(store, settings, loads=loads)
        runner.recover()
        try:
            yield store, loads, runner
        finally:
            loads.close()
            runner.close(0)
    finally:
        store.close()
