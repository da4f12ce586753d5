"""Whether the server is up, whether it takes data, and its figures for Prometheus.

GET /healthz   the process answers
GET /readyz    the store can be read and takes data, else 503
GET /metrics   Prometheus text; for this machine, others need a key of scope admin
"""

from collections.abc import Iterable
from typing import Any

from anyio import to_thread
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.access import Access
from gateway.refusals import refusal
from gateway.steer import Steering
from pipelines.live.intake import LiveIntake
from store import job_runs
from store.connection import Store
from store.errors import StoreError, TrimtabError
from store.version import code_version

_COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_READY_SECONDS = 2.0
_STATES = ("running", "succeeded", "failed", "interrupted")


class CommitTimes:
    """How long commits of live data take."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._histogram = Histogram(
            "trimtab_commit_seconds", "Seconds that a commit of live data took.",
            buckets=_COMMIT_SECONDS, registry=self.registry,
        )  # fmt: skip

    def observe(self, seconds: float) -> None:
        """Count one commit."""
        self._histogram.observe(seconds)


class Figures(Collector):
    """Reads the present figures whenever Prometheus asks."""

    def __init__(self, store: Store, intake: LiveIntake, access: Access, steering: Steering) -> None:
        self._store, self._intake, self._access, self._steering = store, intake, access, steering

    def collect(self) -> Iterable[Metric]:
        """The metrics of the gateway, the store and the jobs."""
        counts = self._intake.counts()
        records = CounterMetricFamily(
            "trimtab_ingest_records", "Live records by what became of them.", labels=["state"]
        )
        records.add_metric(["taken"], counts.received - counts.rejected)
        records.add_metric(["rejected"], counts.rejected)
        yield records
        requests = CounterMetricFamily(
            "trimtab_ingest_requests", "Requests with live data by what became of them.", labels=["state"]
        )
        requests.add_metric(["committed"], counts.requests)
        requests.add_metric(["busy"], counts.refused_requests)
        requests.add_metric(["failed"], counts.failed_requests)
        yield requests
        refused = CounterMetricFamily("trimtab_access_refused", "Requests without the right key.", labels=["reason"])
        for reason, number in sorted(self._access.refused().items()):
            refused.add_metric([reason], number)
        yield refused
        yield GaugeMetricFamily(
            "trimtab_ingest_pending_requests", "Live requests not answered yet.", value=counts.pending_requests
        )
        yield GaugeMetricFamily("trimtab_ingest_pending_bytes", "Their bytes.", value=counts.pending_bytes)
        yield GaugeMetricFamily(
            "trimtab_store_queue", "Changes that wait for the writer.", value=self._store.queue_depth
        )
        jobs = GaugeMetricFamily(
            "trimtab_job_state", "1 for the state in which each job's latest run is.", labels=["job", "state"]
        )
        for row in job_runs.latest(self._store).to_dicts():
            for state in _STATES:
                jobs.add_metric([row["job"], state], float(row["status"] == state))
        yield jobs
        yield from self._steering.metrics()


class Health:
    """The routes that tell how the server is."""

    def __init__(
        self, store: Store, access: Access, intake: LiveIntake, times: CommitTimes, steering: Steering
    ) -> None:
        self._store, self._access, self._steering = store, access, steering
        self._registry = times.registry
        self._registry.register(Figures(store, intake, access, steering))

    async def alive(self, _: Request) -> Response:
        """Whether the server is up."""
        return JSONResponse({"status": "ok", "version": code_version()})

    async def ready(self, _: Request) -> Response:
        """Whether it can be given data."""
        try:
            steering = await to_thread.run_sync(self._probe)
        except TrimtabError as error:
            return JSONResponse({"status": "unavailable", "error": str(error)}, status_code=503)
        # An old policy keeps serving: that is told, and no reason to send agents elsewhere.
        return JSONResponse({"status": "ready", "version": code_version(), "steering": steering})

    async def metrics(self, request: Request) -> Response:
        """The figures as Prometheus reads them."""
        try:
            self._access.check_reader(request.headers, request.client.host if request.client else None)
            text = await to_thread.run_sync(generate_latest, self._registry)
        except TrimtabError as error:
            return refusal(error)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _probe(self) -> dict[str, Any]:
        """Read the store, and have the writer take a turn; returns how steering is. Raises: `StoreError`."""
        with self._store.read(timeout=2.0) as reader:
            reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        written = self._store.submit(lambda connection: None)
        try:
            written.result(timeout=_READY_SECONDS)
        except TimeoutError as error:
            raise StoreError(f"The writer has been at other work for {_READY_SECONDS:g} s.") from error
        return self._steering.condition()
