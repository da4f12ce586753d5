"""Whether there is anything for the job `draft-lessons` to do: asked often, so it loads nothing but the store."""

from store import contrasts, drafting
from store.connection import Store
from store.settings import Settings

__all__ = ["has_work"]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether there is a model to ask, and a group to ask about or an answer to read."""
    if not settings.model:
        return False
    return not drafting.open_rows(store).is_empty() or not contrasts.groups(store, limit=1).is_empty()
