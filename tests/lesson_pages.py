"""Lessons for tests of pages: many proposals at once, decisions that served them or not, and what was measured."""

from collections.abc import Sequence

import polars as pl
from payoff_frames import exposures

from pipelines.lessons.lint import gather
from pipelines.lessons.payoff.measure import measure
from store import decisions, lessons, payoffs
from store.connection import Store

_DOING = ("look up", "check", "confirm", "compare", "cancel", "refund", "book", "quote", "translate", "count")
_THINGS = (
    "the seat", "the tariff", "the hotel", "the parcel", "the invoice", "the address", "the date", "the voucher",
    "the passport", "the balance", "the warranty", "the menu",
)  # fmt: skip


def propose_many(
    store: Store, count: int, *, agents: Sequence[str] = ("shop",), good: str = "t000", bad: str = "t001",
    lint: bool = True,
) -> list[str]:  # fmt: skip
    """Propose this many different lessons, agents in turn, on the evidence of two traces; returns their ids."""
    rows, claims = [], []
    for number in range(count):
        doing, thing = _DOING[number % 10], _THINGS[number // 10 % 12]
        again = f" in round {number // 120}" if number >= 120 else ""
        name = f"many-{number:04}"
        rows.append(
            {"lesson_id": name, "agent": agents[number % len(agents)], "task": None, "tested": number % 3 > 0,
             "value": float(count - number), "title": f"First {doing} {thing}{again}",
             "when_text": f"A customer asks about {thing}.", "when_not": None,
             "do_text": f"Use the tool to {doing} {thing}, and say what it found.", "why": "It went better."}
        )  # fmt: skip
        claims += [
            {"lesson_id": name, "trace_id": trace, "span_id": None, "role": role, "reward": reward, "reward_sd": 0.1}
            for trace, role, reward in ((good, "good", 0.9), (bad, "bad", 0.1))
        ]  # fmt: skip
    evidence = pl.DataFrame([{"quote": None, **row} for row in claims], schema=lessons.EVIDENCE)
    made = lessons.propose(store, pl.DataFrame(rows, schema=lessons.PROPOSALS), evidence)
    if lint:
        for name in made:
            gather.check(store, name)
    return made


def decide(store: Store, frame: pl.DataFrame, *, agent: str = "shop") -> None:
    """Log the decisions of these exposures (columns `pipelines.lessons.payoff.exposed.EXPOSED`)."""
    rows = [
        {"decision_id": row["decision_id"], "decided_at": row["decided_at"], "agent": agent, "policy_version": 1,
         "user_id": row["user_id"], "segment": row["segment"], "session_id": None, "task": row["task"],
         "unit": row["unit"], "draw": 0.5, "arm": "default", "greedy_arm": "default", "explore": False,
         "propensity": 1.0, "arms": ["default"], "propensities": [1.0], "rate": 0.0, "allowed_rate": 0.0,
         "budget_scale": 1.0, "expected_regret": 0.0, "worst_regret": 0.0, "solicit": False,
         "solicit_propensity": 0.0, "sticky": False, "off_policy": True, "note": None, "lesson_set_hash": None,
         "input_hash": None, "source": "key", "playbook_version": 1, "empty_probability": row["empty_probability"],
         "exposures": [{"lesson_id": row["lesson_id"], "lesson_version": row["version"], "status": row["status"],
                        "served_probability": row["served_probability"], "match": 1.0,
                        "tokens": row["lesson_tokens"]}]}
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip
    made = pl.DataFrame(rows, schema=decisions.DECISIONS)
    store.write(lambda connection: decisions.append(connection, made))


def exposed(effects: dict[str, float], *, units: int = 1_500, logged: int | None = None) -> pl.DataFrame:
    """Exposures of lessons that change the outcome by these effects; `logged` keeps only so many of each."""
    parts = [
        exposures(units, effect=effect, lesson=name, seed=place).with_columns(
            pl.col("decision_id", "unit") + f"-{name}"
        )
        for place, (name, effect) in enumerate(effects.items())
    ]
    return pl.concat([part.head(logged) if logged else part for part in parts])


def pay(store: Store, frame: pl.DataFrame, *, agent: str = "shop") -> None:
    """Measure these exposures and publish what they pay."""
    found = measure(agent, frame)
    payoffs.publish(store, found.rows, message="for a test", data_version=1, code_version="test", reward_model_id=None)
