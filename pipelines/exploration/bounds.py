"""The bounds of exploration that hold for a unit: its own, else the segment's, else the agent's, else the defaults."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.exploration_bounds import DEFAULTS, RATE_WITHOUT_DECISION

__all__ = ["DEFAULTS", "RATE_WITHOUT_DECISION", "AgentBounds", "UnitBounds", "of_agent", "of_segments", "of_users"]

Floats = NDArray[np.float64]
_INHERITED = ("floor", "cap", "dial")


@dataclass(frozen=True)
class AgentBounds:
    """What holds for an agent. Rates and `dial` lie from 0 to 1; the budget is in reward points a UTC day."""

    floor: float = DEFAULTS.floor
    cap: float = DEFAULTS.cap
    dial: float = DEFAULTS.dial
    daily_regret_budget: float | None = DEFAULTS.daily_regret_budget
    solicit_rate: float = DEFAULTS.solicit_rate
    automatic: bool = DEFAULTS.automatic


@dataclass(frozen=True)
class UnitBounds:
    """What holds for each of several units, one entry each: `floor` never exceeds `cap`.

    `own_floor`: an operator set the floor for this very unit, so that it holds whatever the unit's tolerance.
    """

    floor: Floats
    cap: Floats
    dial: Floats
    own_floor: NDArray[np.bool_]


def of_agent(bounds: pl.DataFrame) -> AgentBounds:
    """The agent's bounds from its rows (columns `store.exploration_bounds.BOUNDS`)."""
    rows = bounds.filter(scope="agent").to_dicts()
    stated = {name: value for name, value in (rows[0] if rows else {}).items() if value is not None}
    known = AgentBounds(**{name: stated[name] for name in AgentBounds.__dataclass_fields__ if name in stated})
    if known.floor <= known.cap:
        return known
    # Only one of the two was set, beyond the other's default: what was set holds.
    floor, cap = (known.floor, known.floor) if "floor" in stated else (known.cap, known.cap)
    return AgentBounds(floor, cap, known.dial, known.daily_regret_budget, known.solicit_rate, known.automatic)


def of_segments(bounds: pl.DataFrame, segments: Sequence[str]) -> UnitBounds:
    """The bounds of each segment."""
    agent = of_agent(bounds)
    wide = {name: np.full(len(segments), getattr(agent, name)) for name in _INHERITED}
    return _narrowed(wide, bounds, "segment", pl.Series(list(segments), dtype=pl.String))


def of_users(bounds: pl.DataFrame, users: Sequence[str], segments: Sequence[str | None]) -> UnitBounds:
    """The bounds of each user, whose segment (None: not known) is at the same place in `segments`."""
    names = sorted({name for name in segments if name is not None})
    wider = of_segments(bounds, names)
    agent = of_agent(bounds)
    place = {name: index for index, name in enumerate(names)}
    at = np.array([place[name] if name is not None else len(names) for name in segments], dtype=np.int64)
    wide = {name: np.append(getattr(wider, name), getattr(agent, name))[at] for name in _INHERITED}
    return _narrowed(wide, bounds, "user", pl.Series(list(users), dtype=pl.String))


def _narrowed(wide: dict[str, Floats], bounds: pl.DataFrame, scope: str, units: pl.Series) -> UnitBounds:
    own = bounds.filter(scope=scope).select("unit", *_INHERITED)
    joined = pl.DataFrame({"unit": units}).join(own, on="unit", how="left", maintain_order="left")
    stated = {name: joined[name].to_numpy().astype(np.float64) for name in _INHERITED}  # null: NaN
    known = {name: np.where(np.isnan(stated[name]), wide[name], stated[name]) for name in _INHERITED}
    own_floor, own_cap = ~np.isnan(stated["floor"]), ~np.isnan(stated["cap"])
    # Where one of the two was set beyond what the other inherits, what was set holds.
    floor = np.where(own_cap & ~own_floor, np.minimum(known["floor"], known["cap"]), known["floor"])
    return UnitBounds(floor, np.maximum(known["cap"], floor), known["dial"], own_floor)
