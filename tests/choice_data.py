"""A small deployment in which people choose from lists, with known weights, stated goals and two arms, for tests."""

from datetime import timedelta
from typing import Any

import numpy as np
from loop_data import NOW

Row = dict[str, Any]

FEATURES = ("cheap", "green", "new")
WEIGHTS = np.array([1.2, 0.6, -0.4])
PEOPLE, LISTS, ADA_LISTS, ITEMS = 40, 6, 45, 3


def deployment(
    *, ada: str = "ada", features: tuple[str, ...] = FEATURES, agent: str = "shop", segment: str | None = None
) -> tuple[list[Row], list[Row]]:
    """Traces and signals. Each trace shows three items, of which one or none is chosen (a conditional logit).

    `ada` saw most lists; her choices follow -WEIGHTS, yet she states WEIGHTS, like everyone else. Every list also has a
    thumb, better on arm b.
    """
    random = np.random.default_rng(11)
    traces: list[Row] = []
    signals: list[Row] = []
    people = [*(f"user {number:02}" for number in range(PEOPLE)), ada]
    for person, user in enumerate(people):
        weights = -WEIGHTS if user == ada else WEIGHTS + random.normal(0.0, 0.2, 3)
        for number in range(ADA_LISTS if user == ada else LISTS):
            name = f"p{person}-{number}"
            begin = NOW - timedelta(days=70) + timedelta(hours=30 * number, minutes=person)
            arm = "ab"[int(random.integers(2))]
            metadata = {} if segment is None else {"metadata": {"segment": segment}}
            traces.append(
                {"trace_id": name, "agent": agent, "arm": arm, "user_id": user, "started_at": begin,
                 "task": f"task {number % 4}", **metadata}
            )  # fmt: skip
            shown = np.round(random.uniform(-1, 1, (ITEMS, 3)), 3)
            odds = np.exp(np.append(shown @ weights - 0.5, 0.0))
            chosen = int(random.choice(ITEMS + 1, p=odds / odds.sum()))
            for place in range(ITEMS):
                described = dict(zip(features, shown[place].tolist(), strict=True))
                signals.append(
                    {"signal_id": f"i{name}-{place}", "trace_id": name, "kind": "impression", "item": f"item {place}",
                     "position": place + 1, "propensity": 1 / 3, "occurred_at": begin, "metadata": described}
                )  # fmt: skip
            if chosen < ITEMS:
                signals.append(
                    {"signal_id": f"c{name}", "trace_id": name, "kind": "click", "item": f"item {chosen}",
                     "value": 1.0, "occurred_at": begin + timedelta(minutes=1)}
                )  # fmt: skip
            happy = random.random() < (0.75 if arm == "b" else 0.4)
            signals.append(
                {"signal_id": f"g{name}", "trace_id": name, "kind": "thumb", "value": float(happy),
                 "occurred_at": begin + timedelta(minutes=2), "annotator_kind": "user"}
            )  # fmt: skip
        for survey in range(4):
            for feature, weight in zip(features, WEIGHTS, strict=True):
                signals.append(
                    {"signal_id": f"s{person}-{survey}-{feature}", "user_id": user, "kind": "preference",
                     "name": "stated_goal", "item": feature, "value": float(weight + random.normal(0.0, 0.2)),
                     "occurred_at": NOW - timedelta(days=60 - survey)}
                )  # fmt: skip
    return traces, signals


def comparisons(winner: str = "v2", loser: str = "v1", *, wins: int = 40, losses: int = 10) -> list[Row]:
    """People's comparisons of two prompts."""
    return [
        {"signal_id": f"pair-{number}", "user_id": f"judge {number % 12}", "kind": "preference", "name": "side by side",
         "occurred_at": NOW, "metadata": {"axis": "prompt", "winner": winner, "loser": loser}
         if number < wins else {"axis": "prompt", "winner": loser, "loser": winner}}
        for number in range(wins + losses)
    ]  # fmt: skip
