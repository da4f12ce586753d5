"""A process that calls functions for this one, one after the other.

Not `multiprocessing`: its children begin by running the parent's main module again, and in a server that is whatever
page Streamlit shows at that moment. This child imports what it is asked to call and nothing else. It ends when it is
told to, and when the process that started it is gone, also in the middle of a call.

Both sides speak in frames over the child's standard input and output: eight bytes of length, then a pickle. A store
among the arguments of a call becomes a view there (`store.export`): before its answer the child asks what to read.
"""

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from pipelines.parcels import Parcels
from pipelines.priority import session_behind_others
from store.errors import TrimtabError
from store.export import Question, Readings, StoreView

__all__ = ["Worker", "WorkerLost"]

P = ParamSpec("P")
R = TypeVar("R")

_ROOT = Path(__file__).resolve().parents[1]
_START = "from pipelines.worker import serve; serve()"
_LENGTH_BYTES = 8

# Threads of numerical libraries wait for each other by spinning: on a busy machine that takes the processor from all.
_QUIET_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


class WorkerLost(TrimtabError):
    """The process ended before it had answered."""

    def __init__(self) -> None:
        super().__init__("The process that did the work was ended from outside, perhaps for want of memory.")


class _Broken(Exception):
    """The pipe to the process ended."""


class Worker:
    """Starts the process at once. Close it at the end; an ended one answers every call with `WorkerLost`."""

    def __init__(self, *, behind: bool = False, readings: Readings | None = None) -> None:
        """`behind`: other processes go first when the processor is short. `readings` answers what is read of a store
        among the arguments; large frames then travel as files in its folder, both ways.
        """
        self._readings = readings
        self._parcels = None if readings is None else Parcels(readings.folder, readings.store)
        folder = [] if readings is None else [str(readings.folder)]
        path = os.pathsep.join([str(_ROOT), *(entry for entry in sys.path if entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, "behind" if behind else "beside", *folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**(_QUIET_THREADS if behind else {}), **os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the process that serves: it finishes what it acknowledges.
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[bytes, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes further calls."""
        return not self._closed and self._process.poll() is None

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Have a function of a module called; its answer or its error, or `WorkerLost`, comes with the future.

        Raises: what pickling the call raises.
        """
        call = self._pack((function, args, kwargs))
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(WorkerLost())
            else:
                self._calls.put((call, future))
        return future

    def close(self) -> None:
        """Finish the calls that were handed over, then end the process. Safe to call twice."""
        self._end()
        self._thread.join()

    def kill(self) -> None:
        """End the process now; calls that are not answered fail, and what is read for it is cut short."""
        self._process.kill()
        if self._readings is not None:
            self._readings.close()
        self.close()

    def _end(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._calls.put(None)

    def _run(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        lost = False
        while (entry := self._calls.get()) is not None:
            call, future = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if lost:
                    raise WorkerLost
                fine, answer = self._converse(stdin, stdout, call)
            except _Broken:
                lost = True
                # Nothing more is taken; what is queued already is answered below.
                self._end()
                future.set_exception(WorkerLost())
            except BaseException as error:
                future.set_exception(error)
            else:
                if fine:
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
        if self._readings is not None:
            self._readings.end()
        for stream in (stdin, stdout):
            try:
                stream.close()
            except OSError:
                continue
        if lost:
            self._process.kill()
        self._process.wait()

    def _converse(self, stdin: IO[bytes], stdout: IO[bytes], call: bytes) -> tuple[bool, Any]:
        """Send a call and answer what the process asks until it answers.

        Raises: `_Broken` when the process is gone; what unpacking the answer raises.
        """
        try:
            _write(stdin, call)
            while True:
                content = self._unpack(_read(stdout))
                if not isinstance(content, Question):
                    fine, answer = content
                    return fine, answer
                _write(stdin, self._reply(content))
        except (BrokenPipeError, EOFError) as error:
            raise _Broken from error

    def _reply(self, question: Question) -> bytes:
        """The pickle of (true, the answer) or (false, its error)."""
        assert self._readings is not None
        try:
            return self._pack((True, self._readings.answer(question)))
        except Exception as error:
            return _portable(error)

    def _pack(self, content: object) -> bytes:
        if self._parcels is not None:
            return self._parcels.pack(content)
        return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)

    def _unpack(self, content: bytes) -> Any:
        return pickle.loads(content) if self._parcels is None else self._parcels.unpack(content)


def serve() -> None:
    """The process: calls what comes on standard input until that ends."""
    priority, *folder = sys.argv[1:]
    if priority == "behind":
        session_behind_others()
    source = sys.stdin.buffer
    # What a library prints must not get between the frames.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                calls.put(_read(source))
        except (OSError, EOFError):
            # The other side closes when everything is answered; before that it is gone, and nobody wants the answer.
            os._exit(0)

    def write(content: bytes) -> None:
        try:
            _write(target, content)
        except OSError:
            os._exit(1)

    asking = threading.Lock()

    def ask(question: Question) -> Any:
        with asking:
            write(pickle.dumps(question, protocol=pickle.HIGHEST_PROTOCOL))
            fine, answer = pickle.loads(calls.get())
        if fine:
            return answer
        raise answer

    parcels = Parcels(Path(folder[0]), StoreView(ask)) if folder else None
    threading.Thread(target=read, name="calls", daemon=True).start()
    while True:
        write(_answer(calls.get(), parcels))


def _answer(call: bytes, parcels: Parcels | None) -> bytes:
    """The pickle of (true, what the function gave) or (false, its error)."""
    try:
        function, args, kwargs = pickle.loads(call) if parcels is None else parcels.unpack(call)
        answer = (True, function(*args, **kwargs))
        return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL) if parcels is None else parcels.pack(answer)
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> bytes:
    """An error that would not survive the way back is replaced by one that says the same."""
    try:
        packed = pickle.dumps((False, error), protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
        return packed
    except Exception:
        kind = TrimtabError if isinstance(error, TrimtabError) else RuntimeError
        return pickle.dumps((False, kind(f"{type(error).__name__}: {error}")), protocol=pickle.HIGHEST_PROTOCOL)


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """The next frame. Raises: `EOFError` when there is none."""
    head = _exactly(stream, _LENGTH_BYTES)
    return _exactly(stream, int.from_bytes(head, "big"))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
