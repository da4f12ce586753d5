"""The job on simulated deployments: planted causes are found, proposed once, and escalated where a lesson failed."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from failure_truth import simulated
from loop_data import run_loop
from polars.testing import assert_frame_equal

from bench.planted_causes import judge, said
from pipelines.compute import Aside
from pipelines.lessons import job
from pipelines.lessons.contrast import ContrastConfig
from pipelines.lessons.lint.literals import find_literals
from pipelines.simulate import Deployment, SimulationConfig
from store import contrasts, lessons
from store.clock import FixedClock
from store.connection import Store

TRACES = 4_000


def measured(folder: Path, seed: int) -> tuple[Deployment, Store]:
    """A deployment in which every trace's outcome is whether its user was truly satisfied, and tasks are known."""
    deployment, store = simulated(folder, SimulationConfig(seed=seed, traces=TRACES))
    truth = deployment.truth_traces.select(
        "trace_id", "task", outcome=pl.col("satisfied").cast(pl.Float64), mean="satisfaction"
    )

    def work(connection: object) -> None:
        connection.register("truth", truth)  # type: ignore[attr-defined]
        for statement in (
            """UPDATE rewards SET outcome = t.outcome, outcome_sd = 0 FROM truth AS t
            WHERE t.trace_id = rewards.trace_id""",
            "UPDATE traces SET task = t.task FROM truth AS t WHERE t.trace_id = traces.trace_id",
        ):
            connection.execute(statement)  # type: ignore[attr-defined]
        connection.unregister("truth")  # type: ignore[attr-defined]

    store.write(work)
    run_loop(store, "failures")
    return deployment, store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Store]:
    return measured(tmp_path_factory.mktemp("lessons"), 31)


def test_planted_causes_are_found_and_little_else(
    world: tuple[Deployment, Store], tmp_path_factory: pytest.TempPathFactory
) -> None:
    second, other = measured(tmp_path_factory.mktemp("more"), 32)
    found = []
    for seed, deployment, store in ((31, *world), (32, second, other)):
        examined = job.examine(store, ContrastConfig())
        assert examined is not None
        found.append(judge(seed, examined.found.patterns, deployment.truth["causes"]))
    other.close()
    planted = sum(one.planted for one in found)
    assert sum(len(one.missed) for one in found) <= 0.1 * planted, found
    assert sum(len(one.false) for one in found) <= 0.05 * sum(one.findings for one in found), found


def test_effects_of_planted_causes_are_within_their_intervals(world: tuple[Deployment, Store]) -> None:
    """The truth is played again without the mistake: the drop in satisfaction of the traces that made it."""
    deployment, store = world
    examined = job.examine(store, ContrastConfig())
    assert examined is not None
    patterns = examined.found.patterns
    inside = []
    for cause in deployment.truth["causes"]:
        names = {name for name, _ in said(cause["pattern"])}
        own = patterns.filter((pl.col("agent") == cause["agent"]) & pl.col("pattern").is_in(names))
        for row in own.head(1).iter_rows(named=True):
            low, high = sorted((abs(row["lower"]), abs(row["upper"])))
            # What is compared is not only the mistake: other causes are among the rollouts without it.
            inside.append(low - 0.05 <= cause["mean_quality_drop"] <= high + 0.05)
    assert len(inside) >= 7
    assert np.mean(inside) >= 0.7


def test_findings_are_proposed_once_and_kept_for_the_page(world: tuple[Deployment, Store]) -> None:
    _, store = world
    first = run_loop(store, "lessons")["lessons"]
    assert first.rows == job.MOST_PROPOSALS
    assert "more wait for the next run" in first.message
    added = [first.rows]
    while added[-1]:
        added.append(run_loop(store, "lessons")["lessons"].rows)
    library = lessons.library(store)
    patterns = contrasts.patterns(store)
    findings = patterns.filter(pl.col("survives") & pl.col("explained_by").is_null())
    assert library.filter(pl.col("tested")).height == findings.height == sum(added)
    assert findings["lesson_id"].null_count() == 0
    assert library["trust"].unique().to_list() == ["system"]
    for lesson in library.iter_rows(named=True):
        words = "\n".join(str(lesson[name]) for name in ("title", "when_text", "when_not", "do_text", "why"))
        assert find_literals(words) == []
        evidence = lessons.evidence(store, lesson["lesson_id"])
        assert set(evidence["role"]) == {"good", "bad"}
    assert library["linted"].all()
    assert [row["blocks"] for row in library.iter_rows(named=True)] == [0] * library.height
    counts = contrasts.agents(store)
    parts = ["used", "set_aside_environment", "set_aside_request", "set_aside_exploration", "without_outcome"]
    assert (counts["traces"] == counts.select(pl.sum_horizontal(parts)).to_series()).all()
    assert counts["traces"].sum() == TRACES
    assert counts["set_aside_environment"].sum() > 0
    groups = contrasts.groups(store)
    assert groups["value"].is_sorted(descending=True)
    assert (groups["traces_per_day"] > 0).all()


def test_a_served_lesson_whose_mistake_goes_on_is_escalated(world: tuple[Deployment, Store]) -> None:
    deployment, store = world
    run_loop(store, "lessons")
    lesson = lessons.library(store).filter(pl.col("tested")).row(0, named=True)
    served = deployment.config.start + timedelta(days=1)

    def work(connection: object) -> None:
        connection.execute(  # type: ignore[attr-defined]
            "UPDATE lessons SET state = 'active', updated_at = $at WHERE lesson_id = $lesson",
            {"at": served, "lesson": lesson["lesson_id"]},
        )

    store.write(work)
    result = run_loop(store, "lessons")["lessons"]
    assert "need a person" in result.message
    marked = contrasts.patterns(store).filter(pl.col("escalate").is_not_null())
    assert marked["lesson_id"].to_list() == [lesson["lesson_id"]]
    assert f"Lesson {lesson['lesson_id']} says the same" in marked["escalate"][0]
    assert lessons.library(store)["lesson_id"].is_unique().all()


def test_a_process_of_its_own_finds_the_same(world: tuple[Deployment, Store]) -> None:
    _, store = world
    aside = Aside(lambda: None, store)
    try:
        there = aside(job.examine, store, ContrastConfig())
    finally:
        aside.close()
    own = job.examine(store, ContrastConfig())
    assert there is not None
    assert own is not None
    assert {one.key: one.text for one in there.proposal.drafts} == {one.key: one.text for one in own.proposal.drafts}
    assert_frame_equal(there.found.groups, own.found.groups)
    # Sums over threads differ in the last digit, and with them the order of patterns that are as clear.
    same = ["agent", "pattern"]
    assert_frame_equal(there.found.patterns.sort(same), own.found.patterns.sort(same))


def test_an_empty_store_has_nothing_to_contrast(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "empty.duckdb", clock=FixedClock(SimulationConfig().until))
    result = run_loop(store, "lessons")["lessons"]
    store.close()
    assert (result.rows, result.message) == (0, "No task has two or more rollouts with a reward of their own.")
