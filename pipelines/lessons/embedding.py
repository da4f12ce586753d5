"""Embeddings of lessons by the configured endpoint, where one is set; without one, TF-IDF does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from store.connection import Store
from store.errors import SettingsError
from store.llm_calls import BudgetExceeded
from store.settings import Settings

__all__ = ["Embedded", "of_texts"]


@dataclass(frozen=True)
class Embedded:
    """`vectors` of shape (texts, dimensions), None where there are none; `problem` why not although a model is set."""

    vectors: NDArray[np.float64] | None
    problem: str | None

    @property
    def reason(self) -> str | None:
        """The problem with what follows from it."""
        return self.problem and f"TF-IDF was used in place of embeddings: {self.problem}"


def of_texts(
    store: Store, settings: Settings, texts: Sequence[str], *, environ: Mapping[str, str] | None = None
) -> Embedded:
    """The embeddings of all `texts` by `TRIMTAB_EMBEDDING_MODEL`, or None with the problem why there are none.

    The endpoint is the model's. Never raises for a model that cannot be asked, nor for an empty budget.
    """
    if not settings.embedding_model or not texts:
        return Embedded(None, None)
    # Imported late: no other use of lessons needs the client.
    from pipelines.llm import ModelError, connect
    from pipelines.llm_embeddings import embed

    try:
        port = connect(store, replace(settings, model=settings.embedding_model), environ=environ)
        if port is None:
            return Embedded(None, None)
        with port:
            return Embedded(embed(store, port, texts), None)
    except (ModelError, BudgetExceeded, SettingsError) as error:
        return Embedded(None, str(error))
