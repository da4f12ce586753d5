"""Withholding lessons at random, so that what they pay can be measured.

Each lesson that was chosen for a request has a draw of its own, a hash of (salt, lesson, unit), and is withheld where
that is below the lesson's holdout probability; a further draw of (salt, "empty", unit) withholds the whole playbook
with probability `empty`. Nothing moves up in place of what is withheld. So, given what was chosen,

    P(lesson served) = (1 - empty) (1 - holdout)

exactly, and given the unit the draws of different lessons, and that of the empty playbook, are independent:
P(a and b served) = (1 - empty)(1 - holdout a)(1 - holdout b). The unit is the session where there is one: all of its
decisions share the draws, so they are one observation and not several.
"""

from typing import Final

from pipelines.steering.assignment import draw_of

__all__ = ["LEAST_HOLDOUT", "MOST_HOLDOUT", "draw", "empty_draw", "holdout_of"]

LEAST_HOLDOUT: Final = 0.02
MOST_HOLDOUT: Final = 0.98
"""Bounds of every holdout, whatever was set: at 0 or 1 nothing could be compared."""


def holdout_of(wanted: float) -> float:
    """The probability in force where `wanted` was set; the least one for no number."""
    return min(max(wanted, LEAST_HOLDOUT), MOST_HOLDOUT) if wanted == wanted else LEAST_HOLDOUT


def draw(salt: str, agent: str, lesson_id: str, unit: str) -> float:
    """The draw of a lesson for a unit, uniform on [0, 1)."""
    # No part holds a NUL, so no draw of an arm or of soliciting hashes the same text.
    return draw_of(salt, agent, f"lesson\0{lesson_id}\0{unit}")


def empty_draw(salt: str, agent: str, unit: str) -> float:
    """The draw of the empty playbook for a unit, uniform on [0, 1)."""
    return draw_of(salt, agent, f"empty\0{unit}")
