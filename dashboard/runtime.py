"""What pages work with: the open store and everything that runs on it, one of each in a process.

The server installs it before the first page is asked for. Where there is no server (tests of pages, `streamlit run`)
it is opened from the settings when a page first needs it, without scheduler.
"""

import logging
import threading
from dataclasses import dataclass, field

from dashboard.access.configuration import SignIn, sign_in
from gateway.gateway import Gateway
from pipelines.ingest.load import resume_publishing
from pipelines.ingest.loads import Loads
from pipelines.ingest.uploads import Uploads
from pipelines.operations import LocalOperations
from pipelines.runner import Runner
from pipelines.schedule import Schedule
from pipelines.steering.republish import Republisher
from store.clock import Clock
from store.connection import Store
from store.errors import TrimtabError
from store.settings import Settings


@dataclass(frozen=True)
class Runtime:
    """The open store and what runs on it; `scheduler`, `gateway` and `republisher` are None without a server.

    Raises: `SettingsError` when sign-in is half set up.
    """

    store: Store
    settings: Settings
    clock: Clock
    loads: Loads
    runner: Runner
    scheduler: Schedule | None = None
    gateway: Gateway | None = None
    republisher: Republisher | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    served: threading.Event = field(default_factory=threading.Event)  # no request is answered any more
    sign_in: SignIn | None = field(init=False)  # None: one local admin

    def __post_init__(self) -> None:
        """Take how operators sign in from the settings, and from nowhere else."""
        object.__setattr__(self, "sign_in", sign_in(self.settings))

    @property
    def uploads(self) -> Uploads:
        """The files that the browser sent."""
        return uploads_of(self.settings, self.loads)

    def operations(self) -> LocalOperations:
        """What the command line may ask of this process."""
        return LocalOperations(self.store, self.loads, self.runner, self.stopping)

    def close(self) -> list[str]:
        """Start nothing more, let jobs and loads end or stop, and close the file. To be called once.

        Returns what still runs when the grace is over; its writes so far were whole transactions.
        """
        self.stopping.set()
        if self.scheduler is not None:
            self.scheduler.close()
        # A load that is publishing may take longer than anybody waits; it continues at the next start.
        closing = threading.Thread(target=self.loads.close, name="loads-close", daemon=True)
        closing.start()
        left = self.runner.close(self.settings.shutdown_grace_seconds)
        closing.join(self.settings.shutdown_grace_seconds)
        if closing.is_alive():
            left.append("loading files")
        if self.republisher is not None:
            self.republisher.close()
        if self.gateway is not None:
            self.gateway.close()
        self.store.close()
        return left


def uploads_of(settings: Settings, loads: Loads) -> Uploads:
    """The files that were sent to the store of these settings."""
    return Uploads(settings.db.with_name(settings.db.name + ".uploads"), loads)


_LOG = logging.getLogger(__name__)

_lock = threading.Lock()
_current: Runtime | None = None


def open_runtime(settings: Settings, *, with_scheduler: bool, steering_apart: bool = False) -> Runtime:
    """Open the store of the settings and what runs on it; runs that a dead process left are marked interrupted.

    `steering_apart`: questions of agents are answered in a process of their own.

    Raises: `StoreLocked` naming the process that holds the file; `StoreError`.
    """
    store = Store.open(settings.db, memory_limit=settings.memory_limit)
    try:
        loads = Loads(store)
        runner = Runner(store, settings, loads=loads, compute_aside=with_scheduler)
        runner.recover()
    except BaseException:
        store.close()
        raise
    if not with_scheduler:
        return Runtime(store, settings, store.clock, loads, runner)
    gateway = Gateway(store, settings, loads, uploads_of(settings, loads), steering_apart=steering_apart)
    schedule = Schedule(store, runner, saturated=gateway.intake.saturated)
    return Runtime(store, settings, store.clock, loads, runner, schedule, gateway, Republisher(store))


def resume(runtime: Runtime) -> threading.Thread:
    """Carry on, in the background, with files that were sent or staged when an earlier process ended."""

    def work() -> None:
        try:
            with runtime.store.ingest_lock:
                resume_publishing(runtime.store)
            runtime.uploads.resume()
        except TrimtabError:
            if not runtime.stopping.is_set():
                _LOG.exception("a batch that was being published could not be continued; the next load tries again")

    thread = threading.Thread(target=work, name="resume", daemon=True)
    thread.start()
    return thread


def install(runtime: Runtime | None) -> None:
    """Make this the runtime of all pages; None forgets it."""
    global _current
    with _lock:
        _current = runtime


def current() -> Runtime:
    """The runtime of this process, opened from the settings when nobody installed one."""
    global _current
    with _lock:
        if _current is None:
            _current = open_runtime(Settings.load(), with_scheduler=False)
        return _current
