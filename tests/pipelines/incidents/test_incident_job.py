"""The job `incidents` on findings of runs of `drift`: what hits everybody is one incident, what is known is none."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from incident_world import CHANGE, NOW, everybody, finding, keep, traces, unflagged
from loop_data import run_loop
from publishing import publisher

from pipelines.incidents import job
from store import audit, drift, incident_runs, incidents, interventions, notices
from store.clock import FixedClock
from store.connection import Store
from store.interventions import Note
from store.settings import Settings


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(clock):
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def random():
    return np.random.default_rng(11)


def run(store):
    return run_loop(store, "incidents")["incidents"]


def conserved(store):
    """The newest run's flagged findings are explained, of one incident, or lone; returns how many of each."""
    latest = incident_runs.latest_run(store)
    flagged = drift.findings(store, run_id=latest["drift_run_id"], flagged_only=True, limit=100_000)
    subject = ["level", "user_id", "segment", "agent", "metric"]
    with store.read() as reader:
        of_incidents = reader.any_frame(
            f"SELECT {', '.join(subject)} FROM incident_findings WHERE run_id = {latest['run_id']}"
        )
    assert of_incidents.height == of_incidents.unique().height == latest["grouped"]
    explained = flagged.drop_nulls("explained_by").select(subject)
    assert explained.join(of_incidents, on=subject, how="semi", nulls_equal=True).is_empty()
    lone = (
        flagged.select(subject)
        .join(of_incidents, on=subject, how="anti", nulls_equal=True)
        .join(explained, on=subject, how="anti", nulls_equal=True)
    )
    counts = {"flagged": flagged.height, "explained": explained.height, "lone": lone.height}
    assert counts == {name: latest[name] for name in counts}
    assert latest["flagged"] == latest["explained"] + latest["grouped"] + latest["lone"]
    return explained.height, of_incidents.height, lone.height


def test_a_model_change_that_hits_everybody_is_one_incident_however_often_it_is_seen(store, random):
    lone = [finding(CHANGE - timedelta(days=15), user_id="power7x", segment="power")]
    rows = everybody(random, 2_000) + everybody(random, 2_000, metric="latency", effect=0.6) + lone
    keep(store, rows)
    assert job.has_work(store, Settings())
    run(store)
    explained, grouped, alone = conserved(store)
    assert explained == 0
    assert 1 <= alone <= 0.005 * grouped
    assert grouped > 1_500
    listed = incidents.listed(store)
    assert listed.height == 1
    one = incidents.one(store, listed["incident_id"][0])
    assert one["state"] == "open"
    assert one["agent"] == "shop"
    assert one["segment"] is None
    assert 1_400 < one["users"] < 1_600
    assert one["scanned"] == 2_000 + one["users"] + 1
    assert notices.open_count(store) == 1
    assert not job.has_work(store, Settings())
    run(store)  # asked for by a person: nothing new
    keep(store, rows)
    run(store)
    again = incidents.listed(store)
    assert again["incident_id"].to_list() == listed["incident_id"].to_list()
    assert incidents.events(store, one["incident_id"])["kind"].to_list() == ["opened"]
    assert notices.open_count(store) == 1
    conserved(store)
    assert audit.verify(store) is None


def test_the_cause_is_found_in_the_traces(store, random, tmp_path: Path):
    """A new model explains that latency rises; that people ask again more often is harm, and it is suspected of it."""
    publisher(store, tmp_path)(traces=traces(random))
    keep(store, everybody(random, 30, metric="retry", effect=0.2) + everybody(random, 30, metric="latency", effect=4.0))
    run(store)
    one = incidents.one(store, incidents.listed(store)["incident_id"][0])
    assert one["cause"] == "model"
    assert "gpt-5" in one["cause_detail"]["text"]
    assert one["cause_detail"]["coincidences"][0]["intervention_id"] == "model:shop:gpt-5"
    assert set(one["metrics"]) == {"retry"}  # the latency follows the known change of the model
    assert drift.findings(store, metric="latency", flagged_only=True)["explained_by"].unique().to_list() == [
        "model:shop:gpt-5"
    ]


def test_a_silent_change_of_the_model_is_told_by_its_share_of_the_shift(store, random, tmp_path: Path):
    """One of two models gives longer answers behind its name; users of both are hit."""
    rows = traces(random, model_after="gpt-4", users=40)
    for i, row in enumerate(rows):
        row["model"] = ("gpt-4", "other")[i % 3 == 0]
        longer = row["model"] == "gpt-4" and row["started_at"] >= CHANGE
        row["output_tokens"] = int(random.normal(300 if longer else 200, 20))
    publisher(store, tmp_path)(traces=rows)
    keep(store, everybody(random, 40, metric="output length", effect=0.4))
    run(store)
    one = incidents.one(store, incidents.listed(store)["incident_id"][0])
    suspect = one["cause_detail"]["suspects"][0]
    assert (one["cause"], suspect["name"], suspect["how"]) == ("model", "gpt-4", "only there")
    assert suspect["lower"] > 0.8
    assert suspect["n_before"] > 300
    assert "gpt-4 suspected" in one["title"]


def test_what_an_operator_noted_explains_and_resolves(store, random, clock):
    rows = everybody(random, 400)
    keep(store, rows)
    run(store)
    incident_id = incidents.listed(store)["incident_id"][0]
    key = interventions.note(store, Note("campaign", "Black Friday", CHANGE - timedelta(hours=3)), by="ann")
    clock.moment = NOW + timedelta(minutes=5)
    run(store)
    explained, grouped, alone = conserved(store)
    assert grouped == 0
    assert alone == 0
    assert explained > 150
    assert incidents.one(store, incident_id)["state"] == "resolved"
    assert "Black Friday" in incidents.events(store, incident_id)["text"][-1]
    assert notices.open_count(store) == 0
    # Taken back, the incident is what it was: resolved, and seen.
    clock.moment = NOW + timedelta(minutes=10)
    interventions.withdraw(store, key, by="ann", reason="it was another week")
    assert job.has_work(store, Settings())
    run(store)
    assert conserved(store)[1] == grouped + explained
    assert incidents.one(store, incident_id)["state"] == "resolved"


def test_an_approved_lesson_that_works_raises_nothing(store, random, monkeypatch):
    known = interventions.known(store).clear()
    row = {
        "intervention_id": "lesson:l1:4", "kind": "lesson", "agent": "shop", "segment": None, "origin": "derived",
        "happened_at": CHANGE - timedelta(hours=2), "title": 'Lesson "Ask first": approve',
    }  # fmt: skip
    known = known.vstack(type(known)([row], schema=known.schema))
    monkeypatch.setattr(interventions, "known", lambda store, since=None: known)
    better = {"effect": 0.2, "before_mean": 0.6, "after_mean": 0.8}
    rows = everybody(random, 400, **better) + everybody(random, 400, metric="cost", effect=0.5)
    for one in rows:
        if one["level"] == "user":
            one["agent"] = "shop"
    keep(store, rows)
    run(store)
    explained, grouped, alone = conserved(store)
    assert grouped == 0
    assert alone < 0.05 * explained
    assert incidents.listed(store).is_empty()
    assert notices.open_count(store) == 0
    # One that harms is what operators have to hear of, with the lesson suspected.
    keep(store, [{**one, **({"effect": -0.2} if one["metric"] == "reward" else {})} for one in rows])
    run(store)
    assert conserved(store)[1] > 150
    one = incidents.one(store, incidents.listed(store)["incident_id"][0])
    assert one["cause"] == "lesson"
    assert "Ask first" in one["title"]


def test_a_segment_moves_alone_and_comes_back(store, clock):
    def rows(at, count=40):
        return [
            *(finding(at, user_id=f"p{i}", segment="power") for i in range(count)),
            *unflagged(100, "power"), *unflagged(100, "light"),
        ]  # fmt: skip

    keep(store, rows(CHANGE))
    run(store)
    one = incidents.listed(store).row(0, named=True)
    assert one["segment"] == "power"
    assert one["users"] == 40
    incidents.resolve(store, one["incident_id"], operator="ann", reason="the tool was repaired")
    assert notices.open_count(store) == 0
    clock.moment = NOW + timedelta(days=1)
    keep(store, rows(CHANGE))
    run(store)
    assert incidents.one(store, one["incident_id"])["state"] == "resolved"  # the same change stays in the data
    clock.moment = NOW + timedelta(days=10)
    keep(store, rows(NOW + timedelta(days=7)))
    run(store)
    back = incidents.one(store, one["incident_id"])
    assert (back["state"], back["reopened"]) == ("open", 1)
    assert incidents.listed(store).height == 1
    assert notices.open_count(store) == 1
    assert incidents.events(store, one["incident_id"])["kind"].to_list() == ["opened", "resolved", "reopened"]


def test_a_resolved_incident_that_grew_is_opened_again(store, clock):
    def rows(count):
        return [*(finding(CHANGE, user_id=f"p{i}", segment="power") for i in range(count)), *unflagged(100, "power")]

    keep(store, rows(10))
    run(store)
    one = incidents.listed(store)["incident_id"][0]
    incidents.resolve(store, one, operator="ann", reason="looks small")
    keep(store, rows(60))
    run(store)
    assert incidents.one(store, one)["state"] == "open"
    assert incidents.one(store, one)["users"] == 60


def test_what_no_run_sees_any_more_is_resolved_after_a_while(store, clock):
    keep(store, [*(finding(CHANGE, user_id=f"p{i}", segment="power") for i in range(40)), *unflagged(100, "power")])
    run(store)
    one = incidents.listed(store)["incident_id"][0]
    for days, state in ((5, "open"), (15, "resolved")):
        clock.moment = NOW + timedelta(days=days)
        keep(store, unflagged(100, "power"))
        run(store)
        assert incidents.one(store, one)["state"] == state
    assert audit.recent(store, 1)["actor"][0] == "trimtab"
    assert json.loads(audit.recent(store, 1)["detail"][0])["reason"] == "No run has seen it for 14 days."


def test_numbers_that_are_none_and_hostile_names_do_no_harm(store, random):
    """Findings without times, means or effects, and names with line breaks and markup, are kept and told as text."""
    nameless = "<img src=x>\r\nBcc: everyone " + "x" * 300
    odd = {"effect": float("nan"), "effect_sd": None, "before_mean": None, "after_mean": float("nan"), "after_n": None}
    rows = [
        finding(CHANGE, level="population", agent=nameless, **odd),
        finding(CHANGE, level="segment", segment=nameless, agent=nameless, metric="gone", **odd),
        *(finding(CHANGE, user_id=f"u{i}", segment=nameless, **odd) for i in range(30)),
        {**finding(CHANGE, user_id="undated"), **dict.fromkeys(("changed_at", "changed_from", "changed_to"))},
        finding(NOW + timedelta(days=400), user_id="ahead"),
        *unflagged(60, nameless),
    ]  # fmt: skip
    keep(store, rows)
    run(store)
    assert conserved(store) == (0, 32, 2)
    one = incidents.one(store, incidents.listed(store)["incident_id"][0])
    assert "\n" not in one["title"]
    assert "\r" not in one["title"]
    assert len(one["title"]) < 250
    assert json.loads(json.dumps(one["cause_detail"], allow_nan=False)) == one["cause_detail"]


def test_without_a_run_of_drift_there_is_nothing_to_do(store):
    assert not job.has_work(store, Settings())
    assert run(store).rows == 0
