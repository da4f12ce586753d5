"""Bounds: the unit's own, else the segment's, else the agent's, else the defaults."""

import polars as pl
import pytest

from pipelines.exploration.bounds import DEFAULTS, AgentBounds, of_agent, of_segments, of_users
from store.exploration_bounds import BOUNDS


def stated(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=BOUNDS) if rows else pl.DataFrame(schema=BOUNDS)


def test_defaults_hold_where_nobody_said_anything() -> None:
    agent = of_agent(stated())
    assert agent == AgentBounds(0.01, 0.2, 0.5, None, 0.02, False)
    assert (agent.floor, agent.cap) == (DEFAULTS.floor, DEFAULTS.cap)
    users = of_users(stated(), ["ada", "bob"], ["young", None])
    assert users.floor.tolist() == [0.01, 0.01]
    assert users.dial.tolist() == [0.5, 0.5]
    assert not users.own_floor.any()
    assert of_users(stated(), [], []).floor.size == 0


def test_narrower_scopes_override_what_they_state() -> None:
    rows = stated(
        {"scope": "agent", "unit": "", "floor": 0.02, "cap": 0.3, "automatic": True, "daily_regret_budget": 4.0},
        {"scope": "segment", "unit": "young", "cap": 0.1, "dial": 0.2},
        {"scope": "user", "unit": "ada", "dial": 1.0},
        {"scope": "user", "unit": "bob", "floor": 0.05},
    )
    assert of_agent(rows) == AgentBounds(0.02, 0.3, 0.5, 4.0, 0.02, True)
    segments = of_segments(rows, ["old", "young"])
    assert segments.cap.tolist() == [0.3, 0.1]
    users = of_users(rows, ["ada", "bob", "cem", "dev"], ["young", "young", "old", None])
    assert users.floor.tolist() == [0.02, 0.05, 0.02, 0.02]
    assert users.cap.tolist() == [0.1, 0.1, 0.3, 0.3]
    assert users.dial.tolist() == [1.0, 0.2, 0.5, 0.5]
    assert users.own_floor.tolist() == [False, True, False, False]


@pytest.mark.parametrize(("own", "floor", "cap"), [({"floor": 0.4}, 0.4, 0.4), ({"cap": 0.001}, 0.001, 0.001)])
def test_what_was_set_beyond_what_is_inherited_holds(own: dict[str, float], floor: float, cap: float) -> None:
    agent = of_agent(stated({"scope": "agent", "unit": "", **own}))
    assert (agent.floor, agent.cap) == (floor, cap)
    user = of_users(stated({"scope": "user", "unit": "ada", **own}), ["ada"], [None])
    assert (user.floor[0], user.cap[0]) == (floor, cap)
