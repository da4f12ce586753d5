"""Whether there is anything for the job `lint-lessons` to do: asked often, so it loads nothing but the store."""

from datetime import datetime, timedelta
from typing import Final

from store import embeddings, lesson_lint
from store.connection import Store
from store.embeddings import State
from store.settings import Settings

__all__ = ["due", "has_work", "origin", "unlike"]

_FIRST_WAIT: Final = timedelta(minutes=10)
_DOUBLINGS: Final = 7  # about a day


def origin(settings: Settings) -> str:
    """Where vectors come from by the settings."""
    return embeddings.origin_of(settings.model_base_url.rstrip("/"), settings.embedding_model)


def has_work(store: Store, settings: Settings) -> bool:
    """Whether lint has not read a lesson, a text has no embedding yet, a lesson is to be compared by embeddings, or the
    model is another one.

    After failures the model is left alone: 10 minutes, then twice as long each time, up to a day.
    """
    if lesson_lint.unread(store):
        return True
    held = embeddings.state(store)
    if not settings.embedding_model:
        return held is not None
    if held is None or held.origin != origin(settings):
        return True
    if due(held, store.clock.now()) and embeddings.missing(store, held.origin, 1):
        return True
    return bool(unlike(store, held, 1))


def due(held: State, now: datetime) -> bool:
    """Whether the model may be asked again after it failed."""
    if held.failures == 0:
        return True
    waiting: timedelta = _FIRST_WAIT * 2 ** min(held.failures - 1, _DOUBLINGS)
    return now - held.tried_at >= waiting


def unlike(store: Store, held: State, most: int) -> list[str]:
    """Lessons that wait, at most so many, and were not wholly compared by embeddings but might be now."""
    made = embeddings.latest(store, held.origin)
    since = held.tried_at if made is None else max(made, held.tried_at)
    return lesson_lint.waiting_otherwise(store, embeddings.METHOD, since, most)
