"""The job `lesson-expiry`: lessons leave the playbooks when their time is over, and those for every agent reach agents
that are new."""

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
    """Whether a playbook in force serves a lesson that has expired, or an agent has none of what is for every agent."""
    return bool(lesson_serving.due(store, store.clock.now()) or lesson_serving.newcomers(store))


def run(context: "JobContext") -> JobResult:
    """Write the playbooks anew that serve an expired lesson, and those of new agents; `rows` counts them."""
    made = review.expire(context.store)
    return JobResult(len(made), f"{len(made)} playbooks follow the time." if made else "Nothing has expired.")
