"""Fine-tuning jobs: proposed, approved within the budget, sent once whatever ends the process, followed to their end.

The fake server speaks /v1/files and /v1/fine_tuning/jobs and reads every file by the API's own rules.
"""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from drafting_world import settings
from graduation_world import AGENT, NOW, fill, measure, open_world
from lesson_library import render
from publishing import publisher

from pipelines.jobs import JobContext
from pipelines.lessons.graduate import export, job, tuning, work
from pipelines.lessons.graduate.config import ExportConfig
from store import fine_tunings, graduation, lesson_settings, llm_calls
from store.clock import FixedClock
from store.errors import ActionRefused
from store.llm_calls import BudgetExceeded
from tests.pipelines.judges.model_server import KEY, model_server


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A world with one export, made once."""
    folder = tmp_path_factory.mktemp("world")
    clock = FixedClock(NOW)
    opened = open_world(folder / "t.duckdb", clock)
    fill(opened, folder)
    measure(opened, clock, ["better"] * 4)
    export.make(opened, AGENT, [], by="Ada")
    opened.close()
    return (folder / "t.duckdb").read_bytes()


@pytest.fixture
def store(tmp_path, clock, filled):
    path = Path(tmp_path / "t.duckdb")
    path.write_bytes(filled)
    opened = open_world(path, clock)
    yield opened
    opened.close()


@pytest.fixture
def server():
    with model_server() as running:
        yield running


def proposed(store, **changes):
    told = {"method": "supervised", "model": "base-1", "usd_per_million": 25.0, "by": "Ada"} | changes
    return tuning.propose(store, 1, **told)


def follow(store, chosen):
    context = JobContext(store, store.clock, chosen, np.random.default_rng(0), lambda share, text: None, None)
    return job.follow(context, environ={"MODEL_KEY": KEY})


def approved(store, server, **changes):
    number = proposed(store, **changes)
    tuning.approve(store, settings(server), number, operator="Bob")
    return number


def test_a_job_is_proposed_approved_sent_followed_and_its_model_kept(store, server, clock):
    number = proposed(store)
    row = fine_tunings.one(store, number)
    (train,) = [each for each in graduation.files(store, 1).to_dicts() if each["name"] == "supervised.train.jsonl"]
    assert (row["state"], row["tokens"]) == ("proposed", 3 * train["tokens"])
    assert row["usd"] == pytest.approx(row["tokens"] * 25 / 1e6)
    chosen = settings(server)
    # Nothing leaves before an operator has approved.
    assert not work.has_work(store, chosen)
    follow(store, chosen)
    assert server.desk.requests == []
    with pytest.raises(ActionRefused, match="proposed, on its way"):
        proposed(store)
    tuning.approve(store, chosen, number, operator="Bob")
    assert llm_calls.spent(store).usd == pytest.approx(row["usd"])
    assert llm_calls.spent(store).tokens == 0
    assert work.has_work(store, chosen)
    follow(store, chosen)
    desk = server.desk
    assert (desk.tuning.created, len(desk.files)) == (1, graduation.files(store, 1).filter(method="supervised").height)
    made = desk.tuning.jobs["ftjob-1"]
    assert made["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    assert desk.files[made["training_file"]][1].decode() == graduation.content(store, 1, "supervised.train.jsonl")
    made["status"] = "running"
    clock.moment += timedelta(hours=1)
    assert "the server works on it" in follow(store, chosen).message
    assert fine_tunings.one(store, number)["server_state"] == "running"
    desk.tuning.finish("ftjob-1", tokens=12_000)
    follow(store, chosen)
    done = fine_tunings.one(store, number)
    assert (done["state"], done["tuned_model"]) == ("succeeded", "ft:base-1:shop:trimtab:ftjob-1")
    # Paid is what was trained, and nothing of the traces is left on the server.
    assert llm_calls.spent(store).usd == pytest.approx(12_000 * 25 / 1e6)
    assert desk.files == {}
    assert not work.has_work(store, chosen)
    assert "fine-tuning approve" in audit_actions(store)


def audit_actions(store):
    with store.read() as reader:
        return reader.any_frame("SELECT action FROM audit_log")["action"].to_list()


@pytest.mark.parametrize("method", ["supervised", "dpo"])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_kill_at_any_step_sends_nothing_twice(store, server, clock, monkeypatch, step, method):
    number = approved(store, server, method=method)
    real, count = fine_tunings.step, 0

    def killed(*arguments, **named):
        nonlocal count
        count += 1
        if count == step:
            raise SystemExit
        real(*arguments, **named)

    died = False
    with monkeypatch.context() as patch:
        patch.setattr(fine_tunings, "step", killed)
        try:
            follow(store, settings(server))
        except SystemExit:
            died = True
    reserved = llm_calls.spent(store)
    follow(store, settings(server))
    files = graduation.files(store, 1).filter(method=method).height
    assert (server.desk.tuning.created, server.desk.uploads) == (1, files)
    assert llm_calls.spent(store) == reserved
    server.desk.tuning.finish("ftjob-1")
    follow(store, settings(server))
    assert fine_tunings.one(store, number)["state"] == "succeeded"
    assert died == (step <= count)


@pytest.mark.parametrize("lost", ["POST /v1/files", "POST /v1/fine_tuning/jobs"])
def test_an_answer_that_is_lost_is_looked_for_and_nothing_is_sent_twice(store, server, clock, lost):
    number = approved(store, server)
    server.desk.faults[lost] = ["lost"]
    follow(store, settings(server))
    assert fine_tunings.one(store, number)["state"] in ("uploading", "creating")
    # What was just made is not listed yet: nothing is made again for ten minutes.
    server.desk.tuning.hidden = True
    if lost.endswith("jobs"):
        assert "not known yet" in follow(store, settings(server)).message
    server.desk.tuning.hidden = False
    follow(store, settings(server))
    files = graduation.files(store, 1).filter(method="supervised").height
    assert (server.desk.tuning.created, server.desk.uploads) == (1, files)
    assert fine_tunings.one(store, number)["state"] == "running"


def test_failures_are_named_and_what_was_not_trained_is_not_paid(store, server):
    number = approved(store, server)
    follow(store, settings(server))
    server.desk.tuning.finish("ftjob-1", "failed", tokens=None)
    follow(store, settings(server))
    row = fine_tunings.one(store, number)
    assert (row["state"], row["usd"], llm_calls.spent(store).usd) == ("failed", 0.0, 0.0)
    assert "It cannot be read." in row["message"]
    # A failed one may be proposed again; the server turns this one down at once.
    server.desk.faults["POST /v1/fine_tuning/jobs"] = [403, 400]
    again = approved(store, server)
    follow(store, settings(server))
    assert fine_tunings.one(store, again)["state"] == "creating"
    store.clock.moment += timedelta(minutes=11)
    follow(store, settings(server))
    row = fine_tunings.one(store, again)
    assert (row["state"], "answered 400" in row["message"]) == ("failed", True)
    # Whether the first request was taken is not known: it stays charged.
    assert llm_calls.spent(store).usd == pytest.approx(row["usd"])


def test_approval_needs_a_person_a_budget_and_a_second_one_where_two_have_to_agree(store, server):
    number = proposed(store)
    with pytest.raises(ActionRefused, match="no person"):
        tuning.approve(store, settings(server), number, operator="trimtab")
    with pytest.raises(ActionRefused, match="no model server"):
        tuning.approve(store, settings(server, model=""), number, operator="Bob")
    with pytest.raises(BudgetExceeded, match="TRIMTAB_MODEL_DAILY_USD"):
        tuning.approve(store, settings(server, model_daily_usd=0.01), number, operator="Bob")
    assert fine_tunings.one(store, number)["state"] == "proposed"
    lesson_settings.put(store, AGENT, by="Ada", two_person=True, render=render)
    with pytest.raises(ActionRefused, match="two persons"):
        tuning.approve(store, settings(server), number, operator="Ada")
    with pytest.raises(ActionRefused, match="no reason"):
        fine_tunings.decline(store, number, operator="Bob", reason=" ")
    fine_tunings.decline(store, number, operator="Bob", reason="Too dear.")
    with pytest.raises(ActionRefused, match="declined already"):
        tuning.approve(store, settings(server), number, operator="Bob")


def test_who_withdraws_before_it_is_sent_is_not_sent(store, server, tmp_path):
    number = approved(store, server)
    publisher(store, tmp_path / "later")(
        traces=[{"trace_id": "later", "agent": AGENT, "user_id": "user_0004", "started_at": NOW, "ended_at": NOW,
                 "metadata": '{"learning_opt_out": "yes"}'}]
    )  # fmt: skip
    follow(store, settings(server))
    row = fine_tunings.one(store, number)
    assert (row["state"], server.desk.uploads, llm_calls.spent(store).usd) == ("failed", 0, 0.0)
    assert "not learnt from any more" in row["message"]
    with pytest.raises(ActionRefused, match="not learnt from any more"):
        approved(store, server)


def test_too_few_examples_and_odd_proposals_are_refused(store):
    few = export.make(store, AGENT, [], by="Ada", config=ExportConfig(stated=True))
    with pytest.raises(ActionRefused, match="0 of the 10 training examples"):
        tuning.propose(store, few, method="supervised", model="base-1", usd_per_million=0.0, by="Ada")
    for changes in ({"usd_per_million": float("nan")}, {"epochs": 0}, {"model": " "}, {"method": "magic"}):
        with pytest.raises(ActionRefused):
            proposed(store, **changes)
