"""A shop whose agent was served a lesson that pays: its traces, exposures, rewards and payoffs, in a store."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from given_rewards import give
from lesson_library import approve, propose
from publishing import publisher

from pipelines.lessons.paragraphs import block, joined
from store import decisions, lessons, payoffs
from store.clock import FixedClock
from store.connection import Store

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
AGENT, LESSON = "shop", "lookup1"
CARD, MAIL, PHONE = "4111 1111 1111 1111", "ann.lee@example.com", "(212) 555-0187"
COLOURS = ("red", "blue", "green", "black", "white", "pink", "brown", "grey", "gold", "silver", "orange", "violet")
THINGS = ("lamp", "chair", "table", "scarf")
OPTED_OUT, LISTED, WITHDRAWN = "u-out-77", "u-listed-78", "u-explore-79"


def open_world(path: Path, clock: FixedClock | None = None) -> Store:
    return Store.open(path, clock=clock or FixedClock(NOW), threads=1)


def user_of(number: int) -> str:
    return {1: OPTED_OUT, 3: LISTED, 5: WITHDRAWN}.get(number, f"user_{number:04}")


def fill(store: Store, folder: Path, tasks: int = 12) -> None:
    """For each task two traces that went well with the lesson, and one that went badly without it."""
    propose(store, LESSON, agent=AGENT, do_text="Look the order up before you pay anything back.",
            when_text="Somebody wants money back.")  # fmt: skip
    approve(store, LESSON)
    traces, spans, drawn, rewards = [], [], [], []
    begin = NOW - timedelta(days=3)
    for number in range(tasks):
        for role in ("good", "fine", "bad"):
            name = f"{role}-{number:03}"
            served = role != "bad"
            user = user_of(number) if role != "fine" else f"user_{900 + number}"
            metadata = {"learning_opt_out": True} if user == OPTED_OUT else {}
            metadata |= {"exploration_opt_out": True} if user == WITHDRAWN else {}
            traces.append(
                {"trace_id": name, "agent": AGENT, "task": f"refund-{number}", "user_id": user,
                 "decision_id": f"d-{name}", "started_at": begin, "ended_at": begin + timedelta(minutes=1),
                 "metadata": json.dumps(metadata)}
            )  # fmt: skip
            spans += _spans(store, name, number, served, begin, role)
            drawn.append((f"d-{name}", user, served, begin))
            rewards.append((name, 0.92 if served else 0.1))
    publisher(store, folder)(traces=traces, spans=spans)
    give(store, pl.DataFrame(rewards, schema=["trace_id", "mean"], orient="row"))
    expose(store, drawn)


def expose(store: Store, drawn: list[tuple[str, str, bool, datetime]], *, version: int = 1, p: float = 0.78) -> None:
    """Decisions of the agent (id, user, whether the lesson was served, when)."""
    rows = [
        {
            "decision_id": name, "decided_at": at, "agent": AGENT, "policy_version": 1, "user_id": user,
            "segment": None, "session_id": None, "task": None, "unit": name, "draw": 0.5, "arm": "default",
            "greedy_arm": "default", "explore": False, "propensity": 1.0, "arms": ["default"], "propensities": [1.0],
            "rate": 0.0, "allowed_rate": 0.0, "budget_scale": 1.0, "expected_regret": 0.0, "worst_regret": 0.0,
            "solicit": False, "solicit_propensity": 0.0, "sticky": False, "off_policy": True, "note": None,
            "lesson_set_hash": None, "input_hash": None, "source": "key", "playbook_version": 1,
            "empty_probability": 0.02,
            "exposures": [
                {"lesson_id": LESSON, "lesson_version": version, "status": "served" if served else "withheld",
                 "served_probability": p, "match": 1.0, "tokens": 40}
            ],
        }
        for name, user, served, at in drawn
    ]  # fmt: skip
    store.write(lambda connection: decisions.append(connection, pl.DataFrame(rows, schema=decisions.DECISIONS)))


def measure(store: Store, clock: FixedClock, verdicts: list[str], *, every: float = 5.0, version: int = 1) -> None:
    """Runs of the payoffs with these verdicts of the lesson, the last one now."""
    end = clock.now()
    for place, verdict in enumerate(verdicts):
        clock.moment = end - timedelta(days=every * (len(verdicts) - 1 - place))
        row: dict[str, Any] = dict.fromkeys(payoffs.PAYOFFS) | {
            "agent": AGENT, "kind": "lesson", "lesson_id": LESSON, "version": version, "measure": "outcome",
            "estimator": "doubly robust", "served": 900, "withheld": 100, "units": 1000, "effect": 0.2, "lower": 0.1,
            "upper": 0.3, "sd": 0.03, "verdict": verdict,
        }  # fmt: skip
        payoffs.publish(
            store, pl.DataFrame([row], schema=payoffs.PAYOFFS), message="test", data_version=1, code_version="test",
            reward_model_id=1,
        )  # fmt: skip
    clock.moment = end


def set_state(store: Store, **columns: Any) -> None:
    """Write columns of the lesson's newest version past all rules."""
    names = ", ".join(f"{name} = ${name}" for name in columns)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"UPDATE lesson_versions SET {names} WHERE lesson_id = '{LESSON}'", columns)

    store.write(work)


def playbook(store: Store) -> str:
    """The lesson as the agent was told it."""
    return joined([block(lessons.one(store, LESSON))])


def _spans(store: Store, name: str, number: int, served: bool, begin: datetime, role: str) -> list[dict[str, Any]]:
    system = "You help the customers of a shop." + (f"\n\n{playbook(store)}" if served else "")
    # Of one task both ask in the same words; the second good one asks in others.
    item = f"{COLOURS[number % 12]} {THINGS[number // 12]}"
    asked = f"I want my money back for the {item}, order {5500 + number}; I am {MAIL}, card {CARD}."
    if role == "fine":
        asked = f"Please pay back the {item}, order {7700 + number}. Ring {PHONE}."
    talk = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
    steps: list[dict[str, Any]] = [{"kind": "llm", "name": "assistant", "input": json.dumps(talk), "output": None}]
    if served:
        found = json.dumps({"order": 5500 + number, "customer": {"name": "Ann Lee", "email": MAIL}, "delivered": True})
        steps.append({"kind": "tool", "name": "find_order", "input": json.dumps({"order": 5500 + number}),
                      "output": found, "status": "ok"})  # fmt: skip
        steps.append({"kind": "llm", "name": "assistant", "input": "[]",
                      "output": f"Ann Lee, order {5500 + number} is paid back [{LESSON}]."})  # fmt: skip
    else:
        steps[0]["output"] = f"I cannot help you, {MAIL}."
    return [
        {"trace_id": name, "span_id": f"s{place}", "ordinal": place, "started_at": begin + timedelta(seconds=place),
         **step}
        for place, step in enumerate(steps)
    ]  # fmt: skip
