"""Whether the job `preferences` would find anything to do."""

from pipelines.jobs import REGISTRY
from store import drift_responses, job_runs
from store.connection import Store
from store.settings import Settings

__all__ = ["has_work"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether there are new facts or rewards, or somebody's preferences began anew or go on as before."""
    del settings
    done = job_runs.history(store, "preferences").success
    facts = job_runs.facts(store)
    if done is None:
        return facts > 0
    if facts != done.watermark or job_runs.results_since(store, REGISTRY["preferences"].after, done.started_at):
        return True
    return drift_responses.changed_since(store, "restart preferences", done.started_at)
