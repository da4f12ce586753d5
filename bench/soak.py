"""Soak: data at a steady pace for minutes; whether memory stays flat and pages stay quick.

Pages are rendered as a browser has them rendered: a session on Streamlit's own web socket that runs the page's script.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from bench.beside import Beside
from bench.live import (
    NEWS_FROM,
    SPANS,
    WARM_FROM,
    Memory,
    Probes,
    Sent,
    Target,
    bodies,
    send,
    send_one,
    trimtab,
    until_counted,
)  # fmt: skip
from bench.measure import quantile

PAGES = ("", "traces", "rewards", "data")
_IDLE_ROUNDS = 8
_PAUSE_SECONDS = 1.0
_PAGE_SECONDS = 60.0


class PageSession:
    """A visitor of the pages."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.received = 0
        """Bytes that came over the web socket for the page that was rendered last."""

    def render(self, name: str) -> float:
        """Seconds until page `name` ("" is the first) is rendered. Raises: `RuntimeError` when its script fails."""
        message = BackMsg()
        message.rerun_script.page_name = name
        begun = time.perf_counter()
        self._connection.send(message.SerializeToString())
        failure = ""
        self.received = 0
        while True:
            content = self._connection.recv(timeout=_PAGE_SECONDS)
            assert isinstance(content, bytes)
            self.received += len(content)
            answer = ForwardMsg.FromString(content)
            kind = answer.WhichOneof("type")
            if kind == "page_not_found":
                failure = "there is no such page"
            elif kind == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
                failure = answer.delta.new_element.exception.message
            elif kind == "script_finished":
                if answer.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                if failure or answer.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY:
                    raise RuntimeError(f"page {name or 'overview'}: {failure or answer.script_finished}")
                return time.perf_counter() - begun


@contextmanager
def visit(port: int) -> Iterator[PageSession]:
    """Open a session on the pages."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    with connect(address, subprotocols=["streamlit"], max_size=None) as connection:  # type: ignore[list-item]
        session = PageSession(connection)
        session.render("")
        yield session


class Visits(Beside):
    """While it is open: one visitor who goes round the pages, with a pause between them."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.seconds: dict[str, list[float]] = {name: [] for name in PAGES}

    def work(self) -> None:
        """Round the pages; each is seen at least once."""
        with visit(self._port) as session:
            while True:
                for name in PAGES:
                    self.seconds[name].append(session.render(name))
                    if self.stop.wait(_PAUSE_SECONDS) and all(self.seconds.values()):
                        return


@dataclass(frozen=True)
class SoakFigures:
    """One soak. Memory is (seconds since the begin, MB of the server alone, MB with its other processes).

    Page times are seconds by page: `idle` when nothing was sent and nothing has changed since the last visit, `changed`
    when one request came right before each visit (no answer is held then), `during` ingest. The visitor pauses equally
    long between two pages in all three: an answer is held for longer than it takes to go on without a pause.
    """

    spans: int
    seconds: float
    sent: Sent
    since_acknowledged: list[float]
    memory: list[tuple[float, float, float]]
    idle: dict[str, list[float]]
    changed: dict[str, list[float]]
    during: dict[str, list[float]]

    def tenth(self, number: int) -> tuple[float, float]:
        """The median memory (alone, with other processes) in tenth `number` (0 to 9) of the soak."""
        part = self._part(number)
        return quantile([each[1] for each in part], 0.5), quantile([each[2] for each in part], 0.5)

    def least(self, number: int) -> tuple[float, float]:
        """The least memory in that tenth, likewise: the median contains what jobs needed meanwhile."""
        part = self._part(number)
        return min(each[1] for each in part), min(each[2] for each in part)

    def _part(self, number: int) -> list[tuple[float, float, float]]:
        size = max(1, len(self.memory) // 10)
        return self.memory[number * size : (number + 1) * size] or self.memory[-1:]


def measure(folder: Path, seconds: float, rate: float) -> SoakFigures:
    """Send `rate` spans/s for `seconds` to an empty store while a visitor goes round the pages, then once more idle.

    Raises: `RuntimeError` when a request is refused, a page fails, or an acknowledged span is missing.
    """
    made = bodies(folder / "bodies.bin", max(1, round(seconds * rate / SPANS)))
    warm = bodies(folder / "warm.bin", 16, first=WARM_FROM)
    with trimtab(folder) as (process, target, control):

        def count() -> int:
            return int(control.sql("SELECT count(*) AS n FROM spans", 60.0).item())

        send(target, warm)
        with Memory(process.pid) as memory, Probes(target, control, every=5.0) as probes, Visits(target.port) as visits:
            sent = send(target, made, rate=rate)
        expected = warm.spans + made.spans + probes.spans
        seen = until_counted(count, expected, 60.0)
        idle, changed = _idle(target, folder)
        expected += _IDLE_ROUNDS * len(PAGES) * SPANS
        if count() != expected:
            raise RuntimeError(f"{count():,} spans are stored, {expected:,} were sent")
    made.path.unlink()
    samples = [(moment - sent.begun, alone, family) for moment, alone, family in memory.samples if moment >= sent.begun]
    return SoakFigures(
        made.spans + probes.spans, seen - sent.begun, sent, probes.since_acknowledged, samples, idle, changed,
        visits.seconds,
    )  # fmt: skip


def _idle(target: Target, folder: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Page times on the filled store, without and with a change right before each."""
    idle: dict[str, list[float]] = {name: [] for name in PAGES}
    changed: dict[str, list[float]] = {name: [] for name in PAGES}
    news = bodies(folder / "news.bin", _IDLE_ROUNDS * len(PAGES), first=NEWS_FROM).contents()
    with visit(target.port) as session:
        for name in PAGES:
            session.render(name)
        for _ in range(_IDLE_ROUNDS):
            for name in PAGES:
                time.sleep(_PAUSE_SECONDS)
                idle[name].append(session.render(name))
        for _ in range(_IDLE_ROUNDS):
            for name in PAGES:
                time.sleep(_PAUSE_SECONDS)
                send_one(target, next(news))
                changed[name].append(session.render(name))
    return idle, changed
