"""Which words somebody uses more and less since a moment: what a change of their texts was, for people to read."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from pipelines.drift.texts import WORD

__all__ = ["WORD_SHARES", "word_shares"]

WORD_SHARES: Final = pl.Schema(
    {"word": pl.String(), "before": pl.Float64(), "after": pl.Float64(), "before_n": pl.Int64(), "after_n": pl.Int64()}
)
_LONGEST: Final = 40  # characters of a word


def word_shares(texts: pl.DataFrame, changed_at: datetime, *, limit: int = 12) -> pl.DataFrame:
    """The words whose share of sessions moved most, those used more first (columns `WORD_SHARES`).

    Args: `texts` (columns `store.drift_texts.TEXTS`), one row a session; `limit` of words, of both directions together.
    Ordered by the difference of logarithms of odds with half a session added to each, in its standard errors (Haldane
    1955, Ann. Hum. Genet. 20:309); only words of at least two sessions. That orders words and tests none of them.
    """
    after = texts["occurred_at"] >= changed_at
    sides = [_sessions_with(texts.filter(side)["text"]) for side in (~after, after)]
    n = [int((~after).sum()), int(after.sum())]
    named = sorted(word for word in sides[0].keys() | sides[1].keys() if sides[0][word] + sides[1][word] > 1)
    if not named or min(n) == 0:
        return pl.DataFrame(schema=WORD_SHARES)
    counted = np.array([[side[word] for word in named] for side in sides], dtype=np.float64)
    with_word, without = counted + 0.5, np.array(n)[:, None] - counted + 0.5
    odds = np.log(with_word / without)
    z = (odds[1] - odds[0]) / np.sqrt((1 / with_word + 1 / without).sum(axis=0))
    shares = counted / np.array(n)[:, None]
    frame = pl.DataFrame({"word": named, "before": shares[0], "after": shares[1], "z": z}).with_columns(
        before_n=pl.lit(n[0], pl.Int64), after_n=pl.lit(n[1], pl.Int64)
    )
    most = frame.sort(pl.col("z").abs(), "word", descending=[True, False]).head(limit)
    return most.sort("z", "word", descending=[True, False]).select(list(WORD_SHARES))


def _sessions_with(texts: Iterable[str | None]) -> Counter[str]:
    """How many texts have each word."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update({word[:_LONGEST] for word in re.findall(WORD, (text or "").lower())})
    return found
