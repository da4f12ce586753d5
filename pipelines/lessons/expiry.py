"""The job `lesson-expiry`: takes lessons out of the playbooks when their time is over, which nobody does by hand."""

from typing import TYPE_CHECKING

from pipelines.jobs import JobResult
from pipelines.lessons import review
from store import lesson_serving
from store.connection import Store
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["has_work", "run"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a playbook in force serves a lesson that has expired."""
    return bool(lesson_serving.due(store, store.clock.now()))


def run(context: "JobContext") -> JobResult:
    """Write the playbooks anew that serve an expired lesson; `rows` counts them."""
    made = review.expire(context.store)
    return JobResult(len(made), f"{len(made)} playbooks without what has expired." if made else "Nothing has expired.")
