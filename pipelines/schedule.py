"""The scheduler: APScheduler wakes each job, the job's own history decides whether it runs.

APScheduler keeps its jobs in memory and knows nothing after a restart. So it is only the clock: it looks at each job at
short intervals, and whether the job is due, retried or to be caught up follows from `job_runs` alone.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from pipelines import memory
from pipelines.jobs import Job
from pipelines.priority import behind_others
from pipelines.runner import Outcome, Runner, due_at
from store import job_runs
from store.clock import Clock, SystemClock
from store.connection import Store
from store.errors import JobAlreadyRunning, JobError, StoreClosed, StoreError
from store.job_runs import Cause, History

_LOG = logging.getLogger(__name__)

# A job is looked at this often, or as often as it may run if that is more often.
_LOOK_EVERY = timedelta(seconds=15)
# A job that is due waits while agents send as fast as can be stored, and behind the jobs whose results it reads, but no
# longer than this; behind other jobs no longer than its own interval either.
_PUT_OFF_AT_MOST = timedelta(minutes=10)
# Jobs with results of the same round go one after the other at start.
_STAGGER = timedelta(milliseconds=250)


class Schedule:
    """Looks at every job of a runner's registry and runs what is due."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        *,
        workers: int = 2,
        look_every: timedelta = _LOOK_EVERY,
        saturated: Callable[[], bool] = lambda: False,
    ) -> None:
        """`workers` jobs run at the same time at most, beside one for jobs that read no data (the inbox).

        Jobs that read data are put off while `saturated` says so, or while a job of their `after` runs or is about to:
        for ten minutes at most, behind other jobs also for no longer than their own interval.
        """
        self._store = store
        self._clock: Clock = store.clock
        self._runner = runner
        self._look_every = look_every
        self._looked_at: set[str] = set()
        self._saturated = saturated
        self._put_off_since: dict[str, datetime] = {}
        # APScheduler warns whenever a run outlasts its interval; here that is the rule, not an incident.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={
                "default": ThreadPoolExecutor(workers, pool_kwargs={"initializer": behind_others}),
                # Two jobs may wait for a slow language model at once; files still come in.
                "light": ThreadPoolExecutor(3),
                # Memory stays bounded whatever all the jobs wait for.
                "memory": ThreadPoolExecutor(1),
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Begin to look at the jobs. Runs that were missed or cut short while nothing ran are caught up at once."""
        for number, job in enumerate(self._runner.registry.values()):
            self._scheduler.add_job(
                self.look,
                IntervalTrigger(seconds=min(job.every, self._look_every).total_seconds(), timezone="UTC"),
                args=(job.name,),
                id=job.name,
                executor="default" if job.reads_data else "light",
                # The real moment: APScheduler reads the machine's clock, whatever clock the store has.
                next_run_time=SystemClock().now() + number * _STAGGER,
            )
        self._scheduler.add_job(
            self._bound_cache,
            IntervalTrigger(seconds=memory.CACHE_EVERY.total_seconds(), timezone="UTC"),
            id="bound cache",
            executor="memory",
        )
        self._scheduler.add_job(
            memory.trim,
            IntervalTrigger(seconds=memory.TRIM_EVERY.total_seconds(), timezone="UTC"),
            id="trim memory",
            executor="memory",
        )
        self._scheduler.start()

    def look(self, name: str) -> Outcome | None:
        """Run a job if it is due and would find work; returns how that ended, None when it did not run."""
        job = self._runner.job(name)
        try:
            history = job_runs.history(self._store, name)
            cause = self._cause(job, history)
            if cause is None or not self._runner.has_work(job, history) or self._puts_off(job):
                return None
            self._put_off_since.pop(name, None)
            return self._runner.run(name, cause)
        except JobAlreadyRunning:
            return None
        except (StoreClosed, JobError) as error:
            _LOG.info("job %s was not started: %s", name, error)
            return None
        finally:
            self._looked_at.add(name)

    def next_run(self, name: str) -> datetime:
        """When a job may next run on schedule, if it finds work then; the present moment when it is due."""
        now = self._clock.now()
        due = due_at(self._runner.job(name), job_runs.history(self._store, name))
        return now if due is None else max(due, now)

    def close(self) -> None:
        """Look at nothing any more. Running jobs are the runner's to end."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _bound_cache(self) -> None:
        try:
            memory.bound_cache(self._store)
        except StoreError as error:
            _LOG.info("the engine's cache was not released: %s", error)

    def _puts_off(self, job: Job) -> bool:
        """Whether a job that is due with work waits, for agents or for the jobs whose results it reads."""
        if not job.reads_data:
            return False
        if self._saturated():
            at_most = _PUT_OFF_AT_MOST
        elif self._goes_behind(job):
            at_most = min(_PUT_OFF_AT_MOST, job.every)
        else:
            return False
        now = self._clock.now()
        return now - self._put_off_since.setdefault(job.name, now) < at_most

    def _goes_behind(self, job: Job) -> bool:
        """Whether a job whose results this one reads runs now, or would run at the next look.

        Without this a job that comes round once a day may do so just before there is anything to read.
        """
        running = self._runner.running()
        for other in (self._runner.registry[name] for name in job.after if name in self._runner.registry):
            history = job_runs.history(self._store, other.name)
            due = due_at(other, history)
            if other.name in running or (
                (due is None or due <= self._clock.now()) and self._runner.has_work(other, history)
            ):
                return True
        return False

    def _cause(self, job: Job, history: History) -> Cause | None:
        """Why the job would run now; None when it is not due."""
        due, now = due_at(job, history), self._clock.now()
        if due is not None and due > now:
            return None
        if history.latest is None:
            return "schedule"
        if history.latest.status == "interrupted":
            return "catch-up"
        if history.latest.status == "failed":
            return "retry"
        # Due at the first look after a start: it fell due while no server ran.
        return "schedule" if job.name in self._looked_at else "catch-up"
