"""The registry of jobs: what each does, how often, and what it reads.

A job is a function of a `JobContext`. It is named here by a dotted path and imported when it first runs, so that the
scheduler, the pages and the command line know all jobs without loading what any of them needs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from pipelines.compute import Compute, here
from store.clock import Clock
from store.connection import Store
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.ingest.loads import Loads

# A process that ends asks for no more than this of a job that waits.
_NAP_SECONDS: Final = 0.5


class JobInterrupted(Exception):
    """Raised by `JobContext.progress` when the process is stopping. Jobs let it pass; the run is caught up later."""


@dataclass(frozen=True)
class JobContext:
    """What a job works with.

    `progress(fraction, message)` says how far it is, from 0 to 1, and may raise `JobInterrupted`; `random` is seeded by
    the job's name and the facts held, so the same data gives the same result; `loads` is None outside a server;
    `compute(function, ...)` does heavy pure work where it disturbs nobody.
    """

    store: Store
    clock: Clock
    settings: Settings
    random: np.random.Generator
    progress: Callable[[float, str], None]
    loads: "Loads | None"
    compute: Compute = here

    def wait(self, seconds: float, message: str) -> None:
        """Sleep in naps, so that a process that ends need not wait. Raises: `JobInterrupted`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
            self.progress(0.0, message)

    def wait_for_model(self, seconds: float) -> None:
        """Wait as the model's server asks. Raises: `JobInterrupted`."""
        self.wait(seconds, "waiting for the model's server")


@dataclass(frozen=True)
class JobResult:
    """What a job did: `rows` it wrote, and one sentence for people."""

    rows: int
    message: str


@dataclass(frozen=True)
class Deferred:
    """A function named by "package.module:name", imported when it is called."""

    path: str

    def resolve(self) -> Callable[..., object]:
        """The function. Raises: `ImportError`, `AttributeError`."""
        module, _, name = self.path.partition(":")
        return cast(Callable[..., object], getattr(import_module(module), name))


@dataclass(frozen=True)
class Run(Deferred):
    """The function that does a job's work."""

    def __call__(self, context: JobContext) -> JobResult:
        return cast(JobResult, self.resolve()(context))


@dataclass(frozen=True)
class HasWork(Deferred):
    """The function that says, without doing anything, whether a job would find something to do."""

    def __call__(self, store: Store, settings: Settings) -> bool:
        return bool(self.resolve()(store, settings))


@dataclass(frozen=True)
class Job:
    """One job.

    `every` is the shortest time between two scheduled runs. Scheduled runs that would find nothing new are skipped: a
    job with `reads_data` when no fact was added and no job named in `after` has written anything since its last
    success, any job when its `has_work` says no. A run asked for by a person is never skipped.
    """

    name: str
    title: str
    description: str
    every: timedelta
    run: Callable[[JobContext], JobResult]
    reads_data: bool
    after: tuple[str, ...] = ()
    has_work: Callable[[Store, Settings], bool] | None = None


_JOBS = (
    Job(
        name="inbox",
        title="Inbox",
        description="Loads the files that were put into the inbox folder and moves them to done or failed.",
        every=timedelta(seconds=10),
        run=Run("pipelines.ingest.inbox:run"),
        reads_data=False,
        has_work=HasWork("pipelines.ingest.inbox:has_work"),
    ),
    Job(
        name="pull",
        title="Pull sources",
        description="Asks Langfuse, Phoenix and MLflow for what is new and loads it.",
        every=timedelta(seconds=15),
        run=Run("pipelines.pull.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.pull.job:has_work"),
    ),
    Job(
        name="link-signals",
        title="Link signals",
        description="Finds the trace of each signal that names only a session or a user.",
        every=timedelta(minutes=1),
        run=Run("pipelines.ingest.link_job:run"),
        reads_data=True,
    ),
    Job(
        name="tasks",
        title="Group tasks",
        description="Groups traces with similar inputs into tasks where the agent did not name one.",
        every=timedelta(minutes=2),
        run=Run("pipelines.tasks_job:run"),
        reads_data=True,
    ),
    Job(
        name="segments",
        title="Segments",
        description="Puts users into segments by the rules that operators set.",
        every=timedelta(minutes=2),
        run=Run("pipelines.segments_job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.segments_job:has_work"),
    ),
    Job(
        name="judges",
        title="Judges",
        description="Asks the language model about a random sample of traces and comments, by the active rubrics.",
        every=timedelta(hours=1),
        run=Run("pipelines.judges.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.judges.job:has_work"),
    ),
    Job(
        name="rewards",
        title="Rewards",
        description="Estimates the reward of every trace, with its standard deviation, from outcomes and feedback.",
        every=timedelta(minutes=5),
        run=Run("pipelines.rewards.job:run"),
        reads_data=True,
        after=("link-signals", "tasks"),
    ),
    Job(
        name="transitions",
        title="Transitions",
        description="Learns what follows what in each agent's traces: reliability, surprise, novelty, progress.",
        every=timedelta(minutes=30),
        run=Run("pipelines.transitions.job:run"),
        reads_data=True,
        after=("link-signals", "tasks", "rewards"),
    ),
    Job(
        name="credit",
        title="Credit",
        description="Divides the reward of each trace among its steps, and says what each choice of a tool is worth.",
        every=timedelta(hours=1),
        run=Run("pipelines.credit.job:run"),
        reads_data=True,
        after=("rewards",),
    ),
    Job(
        name="failures",
        title="Failure labels",
        description="Names a cause for every trace that went badly, with its evidence.",
        every=timedelta(minutes=30),
        run=Run("pipelines.failures.job:run"),
        reads_data=True,
        after=("tasks", "rewards"),
    ),
    Job(
        name="signal-yield",
        title="Signal yield",
        description="Measures how many bits each source of evidence tells about how a trace went.",
        every=timedelta(hours=6),
        run=Run("pipelines.signal_yield.job:run"),
        reads_data=True,
        after=("link-signals", "transitions", "credit"),
    ),
    Job(
        name="hacking-watch",
        title="Hacking watch",
        description="Looks for arms and versions that raise what they are measured by while what is wanted falls.",
        every=timedelta(hours=1),
        run=Run("pipelines.hacking_watch.job:run"),
        reads_data=True,
        after=("link-signals",),
    ),
    Job(
        name="lessons",
        title="Lessons",
        description="Proposes lessons from tasks whose traces went well and badly.",
        every=timedelta(minutes=15),
        run=Run("pipelines.lessons.job:run"),
        reads_data=True,
        after=("tasks", "rewards", "failures"),
    ),
    Job(
        name="draft-lessons",
        title="Draft lessons",
        description="Asks the language model what separates good from bad traces of the most promising tasks.",
        every=timedelta(hours=1),
        run=Run("pipelines.lessons.drafting.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.lessons.drafting.work:has_work"),
    ),
    Job(
        name="lint-lessons",
        title="Comparison of lessons",
        description="Checks lessons that nothing has checked; finds near duplicates by embeddings, if configured.",
        every=timedelta(minutes=1),
        run=Run("pipelines.lessons.lint.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.lessons.lint.work:has_work"),
    ),
    Job(
        name="preferences",
        title="Preferences",
        description="Infers what people value from their choices, goals and comparisons, and counts every user.",
        every=timedelta(minutes=30),
        run=Run("pipelines.preferences.job:run"),
        reads_data=True,
        after=("link-signals", "rewards", "segments"),
        has_work=HasWork("pipelines.preferences.work:has_work"),
    ),
    Job(
        name="drift",
        title="Drift",
        description="Looks for users, segments and agents that changed, by every metric, in full every six hours.",
        every=timedelta(minutes=30),
        run=Run("pipelines.drift.job:run"),
        reads_data=True,
        after=("link-signals", "tasks", "rewards", "transitions", "preferences", "segments"),
    ),
    Job(
        name="model-watch",
        title="Model watch",
        description="Compares what each model answers with what it answered before: silent changes behind a name.",
        every=timedelta(hours=1),
        run=Run("pipelines.model_watch.job:run"),
        reads_data=True,
        after=("tasks", "transitions"),
    ),
    Job(
        name="incidents",
        title="Incidents",
        description="Makes one incident of many findings of drift, names a suspected cause, and responds by rules.",
        every=timedelta(minutes=2),
        run=Run("pipelines.incidents.job:run"),
        reads_data=False,
        after=("drift", "model-watch"),
        has_work=HasWork("pipelines.incidents.job:has_work"),
    ),
    Job(
        name="guardrails",
        title="Guardrails",
        description="Holds what traces did against the guardrails, looks at safety floors, and switches arms off.",
        every=timedelta(minutes=1),
        run=Run("pipelines.guardrails.job:run"),
        reads_data=True,
        after=("link-signals", "rewards"),
        has_work=HasWork("pipelines.guardrails.job:has_work"),
    ),
    Job(
        name="lesson-expiry",
        title="Expiry of lessons",
        description="Takes lessons out of the playbooks when their time is over.",
        every=timedelta(seconds=30),
        run=Run("pipelines.lessons.expiry:run"),
        reads_data=False,
        has_work=HasWork("pipelines.lessons.expiry:has_work"),
    ),
    Job(
        name="policies",
        title="Policies",
        description="Works out how good each arm is for whom, and publishes the policies by which agents are steered.",
        every=timedelta(minutes=5),
        run=Run("pipelines.steering.job:run"),
        reads_data=True,
        after=("link-signals", "rewards", "guardrails", "segments"),
    ),
    Job(
        name="exploration",
        title="Exploration rates",
        description="Recommends how often each agent, segment and user should try something other than the best arm.",
        every=timedelta(minutes=15),
        run=Run("pipelines.exploration.job:run"),
        reads_data=True,
        after=("rewards", "transitions", "drift", "policies"),
    ),
    Job(
        name="payoffs",
        title="Payoffs of lessons",
        description="Measures what each lesson pays, and retires lessons that measurably harm.",
        every=timedelta(hours=6),
        run=Run("pipelines.lessons.payoff.job:run"),
        reads_data=True,
        after=("rewards", "exploration"),
    ),
    Job(
        name="distil",
        title="Distillation of lessons",
        description="Proposes merging lessons that are the same, and retiring those that do not pay or are not used.",
        every=timedelta(weeks=1),
        run=Run("pipelines.lessons.distil.job:run"),
        reads_data=True,
        after=("lessons", "payoffs"),
    ),
    Job(
        name="graduate",
        title="Graduation of lessons",
        description="Follows fine-tuning jobs, and measures whether trained models still need their lessons.",
        every=timedelta(hours=1),
        run=Run("pipelines.lessons.graduate.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.lessons.graduate.work:has_work"),
    ),
    Job(
        name="model-probes",
        title="Model probes",
        description="Asks the configured model the same prompts again and compares its answers; off until switched on.",
        every=timedelta(minutes=15),
        run=Run("pipelines.model_watch.probe_job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.model_watch.probe_job:has_work"),
    ),
    Job(
        name="retention",
        title="Retention",
        description="Deletes what is older than the settings say; finishes what forgetting a user has left to do.",
        every=timedelta(hours=6),
        run=Run("pipelines.privacy.retention_job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.privacy.retention_job:has_work"),
    ),
    Job(
        name="backup",
        title="Backup",
        description="Copies the store while it is in use, verifies the copy by restoring it, keeps only so many.",
        every=timedelta(minutes=1),
        run=Run("pipelines.backups.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.backups.job:has_work"),
    ),
    Job(
        name="notices",
        title="Notices",
        description="Sends notices to webhooks and by e-mail, and tries again what did not arrive.",
        every=timedelta(seconds=15),
        run=Run("pipelines.notices.job:run"),
        reads_data=False,
        has_work=HasWork("pipelines.notices.job:has_work"),
    ),
)

# In the order in which one round of all jobs runs: a job comes after the jobs whose results it reads.
REGISTRY: dict[str, Job] = {job.name: job for job in _JOBS}
