"""Findings of drift as a run would keep them, and a small deployment whose model changed, for tests of incidents."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from store import drift
from store.connection import Store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CHANGE = NOW - timedelta(days=20)


def finding(at: datetime, **changed: Any) -> dict[str, Any]:
    """A flagged finding: the reward of a user fell, give or take two days."""
    usual = {
        "level": "user", "user_id": None, "segment": None, "agent": None, "metric": "reward",
        "likelihood": "gaussian", "events": 100, "events_total": 100, "statistic": 20.0, "p_value": 1e-6,
        "q_value": 1e-4, "flagged": True, "changed_at": at, "changed_from": at - timedelta(days=2),
        "changed_to": at + timedelta(days=2), "before_mean": 0.8, "before_n": 60, "after_mean": 0.6, "after_n": 40,
        "effect": -0.2, "effect_sd": 0.05, "practical": 0.95, "category": None, "psi": None,
    }  # fmt: skip
    return {**usual, **changed}


def unflagged(users: int, segment: str | None) -> list[dict[str, Any]]:
    """Users of a segment that were scanned and did not change."""
    quiet = {
        "flagged": False,
        "q_value": 1.0,
        "p_value": 1.0,
        "changed_at": None,
        "changed_from": None,
        "changed_to": None,
    }
    return [finding(NOW, user_id=f"{segment}-quiet{i}", segment=segment, **quiet) for i in range(users)]


def everybody(random: np.random.Generator, users: int = 300, **changed: Any) -> list[dict[str, Any]]:
    """A change that hits everybody: on the agent, on both segments, and on those of whom enough is known."""
    rows = [finding(CHANGE, level="population", agent="shop", **changed)]
    for segment in ("power", "light"):
        rows.append(finding(CHANGE, level="segment", segment=segment, agent="shop", **changed))
        for i in range(users // 2):
            if random.random() < 0.5:
                at = CHANGE + timedelta(days=float(random.normal(0, 1.5)))
                rows.append(finding(at, user_id=f"{segment}{i}", segment=segment, **changed))
        rows += unflagged(users // 2, segment)
    return rows


def keep(store: Store, rows: list[dict[str, Any]]) -> int:
    """Keep these findings as a run of `drift`."""
    frame = pl.DataFrame(rows, schema=drift.FOUND, orient="row")
    users = frame["user_id"].drop_nulls().n_unique()
    summary = drift.Summary(0.05, users, users, int(frame["flagged"].sum()), 0, 20, None)
    return drift.record(store, frame, summary, data_version=1, code_version="test")


def traces(
    random: np.random.Generator, *, model_after: str = "gpt-5", users: int = 30, days: int = 40
) -> list[dict[str, Any]]:
    """A trace a day of every user at the agent `shop`; at `CHANGE` its model becomes another one, and slower."""
    rows = []
    for day in range(days):
        for user in range(users):
            segment = ("light", "power")[user % 2]
            begin = NOW - timedelta(days=days - day, hours=float(random.uniform(0, 5)))
            after = begin >= CHANGE
            seconds = float(random.normal(9.0 if after else 5.0, 1.0))
            rows.append(
                {
                    "trace_id": f"t{day}-{user}", "agent": "shop", "user_id": f"{segment}{user // 2}",
                    "session_id": f"s{day}-{user}", "started_at": begin, "ended_at": begin + timedelta(seconds=seconds),
                    "model": model_after if after else "gpt-4", "agent_version": "1", "arm": "ab"[user % 2],
                    "metadata": f'{{"segment": "{segment}"}}', "input": "hello",
                }
            )  # fmt: skip
    return rows
