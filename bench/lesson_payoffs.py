"""Payoffs of lessons in worlds whose truth is known: do intervals cover, are useless lessons called better, how soon do
harmful ones go.

Each world is looked at every day by `pipelines.lessons.payoff.measure`, as the job does. Three questions, each with the
bound that it must keep:

    coverage    share of lessons whose interval holds the truth at every look, at least .93
    false       share of useless lessons that are called better at some look, at most .05
    demotion    decisions until a harmful lesson goes, beside what the power calculation says: at most half after the
                number of power .5, at most a tenth after that of power .9

`python -m bench.lesson_payoffs [seeds [world ...]]` runs worlds served alike, steered by what was measured, and decided
by the product's own chooser; `python -m bench.lesson_payoffs speed` one run over a million exposures.
"""

import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from pipelines.lessons.paragraphs import HEADING, block, estimate_tokens
from pipelines.lessons.payoff.measure import DOUBLY_ROBUST, PayoffConfig, measure
from pipelines.lessons.payoff.power import units_needed
from pipelines.lessons.serving.choose import Chooser, Request
from pipelines.simulate.lesson_world import Day, Drawn, Serve, Sessions, Standing, World, by_lesson, simulate
from store.lesson_sets import LessonSet, ServedLesson

__all__ = ["WORLDS", "Track", "by_chooser", "demotion", "run", "summary"]

EFFECTS = (0.15,) * 2 + (0.08,) * 2 + (0.0,) * 8 + (-0.08,) * 2 + (-0.15,) * 2
WORLDS = {
    "alike": World(EFFECTS, sessions=500, users=4000, fit=8),
    "steered": World(EFFECTS, sessions=500, users=4000, fit=4, steered=True),
    "alike, few people": World(EFFECTS, sessions=500, users=300, fit=8),
    "steered, few people": World(EFFECTS, sessions=500, users=300, fit=4, steered=True),
    "chooser": World(EFFECTS, sessions=500, users=4000, fit=5, tasks_each=8, steered=True),
}
_Z = 1.959964
# What is not asked here takes most of the time.
_OUTCOMES_ONLY = [pl.lit(None, pl.Float64).alias(name) for name in ("reward", "cost_usd", "tokens")]
_OUTCOMES_ONLY += [pl.lit(None, pl.String).alias("segment")]


@dataclass
class Track:
    """What happened to one lesson of one world: looks with an interval, how many of them missed the truth (`missed`;
    `fixed` by an interval for one look), whether it was ever called better or worse, and usable sessions when it was
    demoted (None: it was not) and a day before."""

    effect: float
    truth: float = np.nan
    looks: int = 0
    missed: int = 0
    missed_last: bool = False
    fixed: int = 0
    better: bool = False
    worse: bool = False
    fixed_better: bool = False
    estimate: float = np.nan
    variance: float = np.nan
    sessions: int = 0
    before: int = 0
    demoted: int | None = None
    demoted_before: int | None = None


def by_chooser(world: World, seed: int) -> Serve:
    """Sessions decided by `pipelines.lessons.serving.choose`, within a budget of about `world.fit` lessons."""
    paragraph = estimate_tokens("\n\n" + block(asdict(_lesson(world, 0, None, None))))
    budget = estimate_tokens(HEADING + "\n") + world.fit * paragraph
    now = datetime(2026, 3, 2, tzinfo=UTC)

    def serve(sessions: Sessions, standing: Standing) -> Drawn:
        known = standing.known
        lessons = [
            _lesson(world, place, standing.payoff[place], standing.payoff_sd[place])
            if known[place]
            else _lesson(world, place, None, None)
            for place in np.flatnonzero(standing.served)
        ]
        own = Chooser(LessonSet("agent", 1, budget, world.empty, tuple(lessons)))
        chosen, served = np.zeros_like(sessions.open), np.zeros_like(sessions.open)
        empty = np.zeros(len(sessions.task), dtype=bool)
        for place, (user, task) in enumerate(zip(sessions.user, sessions.task, strict=True)):
            unit = f"session:{sessions.first + place}"
            choice = own.choose(Request(None, str(user), None, str(task), unit, f"salt-{seed}", now))
            empty[place] = choice.empty
            for each in choice.exposures:
                if each.status != "over_budget":
                    lesson = int(each.lesson_id[-2:])
                    chosen[place, lesson], served[place, lesson] = True, each.status == "served"
        return Drawn(chosen, served, empty)

    return serve


def _lesson(world: World, place: int, payoff: float | None, sd: float | None) -> ServedLesson:
    return ServedLesson(
        lesson_id=f"lesson-{place:02d}", version=1, state="canary", agent="agent", task=None, segment=None,
        user_id=None, title=f"Title {place:02d}", when_text=f"When {place:02d}", when_not=None,
        do_text=f"Do {place:02d}", trust="system", own_condition=True, payoff=payoff, payoff_sd=sd, payoff_n=0,
        holdout=world.holdout, expires_at=None,
    )  # fmt: skip


def run(
    world: World, seed: int, config: PayoffConfig | None = None, *, demote: bool = True, chooser: bool = False
) -> list[Track]:
    """One world to its end, looked at daily; `chooser`: decided by the product's own."""
    config = config or PayoffConfig()
    if chooser:  # it takes equals in their order, so no effect may have a place of its own
        world = replace(world, effects=tuple(np.random.default_rng(seed).permutation(world.effects).tolist()))
    tracks = {f"lesson-{place:02d}": Track(effect) for place, effect in enumerate(world.effects)}

    def look(day: Day, standing: Standing) -> Standing:
        found = measure("agent", day.rows.with_columns(_OUTCOMES_ONLY), config)
        truths = day.truths()
        own = found.rows.filter(
            pl.col("kind") == "lesson", pl.col("segment").is_null(), pl.col("measure") == "outcome",
            pl.col("estimator") == DOUBLY_ROBUST,
        )  # fmt: skip
        harmed = set(found.harm["lesson_id"].to_list())
        for row in own.iter_rows(named=True):
            track = tracks[row["lesson_id"]]
            if track.demoted is None:
                _note(track, row, truths.get(row["lesson_id"], np.nan))
                if demote and row["lesson_id"] in harmed:
                    track.demoted, track.demoted_before = track.sessions, track.before
        posterior = dict(own.select("lesson_id", "posterior").iter_rows())
        spread = dict(own.select("lesson_id", "posterior_sd").iter_rows())
        served = np.array([tracks[name].demoted is None for name in day.lessons])
        # The playbook holds payoffs of what has passed the gate.
        known = np.isin(day.lessons, own.drop_nulls("effect")["lesson_id"].to_list())
        means, sds = by_lesson(posterior, day.lessons, 0.0), by_lesson(spread, day.lessons, 0.1)
        return Standing(means, sds, served, known)

    serve = by_chooser(world, seed) if chooser else None
    for _ in simulate(world, np.random.default_rng(seed), look, serve):
        pass
    return list(tracks.values())


def _note(track: Track, row: dict[str, Any], truth: float) -> None:
    sessions = int(row["served"]) + int(row["withheld"])
    track.before, track.sessions = track.sessions, sessions
    if row["effect"] is None or row["lower"] is None:
        return
    effect, lower, upper, sd = (float(row[name]) for name in ("effect", "lower", "upper", "sd"))
    track.truth, track.estimate, track.variance = truth, effect, sd**2 * sessions
    track.looks += 1
    track.missed_last = not lower <= truth <= upper
    track.missed += track.missed_last
    track.fixed += abs(effect - truth) > _Z * sd
    track.fixed_better |= effect > _Z * sd
    track.better |= row["verdict"] == "better"
    track.worse |= row["verdict"] == "worse"


def demotion(effect: float, *, kill: float, gate: float, holdout: float) -> tuple[float, float]:
    """Usable sessions by which a lesson of this true effect goes with probability .5 and .9, by the power calculation.

    The variance is that of outcomes of rate .5 without an outcome model, about what is measured.
    """
    variance = 0.25 / holdout + 0.25 / (1.0 - holdout)
    least = gate / holdout
    first, second = (max(units_needed(effect, variance, alpha=kill, power=power), least) for power in (0.5, 0.9))
    return first, second


def summary(name: str, world: World, tracks: list[Track], config: PayoffConfig | None = None) -> dict[str, float]:
    """The numbers of one world over its seeds; shares of lessons."""
    config = config or PayoffConfig()
    seen = [each for each in tracks if each.looks]
    useless = [each for each in tracks if each.effect == 0.0]
    numbers = {
        "lessons": len(seen),
        "looks": sum(each.looks for each in seen),
        "covered at every look": 1.0 - sum(each.missed > 0 for each in seen) / len(seen),
        "covered at the last": 1.0 - sum(each.missed_last for each in seen) / len(seen),
        "fixed-size interval covered at every look": 1.0 - sum(each.fixed > 0 for each in seen) / len(seen),
        "useless": len(useless),
        "useless called better": sum(each.better for each in useless) / max(len(useless), 1),
        "useless called worse": sum(each.worse for each in useless) / max(len(useless), 1),
        "useless demoted": sum(each.demoted is not None for each in useless) / max(len(useless), 1),
        "useless called better by fixed-size intervals": sum(e.fixed_better for e in useless) / max(len(useless), 1),
    }
    for effect in sorted({each.effect for each in tracks if each.effect}):
        own = [each for each in tracks if each.effect == effect]
        called = "better" if effect > 0 else "worse"
        numbers[f"{effect:+.2f} called {called}"] = sum(getattr(each, called) for each in own) / len(own)
        if effect < 0.0:
            numbers |= {f"{effect:+.2f} {key}": value for key, value in _demotions(own, world, config).items()}
    return numbers


def _demotions(own: list[Track], world: World, config: PayoffConfig) -> dict[str, float]:
    """How soon lessons of one harmful effect went. A lesson is late when it was still there at a look after the number
    predicted for its own true effect; those whose time had not come when the world ended are left out."""
    count = len(own)
    own = [each for each in own if each.looks]
    if not own:
        return {"lessons": count, "measured": 0.0}
    wanted = np.array(
        [demotion(each.truth, kill=config.kill, gate=config.gate, holdout=world.holdout) for each in own]
    )  # fmt: skip
    at = np.array([np.inf if each.demoted is None else each.demoted for each in own])
    last = np.array([each.sessions if each.demoted_before is None else each.demoted_before for each in own])
    counts = [(wanted[:, place], (at < np.inf) | (last >= wanted[:, place])) for place in (0, 1)]
    late = [float((last > n)[ripe].mean()) if ripe.any() else np.nan for n, ripe in counts]
    return {
        "lessons": count,
        "measured": len(own),
        "demoted": float((at < np.inf).mean()),
        "sessions, median": float(np.quantile(at, 0.5, method="higher")),
        "sessions of power .5": float(np.median(wanted[:, 0])),
        "sessions, 90 % quantile": float(np.quantile(at, 0.9, method="higher")),
        "sessions of power .9": float(np.median(wanted[:, 1])),
        "later than power .5 (at most .5)": late[0],
        "later than power .9 (at most .1)": late[1],
        "ripe at power .9": float(counts[1][1].sum()),
    }


def speed() -> None:
    """One run over a million exposures of 200 lessons: the target is 30 seconds and 1.5 GB."""
    world = World((0.0,) * 200, sessions=150_000, days=1, users=20_000, tasks=25, tasks_each=1, fit=8, delay_days=0.0)
    seen = next(simulate(world, np.random.default_rng(0), lambda day, standing: standing)).rows
    rows = seen.head(1_000_000)
    wall, cpu = time.perf_counter(), time.process_time()
    found = measure("agent", rows)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{rows.height:,} exposures, {found.rows.height:,} payoffs: {wall:.1f} s ({cpu:.1f} s of CPU), {peak:.2f} GB")


def main(seeds: int, names: list[str]) -> None:
    for name, world in WORLDS.items():
        if names and name not in names:
            continue
        start, tracks = time.perf_counter(), []
        for seed in range(seeds):
            tracks += run(world, seed, chooser=name == "chooser")
        print(f"{name}: {seeds} seeds, {world.days} days, {world.sessions} sessions a day, {world.users} people")
        for key, value in summary(name, world, tracks).items():
            print(f"    {key:50} {value:,.3f}")
        print(f"    {'seconds':50} {time.perf_counter() - start:,.0f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["speed"]:
        speed()
        sys.exit()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2:])
