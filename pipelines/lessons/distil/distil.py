"""Distillation of a library: pure, and the same for the same lessons in whatever order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.distil.alike import conflicts, merges, repeats
from pipelines.lessons.distil.config import DistilConfig
from pipelines.lessons.distil.idle import harmful, superseded, unused, without_effect
from pipelines.lessons.distil.lesson import lessons
from pipelines.lessons.distil.proposal import Proposal
from pipelines.lessons.similarity import Similarity
from store.distilling import Library

__all__ = ["Distilled", "distil", "texts"]


@dataclass(frozen=True)
class Distilled:
    """What is proposed, how likeness was measured, and merges that were not proposed because a check failed."""

    proposals: tuple[Proposal, ...]
    method: str
    reason: str | None
    refused: tuple[str, ...]


def texts(library: Library) -> list[str]:
    """The texts that are compared, in the order of lesson ids: what embeddings are made of."""
    return [one.text for one in lessons(library)]


def distil(
    library: Library,
    config: DistilConfig | None = None,
    vectors: NDArray[np.float64] | None = None,
    reason: str | None = None,
) -> Distilled:
    """Everything that is proposed about a library, a lesson at most once, the gravest cause first.

    `vectors` are embeddings of `texts`, shape (lessons, dimensions); None: TF-IDF, with the `reason` why, if any.
    """
    config = config or DistilConfig()
    held = lessons(library)
    whole = [one.text for one in held]
    alike = Similarity.fit(whole, reason=reason) if vectors is None else Similarity.of_vectors(vectors)
    when = Similarity.fit([one.when_text for one in held])
    refused: list[str] = []
    grave = _once(
        [
            *harmful(held), *superseded(held, library), *conflicts(held, alike, when, config),
            *repeats(held, alike, config),
        ]
    )  # fmt: skip
    gone = {lesson.lesson_id for one in grave for lesson, _ in one.members}
    rest = [
        *merges(held, alike, config, gone, refused), *without_effect(held, config), *unused(held, library, config),
    ]  # fmt: skip
    return Distilled(tuple(_once([*grave, *rest])), alike.method, alike.reason, tuple(refused))


def _once(found: Sequence[Proposal]) -> list[Proposal]:
    """The proposals, in order, that take no lesson which another one takes or keeps, and keep none that has gone."""
    gone: set[str] = set()
    kept: set[str] = set()
    chosen = []
    for one in found:
        members = {lesson.lesson_id for lesson, _ in one.members}
        keep = {one.keep.lesson_id} if one.keep else set()
        if not (members & (gone | kept) or keep & gone):
            gone |= members
            kept |= keep
            chosen.append(one)
    return chosen
