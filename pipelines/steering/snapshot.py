"""The policies in force, in memory: what decisions are made by, and never the database.

A new version takes the place of the old one in a single assignment. When it cannot be read or used the old one goes on
serving, and `problems` says so until a later attempt succeeds.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipelines.steering.compiled import Compiled
from pipelines.steering.policy import Policy
from store import policies
from store.clock import Clock
from store.connection import Store

__all__ = ["Policies", "Problem"]

RETRY_SECONDS = 5.0

_LOG = logging.getLogger(__name__)

Load = Callable[[str | None], Sequence[Policy]]
Follow = Callable[[Callable[[str], None]], Callable[[], None]]


@dataclass(frozen=True)
class Problem:
    """Why the newest version is not in force."""

    text: str
    since: datetime


class Policies:
    """The compiled policy of each agent. Close it before the store."""

    def __init__(
        self, load: Load, clock: Clock, *, follow: Follow | None = None, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """Read all policies, or note why that failed and try again.

        Args: `load` gives the newest policies of one agent or, for None, of all; `follow` has a function told of agents
        with a new version, and returns what ends that; `retry_seconds` after a failure.
        """
        self._load, self._clock, self._retry = load, clock, retry_seconds
        self._compiled: dict[str, Compiled] = {}
        self._problems: dict[str | None, Problem] = {}
        self._lock = threading.Lock()  # held over reading and swapping: the last to read is the last to swap
        self._wanted: queue.Queue[str | None] = queue.Queue()
        self._closing = threading.Event()
        self._told: tuple[Callable[[], None], ...] = ()
        self._thread = threading.Thread(target=self._run, name="policies", daemon=True)
        self._unfollow = follow(self.changed) if follow is not None else lambda: None
        if not self.refresh(None):
            self._wanted.put(None)
        self._thread.start()

    @classmethod
    def of_store(cls, store: Store) -> "Policies":
        """The policies of a store, each new version as soon as it is published."""

        def follow(told: Callable[[str], None]) -> Callable[[], None]:
            policies.follow(store, told)
            return lambda: policies.unfollow(store, told)

        return cls(lambda agent: policies.newest(store, agent), store.clock, follow=follow)

    def get(self, agent: str) -> Compiled | None:
        """The policy in force of an agent, ready for decisions."""
        return self._compiled.get(agent)

    def policy_for(self, agent: str) -> Policy | None:
        """The policy in force of an agent."""
        found = self._compiled.get(agent)
        return found.policy if found is not None else None

    def all(self) -> list[Compiled]:
        """The policies in force, by agent."""
        return [compiled for _, compiled in sorted(self._compiled.items())]

    def problem(self, agent: str) -> Problem | None:
        """Why the newest version of an agent's policy is not in force; None when it is."""
        return self._problems.get(agent) or self._problems.get(None)

    def problems(self) -> dict[str | None, Problem]:
        """All problems by agent; None stands for all agents."""
        return dict(self._problems)

    def tell(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of what is in force or of the problems, in the thread that made it."""
        self._told = (*self._told, listener)

    def changed(self, agent: str) -> None:
        """Have an agent's policy read anew, soon and in the background."""
        self._wanted.put(agent)

    def refresh(self, agent: str | None) -> bool:
        """Read the policy of one agent or of all, now; returns whether what is newest is in force."""
        with self._lock:
            try:
                found = self._load(agent)
            except Exception as error:
                self._note(agent, error)
                self._tell()
                return False
            fine = True
            fresh = {} if agent is None else dict(self._compiled)
            fresh.pop(agent or "", None)
            solved = dict(self._problems) if agent is not None else {}
            solved.pop(agent, None)
            for policy in found:
                held = self._compiled.get(policy.agent)
                try:
                    same = held is not None and _says_the_same(held.policy, policy)
                    fresh[policy.agent] = held if held is not None and same else Compiled(policy)
                except Exception as error:
                    fine = False
                    solved[policy.agent] = self._problem(policy.agent, error)
                    if held is not None:
                        fresh[policy.agent] = held
            self._compiled, self._problems = fresh, solved
            self._tell()
            return fine

    def close(self) -> None:
        """Follow nothing any more. Safe to call twice."""
        self._unfollow()
        if not self._closing.is_set():
            self._closing.set()
            self._wanted.put(None)
        self._thread.join()

    def _tell(self) -> None:
        for listener in self._told:
            try:
                listener()
            except Exception:
                # What is in force here is so whatever becomes of those who follow.
                _LOG.exception("a follower of the policies in force failed")

    def _note(self, agent: str | None, error: Exception) -> None:
        problems = dict(self._problems)
        problems[agent] = self._problem(agent, error)
        self._problems = problems

    def _problem(self, agent: str | None, error: Exception) -> Problem:
        text = str(error) or repr(error)
        known = self._problems.get(agent)
        if known is None or known.text != text:
            _LOG.error("the policy of %s could not be renewed: %s", agent or "all agents", text)
        return Problem(text, known.since if known is not None else self._clock.now())

    def _run(self) -> None:
        again: set[str | None] = set()
        while True:
            try:
                wanted = {self._wanted.get(timeout=self._retry if again else None)}
            except queue.Empty:
                wanted = set(again)
            while not self._wanted.empty():
                wanted.add(self._wanted.get())
            if self._closing.is_set():
                return
            if None in wanted:
                wanted = {None}
            for agent in wanted:
                if self.refresh(agent):
                    again.discard(agent)
                    if agent is None:
                        again.clear()
                else:
                    again.add(agent)


def _says_the_same(held: Policy, found: Policy) -> bool:
    """Whether two policies are the same version with the same users: of a version, a forgotten user is deleted."""
    return held.version == found.version and held.users.index.keys() == found.users.index.keys()
