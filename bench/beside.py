"""Something that goes on beside a measurement, on a thread of its own."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """Its `work` is done on another thread while it is open; `stop` is set, and `work` waited for, at the end.

    Leaving raises `RuntimeError` when `work` failed.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: Exception | None = None

    @abstractmethod
    def work(self) -> None:
        """What is done; returns soon after `stop` is set."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()
        if self._error is not None:
            raise RuntimeError(f"{type(self).__name__} failed: {self._error!r}") from self._error

    def _run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self._error = error
