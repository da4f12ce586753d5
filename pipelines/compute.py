"""Where the pure work of a job is done: in this process, or in one of its own beside a server.

A fit that runs in Python holds the interpreter's lock: beside a server it would delay pages and acknowledgements, and
what it took of memory would stay with the server. In a process of its own it does neither.

The same holds for what it reads: a function that is given the store reads in its own process what the server's engine
leaves in files (`store.export`), and large frames that it answers with come back as files.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from pipelines.worker import Worker, WorkerLost
from store.connection import Store
from store.errors import JobError
from store.export import Readings

__all__ = ["Aside", "Compute", "ComputeLost", "here"]

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_SECONDS = 0.25


class Compute(Protocol):
    """Calls a function of a module with arguments that can be pickled; its errors come back as its own.

    A store among the arguments can be read there, not written.
    """

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer."""
        ...


class ComputeLost(JobError):
    """The process that did the work has ended."""

    def __init__(self) -> None:
        super().__init__("The process that computed was ended from outside, perhaps for want of memory.")


class _Here:
    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)


here: Compute = _Here()
"""Calls the function in this thread."""


class Aside:
    """Calls functions in a process of its own, after all others when the processor is short.

    The process begins with the first call; close it at the end, and what it held is free. `check` is asked a few times
    a second whether to go on: what it raises ends the process and comes out of the call.
    """

    def __init__(self, check: Callable[[], None], store: Store) -> None:
        self._check = check
        self._store = store
        self._worker: Worker | None = None
        self._folder: Path | None = None

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer. Raises: what it raises, and `ComputeLost` when the process is killed."""
        if self._worker is None:
            self._folder = self._store.exchange()
            self._worker = Worker(behind=True, readings=Readings(self._store, self._folder))
        future = self._worker.submit(function, *args, **kwargs)
        try:
            while not wait([future], _LOOK_SECONDS).done:
                self._check()
            return future.result()
        except WorkerLost as error:
            self.close()
            raise ComputeLost from error
        finally:
            if not future.done():
                self.close()

    def close(self) -> None:
        """End the process, also in the middle of its work."""
        worker, self._worker = self._worker, None
        folder, self._folder = self._folder, None
        if worker is not None:
            worker.kill()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
