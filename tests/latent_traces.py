"""Traces whose true quality is known, as the model of single traces reads them, and noisy looks at that quality."""

import numpy as np
import polars as pl

from pipelines.rewards.trace_model import TraceModelConfig
from store import reward_features

CONFIG = TraceModelConfig(folds=3, min_traces=200, chunk=700)
SEGMENT, PRICE = '$."segment"', '$."price"'


def material(n=4_000, users=300, tasks=80, seed=1):
    """Facts, tokens, true quality (logits): a failed step, a word, price by segment, task and person tell."""
    random = np.random.default_rng(seed)
    user, task = random.integers(users, size=n), random.integers(tasks, size=n)
    failed, sorry = random.random(n) < 0.2, random.random(n) < 0.3
    segment, price = user % 3, random.normal(size=n)
    seconds = np.exp(random.normal(1.0, 0.5, n))
    theta = (
        0.8 - 1.6 * failed - 0.9 * sorry + price * np.array([0.8, 0.0, -0.5])[segment]
        + random.normal(0, 0.4, tasks)[task] + random.normal(0, 0.5, users)[user] + random.normal(0, 0.3, n)
    )  # fmt: skip
    words = np.array(["please find the answer below", "we are very sorry about this"])
    facts = pl.DataFrame(
        {name: [None] * n for name in reward_features.FACTS}, schema=reward_features.FACTS
    ).with_columns(
        trace_id=pl.Series([f"t{i:05}" for i in range(n)]),
        agent=pl.lit("shop"),
        arm=pl.Series(random.choice(["a", "b"], n)),
        task=pl.Series([f"task {i}" for i in task]),
        user_id=pl.Series([f"user {i}" for i in user]),
        status=pl.lit("ok"),
        seconds=pl.Series(seconds),
        span_count=pl.Series(random.poisson(4, n).astype(float)),
        input=pl.Series([f"request number {i % 7} about things" for i in range(n)]),
        output=pl.Series(words[sorry.astype(int)]),
    )
    facts = facts.with_columns(pl.Series(PRICE, price), pl.Series(SEGMENT, np.array(["x", "y", "z"])[segment].tolist()))
    tokens = pl.DataFrame(
        {"row": np.flatnonzero(failed), "token": 0, "n": 1}, schema=reward_features.TOKENS
    )  # fmt: skip
    return facts, tokens, theta


def evidence(theta, share=0.5, seed=2):
    """A noisy Gaussian look at the quality of some traces."""
    random = np.random.default_rng(seed)
    precision = np.where(random.random(len(theta)) < share, random.uniform(0.2, 1.0, len(theta)), 0.0)
    noise = random.normal(size=len(theta)) / np.sqrt(np.where(precision > 0, precision, 1.0))
    return np.where(precision > 0, theta + noise, 0.0), precision
