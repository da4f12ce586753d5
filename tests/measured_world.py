"""A world that follows the measurement model exactly: people, traces and signals with known parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from pipelines.rewards.measured import SIGNALS, TRACES

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CUTS = np.array([-1.6, -0.5, 0.6, 1.9])
# What each item of the world truly is: (kind, name) -> (loading, intercept).
TRUTH = {
    ("thumb", "volunteered"): (1.0, float(np.log(0.05 / 0.25))),
    ("rating", "stars"): (0.8, 0.5),
    ("outcome", "check"): (1.2, -0.2),
    ("retry", None): (-1.0, -0.9),
    ("abandon", None): (-0.9, -1.6),
    ("copy", None): (0.5, -1.6),
    ("purchase", None): (0.8, -1.6),
    ("edit", None): (0.9, 1.0),
}
MEAN, QUALITY_SD, USER_SD, LENIENCY_SD = 0.7, 1.0, 0.4, 0.5
DELAY_SHAPE, DELAY_SCALE = 0.8, 36.0


@dataclass(frozen=True)
class World:
    """Frames as the job reads them, and the truth: quality per trace, leniency per person, the rate of satisfaction."""

    traces: pl.DataFrame
    signals: pl.DataFrame
    theta: NDArray[np.float64]
    leniency: NDArray[np.float64]
    user: NDArray[np.int64]
    rate: float


def build(
    seed: int, *, users: int = 300, sessions: int = 6, solicited: float = 0.1, agent: str = "a", people: str = "u",
    segment: Sequence[str | None] | None = None, shift: NDArray[np.float64] | None = None,
) -> World:  # fmt: skip
    """`users` people with `sessions` sessions each of one to three traces; every kind of signal.

    `segment` (users,) names, and `shift` (users, 2) is what being of it adds to quality and leniency.
    """
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 4, users * sessions)
    session = np.repeat(np.arange(users * sessions), size)
    user = session // sessions
    n = len(session)
    last = np.append(session[1:] != session[:-1], True)
    age = np.repeat(rng.uniform(2.0, 24.0 * 20, users * sessions), size) - np.arange(n) % 3 * 0.2
    taste = rng.normal(0.0, USER_SD, users)
    leniency = rng.normal(0.0, LENIENCY_SD, users)
    if shift is not None:
        taste, leniency = taste + shift[:, 0], leniency + shift[:, 1]
    theta = MEAN + taste[user] + rng.normal(0.0, np.sqrt(QUALITY_SD**2 - USER_SD**2), n)
    order = np.lexsort((-age, session))
    age = age[order]  # within a session later traces are younger
    started = [NOW - timedelta(hours=float(hours)) for hours in age]
    traces = pl.DataFrame(
        {
            "trace_id": [f"{agent}-{i:06d}" for i in range(n)],
            "user_id": [f"{people}{i}" for i in user],
            "session_id": [f"{agent}-s{i}" for i in session],
            "agent": [agent] * n,
            "arm": ["x"] * n,
            "task": ["t"] * n,
            "started_at": started,
            "ended_at": started,
            "segment": [None] * n if segment is None else [segment[i] for i in user.tolist()],
        },
        schema=TRACES,
    )
    frames: list[pl.DataFrame] = []

    def add(rows: NDArray[np.bool_] | NDArray[np.int64], kind: str, delay: object = 0.01, **columns: object) -> None:
        at = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        hours = np.broadcast_to(np.asarray(delay, dtype=float), at.shape)
        frame = {
            name: pl.Series(values=[None] * len(at), dtype=dtype) for name, dtype in SIGNALS.items()
        }  # fmt: skip
        frame["trace_id"] = traces["trace_id"].gather(at)
        frame["user_id"] = traces["user_id"].gather(at)
        frame["kind"] = pl.Series([kind] * len(at), dtype=pl.String)
        moments = traces["ended_at"].gather(at) + pl.Series((hours * 3.6e9).astype(np.int64)).cast(pl.Duration("us"))
        frame["occurred_at"] = moments.cast(SIGNALS["occurred_at"])
        for name, values in columns.items():
            listed = values.tolist() if isinstance(values, np.ndarray) else [values] * len(at)
            frame[name] = pl.Series(listed, dtype=SIGNALS[name])
        made = pl.DataFrame(frame, schema=SIGNALS)
        frames.append(made.filter(pl.col("occurred_at") <= NOW))

    report = theta + leniency[user]
    satisfied = rng.random(n) < expit(report)
    asked = rng.random(n) < solicited
    add(asked, "thumb", value=satisfied[asked].astype(float), solicited=True, propensity=solicited,
        annotator_kind="user")  # fmt: skip
    speaks = (rng.random(n) < np.where(satisfied, 0.05, 0.25)) & ~asked
    add(speaks, "thumb", value=satisfied[speaks].astype(float), solicited=False, annotator_kind="user")

    rates = rng.random(n) < expit(-1.6 - 0.6 * report)
    loading, _ = TRUTH["rating", "stars"]
    cut = np.array([-2.0, -1.1, -0.5, 0.6])
    stars = (rng.random((n, 1)) > expit(cut[None, :] - loading * report[:, None])).sum(axis=1)
    add(rates, "rating", name="stars", value=stars[rates] / 4.0, solicited=False, annotator_kind="user")

    def happens(kind: str, name: str | None = None) -> NDArray[np.bool_]:
        loading, intercept = TRUTH[kind, name]
        return np.asarray(rng.random(n) < expit(intercept + loading * theta))

    checked = rng.random(n) < 0.7
    good = happens("outcome", "check")
    add(checked, "outcome", name="check", value=good[checked].astype(float), annotator_kind="code")
    add(happens("retry") & ~last, "retry", value=0.0, annotator_kind="user")
    add(happens("abandon") & last, "abandon", value=0.0, annotator_kind="user")
    add(happens("copy"), "copy", value=1.0, annotator_kind="user")
    bought = happens("purchase") & last
    add(bought, "purchase", delay=DELAY_SCALE * rng.weibull(DELAY_SHAPE, n)[bought], value=1.0)
    drafts = rng.random(n) < 0.15
    loading, intercept = TRUTH["edit", None]
    kept = expit(intercept + loading * theta + rng.normal(0.0, 0.5, n))
    add(drafts, "edit", value=np.round(kept[drafts], 4), annotator_kind="operator")
    return World(traces, pl.concat(frames), theta, leniency, user, float(expit(report).mean()))
