"""Embeddings through the model port: asked once a text, within the budget, and TF-IDF with a reason when that fails."""

from datetime import UTC, datetime

import numpy as np
import pytest
from embedding_server import server

from pipelines.lessons import embedding
from pipelines.lessons.similarity import Similarity
from store import llm_calls
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings

TEXTS = ["look up the booking", "find the reservation", "be polite", "look up the booking"]
VECTORS = {"look up the booking": [3.0, 0.0], "find the reservation": [5.0, 0.1], "be polite": [0.0, 2.0]}


@pytest.fixture
def store(tmp_path):
    with_clock = Store.open(tmp_path / "s.duckdb", clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    yield with_clock
    with_clock.close()


def good(request):
    rows = [{"index": i, "embedding": VECTORS[text]} for i, text in enumerate(request["input"])]
    return 200, {"data": rows[::-1], "usage": {"prompt_tokens": 7}}


def setup(address, **changed):
    return Settings(**{"embedding_model": "e", "model_base_url": address, "model_prices": "e=1000/0", **changed})


def test_texts_are_embedded_once_and_paid_for_once(store):
    with server(good) as (address, asked):
        found = embedding.of_texts(store, setup(address), TEXTS, environ={})
        again = embedding.of_texts(store, setup(address), TEXTS[::-1], environ={})
    assert found.reason is None
    assert np.allclose(found.vectors, [VECTORS[text] for text in TEXTS])
    assert again.vectors.tolist() == found.vectors[::-1].tolist()
    assert [sorted(request["input"]) for request in asked] == [sorted(VECTORS)]
    (call,) = llm_calls.recent(store).to_dicts()
    assert (call["purpose"], call["outcome"], call["input_tokens"], call["cost_usd"]) == (
        "embedding", "answered", 7, 0.007,
    )  # fmt: skip
    alike = Similarity.of_vectors(found.vectors)
    assert [(i, j) for i, j, _ in alike.pairs(0.9)] == [(0, 1), (0, 3), (1, 3)]
    assert alike.method == "embeddings"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda _: (500, {"error": {"message": "broken"}}), "500"),
        (lambda _: (404, {"error": {"message": "no such model"}}), "no such model"),
        (lambda _: (200, {"data": []}), "one embedding"),
        (lambda _: (200, {"data": [{"index": 0, "embedding": ["x"]}] * 3}), "one embedding"),
        (lambda _: (200, ["nothing"]), "no JSON object"),
    ],
)
def test_when_the_endpoint_fails_the_words_are_compared_and_the_reason_is_told(store, answer, word):
    with server(answer) as (address, asked):
        found = embedding.of_texts(store, setup(address), TEXTS, environ={})
    assert found.vectors is None
    assert word in found.reason
    assert found.reason.startswith("TF-IDF was used")
    assert len(asked) == 1
    assert llm_calls.recent(store)["outcome"][0] in ("unavailable", "rejected", "malformed")
    fitted = Similarity.fit(TEXTS, reason=found.reason)
    assert (fitted.method, fitted.reason) == ("TF-IDF", found.reason)


def test_nothing_is_sent_beyond_the_budget_or_without_a_price_or_a_model(store):
    with server(good) as (address, asked):
        poor = embedding.of_texts(store, setup(address, model_daily_tokens=5), TEXTS, environ={})
        unpriced = embedding.of_texts(store, setup(address, model_prices=""), TEXTS, environ={})
        none = embedding.of_texts(store, Settings(), TEXTS)
        nothing = embedding.of_texts(store, setup(address), [])
    assert asked == []
    assert "The model was not asked" in poor.reason
    assert "price" in unpriced.reason
    assert (none, nothing) == (embedding.Embedded(None, None),) * 2


def test_zero_vectors_are_like_nothing():
    assert Similarity.of_vectors(np.zeros((3, 2))).pairs(0.1) == []
