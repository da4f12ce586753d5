"""Replay: every logged decision worked out again from the version of the policy that it names.

What cannot be known from the log is taken from it: the scale to which the day's budget had brought the rates down, and
that a session was moved off its arm. Everything else has to come out again: the draw from the unit, the rate from the
user's standing, the propensities from the posterior, and the arm from all of it. Lessons: `replay_lessons`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from pipelines.steering.assignment import arm_at, cumulative, draw_of, unit_of
from pipelines.steering.compiled import Compiled, Key
from pipelines.steering.policy import Policy
from pipelines.steering.propensities import propensities

__all__ = ["DIFFERENCES", "TOLERANCE", "difference", "replay"]

DIFFERENCES = pl.Schema(
    {
        "decision_id": pl.String(),
        "agent": pl.String(),
        "policy_version": pl.Int32(),
        "what": pl.String(),  # the column that differs
        "logged": pl.String(),
        "replayed": pl.String(),
    }
)

TOLERANCE = 1e-9
"""How far logged numbers may be from replayed ones: libraries sum in other orders on other machines."""

_BLOCK = 20_000


def replay(logged: pl.DataFrame, policy_at: Callable[[str, int], Policy]) -> pl.DataFrame:
    """The columns in which logged decisions differ from what their policy says (columns `DIFFERENCES`).

    Args: `logged` with the columns of `store.decisions.DECISIONS`; `policy_at(agent, version)` gives the policy.
    A decision that repeats an earlier one of its session is compared with that one, and left out where that one is not
    in `logged`.
    """
    differences: list[tuple[object, ...]] = []
    ordered = logged.with_row_index("row").sort("decided_at", "row")
    repeats = _repeats(ordered)
    differences += repeats
    fresh = ordered.filter(~pl.col("sticky"))
    for (agent, version), rows in fresh.partition_by(["agent", "policy_version"], as_dict=True).items():
        compiled = Compiled(policy_at(str(agent), int(version)))
        for block in rows.iter_slices(_BLOCK):
            differences += _differing(compiled, block)
    return pl.DataFrame(differences, schema=DIFFERENCES, orient="row")


def _repeats(ordered: pl.DataFrame) -> list[tuple[object, ...]]:
    """Sticky decisions that do not say what the one that they repeat said."""
    repeated = ["policy_version", "unit", "draw", "arm", "greedy_arm", "propensity", "arms", "propensities", "rate"]
    first = [
        pl.when(~pl.col("sticky")).then(pl.col(name)).forward_fill().over("agent", "session_id").alias(f"first_{name}")
        for name in repeated
    ]
    sticky = ordered.with_columns(first).filter(pl.col("sticky") & pl.col("first_unit").is_not_null())
    found: list[tuple[object, ...]] = []
    for name in repeated:
        wrong = sticky.filter(pl.col(name).ne_missing(pl.col(f"first_{name}")))
        found += [difference(row, name, row[name], row[f"first_{name}"]) for row in wrong.iter_rows(named=True)]
    return found


class _Cases:
    """The different things that decisions with one eligible set were drawn from, each worked out once."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}
        self.keys: list[tuple[Key, float]] = []
        self.members: list[tuple[dict[str, Any], int, float]] = []  # row, number of its case, draw

    def add(self, row: dict[str, Any], key: Key, allowed: float, draw: float) -> None:
        number = self.numbers.setdefault((key, allowed), len(self.keys))
        if number == len(self.keys):
            self.keys.append((key, allowed))
        self.members.append((row, number, draw))


def _differing(compiled: Compiled, rows: pl.DataFrame) -> list[tuple[object, ...]]:
    """The differences of decisions that were drawn by one policy."""
    policy = compiled.policy
    places = {arm.name: place for place, arm in enumerate(policy.arms)}
    found: list[tuple[object, ...]] = []
    groups: dict[tuple[int, ...], _Cases] = {}
    for row in rows.iter_rows(named=True):
        positions = tuple(places.get(name, -1) for name in row["arms"])
        drawable = all(place >= 0 and policy.arms[place].state == "enabled" for place in positions)
        if not (drawable or (len(positions) == 1 and row["note"] is not None and -1 not in positions)):
            found.append(difference(row, "arms", row["arms"], [*places]))
            continue
        unit = unit_of(row["session_id"], row["decision_id"])
        if row["unit"] != unit:
            found.append(difference(row, "unit", row["unit"], unit))
        draw = draw_of(policy.salt, policy.agent, unit)
        if row["draw"] != draw:
            found.append(difference(row, "draw", row["draw"], draw))
        standing = compiled.standing(row["user_id"], row["task"])
        if row["segment"] != standing.segment:
            found.append(difference(row, "segment", row["segment"], standing.segment))
        # A session that was moved, or an agent that could run none of the arms, was allowed nothing, and says so.
        moved = row["allowed_rate"] == 0.0 and row["note"] is not None
        if not moved and abs(row["allowed_rate"] - standing.allowed_rate) > TOLERANCE:
            found.append(difference(row, "allowed_rate", row["allowed_rate"], standing.allowed_rate))
        allowed = 0.0 if moved else standing.allowed_rate
        groups.setdefault(positions, _Cases()).add(row, standing.key, allowed * row["budget_scale"], draw)
    for positions, cases in groups.items():
        found += _drawn(compiled, positions, cases)
    return found


def _drawn(compiled: Compiled, positions: tuple[int, ...], cases: _Cases) -> list[tuple[object, ...]]:
    """The differences in what decisions with one eligible set were drawn from."""
    policy = compiled.policy
    posteriors = [compiled.posterior(key, positions) for key, _ in cases.keys]
    means, sds = np.stack([each[0] for each in posteriors]), np.stack([each[1] for each in posteriors])
    allowed = np.array([each for _, each in cases.keys])
    order = compiled.order[list(positions)]
    drawn = propensities(means, sds, allowed, order=order, propensity_floor=policy.propensity_floor)
    vectors, rates = drawn.vector.tolist(), drawn.rate.tolist()
    sums = [cumulative(each) for each in vectors]
    names = [policy.arms[place].name for place in positions]
    greedy = [names[place] for place in drawn.greedy.tolist()]
    found: list[tuple[object, ...]] = []
    for row, number, draw in cases.members:
        logged, vector = row["propensities"], vectors[number]
        if len(logged) != len(vector) or max(abs(a - b) for a, b in zip(logged, vector, strict=True)) > TOLERANCE:
            found.append(difference(row, "propensities", logged, vector))
        if abs(row["rate"] - rates[number]) > TOLERANCE:
            found.append(difference(row, "rate", row["rate"], rates[number]))
        if row["greedy_arm"] != greedy[number]:
            found.append(difference(row, "greedy_arm", row["greedy_arm"], greedy[number]))
        # A draw at the very edge between two arms may fall to either.
        edges = (max(draw - TOLERANCE, 0.0), min(draw + TOLERANCE, 1.0 - 2**-53))
        if row["arm"] not in {names[arm_at(edge, sums[number])] for edge in edges}:
            found.append(difference(row, "arm", row["arm"], names[arm_at(draw, sums[number])]))
        said = logged[names.index(row["arm"])] if row["arm"] in names else None
        if row["propensity"] != said:
            found.append(difference(row, "propensity", row["propensity"], said))
    return found


def difference(row: dict[str, Any], what: str, logged: object, replayed: object) -> tuple[object, ...]:
    """A row of `DIFFERENCES`."""
    return (row["decision_id"], row["agent"], row["policy_version"], what, str(logged), str(replayed))
