"""A deployment that serves lessons, with the effect of each known: the yardstick of payoffs.

Closed loop, day by day: a session's candidates are the lessons for its task, chosen within the token budget (all that
fit, or steered: by what they were measured to pay), each is withheld by its own draw, and what comes of the session is
known days later. At the end of a day everything known so far is looked at.

An outcome is 0 or 1 with a probability that adds up the person, the task, the season, the session, and each lesson that
was served; what a lesson does to people differs. The true effect of a lesson is the mean over the sessions that could
have served it of the probability with it minus that without it, the other lessons as they were drawn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Day", "Drawn", "LessonWorld", "Look", "Serve", "Sessions", "Standing", "World", "by_lesson", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_START = datetime(2026, 3, 2, tzinfo=UTC)
_SETTLED = 0.95


@dataclass(frozen=True)
class World:
    """Sizes and truths. `effects` one for each lesson, in outcome points; `effect_sd` of a lesson's effect between
    people; `season` by how much outcomes rise over the whole time; `delay_days` the mean of an exponential delay;
    `lost` sessions without a trace, `silent` those whose outcome nobody tells; `tasks_each` tasks a lesson is for."""

    effects: tuple[float, ...]
    users: int = 800
    days: int = 40
    sessions: int = 200  # a day
    tasks: int = 8
    tasks_each: int = 4
    holdout: float = 0.2
    empty: float = 0.02
    fit: int = 4  # lessons within the token budget of one answer
    steered: bool = False
    effect_sd: float = 0.05
    user_sd: float = 0.12
    season: float = 0.1
    delay_days: float = 1.5
    lost: float = 0.03
    silent: float = 0.1
    tokens: int = 80


@dataclass(frozen=True)
class Standing:
    """What is known of the lessons when a day begins, one entry a lesson: `payoff` and `payoff_sd` by which steered
    worlds choose, whether it is still `served`, and whether its payoff is `known` from measuring it."""

    payoff: Floats
    payoff_sd: Floats
    served: Bools
    known: Bools


@dataclass(frozen=True)
class Day:
    """One look: everything exposed so far as columns of `pipelines.lessons.payoff.exposed.EXPOSED`, with the true
    effect of each row in `truth`, and the lessons by number."""

    number: int
    rows: pl.DataFrame
    lessons: tuple[str, ...]

    def truths(self) -> dict[str, float]:
        """The true effect of each lesson over the sessions that can be used so far."""
        used = self.rows.filter(~pl.col("young"), pl.col("outcome").is_not_null(), pl.col("status") != "empty")
        once = used.unique(["lesson_id", "unit"])
        return dict(once.group_by("lesson_id").agg(pl.col("truth").mean()).iter_rows())


@dataclass(frozen=True)
class Sessions:
    """Those of one day, by number from 0: who (`user`) wants what (`task`), both (sessions,); which lessons are for it
    and still served (`open`), (sessions, lessons); `first` is the number of the first one in the world."""

    first: int
    user: Ints
    task: Ints
    open: Bools


@dataclass(frozen=True)
class Drawn:
    """What was decided: lessons `chosen` and of them `served`, (sessions, lessons), and sessions left `empty`."""

    chosen: Bools
    served: Bools
    empty: Bools


Look = Callable[[Day, Standing], Standing]
Serve = Callable[[Sessions, Standing], Drawn]


class LessonWorld:
    """The people, tasks and lessons of one world, drawn from `random`; `serve` decides in place of the world's own
    rule, with the world's probabilities."""

    def __init__(self, world: World, random: np.random.Generator, serve: Serve | None = None) -> None:
        self.world, self._random, self._serve = world, random, serve or self._own_rule
        lessons = len(world.effects)
        self.lessons = tuple(f"lesson-{place:02d}" for place in range(lessons))
        self._people = random.normal(0.0, world.user_sd, world.users)
        self._segment = random.integers(0, 3, world.users)
        self._tasks = random.normal(0.0, 0.08, world.tasks)
        self._for_task = np.zeros((world.tasks, lessons), dtype=bool)
        for place in range(lessons):
            self._for_task[random.choice(world.tasks, world.tasks_each, replace=False), place] = True
        spread = random.normal(0.0, world.effect_sd, (world.users, lessons))
        self._effects = np.array(world.effects) + spread - spread.mean(axis=0)

    def days(self, look: Look) -> Iterator[Day]:
        """Every day with its look; what `look` answers is what the next day is served by."""
        world = self.world
        lessons = len(self.lessons)
        everyone = np.ones(lessons, dtype=bool)
        standing = Standing(np.zeros(lessons), np.full(lessons, 0.1), everyone, ~everyone)
        settled = -np.log(1.0 - _SETTLED) * world.delay_days
        parts: list[pl.DataFrame] = []
        for number in range(world.days):
            parts.append(self._day(number, standing))
            known = pl.concat(parts)
            now = _START + timedelta(days=number + 1)
            rows = known.with_columns(
                young=pl.col("decided_at") > now - timedelta(days=settled),
                outcome=pl.when(pl.col("arrives") <= number + 1.0).then("outcome"),
            ).with_columns(reward=pl.col("outcome"))
            day = Day(number, rows, self.lessons)
            standing = look(day, standing)
            yield day

    def _day(self, number: int, standing: Standing) -> pl.DataFrame:
        world, random = self.world, self._random
        n = world.sessions
        user, task = random.integers(0, world.users, n), random.integers(0, world.tasks, n)
        drawn = self._serve(Sessions(number * n, user, task, self._for_task[task] & standing.served), standing)
        chosen, served, empty = drawn.chosen, drawn.served, drawn.empty
        effects = self._effects[user]
        base = 0.5 + self._people[user] + self._tasks[task] + random.normal(0.0, 0.05, n)
        base += world.season * number / world.days
        total = base + (served * effects).sum(axis=1)
        # With the lesson minus without it, the others as they were drawn; rates stay between .02 and .98.
        truth = _rate(total[:, None] + np.where(served, 0.0, effects)) - _rate(
            total[:, None] - np.where(served, effects, 0.0)
        )
        outcome = (random.random(n) < _rate(total)).astype(np.float64)
        fate = random.random(n)
        lost, silent = fate < world.lost, fate >= 1.0 - world.silent
        at = number + np.sort(random.random(n))
        arrives = np.where(lost | silent, np.inf, at + random.exponential(world.delay_days, n))
        row, lesson = np.nonzero(chosen)
        place = number * n + row
        own = served[row, lesson]
        moments = [_START + timedelta(days=float(each)) for each in at]
        return pl.DataFrame(
            {
                "decision_id": pl.Series(place).cast(pl.String),
                "unit": pl.Series(place).cast(pl.String),
                "user_id": pl.Series(user[row]).cast(pl.String),
                "segment": pl.Series(self._segment[user[row]]).cast(pl.String),
                "task": pl.Series(task[row]).cast(pl.String),
                "lesson_id": pl.Series(self.lessons).gather(lesson),
                "status": np.where(empty[row], "empty", np.where(own, "served", "withheld")),
                "decided_at": pl.Series(moments, dtype=pl.Datetime("us", "UTC")).gather(row),
                "traces": 1 - lost[row].astype(np.int64),
                "outcome": outcome[row],
                "arrives": arrives[row],
                "truth": truth[row, lesson],
                "cost_usd": 0.01 + 0.0001 * own,
                "tokens": 1000.0 + world.tokens * own,
            }
        ).with_columns(
            arm=pl.lit("default"),
            version=pl.lit(1, pl.Int32),
            served_probability=pl.lit((1.0 - world.empty) * (1.0 - world.holdout)),
            empty_probability=pl.lit(world.empty),
            lesson_tokens=pl.lit(world.tokens),
        )

    def _own_rule(self, sessions: Sessions, standing: Standing) -> Drawn:
        """At most `fit` lessons of each session, steered worlds those with the highest payoff and its spread."""
        world, random = self.world, self._random
        score = random.random(sessions.open.shape)
        if world.steered:
            score = standing.payoff + standing.payoff_sd + 0.002 * score
        best = np.argsort(-np.where(sessions.open, score, -np.inf), axis=1)[:, : world.fit]
        chosen = np.zeros_like(sessions.open)
        np.put_along_axis(chosen, best, True, axis=1)
        chosen &= sessions.open
        empty = random.random(len(sessions.task)) < world.empty
        return Drawn(chosen, chosen & (random.random(chosen.shape) >= world.holdout) & ~empty[:, None], empty)


def simulate(world: World, random: np.random.Generator, look: Look, serve: Serve | None = None) -> Iterator[Day]:
    """The days of one world, see `LessonWorld`."""
    return LessonWorld(world, random, serve).days(look)


def by_lesson(values: Mapping[str, float], lessons: tuple[str, ...], missing: float) -> Floats:
    """Values in the order of the lessons."""
    return np.array([values.get(lesson, missing) for lesson in lessons], dtype=np.float64)


def _rate(total: Floats) -> Floats:
    return np.clip(total, 0.02, 0.98)
