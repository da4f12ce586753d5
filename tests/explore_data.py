"""An agent that was steered: arms, decisions drawn with known propensities, their traces and rewards, a policy."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import given_rewards
import numpy as np
import polars as pl
from loop_data import NOW, run_loop
from publishing import publisher

from store import arms, decisions, exploration, links
from store.clock import FixedClock
from store.connection import Store

AGENT = "shop"
PROPENSITIES = (0.6, 0.4)
DRAWS = 700
USERS = 70
REASON = "A look at b is worth 0.9 points to the decisions ahead and costs 0.02 now."


@cache
def steered_file() -> bytes:
    """A database file with the steered agent in it, made once, for tests to write where they want."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trimtab.duckdb"
        store = Store.open(path, clock=FixedClock(NOW), threads=1)
        steer(store, Path(folder))
        store.close()
        return path.read_bytes()


def steer(store: Store, folder: Path, *, agent: str = AGENT, names: tuple[str, str] = ("a", "b")) -> None:
    """Define two arms and a shadow, draw `DRAWS` decisions with their traces and rewards, publish, recommend."""
    for name, state in ((names[0], "enabled"), (names[1], "enabled"), ("c", "shadow")):
        arms.define(
            store, agent, name, kind="prompt", definition={"prompt": name}, baseline=name == names[0], state=state,
            origin="operator", by="Ada",
        )  # fmt: skip
    random = np.random.default_rng(5)
    frame = draws(agent, names, random)
    traces, signals = [], []
    for place, row in enumerate(frame.to_dicts()):
        good = random.random() < (0.45 if row["arm"] == names[0] else 0.8)
        traces.append(
            {"trace_id": f"t{place:04}", "agent": agent, "arm": row["arm"], "user_id": row["user_id"],
             "session_id": row["session_id"], "decision_id": row["decision_id"], "input": "Where is my order",
             "started_at": row["decided_at"], "ended_at": row["decided_at"] + timedelta(seconds=2),
             "metadata": '{"segment": "north"}' if place % 2 else '{"segment": "south"}'}
        )  # fmt: skip
        signals.append(
            {"signal_id": f"g{place}", "trace_id": f"t{place:04}", "kind": "thumb", "value": float(good),
             "occurred_at": row["decided_at"] + timedelta(minutes=1)}
        )  # fmt: skip
    publisher(store, folder)(traces=traces, signals=signals)
    store.write(lambda connection: decisions.append(connection, frame))
    links.refresh(store)
    rewards = pl.DataFrame(
        {"trace_id": [row["trace_id"] for row in traces], "mean": [0.1 + 0.8 * row["value"] for row in signals]}
    )
    given_rewards.give(store, rewards)
    run_loop(store, "tasks", "policies")
    recommend(store, agent=agent)


def recommend(store: Store, units: pl.DataFrame | None = None, *, agent: str = AGENT, rate: float = 0.08) -> None:
    """A recommendation that waits, by default with rates of two segments and three users."""
    if units is None:
        units = unit_rows(
            [("segment", "north", 0.06), ("segment", "south", 0.1), ("user", "user 0", 0.0), ("user", "user 1", 0.05),
             ("user", "user 2", 0.2)], agent=agent,
        )  # fmt: skip
    row = {
        "agent": agent, "rate": rate, "lower": rate / 2, "upper": 2 * rate, "decisions": 640, "reason": REASON,
        "arms": "[]",
    }  # fmt: skip
    exploration.recommend(store, pl.DataFrame([row], schema=exploration.RECOMMENDED), units)


def unit_rows(rows: list[tuple[str, str, float]], *, agent: str = AGENT) -> pl.DataFrame:
    """Rates of units (scope, unit, rate) with everything that goes with them."""
    rates = [rate for _, _, rate in rows]
    count = len(rows)
    return pl.DataFrame(
        {
            "agent": [agent] * count, "scope": [scope for scope, _, _ in rows], "unit": [unit for _, unit, _ in rows],
            "rate": rates, "lower": [rate / 2 for rate in rates], "upper": [min(1.0, 2 * rate) for rate in rates],
            "decisions": [10] * count, "doubt": [0.1] * count, "progress": [0.2] * count, "drift": [0.0] * count,
            "tolerance": [-0.02] * count, "tolerance_sd": [0.03] * count, "dial": [0.5] * count,
            "reason": [f"{unit} takes it well." for _, unit, _ in rows],
        },
        schema=exploration.UNIT_RATES,
    )  # fmt: skip


def draws(agent: str, names: tuple[str, str], random: np.random.Generator) -> pl.DataFrame:
    """Decisions of the last 20 days and of today (columns `store.decisions.DECISIONS`)."""
    rows = []
    for place in range(DRAWS):
        second = bool(random.random() < PROPENSITIES[1])
        rows.append(
            {
                "decision_id": f"d{place:04}", "decided_at": NOW - timedelta(minutes=40 * (DRAWS - place)),
                "agent": agent, "policy_version": 1, "user_id": f"user {place % USERS}",
                "segment": "north" if place % 2 else "south", "session_id": f"s{place}", "task": None,
                "unit": f"session:s{place}", "draw": float(random.random()), "arm": names[second],
                "greedy_arm": names[0], "explore": second, "propensity": PROPENSITIES[second], "arms": list(names),
                "propensities": list(PROPENSITIES), "rate": PROPENSITIES[1], "allowed_rate": 0.4, "budget_scale": 1.0,
                "expected_regret": 0.01, "worst_regret": 0.04, "solicit": False, "solicit_propensity": 0.02,
                "sticky": False, "off_policy": True, "note": None, "lesson_set_hash": None, "input_hash": None,
                "source": "key",
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=decisions.DECISIONS)
