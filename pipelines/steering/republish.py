"""Has what an operator decides take effect at once, whatever the jobs are doing.

Every decision about arms, rates, bounds, never-explore lists, guardrails and lessons is a row of the audit log, in the
transaction that made it. So this looks at the log's count twice a second, which costs one row, and publishes the
policies anew with the beliefs that are held when it has moved.
"""

import logging
import threading

from pipelines.steering.publishing import republish
from store import audit
from store.connection import Store
from store.errors import StoreClosed

__all__ = ["Republisher"]

LOOK_SECONDS = 0.5
RETRY_SECONDS = 5.0

_LOG = logging.getLogger(__name__)

# What a row's action begins with, and what that is called as the cause of a version.
_CAUSES = {"arm": "arms", "exploration": "rates", "never": "rates", "guardrail": "guardrail"}
# Actions on which no policy depends.
_ELSEWHERE = frozenset(
    {"key", "source", "mapping", "rubric", "judge", "stated", "reward", "incident", "intervention", "response"}
)
_MOST_ROWS = 50


class Republisher:
    """Follows the audit log of a store in a thread of its own. Close it before the store."""

    def __init__(
        self, store: Store, *, look_seconds: float = LOOK_SECONDS, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """The policies are published once at the start too: what was decided just before an end may not be in them."""
        self._store, self._look, self._retry = store, look_seconds, retry_seconds
        self._seen: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="republish", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Follow no more. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def look(self) -> bool:
        """Publish if something was decided since the last look; returns whether something was."""
        count = audit.count(self._store)
        if count == self._seen:
            return False
        cause = "operator" if self._seen is None else self._cause(count - self._seen)
        if cause is not None:
            republish(self._store, cause=cause)
        self._seen = count
        return cause is not None

    def _cause(self, rows: int) -> str | None:
        """What was decided in the newest rows of the log; None when no policy depends on it."""
        actions = audit.recent(self._store, min(rows, _MOST_ROWS))["action"].to_list()
        words = {action.split(" ")[0] for action in actions}
        if rows <= _MOST_ROWS and words <= _ELSEWHERE:
            return None
        causes = {_CAUSES.get(word, "operator") for word in words - _ELSEWHERE}
        return causes.pop() if len(causes) == 1 else "operator"

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            wait = self._look
            try:
                self.look()
            except StoreClosed:
                return
            except Exception:
                # The policies in force go on serving; what was decided must still reach them.
                _LOG.exception("the policies could not be published after a decision; trying again")
                wait = self._retry
