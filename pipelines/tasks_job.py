"""The job `tasks`: gives every trace without a stated task the task of the inputs it is like.

Incremental: only traces without a task are read, in pages of a fixed size, so memory does not grow with the store; a
trace that has a task is never looked at again.
"""

from typing import TYPE_CHECKING

from pipelines import tasks
from pipelines.jobs import JobResult
from store import tasks as stored

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

PAGE = 20_000


def run(context: "JobContext") -> JobResult:
    """Group the traces that have no task yet; `rows` counts the traces that got one."""
    config = tasks.TaskConfig()
    groups = stored.groups(context.store)
    after: stored.Position | None = None
    assigned = opened = read = 0
    # Normalisation shortens texts (an address becomes one word), so it asks for more than it keeps.
    characters = 4 * config.characters
    while len(page := stored.ungrouped(context.store, after=after, limit=PAGE, characters=characters)):
        after = stored.Position(page["seen_at"][-1], page["trace_id"][-1])
        result = context.compute(tasks.group, page, groups, config)
        assigned += stored.assign(context.store, result.assignments, result.new_groups)
        opened += result.new_groups.height
        read += page.height
        groups = groups.vstack(result.new_groups)
        context.progress(0.5, f"{assigned} traces grouped")
    if not read:
        return JobResult(0, "Every trace with an input has a task.")
    return JobResult(assigned, f"{assigned} traces grouped into tasks, {opened} of them new.")
