"""The job `segments`: applies the rules of segments, so that whoever reads a user's segment has the same one."""

from typing import TYPE_CHECKING

from pipelines.jobs import JobResult
from store import segment_members
from store.connection import Store
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["has_work", "run"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a rule, or what rules go by, has changed."""
    return segment_members.stale(store)


def run(context: "JobContext") -> JobResult:
    """Apply the rules; `rows` counts the users who changed, by which the jobs after this one know that they are due."""
    moved = segment_members.recount(context.store)
    return JobResult(moved, f"{moved:,} users changed segment." if moved else "No user changed segment.")
