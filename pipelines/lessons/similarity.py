"""How alike lessons are: cosine of TF-IDF vectors, or of embeddings where a model for them is configured.

TF-IDF has single words and pairs of words without common English ones, tf = 1 + log count, idf =
log((1 + n) / (1 + df)) + 1, and rows of length 1 (Salton & Buckley 1988; scikit-learn's TfidfVectorizer). Texts without
any such word have the cosine 0 with everything. Results do not depend on the order of the texts: cosines are rounded
to nine digits.

Common words are left out, so "do X" and "do not X" look the same here: who merges must look at what a text orders
(`pipelines.lessons.lint.polarity`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer

from store.embeddings import METHOD

__all__ = ["EMBEDDINGS", "TFIDF", "Similarity", "joined", "vectoriser"]

TFIDF: Final = "TF-IDF"
EMBEDDINGS: Final = METHOD
_BLOCK: Final = 512  # rows of cosines in memory at once
_DIGITS: Final = 9

Rows = Any  # (n, features) with rows of length 1 or 0: a sparse matrix, or an array
Encode = Callable[[Sequence[str]], Rows]


def vectoriser() -> TfidfVectorizer:
    """The TF-IDF vectoriser that is used wherever lessons are compared, not fitted."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, stop_words="english", dtype=np.float64)


class Similarity:
    """Cosines among n texts, by their index 0 to n - 1. Use `fit`.

    `method` says how likeness is measured; `reason` why it is not what was configured, None where it is.
    """

    def __init__(self, rows: Rows, encode: Encode, method: str = TFIDF, reason: str | None = None) -> None:
        self._rows = rows
        self._encode = encode
        self.method = method
        self.reason = reason

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    @classmethod
    def fit(cls, texts: Sequence[str], *, reason: str | None = None) -> "Similarity":
        """TF-IDF over `texts`; `reason` says why it is used in place of embeddings."""
        model = vectoriser()
        try:
            rows = sparse.csr_matrix(model.fit_transform(texts)) if len(texts) else sparse.csr_matrix((0, 1))
        except ValueError:  # not one word in all of the texts
            return cls(sparse.csr_matrix((len(texts), 1)), lambda new: sparse.csr_matrix((len(new), 1)), TFIDF, reason)
        if not len(texts):
            return cls(rows, lambda new: sparse.csr_matrix((len(new), 1)), TFIDF, reason)
        return cls(rows, lambda new: _encoded(model, len(texts), new), TFIDF, reason)

    @classmethod
    def of_vectors(cls, vectors: NDArray[np.float64], method: str = EMBEDDINGS) -> "Similarity":
        """Cosines of given vectors, shape (n, dimensions); texts that are not among them cannot be asked about."""
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = np.divide(vectors, lengths, out=np.zeros_like(vectors, dtype=np.float64), where=lengths > 0)
        return cls(rows, lambda new: np.zeros((len(new), rows.shape[1])), method)

    def between(self, i: int, j: int) -> float:
        """The cosine of two of the texts."""
        product = self._rows[i : i + 1] @ self._rows[j : j + 1].T
        return float(_rounded(product)[0, 0])

    def cosines(self, text: str) -> NDArray[np.float64]:
        """Cosine of a text with each of the n, shape (n,)."""
        if not len(self):
            return np.zeros(0)
        return _rounded(self._rows @ self._encode([text]).T).ravel()

    def nearest(self, text: str, n: int = 5) -> list[tuple[int, float]]:
        """The `n` most similar texts as (index, cosine), nearest first, then by index; none of cosine 0."""
        cosines = self.cosines(text)
        order = np.lexsort((np.arange(cosines.size), -cosines))[: max(n, 0)]
        return [(int(place), float(cosines[place])) for place in order if cosines[place] > 0.0]

    def pairs(self, threshold: float) -> list[tuple[int, int, float]]:
        """All (i, j, cosine) with i < j and a cosine of at least `threshold` (above 0), by i, then j.

        Memory is a block of 512 rows of cosines.
        """
        found: list[tuple[int, int, float]] = []
        for start in range(0, len(self), _BLOCK):
            block = self._rows[start : start + _BLOCK] @ self._rows[start:].T
            near = (
                sparse.coo_matrix(block) if sparse.issparse(block) else sparse.coo_matrix(np.where(block > 0, block, 0))
            )
            cosines = np.round(near.data, _DIGITS)
            kept = (near.col > near.row) & (cosines >= threshold) & (cosines > 0.0)
            found += zip(
                (near.row[kept] + start).tolist(),
                (near.col[kept] + start).tolist(),
                cosines[kept].tolist(),
                strict=True,
            )
        return sorted(found)

    def groups(self, threshold: float) -> list[list[int]]:
        """Texts joined by pairs of at least `threshold`, also through others, of two or more, by their least index."""
        return joined(len(self), [(i, j) for i, j, _ in self.pairs(threshold)])


def joined(n: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected components of two or more among 0 to n - 1, each sorted, by their least index."""
    if not pairs:
        return []
    ends = np.asarray(pairs)
    graph = sparse.coo_matrix((np.ones(len(pairs)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for place in sorted(set(ends.ravel().tolist())):
        members.setdefault(int(label[place]), []).append(place)
    return sorted(members.values())


def _encoded(model: TfidfVectorizer, n: int, new: Sequence[str]) -> Rows:
    """Vectors of other texts. Words that no fitted text has count in their length: else a new text looks too near."""
    known = sparse.csr_matrix(model.transform(new))
    analyse = model.build_analyzer()
    unseen = (np.log(1.0 + n) + 1.0) ** 2  # squared idf of a word in no text
    scales = []
    for text in new:
        counts = Counter(analyse(text))
        seen = [word for word in counts if word in model.vocabulary_]
        weights = [(1.0 + np.log(counts[w])) * model.idf_[model.vocabulary_[w]] for w in seen]
        inside = float(np.sum(np.square(weights)))
        outside = sum((1.0 + np.log(counts[word])) ** 2 * unseen for word in counts.keys() - set(seen))
        scales.append(np.sqrt(inside / (inside + outside)) if inside else 0.0)
    return sparse.diags(scales) @ known


def _rounded(product: Rows) -> NDArray[np.float64]:
    dense = product.toarray() if sparse.issparse(product) else np.asarray(product)
    return np.asarray(np.round(dense, _DIGITS), dtype=np.float64)
