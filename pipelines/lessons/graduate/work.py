"""Whether there is anything for the job `graduate` to do: asked often, so it loads nothing but the store."""

from store import fine_tunings, graduation_trials
from store.connection import Store
from store.settings import Settings

__all__ = ["has_work"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a fine-tuning job that was approved has not ended, or a trial is measured."""
    tuning = bool(settings.model) and not fine_tunings.on_their_way(store).is_empty()
    return tuning or not graduation_trials.running(store).is_empty()
