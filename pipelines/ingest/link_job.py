"""The job that links signals to traces: a click that names a session or a user gets the trace it was about."""

from pipelines.jobs import JobContext, JobResult
from store import links


def run(context: JobContext) -> JobResult:
    """Recompute the links."""
    changed = links.refresh(context.store)
    return JobResult(changed, f"{changed:,} links added, changed or removed." if changed else "No link has changed.")
