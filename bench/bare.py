"""A bare OTLP endpoint: it decodes, commits and acknowledges, and does nothing else. What this machine can do at most.

No deduplication, no mapping of vocabularies, no rollup, no partial success, no bound on what waits. Spans become rows
of one table without keys through Polars, whatever waits is committed together, and a request is answered after that.
Run as: python -m bench.bare PORT DB
"""

import asyncio
import gzip
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bench.live import WARM_FROM, Sent, Target, bodies, free_port, send, started

_COLUMNS = {
    "trace_id": pl.String, "span_id": pl.String, "parent_span_id": pl.String, "name": pl.String,
    "started_ns": pl.UInt64, "ended_ns": pl.UInt64, "openinference.span.kind": pl.String, "llm.model_name": pl.String,
    "input.value": pl.String, "output.value": pl.String, "user.id": pl.String, "session.id": pl.String,
    "llm.token_count.prompt": pl.Int64, "llm.token_count.completion": pl.Int64,
}  # fmt: skip
# The default of 16 MB stops it far more often.
_CHECKPOINT = "128MB"


def decode(body: bytes) -> pl.DataFrame:
    """The spans of a gzip request as rows."""
    request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
                attributes |= {
                    "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(), "name": span.name,
                    "started_ns": span.start_time_unix_nano, "ended_ns": span.end_time_unix_nano,
                }  # fmt: skip
                for name, column in columns.items():
                    column.append(attributes.get(name))
    return pl.DataFrame(columns, schema=_COLUMNS)


class Writer:
    """Group commit into one table."""

    def __init__(self, path: str) -> None:
        self._connection = duckdb.connect(path, config={"checkpoint_threshold": _CHECKPOINT})
        types = {pl.String: "VARCHAR", pl.UInt64: "UBIGINT", pl.Int64: "BIGINT"}
        columns = ", ".join(f'"{name}" {types[kind]}' for name, kind in _COLUMNS.items())
        self._connection.execute(f"CREATE TABLE spans ({columns})")
        self._queue: queue.Queue[tuple[pl.DataFrame, asyncio.Future[None], asyncio.AbstractEventLoop]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    async def write(self, rows: pl.DataFrame) -> None:
        """Store rows; returns when they are on disk."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._queue.put((rows, done, loop))
        await done

    def count(self) -> int:
        """How many rows are stored."""
        found = self._connection.cursor().execute("SELECT count(*) FROM spans").fetchall()
        return int(found[0][0])

    def _run(self) -> None:
        while True:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            rows = pl.concat([each[0] for each in group])
            self._connection.register("arrived", rows.to_arrow())
            self._connection.execute("BEGIN")
            self._connection.execute("INSERT INTO spans FROM arrived")
            self._connection.execute("COMMIT")
            self._connection.unregister("arrived")
            for _, done, loop in group:
                loop.call_soon_threadsafe(done.set_result, None)


def application(path: str) -> Starlette:
    """The endpoint."""
    writer = Writer(path)

    async def traces(request: Request) -> Response:
        rows = await asyncio.to_thread(decode, await request.body())
        await writer.write(rows)
        return Response(b"", media_type="application/x-protobuf")

    async def count(request: Request) -> Response:
        return PlainTextResponse(str(await asyncio.to_thread(writer.count)))

    return Starlette(routes=[Route("/v1/traces", traces, methods=["POST"]), Route("/count", count)])


def measure(folder: Path, requests: int, connections: int) -> tuple[float, Sent]:
    """Spans/s of the endpoint taking requests from two processes of `connections` clients, and what these saw.

    Raises: `RuntimeError` when a request is refused.
    """
    made, warm, port = (
        bodies(folder / "bodies.bin", requests),
        bodies(folder / "warm.bin", 16, first=WARM_FROM),
        free_port(),
    )
    command = [sys.executable, "-m", "bench.bare", str(port), str(folder / "bare.duckdb")]
    with started(command, {}, f"http://127.0.0.1:{port}/count", folder / "bare.log"):
        send(Target(port), warm)
        sent = send(Target(port), made, connections=connections)
    made.path.unlink()
    return made.spans / (sent.ended - sent.begun), sent


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
