"""Embeddings of texts through the model port: within its budget, recorded like its questions, and asked once a text.

A call that fails is not repeated: whoever wants embeddings has another way (TF-IDF), and the next run asks again.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import openai
from numpy.typing import NDArray

from pipelines.llm import ModelPort
from pipelines.llm_failures import ModelError, ModelMalformed, ModelRejected, ModelUnavailable
from store import embeddings, llm_calls
from store.connection import Store
from store.llm_calls import Charge, Ended, Question

__all__ = ["PURPOSE", "embed"]

PURPOSE: Final = "embedding"
_BATCH: Final = 64  # texts in one call
_LARGEST: Final = 1e15  # of a number of a vector: its square is one too
_CHARACTERS: Final = 8_000  # of one text: below the 8,191 tokens that servers commonly take


def embed(store: Store, port: ModelPort, texts: Sequence[str]) -> NDArray[np.float64]:
    """The embeddings of all texts by the port's model, shape (texts, dimensions).

    Raises: `BudgetExceeded` before anything is sent that could cost more than is left; `ModelError`; `StoreError`.
    """
    origin = embeddings.origin_of(port.setup.base_url, port.setup.model)
    hashes = [embeddings.content_hash(text) for text in texts]
    found = embeddings.kept(store, origin, sorted(set(hashes)))
    missing = {name: text[:_CHARACTERS] for name, text in zip(hashes, texts, strict=True) if name not in found}
    names = sorted(missing)
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        asked = _asked(store, port, batch, [missing[name] or " " for name in batch])
        found |= {name: np.asarray(vector, dtype=np.float32) for name, vector in zip(batch, asked, strict=True)}
    vectors = [found[name] for name in hashes]
    if len({len(vector) for vector in vectors}) > 1:
        raise ModelMalformed(f"{port.server} gave embeddings of different lengths.")
    return np.asarray(vectors, dtype=np.float64).reshape(len(texts), -1)


def _asked(store: Store, port: ModelPort, names: list[str], texts: list[str]) -> list[list[float]]:
    # Nothing is written: only what is read costs.
    read = sum(len(text.encode()) for text in texts) + 256
    most = port.setup.price.charge(read, 0)
    question = Question(
        run=port.run, purpose=PURPOSE, prompt_version="", subject=None, api=port.setup.api, model=port.setup.model,
        content_hash=hashlib.sha256("".join(names).encode()).hexdigest(),
    )  # fmt: skip
    call_id = llm_calls.begin(store, question, most, port.setup.budget)
    began = time.monotonic()
    # Until it is known otherwise, what was sent may be billed.
    ended = Ended("interrupted", 1, 0.0, most, estimated=True)
    try:
        document = _sent(port, texts)
        vectors = _vectors(port, document, len(texts))
        usage = document.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        known = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < 2**53
        charge = port.setup.price.charge(int(tokens), 0) if known and tokens is not None else most
        ended = Ended(
            "answered", 1, time.monotonic() - began, charge, estimated=not known,
            input_tokens=tokens if known else None, answered_by=port.setup.model,
        )  # fmt: skip
    except ModelError as error:
        refused = isinstance(error, ModelRejected)
        charge = Charge(0, 0.0) if refused else most
        ended = Ended(error.outcome, 1, time.monotonic() - began, charge, estimated=not refused, error=str(error))
        raise
    finally:
        llm_calls.finish(store, call_id, ended)
    origin = embeddings.origin_of(port.setup.base_url, port.setup.model)
    embeddings.keep(store, origin, call_id, dict(zip(names, vectors, strict=True)))
    return vectors


def _sent(port: ModelPort, texts: list[str]) -> dict[str, Any]:
    """The document of a successful answer. Raises: `ModelError`."""
    try:
        raw = port.client.embeddings.with_raw_response.create(
            model=port.setup.model, input=texts, encoding_format="float"
        )
        document = json.loads(raw.http_response.content)
    except openai.APIStatusError as error:
        said = f"{port.server} answered {error.status_code}: {port.clean(error.message)}"
        raise ModelRejected(said) if error.status_code < 500 else ModelUnavailable(said) from None
    except (openai.OpenAIError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{port.server} could not be asked ({port.clean(str(error))}).") from None
    if not isinstance(document, dict):
        raise ModelMalformed(f"{port.server} answered no JSON object.")
    return document


def _vectors(port: ModelPort, document: dict[str, Any], count: int) -> list[list[float]]:
    """The embeddings in the order of the texts. Raises: `ModelMalformed`."""
    rows = document.get("data")
    found: dict[int, list[float]] = {}
    for place, row in enumerate(rows if isinstance(rows, list) else []):
        vector = row.get("embedding") if isinstance(row, dict) else None
        if isinstance(vector, list) and vector and all(_number(value) for value in vector):
            index = row.get("index")
            found[index if isinstance(index, int) else place] = [float(value) for value in vector]
    if sorted(found) != list(range(count)):
        raise ModelMalformed(f"{port.server} did not answer with one embedding for each of {count} texts.")
    return [found[place] for place in range(count)]


def _number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and abs(value) < _LARGEST
