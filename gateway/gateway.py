"""The gateway: what agents talk to, over one open store."""

from starlette.routing import Route

from gateway.access import Access
from gateway.arms import Arms
from gateway.files import Files
from gateway.health import CommitTimes, Health
from gateway.ingest import Ingest
from gateway.lessons import Lessons
from gateway.openapi import document
from gateway.steer import Steering
from gateway.steering_apart import Apart
from gateway.steering_here import Here
from pipelines.ingest.loads import Loads
from pipelines.ingest.uploads import Uploads
from pipelines.live.intake import PENDING_BYTES, LiveIntake
from pipelines.live.preparer import Preparer
from store.connection import Store
from store.settings import Settings


class Gateway:
    """The routes for agents and what they need. One for each process; close it before the store."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        loads: Loads,
        uploads: Uploads,
        *,
        pending_bytes: int = PENDING_BYTES,
        steering_apart: bool = False,
    ) -> None:
        """`pending_bytes` of live data may wait to be stored; `steering_apart`: questions are answered in a process of
        their own, which whoever serves the routes attaches (`apart`)."""
        times = CommitTimes()
        self.access = Access(store, keyless_loopback=settings.allow_keyless_loopback)
        self.intake = LiveIntake(store, pending_bytes=pending_bytes, observe_commit=times.observe)
        self._preparer = Preparer()
        self._ingest = Ingest(self.access, self.intake, self._preparer)
        self._files = Files(self.access, uploads, loads, settings.max_upload_mb << 20)
        self._arms = Arms(store, self.access)
        self._lessons = Lessons(store, self.access)
        spool = settings.db.with_name(settings.db.name + ".decisions")
        self.apart = (
            Apart(
                store, self.access, spool, keyless_loopback=settings.allow_keyless_loopback,
                grace_seconds=settings.shutdown_grace_seconds,
            ) if steering_apart else None
        )  # fmt: skip
        self.steering = Steering(store, self.access, self.apart or Here(store, self.access, spool))
        self._health = Health(store, self.access, self.intake, times, self.steering)

    def routes(self) -> list[Route]:
        """All routes for agents and for those who watch the server."""
        return [
            Route("/v1/traces", self._ingest.traces, methods=["POST"]),
            Route("/v1/signals", self._ingest.signals, methods=["POST"]),
            Route("/v1/upload", self._files.send, methods=["POST"]),
            Route("/v1/upload/{load_id}", self._files.status, methods=["GET"]),
            Route("/v1/steer", self.steering.steer, methods=["POST"]),
            Route("/v1/policies/{agent:path}", self.steering.policy, methods=["GET"]),
            Route("/v1/playbooks/{agent:path}", self.steering.playbook, methods=["GET"]),
            Route("/v1/arms/{agent}", self._arms.listed, methods=["GET"]),
            Route("/v1/arms/{agent}/{arm:path}", self._arms.put, methods=["PUT"]),
            Route("/v1/lessons", self._lessons.propose, methods=["POST"]),
            Route("/v1/lessons/{lesson_id}", self._lessons.one, methods=["GET"]),
            Route("/v1/openapi.json", document, methods=["GET"]),
            Route("/healthz", self._health.alive, methods=["GET"]),
            Route("/readyz", self._health.ready, methods=["GET"]),
            Route("/metrics", self._health.metrics, methods=["GET"]),
        ]

    def close(self) -> None:
        """Commit what was taken in, then let go of the store."""
        self.steering.close()
        self._preparer.close()
        self.intake.close()
        self.access.close()
