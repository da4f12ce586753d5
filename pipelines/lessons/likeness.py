"""How like one lesson's text is to the others: by the embeddings that are kept, where a model for them is in use.

Nothing is asked here, so that no page waits for a model: the job `lint-lessons` has the texts embedded. A lesson that
has no vector yet is compared by its words (TF-IDF), and whoever reads the result is told so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipelines.lessons.similarity import EMBEDDINGS, TFIDF
from store import embeddings
from store.connection import Store

__all__ = ["DUPLICATE", "NEAR", "Likeness", "likeness"]

NEAR: Final = 0.85
"""Cosine of embeddings from which two lessons are near each other.

Measured on both playbooks of `ace_playbooks` with all-MiniLM-L6-v2: of 55 and 69 pairs that are near by their words
(TF-IDF .6), 53 and 63 are found, and as many pairs again that say the same in other words. From .8 on there are twice
as many, most of them two steps of one procedure: "do X" and "verify X".
"""

DUPLICATE: Final = 0.95
"""Cosine of embeddings from which they are one, which stands in the way of approval.

On the same playbooks 39 of 41 and 46 of 49 such pairs are near by their words too; from .9 on, where ACE has a model
merge two lessons (LESSONS A.6, all-mpnet-base-v2), it is 48 of 73 and 53 of 94.
"""

_ALL_ALIKE: Final = 0.25
"""Share of a library that a text may be near to; the largest measured was .03. Some models find all texts alike."""
_ENOUGH: Final = 20  # lessons, before that share says anything


@dataclass(frozen=True)
class Likeness:
    """`cosines` of a text's embedding with those of lessons, by lesson id: of any that is not there nothing is known.

    `method` says how lessons are compared, `reason` why some or all are compared in another way than configured.
    """

    cosines: Mapping[str, float] = field(default_factory=dict)
    method: str = TFIDF
    reason: str | None = None


def likeness(store: Store, text: str, others: int) -> Likeness:
    """What is known of a text (`store.embeddings.TEXT`) beside so many other lessons that wait or are served."""
    state = embeddings.state(store)
    if state is None:
        return Likeness()
    cosines = embeddings.cosines(store, state.origin, text)
    waiting = f"by {state.model} are not made yet; the job lint-lessons makes them."
    if state.error is not None:
        waiting = f"could not be had: {state.error}"
    if cosines is None:
        return Likeness(reason=f"TF-IDF was used in place of embeddings: they {waiting}")
    if len(cosines) >= _ENOUGH and sum(cosine >= NEAR for cosine in cosines.values()) > _ALL_ALIKE * len(cosines):
        share = f"more than {_ALL_ALIKE:.0%} of all lessons like this one"
        return Likeness(reason=f"TF-IDF was used in place of embeddings: {state.model} finds {share}.")
    if len(cosines) < others:
        left = f"{others - len(cosines):,} of {others:,} lessons by TF-IDF: their embeddings {waiting}"
        return Likeness(cosines, EMBEDDINGS, left)
    return Likeness(cosines, EMBEDDINGS, None)
