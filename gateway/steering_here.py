"""Steering within the process that has the store."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.access import Access
from gateway.deciding import Deciding, Figures
from pipelines.steering.budget import Budgets
from pipelines.steering.decide import Decider
from pipelines.steering.decision_log import DecisionLog, LogCounts
from pipelines.steering.sessions import LIFETIME_SECONDS, Sessions
from pipelines.steering.snapshot import Policies
from store import decisions
from store.connection import Store

__all__ = ["Here"]


class Here:
    """One for each process; close it before the store."""

    def __init__(self, store: Store, access: Access, spool: Path | None) -> None:
        """Carry on where an earlier process ended; decisions that it could not store are in the folder `spool`.

        Raises: `StoreError` when the decisions of the day cannot be read.
        """
        self.log = DecisionLog(store, spool)
        try:
            now = store.clock.now()
            sessions = Sessions()
            sessions.restore(decisions.sessions_since(store, now - timedelta(seconds=LIFETIME_SECONDS)), now)
            budgets = Budgets(now, decisions.spent_today(store, now))
            self.policies = Policies.of_store(store)
        except BaseException:
            self.log.close()
            raise
        self.decider = Decider(self.policies, store.clock, sessions=sessions, budgets=budgets)
        self._deciding = Deciding(access, self.decider, self.log.take)

    async def respond(self, request: Request) -> Response:
        """The answer to a question."""
        return await self._deciding.respond(request)

    def figures(self) -> Figures:
        """The present figures."""
        return self._deciding.figures([compiled.policy.agent for compiled in self.policies.all()])

    def counts(self) -> LogCounts:
        """What became of decisions."""
        return self.log.counts()

    def condition(self) -> dict[str, Any]:
        """Where questions are answered."""
        return {"state": "within the server", "pid": None, "niceness": None, "starts": 0, "problem": None}

    def close(self) -> None:
        """Store the decisions that were made, then let go of the store."""
        self.policies.close()
        self.log.close()
