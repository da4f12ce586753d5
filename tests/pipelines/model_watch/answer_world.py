"""Answers of made-up models, with changes planted behind a name or in the traffic, as rows of traces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from pipelines.model_watch.features import features
from store.model_answers import ANSWERS, TEXTS

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
REFUSAL = "I'm sorry, but I can't help with that request."
OPENINGS = ("Here is what I found", "Sure, the answer follows", "Your order is on its way")
WORDS = [
    "the",
    "seat",
    "train",
    "hotel",
    "order",
    "refund",
    "window",
    "city",
    "morning",
    "ticket",
    "price",
    "answer",
    "question",
    "route",
    "platform",
]


@dataclass(frozen=True)
class Style:
    """How a model answers: its fingerprint, refusals, words a sentence, tokens a character, seconds, openings."""

    fingerprint: str = "fp_one"
    refusals: float = 0.03
    words: int = 8
    tokens: float = 0.25
    seconds: float = 2.0
    openings: Sequence[str] = OPENINGS


Styles = Callable[[str, int], Style]  # of a model and a day
Traffic = Callable[[str, int], Sequence[str]]  # the tasks that a model is asked on a day, one an answer


def always(model: str, day: int) -> Style:
    return Style()


def evenly(model: str, day: int) -> list[str]:
    return ["seats", "refunds"] * 8


def changed(of: str, since: int, **what: Any) -> Styles:
    """One model (every model for '*') answers otherwise from a day on."""
    return lambda model, day: replace(Style(), **what) if day >= since and of in (model, "*") else Style()


def traces(
    random: np.random.Generator, *, models: Sequence[str] = ("old", "new"), days: int = 36, styles: Styles = always,
    traffic: Traffic = evenly,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of traces. A task has its own length, refusals and seconds, so another mixture looks like another model."""
    rows = []
    for day in range(days):
        # What befalls everybody on a day, such as a slow network.
        shock = float(np.exp(random.normal(0, 0.1)))
        for model in models:
            style = styles(model, day)
            for number, task in enumerate(traffic(model, day)):
                harder = task == "refunds"
                begin = FIRST + timedelta(days=day, minutes=int(random.integers(0, 1440)))
                sentences = []
                for _ in range(6 if harder else 3):
                    count = max(2, int(random.normal(style.words, 1.5)))
                    sentences.append(" ".join(random.choice(WORDS, count)).capitalize() + ".")
                output = f"{random.choice(list(style.openings))}. " + " ".join(sentences)
                if random.random() < style.refusals * (4 if harder else 1):
                    output = REFUSAL
                seconds = style.seconds * shock * (2 if harder else 1) * float(np.exp(random.normal(0, 0.3)))
                tokens = style.tokens * float(np.exp(random.normal(0, 0.05)))
                rows.append(
                    {
                        "output_tokens": max(1, round(len(output) * tokens)),
                        "trace_id": f"{model}-{day}-{number}", "agent": "desk", "model": model, "task": task,
                        "model_fingerprint": style.fingerprint, "session_id": f"s-{model}-{day}-{number}",
                        "started_at": begin, "ended_at": begin + timedelta(seconds=seconds),
                        "input": f"Please help me with the {task} for my trip", "output": output,
                    }
                )  # fmt: skip
    return rows


def answers(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The same as answers that were measured (columns `store.model_answers.ANSWERS`), without a store."""
    texts = pl.DataFrame(
        [
            {
                "day": row["started_at"].date(), "model": row["model"], "agent": row["agent"],
                "trace_id": row["trace_id"], "span_id": "", "answered_at": row["started_at"],
                "fingerprint": row["model_fingerprint"], "output_tokens": row["output_tokens"], "asked": row["input"],
                "seconds": (row["ended_at"] - row["started_at"]).total_seconds(), "output": row["output"],
            }
            for row in rows
        ],
        schema=TEXTS,
    )  # fmt: skip
    of_trace = pl.DataFrame(
        [{"trace_id": row["trace_id"], "task": row["task"], "session": row["session_id"]} for row in rows]
    )
    return (
        features(texts)
        .join(of_trace, on="trace_id")
        .with_columns(agent_version=pl.lit(""), arm=pl.lit(""), surprise=pl.lit(None, pl.Float64))
        .select(list(ANSWERS))
        .sort("answered_at", "trace_id")
    )
