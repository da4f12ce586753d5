"""A world of lessons in a closed loop, at a size for the suite; `bench/lesson_payoffs.py` measures it at length."""

import numpy as np
import polars as pl
import pytest

from pipelines.lessons.payoff.exposed import EXPOSED
from pipelines.lessons.payoff.measure import PayoffConfig, measure
from pipelines.lessons.payoff.power import units_needed
from pipelines.simulate.lesson_world import Standing, World, by_lesson, simulate

EFFECTS = (0.25, 0.0, 0.0, 0.0, -0.25)
CONFIG = PayoffConfig()


def looked_at(world, seed):
    """By lesson: how often its interval missed the truth, its verdicts, and usable sessions when it was demoted."""
    missed, verdicts, gone = {}, {}, {}

    def look(day, standing):
        if day.number % 3:
            return standing
        found = measure("agent", day.rows, CONFIG)
        own = found.rows.filter(
            pl.col("segment").is_null(), kind="lesson", measure="outcome", estimator="doubly robust"
        )
        truths = day.truths()
        for row in own.drop_nulls("lower").iter_rows(named=True):
            name = row["lesson_id"]
            missed[name] = missed.get(name, 0) + (not row["lower"] <= truths[name] <= row["upper"])
            verdicts.setdefault(name, set()).add(row["verdict"])
            if name in found.harm["lesson_id"] and name not in gone:
                gone[name] = row["served"] + row["withheld"]
        known = [dict(own.select("lesson_id", column).iter_rows()) for column in ("posterior", "posterior_sd")]
        payoff, spread = (by_lesson(each, day.lessons, 0.1) for each in known)
        served = np.array([name not in gone for name in day.lessons])
        return Standing(payoff, spread, served, served)

    days = list(simulate(world, np.random.default_rng(seed), look))
    return missed, verdicts, gone, days[-1]


@pytest.fixture(scope="module")
def seen():
    world = World(EFFECTS, sessions=400, days=22, users=1500, tasks_each=4, fit=5)
    return [looked_at(world, seed) for seed in range(3)]


def test_intervals_hold_the_truth_at_every_look(seen):
    missed = [times > 0 for each, *_ in seen for times in each.values()]
    assert len(missed) >= 12
    assert sum(missed) <= 1


def test_useless_lessons_are_not_called_better_and_helpful_ones_are(seen):
    useless = [verdicts.get(f"lesson-0{place}", set()) for _, verdicts, *_ in seen for place in (1, 2, 3)]
    assert sum("better" in each for each in useless) <= 1
    assert all("better" in verdicts["lesson-00"] for _, verdicts, *_ in seen)


def test_harmful_lessons_go_within_the_decisions_that_power_asks_for(seen):
    variance = 0.25 / 0.2 + 0.25 / 0.8
    most = max(units_needed(-0.2, variance, alpha=CONFIG.kill, power=0.9), CONFIG.gate / 0.2)
    for _, _, gone, last in seen:
        assert set(gone) == {"lesson-04"}
        truth = last.truths()["lesson-04"]
        assert truth < -0.2
        # A look every third day, of about 200 sessions a day that could serve it.
        assert gone["lesson-04"] <= most + 3 * 200


def test_demoted_lessons_are_served_no_more(seen):
    for _, _, gone, last in seen:
        days = last.rows.with_columns(day=pl.col("decided_at").dt.date())
        served = days.filter(pl.col("lesson_id").is_in(list(gone)))["day"].max()
        assert served < days["day"].max()


def test_the_world_is_what_it_says():
    world = World((0.1, -0.1), days=8, sessions=2000, tasks_each=8, fit=2, effect_sd=0.0, user_sd=0.0, season=0.0)
    days = list(simulate(world, np.random.default_rng(0), lambda day, standing: standing))
    rows = days[-1].rows
    assert set(EXPOSED) <= set(rows.columns)
    shares = rows.group_by("status").len().with_columns(pl.col("len") / rows.height)
    share = dict(shares.iter_rows())
    assert share["empty"] == pytest.approx(world.empty, abs=0.005)
    assert share["withheld"] == pytest.approx((1 - world.empty) * world.holdout, abs=0.01)
    # Nothing is clipped here, so the truth is the effect itself.
    assert days[-1].truths() == pytest.approx({"lesson-00": 0.1, "lesson-01": -0.1}, abs=1e-9)
    old = rows.filter(~pl.col("young"))
    assert old.filter(pl.col("traces") == 0).height / old.height == pytest.approx(world.lost, abs=0.01)
    # 95 % of outcomes have come by then, of those that ever come.
    came = old.filter(pl.col("outcome").is_not_null()).height / old.height
    assert came == pytest.approx(1 - world.lost - world.silent, abs=0.02)


def test_steered_worlds_follow_what_was_measured():
    world = World((0.0, 0.0, 0.0), days=2, sessions=500, tasks_each=8, fit=1, steered=True)
    known = Standing(np.array([0.0, 0.5, 0.0]), np.full(3, 0.01), *[np.ones(3, dtype=bool)] * 2)
    last = list(simulate(world, np.random.default_rng(0), lambda day, standing: known))[-1]
    second = last.rows.filter(pl.col("decided_at") >= last.rows["decided_at"].min() + pl.duration(days=1))
    assert second["lesson_id"].unique().to_list() == ["lesson-01"]
