"""Array types of the simulation, and the random streams that keep its parts independent of one another."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Ints", "Texts", "hex_ids", "pick", "stream", "text_where"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]  # of str, or None

# Each part of the simulation draws from its own stream, so a change in one leaves the numbers of the others alone.
_STREAMS = (
    "population",
    "tasks",
    "sessions",
    "outcomes",
    "slates",
    "steps",
    "texts",
    "feedback",
    "ids",
)


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of one part of the simulation, a function of the seed and the part's name alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _STREAMS.index(name)])))


def hex_ids(rng: np.random.Generator, count: int, digits: int) -> list[str]:
    """`count` random lower-case hexadecimal ids of `digits` digits, as OpenTelemetry writes trace and span ids."""
    text = rng.bytes(count * digits // 2).hex()
    return [text[start : start + digits] for start in range(0, count * digits, digits)]


def text_where(condition: Bools, then: Any, otherwise: Any) -> Texts:
    """`numpy.where` over texts: arrays of texts, or one text, or None for none."""
    return np.asarray(np.where(condition, then, otherwise), dtype=np.object_)


def pick(uniforms: Floats, probabilities: Floats) -> Ints:
    """Category per row by inverse transform; rows of `probabilities` (n, k) may sum to less than 1, the rest is -1."""
    cumulative = np.cumsum(probabilities, axis=1)
    chosen = (uniforms[:, None] >= cumulative).sum(axis=1)
    return np.where(chosen < probabilities.shape[1], chosen, -1).astype(np.int64)
