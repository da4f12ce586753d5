"""Responses take effect where agents and jobs read it, end by themselves, and can be taken back."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from incident_world import CHANGE, NOW, finding, keep, unflagged
from loop_data import run_loop
from publishing import publisher
from served_lessons import lesson, propose, serve

from pipelines.incidents import responses
from pipelines.lessons import review
from pipelines.preferences import work
from pipelines.steering import publishing
from pipelines.steering.decide import Decider, Question
from pipelines.steering.policy_build import PEOPLE, Beliefs
from pipelines.steering.snapshot import Policies
from store import (
    arms,
    audit,
    drift_responses,
    drift_rules,
    exploration,
    incidents,
    job_runs,
    lesson_sets,
    never_explore,
    operators,
    playbooks,
    preferences,
)
from store.clock import FixedClock
from store.connection import Store
from store.drift_responses import Response
from store.drift_rules import Rule
from store.errors import ActionRefused, NotFound
from store.settings import Settings


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(clock):
    opened = Store.open(None, clock=clock, threads=1)
    for name in ("a", "b"):
        arms.define(opened, "shop", name, kind="prompt", definition={}, origin="operator", by="ann")
    yield opened
    opened.close()


def decisions(store, **asked):
    """A decision for each of these users, by what is published now; ada is in the segment gold."""
    people = pl.DataFrame({"user_id": ["ada", "bob"], "segment": ["gold", "iron"]}, schema=PEOPLE)
    nobody = np.empty((2, 0), dtype=np.float32)
    beliefs = replace(Beliefs.nothing(), people=people, user_mean=nobody, user_sd=nobody)
    publishing.publish(store, {"shop": beliefs}, cause="schedule")
    held = Policies.of_store(store)
    try:
        decider = Decider(held, store.clock)
        return {
            user: decider.decide(Question("shop", user_id=user, **asked), "key").decision for user in ("ada", "bob")
        }
    finally:
        held.close()


def rates(store):
    return {user: round(one.allowed_rate, 6) for user, one in decisions(store).items()}


def asked(store):
    return {user: round(one.solicit_propensity, 6) for user, one in decisions(store).items()}


def explore(**changed):
    return replace(Response("explore", "she changed", agent="shop", user_id="ada", rate=0.12, days=7), **changed)


def test_a_users_rate_is_raised_for_a_time_within_the_cap(store, clock):
    assert rates(store) == {"ada": 0.05, "bob": 0.05}
    told = responses.preview(store, explore())
    assert (told["before"], told["after"]) == (0.05, 0.12)
    number = responses.apply(store, explore(), operator="ann")
    assert rates(store) == {"ada": 0.12, "bob": 0.05}
    assert drift_responses.listed(store, holding=True)["response_id"].to_list() == [number]
    exploration.set_bounds(
        store, "shop", "agent", "", floor=0.0, cap=0.08, dial=None, daily_regret_budget=None, solicit_rate=None,
        automatic=None, by="ann",
    )  # fmt: skip
    assert rates(store)["ada"] == 0.08
    clock.moment = NOW + timedelta(days=7)
    assert rates(store) == {"ada": 0.05, "bob": 0.05}  # its time is over, whether or not the job ran
    assert run_loop(store, "incidents")["incidents"].rows == 1
    assert drift_responses.listed(store, holding=True).is_empty()
    assert drift_responses.listed(store)["ended_by"].to_list() == ["trimtab"]


def test_what_a_rate_is_lowered_to_by_its_bounds_or_by_an_opt_out_stays(store):
    responses.apply(store, explore(segment="gold", user_id=None), operator="ann")
    assert rates(store) == {"ada": 0.12, "bob": 0.05}
    responses.apply(store, explore(rate=0.01), operator="ann")  # less than what holds: nothing is lowered
    assert rates(store) == {"ada": 0.12, "bob": 0.05}


def test_who_is_never_explored_with_is_not_explored_with(store):
    never_explore.add(store, "shop", "user", "ada", reason="she asked", by="ann")
    assert responses.preview(store, explore())["text"].startswith("Nothing, as long as ada is on the list")
    responses.apply(store, explore(), operator="ann")
    assert rates(store) == {"ada": 0.0, "bob": 0.05}
    publisher_of(store, "ada")
    found = finding(CHANGE, user_id="ada", agent="shop")
    assert [one.action for one in responses.for_finding(store, found)] == ["ask"]


def test_feedback_is_asked_for_more_often(store):
    assert asked(store) == {"ada": 0.02, "bob": 0.02}
    ask = Response("ask", "look closer", agent="shop", rate=0.1, days=3)
    number = responses.apply(store, ask, operator="ann")
    assert asked(store) == {"ada": 0.1, "bob": 0.1}
    responses.apply(store, replace(ask, segment="iron", rate=0.3), operator="ann")
    responses.apply(store, replace(ask, user_id="ada", rate=1.0), operator="ann")
    drawn = decisions(store)
    assert {user: one.solicit_propensity for user, one in drawn.items()} == {"ada": 1.0, "bob": 0.3}
    assert drawn["ada"].solicit  # with certainty
    responses.undo(store, number, operator="bob", reason="enough is known")
    assert asked(store) == {"ada": 1.0, "bob": 0.3}
    with pytest.raises(ActionRefused, match="ended already"):
        responses.undo(store, number, operator="bob", reason="again")


def test_a_lesson_paused_for_a_segment_is_served_to_the_others_only(store, clock):
    library = [lesson("late", holdout=0.02), lesson("tool")]
    propose(store, library)
    serve(store, library)

    def served(user):
        return {each.lesson_id for each in decisions(store)[user].exposures}

    assert served("ada") == served("bob") == {"late", "tool"}
    pause = Response("pause lesson", "it fell after it", segment="gold", lesson_id="late", days=5)
    assert "segment gold" in responses.preview(store, pause)["text"]
    number = responses.apply(store, pause, operator="ann")
    assert (served("ada"), served("bob")) == ({"tool"}, {"late", "tool"})
    book = playbooks.in_force(store, "shop")
    assert {each.lesson_id: each.not_segments for each in book.entries} == {"late": ("gold",), "tool": ()}
    assert "Do tool." in book.body
    assert "Do late." not in book.body
    assert [each.not_segments for each in lesson_sets.in_force(store, "shop").lessons] == [("gold",), ()]
    responses.undo(store, number, operator="ann", reason="it was not it")
    assert served("ada") == {"late", "tool"}
    assert "Do late." in playbooks.in_force(store, "shop").body
    responses.apply(store, pause, operator="ann")
    version = playbooks.in_force(store, "shop").version
    clock.moment = NOW + timedelta(days=6)
    run_loop(store, "incidents")
    assert playbooks.in_force(store, "shop").version == version + 1
    assert served("ada") == {"late", "tool"}


def test_a_lesson_that_nobody_is_served_cannot_be_paused(store):
    propose(store, [lesson("late", state="retired")])
    with pytest.raises(ActionRefused, match="retired"):
        responses.apply(store, Response("pause lesson", "why", segment="gold", lesson_id="late"), operator="ann")
    with pytest.raises(NotFound):
        responses.apply(store, Response("pause lesson", "why", segment="gold", lesson_id="none"), operator="ann")


def chose(user, at, item, number):
    """A list of two items of which the user takes the one that is cheap, or the one that is good."""
    shown = [
        {"signal_id": f"{user}{number}{name}", "trace_id": f"{user}-{number}", "user_id": user, "kind": "impression",
         "item": name, "position": place, "occurred_at": at, "metadata": json.dumps({"cheapness": cheap})}
        for place, (name, cheap) in enumerate((("cheap", 1.0), ("good", 0.0)), start=1)
    ]  # fmt: skip
    click = {"signal_id": f"{user}{number}click", "trace_id": f"{user}-{number}", "user_id": user, "kind": "click",
             "item": item, "value": 1.0, "occurred_at": at}  # fmt: skip
    trace = {"trace_id": f"{user}-{number}", "agent": "shop", "user_id": user, "started_at": at,
             "metadata": '{"segment": "gold"}'}  # fmt: skip
    return trace, [*shown, click]


def test_preferences_begin_anew_with_the_segments(store, tmp_path):
    traces, signals = [], []
    for user in ("ada", "u1", "u2", "u3", "u4", "u5"):
        for number in range(24):
            at = NOW - timedelta(days=48 - 2 * number)
            early = at < CHANGE
            # ada went for what is cheap until she changed; the others take it half of the time.
            cheap = (early if user == "ada" else number % 2 == 0) if number % 6 else number % 12 == 0
            trace, told = chose(user, at, "cheap" if cheap else "good", number)
            traces.append(trace)
            signals += told
    publisher(store, tmp_path)(traces=traces, signals=signals)
    run_loop(store, "preferences")
    before = preferences.user_weights(store, "ada").filter(feature="cheapness").row(0, named=True)
    found = finding(CHANGE, user_id="ada", segment="gold", metric="preference: cheapness")
    restart = next(one for one in responses.for_finding(store, found))
    assert restart.action == "restart preferences"
    assert restart.since == CHANGE
    told = responses.preview(store, restart)
    assert (told["lists_before"], told["lists_after"]) == (14, 10)
    number = responses.apply(store, restart, operator="ann")
    run_loop(store, "preferences")
    after = preferences.user_weights(store, "ada").filter(feature="cheapness").row(0, named=True)
    assert after["weight"] < before["weight"] - 0.25
    assert preferences.latest_run(store)["lists"] == 6 * 24 - 14
    responses.undo(store, number, operator="ann", reason="she did not change")
    run_loop(store, "preferences")
    assert preferences.latest_run(store)["lists"] == 6 * 24


def test_a_restart_is_work_for_the_job_that_heeds_it(store, clock):
    def finished():
        run_id = job_runs.begin(
            store, job="preferences", cause="scheduled", attempt=1, watermark=job_runs.facts(store), code_version="1"
        )
        job_runs.succeed(store, run_id, rows=0, message="done")
        clock.moment += timedelta(minutes=1)

    finished()
    assert not work.has_work(store, Settings())
    number = responses.apply(store, Response("restart preferences", "why", user_id="ada", since=CHANGE), operator="ann")
    assert work.has_work(store, Settings())
    clock.moment += timedelta(minutes=1)
    finished()
    assert not work.has_work(store, Settings())
    responses.undo(store, number, operator="ann", reason="no")
    assert work.has_work(store, Settings())


def test_what_cannot_be_done_is_refused_by_its_field(store):
    cases = [
        ({"reason": " "}, "reason"), ({"rate": None}, "rate"), ({"rate": 1.2}, "rate is 1.2"),
        ({"days": 0}, "days is 0"),
        ({"days": 91}, "days is 91"), ({"days": None}, "days is empty"), ({"agent": None}, "agent"),
        ({"user_id": None}, "neither a user nor a segment"), ({"segment": "gold"}, "both a user and a segment"),
        ({"lesson_id": "l"}, "lesson_id"), ({"action": "shout"}, "no action"),
    ]  # fmt: skip
    for changed, said in cases:
        with pytest.raises(ActionRefused, match=said):
            drift_responses.apply(store, explore(**changed), {}, operator="ann", render=review.render)
    assert drift_responses.listed(store).is_empty()


def test_only_a_person_responds_and_the_same_is_not_done_twice(store):
    for name in ("trimtab", " "):
        with pytest.raises(ActionRefused):
            responses.apply(store, explore(), operator=name)
    responses.apply(store, explore(), operator="ann")
    with pytest.raises(ActionRefused, match="response 1 does the same"):
        responses.apply(store, explore(rate=0.2), operator="bob")


def lone(*users, at=CHANGE, effect=-0.2):
    rows = [finding(at, user_id=user, segment=None, agent="shop", effect=effect) for user in users]
    return [*rows, *unflagged(400, "quiet")]


def test_a_rule_answers_findings_by_order_of_who_set_it_and_no_more_than_it_may(store, clock):
    rule = drift_rules.add(store, Rule("user", "explore", metric="reward", least_effect=0.1, daily_limit=2), by="ann")
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM drift_responses") == 0
    for user in ("u1", "u2", "u3", "u4"):
        publisher_of(store, user)
    keep(store, [*lone("u1"), finding(CHANGE, user_id="u2", agent="shop", effect=-0.5),
                 finding(CHANGE, user_id="u3", agent="shop", effect=-0.15),
                 finding(CHANGE, user_id="u4", agent="shop", effect=0.6)])  # fmt: skip
    run_loop(store, "incidents")
    applied = drift_responses.listed(store).sort("response_id")
    # The two that fell the most; what rose is not worse, and the third has to wait for another day.
    assert applied["user_id"].to_list() == ["u2", "u1"]
    row = applied.row(0, named=True)
    assert (row["applied_by"], row["ordered_by"], row["rule_id"]) == ("trimtab", "ann", rule)
    logged = audit.recent(store, 50).filter(action="exploration raise")
    assert set(logged["actor"]) == {"trimtab"}
    assert json.loads(logged["detail"][0])["ordered_by"] == "ann"
    run_loop(store, "incidents")
    assert drift_responses.listed(store).height == 2
    # What an operator took back is not done again for the same change.
    responses.undo(store, int(row["response_id"]), operator="bob", reason="she is on holiday")
    clock.moment = NOW + timedelta(days=1, minutes=1)
    run_loop(store, "incidents")
    assert drift_responses.listed(store).sort("response_id")["user_id"].to_list() == ["u2", "u1", "u3"]
    keep(store, lone("u2", at=clock.moment + timedelta(hours=1), effect=-0.9))
    run_loop(store, "incidents")
    assert drift_responses.listed(store)["user_id"][0] == "u2"
    drift_rules.switch(store, rule, "off", by="bob", reason="too many")
    keep(store, lone("u4", at=clock.moment, effect=-0.9))
    run_loop(store, "incidents")
    assert drift_responses.listed(store).height == 4


def test_a_rule_of_somebody_who_may_not_respond_any_more_does_nothing(store):
    operators.appoint(store, ("root@example.com",))
    operators.invite(store, "ann@example.com", "reviewer", operator="root@example.com")
    drift_rules.add(store, Rule("incident", "ask", rate=0.4, days=2), by="ann@example.com")
    operators.change(store, "ann@example.com", "viewer", operator="root@example.com")
    keep(store, [finding(CHANGE, level="population", agent="shop")])
    run_loop(store, "incidents")
    assert drift_responses.listed(store).is_empty()
    operators.change(store, "ann@example.com", "reviewer", operator="root@example.com")
    run_loop(store, "incidents")
    assert drift_responses.listed(store)["ordered_by"].to_list() == ["ann@example.com"]


def publisher_of(store, user):
    """Have the user be known to the agent."""
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO decisions BY NAME SELECT $id AS decision_id, $now AS decided_at, 'shop' AS agent,
            1 AS policy_version, $id AS user_id, 'u' AS unit, 0.5 AS draw, 'a' AS arm, 'a' AS greedy_arm,
            false AS explore, 0.9 AS propensity, ['a', 'b'] AS arms, [0.9, 0.1] AS propensities, 0.05 AS rate,
            0.05 AS allowed_rate, 1.0 AS budget_scale, 0.0 AS expected_regret, 0.0 AS worst_regret, false AS solicit,
            0.02 AS solicit_propensity, false AS sticky, true AS off_policy, 'key' AS source""",
            {"id": user, "now": NOW - timedelta(days=1)},
        )
    )


def test_a_rule_on_incidents_asks_for_feedback_once(store):
    drift_rules.add(store, Rule("incident", "ask", rate=0.4, days=2), by="ann")
    keep(store, [finding(CHANGE, level="population", agent="shop")])
    for _ in range(2):
        run_loop(store, "incidents")
    applied = drift_responses.listed(store).row(0, named=True)
    assert drift_responses.listed(store).height == 1
    assert applied["incident_id"] == incidents.listed(store)["incident_id"][0]
    assert asked(store) == {"ada": 0.4, "bob": 0.4}
    assert incidents.events(store, applied["incident_id"])["kind"].to_list() == ["opened", "response"]


def test_a_rule_that_cannot_be_is_refused(store):
    rules = [
        Rule("user", "pause lesson"), Rule("incident", "restart preferences"), Rule("user", "explore", daily_limit=0),
        Rule("user", "explore", least_effect=-1.0), Rule("user", "explore", days=None), Rule("user", "ask", rate=0.0),
        Rule("nobody", "ask"), Rule("user", "shout"),
    ]  # fmt: skip
    for rule in rules:
        with pytest.raises(ActionRefused):
            drift_rules.add(store, rule, by="ann")
