"""Texts as numbers: whether frequent words occur, and a few components of the others (latent semantic analysis).

A vocabulary is drawn from a sample by how many texts a word is in. The most telling ones (those that about half of the
texts have) become columns of their own, which can be read; the rest is weighed by inverse document frequency, scaled to
unit length and projected on the leading singular vectors (Deerwester et al. 1990). All parameters are plain numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

__all__ = ["TextEncoder", "fit_texts"]

_CHARACTERS = 300  # read of each text: openings tell most, and previews end at 500
_WORD = r"\p{L}{3,}"
_VOCABULARY = 1_200
_LEAST_SHARE, _MOST_SHARE = 0.004, 0.98

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TextEncoder:
    """`words` in order of their columns, the first `direct` of them columns of their own; `idf` and `components`
    (words, k) project the rest.
    """

    words: list[str]
    direct: int
    idf: Floats
    components: Floats

    @property
    def names(self) -> list[str]:
        """Names of the columns that `transform` gives."""
        topics = [f"topic {at + 1}" for at in range(self.components.shape[1])]
        return [f"word {word!r}" for word in self.words[: self.direct]] + topics

    def transform(self, texts: pl.Series) -> Floats:
        """One row a text: 0/1 for the direct words, then the components."""
        counts = _occurrences(texts, self.words)
        direct: Floats = counts[:, : self.direct].toarray().astype(np.float32)
        rest = counts[:, self.direct :].multiply(self.idf).tocsr()
        length = np.sqrt(np.asarray(rest.multiply(rest).sum(axis=1)).ravel())
        projected = np.asarray(rest @ self.components) / np.maximum(length, 1e-6)[:, None]
        return np.concatenate([direct, projected.astype(np.float32)], axis=1)

    def parameters(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "words": self.words, "direct": self.direct, "idf": [round(float(v), 5) for v in self.idf],
            "components": [[round(float(v), 5) for v in row] for row in self.components],
        }  # fmt: skip

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> "TextEncoder":
        """From what `parameters` gave."""
        rows = parameters["components"]
        components = np.array(rows, dtype=np.float32).reshape(len(rows), len(rows[0]) if rows else 0)
        return cls(
            list(parameters["words"]), int(parameters["direct"]), np.array(parameters["idf"], np.float32), components
        )


def fit_texts(sample: pl.Series, *, direct: int = 80, components: int = 12) -> TextEncoder:
    """Learn a vocabulary and its components from a sample of texts. Nothing about labels enters."""
    per_text = _words(sample).unique()
    shares = (
        per_text.group_by("word")
        .agg(share=pl.len() / max(1, len(sample)), texts=pl.len())
        .filter(pl.col("share").is_between(_LEAST_SHARE, _MOST_SHARE) & (pl.col("texts") >= 5))
        .sort((pl.col("share") * (1.0 - pl.col("share"))).round(9), "word", descending=[True, False])
        .head(_VOCABULARY)
    )
    words, share = shares["word"].to_list(), shares["share"].to_numpy()
    kept = min(direct, len(words))
    idf = np.log(1.0 / share[kept:]).astype(np.float32)
    rank = min(components, max(0, len(idf) - 1))
    if rank < 2:
        return TextEncoder(words[:kept], kept, np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
    weighed = _occurrences(sample, words)[:, kept:].multiply(idf).tocsr()
    length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    scaled = sp.diags_array(1.0 / np.maximum(length, 1e-6)) @ weighed
    fitted = TruncatedSVD(rank, random_state=0, n_iter=4).fit(scaled)
    loadings = fitted.components_.T
    signs = np.sign(loadings[np.argmax(np.abs(loadings), axis=0), np.arange(rank)])
    return TextEncoder(words, kept, idf, (loadings * signs).round(5).astype(np.float32))


def _words(texts: pl.Series) -> pl.DataFrame:
    """Words of texts in lower case: columns row and word."""
    frame = pl.DataFrame({"text": texts}).with_row_index("row")
    return (
        frame.select("row", word=pl.col("text").str.slice(0, _CHARACTERS).str.to_lowercase().str.extract_all(_WORD))
        .explode("word")
        .filter(pl.col("word").is_not_null())
    )


def _occurrences(texts: pl.Series, words: list[str]) -> sp.csr_array:
    """0/1 matrix (texts, words)."""
    found = _words(texts).select(
        "row", at=pl.col("word").cast(pl.Enum(words), strict=False).to_physical().cast(pl.Int32)
    )
    found = found.filter(pl.col("at").is_not_null()).unique()
    rows, columns = found["row"].to_numpy().astype(np.int32), found["at"].to_numpy()
    return sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(texts), len(words)))
