"""Texts as vectors that mean the same in every run, and what is left of them without what everybody asks about.

Words are hashed to places of a long vector (feature hashing, Weinberger et al. 2009, ICML 26), of length one for each
text, and that is projected at random to 64 dimensions, which keeps distances (METHODS §7.7). Nothing is fitted: the
vector of a text depends on the text alone.

A week or a day in which everybody asks about something else is no user's drift, so each vector loses what its agent's
week and day add: the mean of what others' texts lie away from the usual text of whoever wrote them, shrunk towards none
by as much as such means differ by chance alone. Others: users in ten parts, each part compared with the other nine.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from pipelines.drift.residuals import prior_weight

__all__ = ["DIMENSIONS", "WORD", "Shared", "residual", "shared", "vectors"]

DIMENSIONS: Final = 64
_PLACES: Final = 2**12
_SEED: Final = 7_007  # of the projection: the same in every run and process
# A character of Chinese, Japanese or Korean is a word: they are written without spaces.
WORD: Final = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+"
_EFFECTS: Final = {"week": ("agent", "week"), "day": ("agent", "day")}
_ROUNDS: Final = 10
_PARTS: Final = 10

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shared:
    """What weeks and days have in common, learnt from a sample of sessions.

    `parts`: the part of each user of the sample (user_id, part). `effects`: of each column of keys its `places` (agent,
    week or day, number) and what is taken away, (parts, places, dimensions). `explained`: their share of the variance
    within users.
    """

    parts: pl.DataFrame
    effects: tuple[tuple[pl.DataFrame, Floats], ...]
    explained: float


def vectors(texts: pl.Series) -> Floats:
    """The vector of each text, (n, DIMENSIONS); that of a text without a word, or of none, is 0."""
    hashed = _hasher().transform(texts.fill_null("").to_list())
    return np.asarray(hashed @ _projection(), dtype=np.float64)


def shared(sample: pl.DataFrame, vectors: Floats) -> Shared:
    """Learn from sampled sessions (columns `store.drift_events.SCANNED`) and their vectors, (n, DIMENSIONS).

    Means of users and of weeks are fitted in turn (Gauss-Seidel on the two-way layout), so that who was there in a week
    is not taken for what everybody asked in it.
    """
    frame = _timed(sample)
    users = frame["user_id"].unique().sort()
    parts = pl.DataFrame({"user_id": users}).with_columns(part=pl.int_range(pl.len()) % _PARTS)
    part = _codes(frame, parts, ["user_id"], "part")
    user = frame["user_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    centred = vectors - vectors.mean(axis=0)
    own = _sums(centred, user, users.len())
    n = np.bincount(user, minlength=users.len()).astype(np.float64)
    kappa = prior_weight(n, own, float((centred**2).sum()))
    week, weeks = _places(frame, _EFFECTS["week"])
    found = np.zeros((weeks.height, vectors.shape[1]))
    in_week = np.bincount(week, minlength=weeks.height).astype(np.float64)
    for _ in range(_ROUNDS):
        usual = _sums(centred - found[week], user, users.len()) / (n + kappa)[:, None]
        found = _sums(centred - usual[user], week, weeks.height) / (in_week + 1.0)[:, None]
    left = centred - usual[user]
    before = float((left**2).sum())
    effects = []
    for keys in _EFFECTS.values():
        place, places = _places(frame, keys)
        taken = _others(left, place, places.height, part)
        left = left - taken[part, place]
        effects.append((places, taken))
    after = float((left**2).sum())
    return Shared(parts, tuple(effects), max(0.0, 1.0 - after / before) if before > 0 else 0.0)


def residual(events: pl.DataFrame, vectors: Floats, known: Shared) -> Floats:
    """`vectors` of sessions (columns `store.drift_events.SCANNED`) without what their weeks and days add."""
    frame = _timed(events)
    part = _codes(frame, known.parts, ["user_id"], "part", missing=0)
    left = vectors.copy()
    for (places, taken), keys in zip(known.effects, _EFFECTS.values(), strict=True):
        place = _codes(frame, places, list(keys), "place", missing=-1)
        held = place >= 0
        left[held] -= taken[part[held], place[held]]
    return left


def _others(left: Floats, place: Ints, places: int, part: Ints) -> Floats:
    """What to take away of each part at each place, from the other parts: (parts, places, dimensions)."""
    sums = _sums(left, part * places + place, _PARTS * places).reshape(_PARTS, places, -1)
    n = np.bincount(part * places + place, minlength=_PARTS * places).astype(np.float64).reshape(_PARTS, places)
    total, counted = sums.sum(axis=0), n.sum(axis=0)
    kappa = prior_weight(counted, total, float((left**2).sum()))
    if not np.isfinite(kappa):
        return np.zeros_like(sums)
    others = np.maximum(counted - n, 0.0)
    return np.asarray(np.where(others[..., None] > 0, (total - sums) / (others + kappa)[..., None], 0.0))


def _timed(events: pl.DataFrame) -> pl.DataFrame:
    day = pl.col("occurred_at").dt.date()
    return events.select(
        "user_id", pl.col("agent").fill_null(""), day.alias("day"), day.dt.truncate("1w").alias("week")
    )


def _places(frame: pl.DataFrame, keys: tuple[str, ...]) -> tuple[Ints, pl.DataFrame]:
    places = frame.select(keys).unique().sort(keys).with_row_index("place")
    return _codes(frame, places, list(keys), "place"), places


def _codes(frame: pl.DataFrame, known: pl.DataFrame, keys: list[str], name: str, missing: int = 0) -> Ints:
    joined = frame.select(keys).join(known, on=keys, how="left", maintain_order="left")[name]
    return np.asarray(joined.cast(pl.Int64).fill_null(missing).to_numpy(), dtype=np.int64)


def _sums(rows: Floats, group: Ints, groups: int) -> Floats:
    """Sums of rows by group, (groups, columns)."""
    return np.stack([np.bincount(group, column, minlength=groups) for column in rows.T], axis=1)


@cache
def _hasher() -> HashingVectorizer:
    return HashingVectorizer(n_features=_PLACES, token_pattern=WORD, binary=True, dtype=np.float32)


@cache
def _projection() -> NDArray[np.float32]:
    drawn = np.random.default_rng(_SEED).normal(size=(_PLACES, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    return np.asarray(drawn, dtype=np.float32)
