"""The job `tasks`: gives every trace without a stated task the task of the inputs it is like.

Incremental: only traces without a task are read, in pages of a fixed size, so memory does not grow with the store; a
trace that has a task is never looked at again.
"""

from typing import TYPE_CHECKING

from pipelines import tasks
from pipelines.jobs import JobResult
from store import tasks as stored
from store.connection import Store

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

PAGE = 20_000


def run(context: "JobContext") -> JobResult:
    """Group the traces that have no task yet; `rows` counts the traces that got one."""
    config = tasks.TaskConfig()
    after: stored.Position | None = None
    assigned = opened = read = 0
    while (found := context.compute(_group_page, context.store, after, config)) is not None:
        result, after = found
        assigned += stored.assign(context.store, result.assignments, result.new_groups)
        opened += result.new_groups.height
        read += result.assignments.height + result.ungrouped.height
        context.progress(0.5, f"{assigned} traces grouped")
    if not read:
        return JobResult(0, "Every trace with an input has a task.")
    return JobResult(assigned, f"{assigned} traces grouped into tasks, {opened} of them new.")


def _group_page(
    store: Store, after: stored.Position | None, config: tasks.TaskConfig
) -> tuple[tasks.GroupResult, stored.Position] | None:
    """The tasks of the next page of traces without one, and where that page ends; None when there are no more."""
    # Normalisation shortens texts (an address becomes one word), so it asks for more than it keeps.
    page = stored.ungrouped(store, after=after, limit=PAGE, characters=4 * config.characters)
    if page.is_empty():
        return None
    until = stored.Position(page["seen_at"][-1], page["trace_id"][-1])
    return tasks.group(page, stored.groups(store), config), until
