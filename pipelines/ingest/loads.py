"""Loads in the background: one worker shared by the Data page, the inbox and the command line's hand-over."""

import logging
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipelines.ingest.load import BatchReport, Progress, load
from pipelines.ingest.mapping import Mapping
from store.connection import Store
from store.errors import IngestCancelled, IngestInterrupted, StoreClosed, TrimtabError

_LOG = logging.getLogger(__name__)

# "stopped": the process is ending; the file is loaded by the next one.
State = Literal["queued", "running", "done", "failed", "cancelled", "stopped"]

# Finished loads stay visible until this many newer ones have come.
_KEPT = 200


@dataclass
class LoadStatus:
    """One load, from the queue to its report."""

    load_id: str
    file: str
    state: State = "queued"
    progress: Progress | None = None
    report: BatchReport | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Request:
    status: LoadStatus
    path: Path
    source: str | None
    mapping: Mapping | None
    actor: str | None
    after: Callable[[LoadStatus], None] | None
    stop: threading.Event = field(default_factory=threading.Event)


class Loads:
    """A queue of files and the thread that loads them one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.Queue[_Request | None] = queue.Queue()
        self._requests: dict[str, _Request] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loads", daemon=True)
        self._thread.start()

    def submit(
        self,
        path: Path,
        *,
        file: str | None = None,
        source: str | None = None,
        mapping: Mapping | None = None,
        actor: str | None = None,
        after: Callable[[LoadStatus], None] | None = None,
    ) -> str:
        """Queue a file; returns the id of the load. `after` runs in the worker when it has ended, however it ended.

        `actor` is whom the audit log names (None: no row).
        Raises: `StoreClosed` when the process is ending.
        """
        status = LoadStatus(uuid.uuid4().hex, file or path.name)
        request = _Request(status, path, source, mapping, actor, after)
        with self._lock:
            if self._closing.is_set():
                raise StoreClosed
            self._requests[status.load_id] = request
            ended = [key for key, kept in self._requests.items() if kept.status.state not in ("queued", "running")]
            for key in ended[:-_KEPT]:
                del self._requests[key]
            self._queue.put(request)
        return status.load_id

    def status(self, load_id: str) -> LoadStatus | None:
        """The load of this id; None when it is not known (any more)."""
        with self._lock:
            request = self._requests.get(load_id)
        return request.status if request else None

    def cancel(self, load_id: str) -> None:
        """Ask a load to stop; it does so while it waits or reads the file, and not once it is being published."""
        with self._lock:
            request = self._requests.get(load_id)
            if request is not None:
                request.stop.set()
                if request.status.state == "queued":
                    request.status.state = "cancelled"

    def active(self) -> list[LoadStatus]:
        """Queued and running loads, oldest first."""
        with self._lock:
            return [r.status for r in self._requests.values() if r.status.state in ("queued", "running")]

    def close(self) -> None:
        """Stop the running load between two chunks and end the worker; the same file, sent again, continues there."""
        with self._lock:
            self._closing.set()
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (request := self._queue.get()) is not None:
            self._load(request)
            if request.after is not None:
                try:
                    request.after(request.status)
                except Exception:
                    # Whoever waited must not end the worker either.
                    _LOG.exception("what was to follow the load of %s failed", request.status.file)

    def _load(self, request: _Request) -> None:
        status = request.status

        def progress(value: Progress) -> None:
            status.progress = value

        def cancelled() -> bool:
            if self._closing.is_set():
                raise IngestInterrupted(status.file)
            return request.stop.is_set()

        with self._lock:
            if status.state == "queued":
                status.state = "stopped" if self._closing.is_set() else "running"
        if status.state != "running":
            return
        try:
            status.report = load(
                self._store,
                request.path,
                file=status.file,
                source=request.source,
                mapping=request.mapping,
                progress=progress,
                cancelled=cancelled,
                actor=request.actor,
            )
        except IngestCancelled as error:
            status.error, status.state = str(error), "cancelled"
        except IngestInterrupted as error:
            status.error, status.state = str(error), "stopped"
        except TrimtabError as error:
            status.error, status.state = str(error), "failed"
        except Exception as error:
            # A defect of ours must not end the worker: the next file still loads.
            _LOG.exception("loading %s failed", status.file)
            status.error, status.state = f"{status.file}: an unexpected error: {error!r}", "failed"
        else:
            status.state = "done"
