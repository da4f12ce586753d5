"""The suspected cause is what the shift came with, and nothing is suspected where nothing explains it."""

import numpy as np
import polars as pl
import pytest

from pipelines.incidents import causes
from store.incident_evidence import AROUND

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def world(random, *, traces=3_000, users=60, effect=None):
    """Traces before and after a change; `effect(row of columns)` is added to the mean of those after it."""
    frame = pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in random.integers(0, users, traces)],
            "after": np.arange(traces) >= traces // 2,
            "model": random.choice(["small", "large"], traces, p=[0.4, 0.6]),
            "fingerprint": "f1",
            "agent_version": "1.0",
            "arm": random.choice(["a", "b"], traces),
            "source": "otel",
            "weekday": [DAYS[i % 7] for i in range(traces)],
            "lessons": [[] for _ in range(traces)],
            "tools": [["search"] if random.random() < 0.3 else [] for _ in range(traces)],
        },
        schema={name: kind for name, kind in AROUND.items() if name != "value"},
    )
    base = random.normal(0.7, 0.15, traces)
    if effect is not None:
        frame, change = effect(frame)
        base = base + np.where(frame["after"].to_numpy(), change, 0.0)
    return frame.with_columns(value=pl.Series(base)).select(list(AROUND))


def moved_over(frame):
    """All traffic goes to a new model after the change, which is worse."""
    return frame.with_columns(model=pl.when("after").then(pl.lit("new")).otherwise(pl.lit("old"))), -0.2


def only_large(frame):
    """The large model changes behind its name."""
    return frame, np.where((frame["model"] == "large").to_numpy(), -0.3, 0.0)


def only_search(frame):
    """A tool breaks."""
    return frame, np.where(frame["tools"].list.contains("search").to_numpy(), -0.4, 0.0)


def new_lesson(frame):
    """A lesson is served to half of the traces after the change, and harms them."""
    has = np.arange(frame.height) % 2 == 0
    lessons = [["l1"] if after and one else [] for after, one in zip(frame["after"], has, strict=True)]
    return frame.with_columns(lessons=pl.Series(lessons)), np.where(has, -0.3, 0.0)


@pytest.mark.parametrize(
    ("effect", "cause", "name", "how"),
    [
        (moved_over, "model", "new", "moved over"),
        (only_large, "model", "large", "only there"),
        (only_search, "tool", "search", "only there"),
        (new_lesson, "lesson", "l1", "moved over"),
    ],
)
def test_the_planted_cause_comes_first(effect, cause, name, how):
    random = np.random.default_rng(7)
    first = causes.suspects(world(random, effect=effect), random)[0]
    assert (first.cause, first.name, first.how) == (cause, name, how)
    assert first.lower > 0.6
    assert first.lower <= first.share <= first.upper


def test_weekdays_explain_what_weekends_do():
    random = np.random.default_rng(8)
    frame = world(random)
    days = pl.Series(["Saturday" if after or i % 10 == 0 else "Monday" for i, after in enumerate(frame["after"])])
    frame = frame.with_columns(weekday=days, value=frame["value"] - 0.2 * (days == "Saturday").cast(pl.Float64))
    first = causes.suspects(frame, random)[0]
    assert (first.cause, first.name) == ("seasonality", "Saturday")
    assert first.lower > 0.7


def test_a_change_of_everything_alike_has_no_suspect():
    for seed in range(10):
        random = np.random.default_rng(seed)
        frame = world(random, effect=lambda frame: (frame, -0.2))
        assert not [one for one in causes.suspects(frame, random) if one.lower >= 0.2]


def test_the_share_between_values_is_kitagawas():
    """Two models, exact numbers: the means within stay, so the whole shift is between them."""
    rows = []
    for after, model, n, mean in (
        (False, "x", 80, 1.0),
        (False, "y", 20, 0.0),
        (True, "x", 40, 1.0),
        (True, "y", 60, 0.0),
    ):
        rows += [(f"u{i % 10}", after, mean, model) for i in range(n)]
    frame = pl.DataFrame(rows, schema=["user_id", "after", "value", "model"], orient="row").with_columns(
        fingerprint=None, agent_version=None, arm=None, source=pl.lit("s"), weekday=pl.lit("Monday"),
        lessons=pl.lit([], dtype=pl.List(pl.String)), tools=pl.lit([], dtype=pl.List(pl.String)),
    )  # fmt: skip
    found = causes.suspects(frame.select(list(AROUND)).cast(dict(AROUND)), np.random.default_rng(1))
    over = next(one for one in found if one.how == "moved over")
    assert over.share == pytest.approx(1.0)
    assert (over.before, over.name, over.n_before, over.n_after) == ("x", "y", 20, 60)


def test_too_few_traces_suspect_nothing():
    random = np.random.default_rng(1)
    assert causes.suspects(world(random, traces=30, effect=moved_over), random) == []
    assert causes.suspects(world(random).head(100), random) == []  # all before the change


def test_the_same_data_gives_the_same_suspects():
    frame = world(np.random.default_rng(1), effect=only_large)
    first, second = (causes.suspects(frame, np.random.default_rng(5)) for _ in range(2))
    assert first == second
