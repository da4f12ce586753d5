"""The job that links signals to traces: a click that names a session or a user gets the trace it was about."""

import duckdb

from pipelines.jobs import JobContext, JobResult
from store import links, meta


def run(context: JobContext) -> JobResult:
    """Recompute the links, in one transaction."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        changed = links.refresh(connection)
        if changed:
            meta.bump(connection)
        return changed

    changed = context.store.write(work)
    return JobResult(changed, f"{changed:,} links added, changed or removed." if changed else "No link has changed.")
