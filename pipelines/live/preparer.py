"""Where bodies are decoded: large ones in a process of its own, so that pages and acknowledgements never wait for it.

Decoding is Python and holds the interpreter's lock. The process starts with the first large body and ends with ours.
"""

import asyncio
import threading

from anyio import to_thread

from pipelines.live.prepare import Body, Encoding, Prepared, prepare
from pipelines.worker import Worker, WorkerLost
from store.errors import IngestError
from store.redaction import NOTHING, Rules

# Bodies below this size are decoded where they are: handing them over would cost more.
_SMALL = 8 << 10


class DecoderLost(IngestError):
    """The process that decodes has ended in the middle of a request."""

    def __init__(self) -> None:
        super().__init__("The request could not be decoded: its decoder was stopped. Send it again.")


class Preparer:
    """Decodes bodies for an asynchronous caller. One for each process; close it at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._closed = False

    async def prepare(
        self, body: bytes, kind: Body, encoding: Encoding, source: str, rules: Rules = NOTHING
    ) -> Prepared:
        """As `prepare.prepare`, off the event loop. Raises: what that raises, and `DecoderLost`."""
        if len(body) < _SMALL:
            return await to_thread.run_sync(prepare, body, kind, encoding, source, rules)
        future = self._started().submit(prepare, body, kind, encoding, source, rules)
        try:
            return await asyncio.wrap_future(future)
        except WorkerLost as error:
            raise DecoderLost from error

    def close(self) -> None:
        """End the process; what it decodes now is still finished."""
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _started(self) -> Worker:
        with self._lock:
            if self._closed:
                raise DecoderLost
            if self._worker is None or not self._worker.alive:
                if self._worker is not None:
                    self._worker.kill()
                self._worker = Worker()
            return self._worker
