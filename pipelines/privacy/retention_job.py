"""The job `retention`: deletes what is older than the settings say, and writes the file anew where that is due."""

from collections import Counter

from pipelines.jobs import JobContext, JobResult
from store import forgetting, retention
from store.connection import Store
from store.settings import Settings

__all__ = ["has_work", "run"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether anything is due."""
    if forgetting.rewrite_due(store) or forgetting.late_results(store):
        return True
    due = retention.foreseen(store, store.clock.now())["due"].sum()
    return bool(due)


def run(context: JobContext) -> JobResult:
    """Delete in slices, so that live data never waits for long; `rows` counts what rules name.

    Raises: `StoreError` when the file has to be written anew and a query keeps it in use: the next run tries again.
    """
    gone: Counter[str] = Counter()
    now = context.clock.now()
    while True:
        done = retention.apply(context.store, now)
        gone.update(done.gone)
        context.progress(0.5, f"{gone.total():,} deleted")
        if not done.more:
            break
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(gone.items()))
    message = f"Deleted as too old: {told}." if told else "Nothing is too old."
    if forgetting.late_results(context.store) and (late := forgetting.remove_late_results(context.store)):
        message += f" {late:,} results of jobs that had read of somebody before they were forgotten went too."
    if forgetting.rewrite_due(context.store):
        forgetting.rewrite(context.store)
        message += " The file was written anew after somebody was forgotten."
    return JobResult(gone.total(), message)
