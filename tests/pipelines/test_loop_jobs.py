"""The jobs of the learning loop on a store: tasks, rewards, lessons, exploration and drift, once and again."""

import json

import polars as pl
import pytest
from loop_data import LOOP, NOW, run_loop, shop
from publishing import publisher

from pipelines.ingest.layouts.tau_bench import import_tau_bench
from pipelines.lessons import review
from pipelines.stats.pass_k import pass_k
from store import audit, contrasts, drift, exploration, lesson_lint, lessons, links, playbooks, rewards, tasks
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_reviews import LessonText


def _run(store, *names):
    """What each job wrote; the loop in its order when none is named."""
    return {name: result.rows for name, result in run_loop(store, *names).items()}


# The others replace what they wrote whenever they run; the scheduler skips them when nothing is new.
_VERSIONED = ("tasks", "rewards", "transitions", "lessons", "exploration", "drift")


def _changed(rows):
    return {name: count for name, count in rows.items() if name in _VERSIONED}


def _store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    return store, publisher(store, folder)


@pytest.fixture(scope="module")
def tau_bench(shared_data, tmp_path_factory):
    """The tau-bench airline file in a store, and the whole loop run on it."""
    store, publish = _store(tmp_path_factory)
    records = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text(encoding="utf-8"))
    imported = [import_tau_bench(record, "tau_bench") for record in records]
    publish(
        **{kind: [row for rows in imported for row in getattr(rows, kind)] for kind in ("traces", "spans", "signals")}
    )
    _run(store)
    yield store
    store.close()


def test_tau_bench_pass_k_is_as_published(tau_bench):
    outcomes = rewards.outcomes(tau_bench)
    assert outcomes["success"].mean() == pytest.approx(0.420)
    table = pass_k(outcomes.select("task", "success"))
    assert [round(mean, 3) for mean in table["mean"]] == [0.420, 0.273, 0.220, 0.200]
    assert table["tasks"].to_list() == [50] * 4


def test_tau_bench_has_26_tasks_with_mixed_outcomes(tau_bench):
    outcomes = rewards.outcomes(tau_bench)
    (counts,) = contrasts.agents(tau_bench).to_dicts()
    assert (counts["traces"], counts["tasks"], counts["mixed"], counts["without_outcome"]) == (200, 50, 26, 0)
    assert counts["used"] + counts["set_aside_environment"] + counts["set_aside_request"] == 200
    mixed = (
        outcomes.group_by("task")
        .agg(pl.col("success").cast(pl.Float64).mean())
        .filter(pl.col("success").is_between(0.0, 1.0, closed="none"))
    )
    assert sorted(contrasts.groups(tau_bench)["task"]) == sorted(mixed["task"])
    per_task = outcomes.group_by("task").agg(pl.col("success").mean())["success"]
    assert ((per_task == 0).sum(), (per_task == 1).sum()) == (14, 10)


def test_on_tau_bench_no_step_pattern_survives(tau_bench):
    (counts,) = contrasts.agents(tau_bench).to_dicts()
    patterns = contrasts.patterns(tau_bench)
    assert counts["tested"] == patterns.height == patterns["family"][0] >= 20
    assert (counts["survive"], counts["findings"]) == (0, 0)
    assert counts["best_q"] == patterns["q_value"].min() > 0.2
    assert patterns["exact"].all()
    assert (contrasts.groups(tau_bench)["kind"] == "action").all()
    library = lessons.library(tau_bench)
    assert library.filter(pl.col("tested")).is_empty()


def test_tau_bench_gets_rewards_and_a_lesson_with_evidence_on_both_sides(tau_bench):
    model = rewards.models(tau_bench).row(0, named=True)
    assert (model["traces"], model["signals"]) == (200, 200)
    (mean,) = json.loads(model["parameters"])["agent_means"]
    assert mean["mean"] == pytest.approx(0.42, abs=0.02)
    assert rewards.cells(tau_bench).height == 50
    proposal = lessons.queue(tau_bench).row(0, named=True)
    evidence = lessons.evidence(tau_bench, proposal["lesson_id"])
    good = evidence.filter(role="good")["reward"].mean()
    bad = evidence.filter(role="bad")["reward"].mean()
    assert good > bad + 0.5
    assert evidence["quote"].drop_nulls().len() >= 2


def test_a_second_round_without_new_data_changes_nothing(tau_bench):
    before = rewards.models(tau_bench).height, lessons.library(tau_bench).height
    assert _changed(_run(tau_bench)) == dict.fromkeys(_VERSIONED, 0)
    assert (rewards.models(tau_bench).height, lessons.library(tau_bench).height) == before


def test_approving_on_tau_bench_writes_the_playbook(tau_bench):
    lesson = lessons.queue(tau_bench).row(0, named=True)
    done = review.approve(tau_bench, lesson["lesson_id"], version=1, operator="Ada")
    assert done.playbook_version == 1
    assert lesson["do_text"] in playbooks.body(tau_bench, "airline", 1)
    # The task is covered now, so the next one gets a hypothesis.
    assert _run(tau_bench, "lessons") == {"lessons": 1}
    assert lessons.library(tau_bench)["task"].n_unique() == 2
    back = review.undo(tau_bench, lesson["lesson_id"], sequence=done.sequence, operator="Ada")
    assert (back.state, back.playbook_version) == ("proposed", 2)
    assert playbooks.body(tau_bench, "airline", 2) == ""
    assert audit.verify(tau_bench) is None


@pytest.fixture
def shop_store(tmp_path_factory):
    """The shop's first two thirds in a store, and a function that brings the rest."""
    store, publish = _store(tmp_path_factory)
    traces, spans, signals = shop()
    first = {trace["trace_id"] for trace in traces[:80]}

    def bring(part):
        inside = {"first": True, "rest": False}[part]
        publish(
            traces=[row for row in traces if (row["trace_id"] in first) == inside],
            spans=[row for row in spans if (row["trace_id"] in first) == inside],
            signals=[row for row in signals if (f"t{int(row['signal_id'][1:]):03}" in first) == inside],
        )
        links.refresh(store)

    bring("first")
    yield store, bring
    store.close()


def _tasks(store):
    with store.read() as reader:
        return dict(reader.any_frame("SELECT trace_id, task FROM traces").rows())


def test_similar_inputs_become_tasks_and_a_trace_keeps_its_task(shop_store):
    store, bring = shop_store
    assert _run(store, "tasks") == {"tasks": 80}
    before = _tasks(store)
    assert len(set(before.values())) == 2
    assert len({before[name] for name in ("t000", "t001", "t004")}) == 1
    assert before["t000"] != before["t002"]
    bring("rest")
    assert _run(store, "tasks") == {"tasks": 40}
    after = _tasks(store)
    assert {name: after[name] for name in before} == before
    assert len(set(after.values())) == 2
    assert _run(store, "tasks") == {"tasks": 0}


def test_grouping_in_pages_covers_every_trace_once(shop_store, monkeypatch):
    store, _ = shop_store
    monkeypatch.setattr("pipelines.tasks_job.PAGE", 7)
    assert _run(store, "tasks") == {"tasks": 80}
    assert len(set(_tasks(store).values())) == 2
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM trace_tasks") == 80


def test_new_data_makes_a_new_reward_version_and_nothing_else_does(shop_store):
    store, bring = shop_store
    assert _run(store, "tasks", "rewards") == {"tasks": 80, "rewards": 80}
    assert _run(store, "rewards") == {"rewards": 0}
    bring("rest")
    assert _run(store, "tasks", "rewards") == {"tasks": 40, "rewards": 120}
    models = rewards.models(store)
    assert models.select("reward_model_id", "traces", "signals").rows() == [(2, 120, 120), (1, 80, 80)]
    means = json.loads(models["parameters"][0])["arm_means"]
    assert [(row["arm"], row["n"]) for row in means] == [("a", 60), ("b", 60)]
    assert means[0]["mean"] < means[1]["mean"]


def test_the_loop_finds_what_was_planted(shop_store):
    store, bring = shop_store
    bring("rest")
    rows = _run(store)
    assert rows["exploration"] == 1
    assert rows["drift"] == 1
    rate = exploration.current(store).row(0, named=True)
    assert rate["agent"] == "shop"
    assert 0.01 <= rate["lower"] <= rate["rate"] <= rate["upper"] <= 0.2
    assert {arm["arm"] for arm in json.loads(rate["arms"])} == {"a", "b"}
    (found,) = drift.findings(store, metric=drift.STATED, level="user").to_dicts()
    assert (found["user_id"], found["metric"], found["flagged"]) == ("ada", drift.STATED, True)
    assert (found["before_mean"], found["before_n"], found["after_mean"], found["after_n"]) == (1.0, 10, 0.0, 10)
    run = drift.latest_run(store)
    assert (run["users"], run["scanned"], run["flagged"], run["too_few"]) == (8, 1, 1, 7)
    assert tasks.counts(store)["traces"].sum() == 120
    assert _changed(_run(store)) == dict.fromkeys(_VERSIONED, 0)
    assert exploration.history(store).height == 1


def test_at_most_so_many_lessons_are_proposed_a_run_the_best_first(shop_store, monkeypatch):
    store, bring = shop_store
    bring("rest")
    _run(store, "tasks", "rewards")
    monkeypatch.setattr("pipelines.lessons.job.MOST_PROPOSALS", 0)
    assert _run(store, "lessons") == {"lessons": 0}
    monkeypatch.setattr("pipelines.lessons.job.MOST_PROPOSALS", 1)
    assert _run(store, "lessons") == {"lessons": 1}
    (first,) = lessons.queue(store).to_dicts()
    monkeypatch.undo()
    _run(store, "lessons")
    queued = lessons.queue(store)
    assert first["lesson_id"] == queued["lesson_id"][0]
    review.reject(store, first["lesson_id"], version=1, operator="Ada", reason="not ours to tell")
    assert _run(store, "lessons") == {"lessons": 0}


def test_a_text_with_literals_is_held_back_until_somebody_overrides_each(shop_store):
    store, bring = shop_store
    bring("rest")
    _run(store, "tasks", "rewards", "lessons")
    lesson = lessons.queue(store)["lesson_id"][0]
    text = LessonText("Refund ada@example.com", "A refund is asked for.", None, "Refund order A1234-77.")
    review.edit(store, lesson, version=1, operator="Ada", text=text)
    with pytest.raises(ActionRefused, match=r"ada@example\.com"):
        review.approve(store, lesson, version=2, operator="Ada")
    assert lessons.one(store, lesson)["state"] == "proposed"
    for row in lesson_lint.of(store, lesson, 2).filter(severity="block").iter_rows(named=True):
        lesson_lint.override(store, lesson, 2, row["rule"], row["excerpt"], reason="our own address", operator="Ada")
    assert review.approve(store, lesson, version=2, operator="Ada").state == "active"
    assert review.retire(store, lesson, version=2, operator="Ada").playbook_version == 2


def test_an_empty_store_gives_every_job_nothing_to_do(tmp_path_factory):
    store, _ = _store(tmp_path_factory)
    assert _run(store) == dict.fromkeys(LOOP, 0)
    store.close()
