"""Four operators at once, beside ingest and the jobs, for minutes: pages, bytes, memory and what the log says.

Each operator is a session on Streamlit's own web socket that goes round every page, see `bench.soak`. How long they
look at a page differs, as among people: in step with each other they would all ask for the dearest page at once.
"""

import random
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.beside import Beside
from bench.live import SPANS, WARM_FROM, Memory, Sent, bodies, send, trimtab, until_counted
from bench.measure import quantile
from bench.soak import visit

PAGES = ("", "review", "lessons", "traces", "users", "rewards", "exploration", "drift", "data", "settings")
OPERATORS = 4
_PAUSE_SECONDS = (0.5, 1.5)
# Jobs have run once, caches and pools have their size.
_SETTLING_SECONDS = 120.0


class Operator(Beside):
    """While it is open: one operator who goes round all pages, with a pause on each."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__()
        self._port = port
        self._random = random.Random(number)
        self.first = 0.0
        """Seconds from opening the web socket until the first page is there."""
        self.seen: list[tuple[str, float, float, int]] = []
        """(page, moment, seconds until it is rendered, bytes that came for it)"""

    def work(self) -> None:
        """Round the pages."""
        begun = time.perf_counter()
        with visit(self._port) as session:
            self.first = time.perf_counter() - begun
            while True:
                for name in PAGES:
                    moment = time.time()
                    self.seen.append((name, moment, session.render(name), session.received))
                    if self.stop.wait(self._random.uniform(*_PAUSE_SECONDS)):
                        return


@dataclass(frozen=True)
class OperatorsFigures:
    """One run. `memory` is (seconds since the soak began, MB of the server alone, MB with its processes)."""

    held: int
    seconds: float
    sent: Sent
    first: list[float]
    seen: list[tuple[str, float, float, int]]
    memory: list[tuple[float, float, float]]
    complaints: list[str]

    def minute(self, *, last: bool) -> float:
        """The median memory of the server alone in the first or the last minute."""
        end = self.memory[-1][0]
        part = [alone for moment, alone, _ in self.memory if (moment > end - 60.0 if last else moment <= 60.0)]
        return quantile(part, 0.5)


def measure(
    folder: Path, seconds: float, rate: float, spans: int = SPANS, *, store: Path | None = None
) -> OperatorsFigures:
    """Fill an empty store, or a copy of `store`, with `spans`, let it settle, then send `rate` spans/s for `seconds`
    beside the operators.

    Raises: `RuntimeError` when a request is refused, a page fails, or an acknowledged span is missing.
    """
    if store is not None:
        shutil.copyfile(store, folder / "trimtab.duckdb")
    filling = bodies(folder / "filling.bin", max(1, spans // SPANS), first=WARM_FROM)
    made = bodies(folder / "bodies.bin", max(1, round(seconds * rate / SPANS)))
    with trimtab(folder) as (process, target, control), ExitStack() as stack:

        def count() -> int:
            return int(control.sql("SELECT count(*) AS n FROM spans", 60.0).item())

        before = count()
        send(target, filling)
        until_counted(count, before + filling.spans, 60.0)
        operators = [stack.enter_context(Operator(target.port, number)) for number in range(OPERATORS)]
        time.sleep(min(_SETTLING_SECONDS, seconds))
        with Memory(process.pid) as memory:
            sent = send(target, made, rate=rate)
        until_counted(count, before + filling.spans + made.spans, 60.0)
    log = (folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return OperatorsFigures(
        before + filling.spans, sent.ended - sent.begun, sent, [each.first for each in operators],
        [each for operator in operators for each in operator.seen if each[1] >= sent.begun],
        [(moment - sent.begun, alone, family) for moment, alone, family in memory.samples],
        [line for line in log if "Traceback" in line or "ERROR" in line or "Error:" in line],
    )  # fmt: skip
