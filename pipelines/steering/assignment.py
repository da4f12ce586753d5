"""Which arm a unit gets: its draw, a number fixed by who it is, against the propensities.

The unit is the session, or the decision itself where no session is named. Its draw is a hash with the agent's salt, so
the same unit under the same policy gets the same arm, on any machine and in any order.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

__all__ = ["arm_at", "clean_name", "cumulative", "draw_of", "unit_of"]

_DIGITS = 53  # those of a double


def clean_name(text: str) -> str:
    """An arm's name as arms are compared: trimmed, in composed form (NFC)."""
    return unicodedata.normalize("NFC", text).strip()


def unit_of(session_id: str | None, decision_id: str) -> str:
    """What is hashed."""
    return f"session:{session_id}" if session_id is not None else f"decision:{decision_id}"


def draw_of(salt: str, agent: str, unit: str) -> float:
    """The unit's number, uniform on [0, 1): 53 bits of BLAKE2b over salt, agent and unit, none of which holds a NUL."""
    digest = blake2b(f"{salt}\0{agent}\0{unit}".encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - _DIGITS)) / 2**_DIGITS)


def cumulative(propensities: Sequence[float]) -> tuple[float, ...]:
    """The sums of propensities up to each arm; at least 1 from the last arm that can be drawn on."""
    last = max(place for place, each in enumerate(propensities) if each > 0.0)
    return tuple(total if place < last else 1.0 for place, total in enumerate(accumulate(propensities)))


def arm_at(draw: float, sums: Sequence[float]) -> int:
    """The arm whose stretch of [0, 1) holds `draw`, from the sums of `cumulative`: the inverse of the distribution."""
    return bisect_right(sums, draw)
