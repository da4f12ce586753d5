"""Runs jobs: one run of a job at a time, each with a row of history: progress, result, or error and traceback.

One runner serves a whole process (scheduler, pages, control routes), so what is running is known in memory; rows that
an earlier process left as running are dead and are marked so at start.
"""

import logging
import threading
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from pipelines.compute import Aside, here
from pipelines.jobs import REGISTRY, Job, JobContext, JobInterrupted
from store import job_runs
from store.connection import Store
from store.errors import JobAlreadyRunning, JobError, StoreClosed, TrimtabError, UnknownJob
from store.job_runs import Cause, History, Status
from store.settings import Settings
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.ingest.loads import Loads

_LOG = logging.getLogger(__name__)

_PROGRESS_EVERY = timedelta(seconds=1)
_FIRST_RETRY = timedelta(seconds=30)
_RETRY_FACTOR = 4
_LAST_RETRY = timedelta(hours=1)
# So many runs in a row may be cut short before catching up waits.
_PATIENCE = 2
# After the grace of a shutdown, how long runs get to notice that they are to stop.
_NOTICE_SECONDS = 2.0

Observer = Callable[[float, str], None]


@dataclass(frozen=True)
class Claim:
    """The right to run a job, and the row of history that says so."""

    run_id: int
    job: Job
    cause: Cause
    attempt: int
    watermark: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_id: int
    job: str
    status: Status
    rows: int | None
    message: str | None
    error: str | None


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: 30 s, 2 min, 8 min, 32 min, then an hour each."""
    wait = _FIRST_RETRY
    for _ in range(failures - 1):
        wait = min(wait * _RETRY_FACTOR, _LAST_RETRY)
    return wait


def due_at(job: Job, history: History) -> datetime | None:
    """When a job may next run on schedule; None means at once: it never ran, or its latest run was cut short.

    A run that is cut short time and again may itself be what ends the process, so it waits as a failing one does.
    """
    latest = history.latest
    if latest is None:
        return None
    if latest.status == "interrupted":
        suspicious = history.interruptions - _PATIENCE
        return (latest.finished_at or latest.started_at) + backoff(suspicious) if suspicious > 0 else None
    if latest.status == "failed":
        return (latest.finished_at or latest.started_at) + backoff(history.failures)
    return latest.started_at + job.every


class Runner:
    """Runs the jobs of a registry on one store."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        loads: "Loads | None" = None,
        registry: Mapping[str, Job] = REGISTRY,
        compute_aside: bool = False,
    ) -> None:
        """`compute_aside`: heavy pure work of jobs is done in processes of its own, as beside a server."""
        self._aside = compute_aside
        self.registry = registry
        self._store = store
        self._settings = settings
        self._loads = loads
        # None while the row of history is being written.
        self._active: dict[str, Claim | None] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._stop = threading.Event()

    def recover(self) -> list[str]:
        """Mark the runs of dead processes as interrupted; returns their jobs. Call once, before anything runs."""
        return job_runs.interrupt_dead(self._store)

    @property
    def settings(self) -> Settings:
        """The settings that jobs are run with."""
        return self._settings

    def job(self, name: str) -> Job:
        """The job of this name. Raises: `UnknownJob`."""
        try:
            return self.registry[name]
        except KeyError:
            raise UnknownJob(name, list(self.registry)) from None

    def running(self) -> list[str]:
        """The jobs that are running now."""
        with self._changed:
            return list(self._active)

    def has_work(self, job: Job, history: History) -> bool:
        """Whether a scheduled run of the job would find anything to do."""
        if history.latest is not None and history.latest.status in ("failed", "interrupted"):
            return True
        if job.has_work is not None:
            return job.has_work(self._store, self._settings)
        if not job.reads_data:
            return True
        facts = job_runs.facts(self._store)
        if history.success is None:
            return facts > 0
        if facts != history.success.watermark:
            return True
        return bool(job.after) and job_runs.results_since(self._store, job.after, history.success.started_at)

    def claim(self, name: str, cause: Cause) -> Claim:
        """Take the right to run a job. Raises: `UnknownJob`, `JobAlreadyRunning`, `JobError` when stopping."""
        job = self.job(name)
        with self._changed:
            if self._closing:
                raise JobError(f"Trimtab is stopping; job {name!r} was not started.")
            if name in self._active:
                raise JobAlreadyRunning(name)
            self._active[name] = None
        try:
            attempt = job_runs.history(self._store, name).failures + 1
            watermark = job_runs.facts(self._store)
            run_id = job_runs.begin(
                self._store, job=name, cause=cause, attempt=attempt, watermark=watermark, code_version=code_version()
            )
        except BaseException:
            self._release(name)
            raise
        claim = Claim(run_id, job, cause, attempt, watermark)
        with self._changed:
            self._active[name] = claim
        return claim

    def execute(self, claim: Claim, observer: Observer | None = None) -> Outcome:
        """Run a claimed job to its end in this thread; a failure is recorded and returned, not raised."""
        compute = Aside(self._go_on, self._store) if self._aside else None
        context = JobContext(
            store=self._store,
            clock=self._store.clock,
            settings=self._settings,
            random=np.random.default_rng([zlib.crc32(claim.job.name.encode()), claim.watermark]),
            progress=self._reporter(claim, observer),
            loads=self._loads,
            compute=compute or here,
        )
        outcome: Outcome | None = None
        try:
            outcome = self._attempt(claim, context)
        finally:
            if compute is not None:
                compute.close()
            if outcome is None:
                self._record(claim, lambda: job_runs.interrupt(self._store, claim.run_id, "It was stopped."))
            self._release(claim.job.name)
        return outcome

    def run(self, name: str, cause: Cause, observer: Observer | None = None) -> Outcome:
        """Claim and run a job in this thread. Raises: as `claim`."""
        return self.execute(self.claim(name, cause), observer)

    def start(self, name: str, cause: Cause = "manual") -> int:
        """Claim a job and run it in a thread of its own; returns the id of the run at once. Raises: as `claim`."""
        claim = self.claim(name, cause)
        threading.Thread(target=self.execute, args=(claim,), name=f"job-{name}", daemon=True).start()
        return claim.run_id

    def close(self, grace_seconds: float) -> list[str]:
        """Start nothing more, let running jobs finish for a while, then stop them at their next report of progress.

        Returns the jobs that still run after that; their runs are recorded as interrupted. What they have written
        stands: every change is a whole transaction.
        """
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: not self._active, timeout=grace_seconds)
            self._stop.set()
            self._changed.wait_for(lambda: not self._active, timeout=_NOTICE_SECONDS if self._active else 0)
            left = [claim for claim in self._active.values() if claim is not None]
        for claim in left:
            job_runs.interrupt(self._store, claim.run_id, "Trimtab was stopped before the run ended.")
        return [claim.job.name for claim in left]

    def _release(self, name: str) -> None:
        with self._changed:
            del self._active[name]
            self._changed.notify_all()

    def _attempt(self, claim: Claim, context: JobContext) -> Outcome:
        name, run_id = claim.job.name, claim.run_id
        try:
            result = claim.job.run(context)
        except JobInterrupted:
            why = "Trimtab was stopped before the run ended."
            self._record(claim, lambda: job_runs.interrupt(self._store, run_id, why))
            return Outcome(run_id, name, "interrupted", None, None, why)
        except Exception as error:
            # Whatever a job raises is its own failure: it is stored for the operator and must not stop the others.
            text = str(error) if isinstance(error, TrimtabError) else f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            _LOG.warning("job %s failed: %s", name, text)
            self._record(claim, lambda: job_runs.fail(self._store, run_id, error=text, traceback=trace))
            return Outcome(run_id, name, "failed", None, None, text)
        self._record(claim, lambda: self._succeed(run_id, result.rows, result.message))
        return Outcome(run_id, name, "succeeded", result.rows, result.message, None)

    def _succeed(self, run_id: int, rows: int, message: str) -> None:
        job_runs.succeed(self._store, run_id, rows=rows, message=message)
        job_runs.prune(self._store, timedelta(days=self._settings.keep_job_runs_days))

    def _record(self, claim: Claim, write: Callable[[], None]) -> None:
        """Write the end of a run. When that fails the next claim, or the next start, marks the row as interrupted."""
        try:
            write()
        except StoreClosed:
            _LOG.info("the store closed before the end of job %s was recorded", claim.job.name)
        except TrimtabError:
            _LOG.exception("the end of job %s could not be recorded", claim.job.name)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise JobInterrupted

    def _reporter(self, claim: Claim, observer: Observer | None) -> Callable[[float, str], None]:
        """A function that stores progress at most once a second and stops the run when the process is stopping."""
        stored: datetime | None = None

        def report(fraction: float, message: str) -> None:
            nonlocal stored
            self._go_on()
            if observer is not None:
                observer(fraction, message)
            now = self._store.clock.now()
            if stored is None or now - stored >= _PROGRESS_EVERY:
                stored = now
                job_runs.progress(self._store, claim.run_id, fraction, message)

        return report
