"""What operators do with proposals of distillation, with the playbooks that follow rendered."""

from pipelines.lessons.review import render
from store import distil_reviews
from store.connection import Store
from store.distil_reviews import Decided, Preview

__all__ = ["approve", "decline", "preview", "undo"]


def preview(store: Store, proposal_id: str, *, operator: str) -> Preview:
    """What approving would change in playbooks, and what confirms it. Raises: `NotFound`; `ActionRefused`."""
    return distil_reviews.preview(store, proposal_id, operator=operator, render=render)


def approve(
    store: Store, proposal_id: str, *, operator: str, confirmed: str | None, reason: str | None = None
) -> Decided:
    """Do what is proposed; `confirmed` is `Preview.confirm` of what the operator has seen. Raises: as `preview`."""
    return distil_reviews.approve(
        store, proposal_id, operator=operator, reason=reason, confirmed=confirmed, render=render
    )


def decline(store: Store, proposal_id: str, *, operator: str, reason: str) -> Decided:
    """Leave all as it is; the same is not proposed again. Raises: as `preview`, and without a reason."""
    return distil_reviews.decline(store, proposal_id, operator=operator, reason=reason)


def undo(store: Store, proposal_id: str, *, operator: str) -> Decided:
    """Take an approval back as a whole. Raises: as `preview`."""
    return distil_reviews.undo(store, proposal_id, operator=operator, render=render)
