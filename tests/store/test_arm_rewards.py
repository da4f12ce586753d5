"""What posteriors of arms rest on: rewards with signals, propensities of what was drawn and run, people, delays."""

from datetime import timedelta

import numpy as np
import pytest

from store import arm_rewards

_HOUR = timedelta(hours=1)


def _traces(clock, *rows):
    return [
        {"trace_id": f"t{place}", "agent": "shop", "arm": "a", "user_id": "u1", "started_at": clock.now() - _HOUR,
         "ended_at": clock.now() - _HOUR, **row}
        for place, row in enumerate(rows)
    ]  # fmt: skip


def _rewarded(store, *signals, active=True):
    """Give trace t0, t1, ... a reward of .5, .6, ... by a model in use; `signals` of each."""

    def work(connection):
        connection.execute(
            "INSERT INTO reward_models VALUES (1, 'm', $now, 1, 1, 1, '{}', 'v', $active)",
            {"now": store.clock.now(), "active": active},
        )
        for place, count in enumerate(signals):
            connection.execute(
                "INSERT INTO rewards (reward_model_id, trace_id, mean, sd, signals) VALUES (1, $id, $mean, .1, $n)",
                {"id": f"t{place}", "mean": 0.5 + place / 10, "n": count},
            )

    store.write(work)


def _decide(store, decision_id, arm, propensity, off_policy=True):
    row = {
        "decision_id": decision_id, "decided_at": store.clock.now(), "agent": "shop", "policy_version": 1,
        "unit": "session:1", "draw": 0.5, "arm": arm, "greedy_arm": "a", "explore": False, "propensity": propensity,
        "arms": ["a", "b"], "propensities": [0.5, 0.5], "rate": 0.5, "allowed_rate": 0.5, "budget_scale": 1,
        "expected_regret": 0, "worst_regret": 0, "solicit": False, "solicit_propensity": 0, "sticky": False,
        "off_policy": off_policy, "source": "s",
    }  # fmt: skip
    names = ", ".join(row)
    values = ", ".join(f"${name}" for name in row)
    store.write(lambda connection: connection.execute(f"INSERT INTO decisions ({names}) VALUES ({values})", row))


def test_traces_with_signals_and_an_arm_are_what_counts(store, clock, publish):
    publish(traces=_traces(clock, {}, {"user_id": None}, {"arm": None}, {"agent": None}, {}))
    _rewarded(store, 2, 1, 1, 1, 0)
    found = arm_rewards.evidence(store)
    assert found.traces["mean"].to_list() == [0.5, 0.6]
    assert found.traces["user_id"].to_list() == ["u1", None]
    assert found.traces["done_at"][0] == clock.now() - _HOUR
    assert found.reward_model_id == 1


def test_without_a_model_in_use_there_is_no_reward(store, clock, publish):
    publish(traces=_traces(clock, {}))
    _rewarded(store, 1, active=False)
    found = arm_rewards.evidence(store)
    assert found.traces.is_empty()
    assert found.reward_model_id is None


def test_a_propensity_counts_where_the_arm_that_ran_was_drawn_with_it(store, clock, publish):
    for name, arm, off_policy in (("d0", "a", True), ("d1", "b", True), ("d2", "a", False), ("d3", "café", True)):
        _decide(store, name, arm, 0.25, off_policy)
    said = '{"steer.propensity": 0.4, "steer.arm": "%s"}'
    publish(
        traces=_traces(
            clock,
            {"decision_id": "d0", "metadata": said % "a"},  # ours, and it ran
            {"decision_id": "d1", "metadata": said % "a"},  # another arm ran than was drawn
            {"decision_id": "d2"},  # not drawn
            {"decision_id": "d3", "arm": "cafe\u0301 "},  # ours, spelt in another way
            {"decision_id": "elsewhere", "metadata": said % "a"},  # somebody else's draw
            {"metadata": said % "b"},
            {"metadata": '{"steer.propensity": "often"}'},
            {},
        )
    )
    _rewarded(store, *[1] * 8)
    assert arm_rewards.evidence(store).traces["propensity"].to_list() == [0.25, None, None, 0.25, 0.4, None, None, None]


def test_people_have_the_segment_they_stated_last(store, clock, publish):
    later = {"started_at": clock.now(), "ended_at": clock.now()}
    publish(
        traces=_traces(
            clock, {"metadata": '{"segment": "north"}'}, {"metadata": '{"segment": "south"}', **later},
            {"user_id": "u2", "metadata": '{"segment": ""}'}, {"user_id": "u3", "arm": None}, {"user_id": None},
            {"agent": "desk", "metadata": '{"segment": "west"}'},
        )
    )  # fmt: skip
    assert arm_rewards.evidence(store).people.rows() == [
        ("desk", "u1", "south"), ("shop", "u1", "south"), ("shop", "u2", None), ("shop", "u3", None),
    ]  # fmt: skip


def test_a_trace_that_states_no_segment_does_not_take_it_away(store, clock, publish):
    later = {"started_at": clock.now(), "ended_at": clock.now()}
    publish(traces=_traces(clock, {"metadata": '{"segment": "north"}'}, later))
    assert arm_rewards.evidence(store).people["segment"].to_list() == ["north"]


def test_delays_are_those_of_outcomes(store, clock, publish):
    done = clock.now() - _HOUR
    publish(
        traces=_traces(clock, *[{}] * 5),
        signals=[
            {"signal_id": f"s{place}", "trace_id": f"t{place}", "kind": "thumb", "value": 1.0,
             "occurred_at": done + place * _HOUR}
            for place in range(5)
        ]
        + [
            {"signal_id": "shown", "trace_id": "t0", "kind": "impression", "occurred_at": done + 50 * _HOUR},
            {"signal_id": "judged", "trace_id": "t0", "kind": "judge", "value": 1.0, "occurred_at": done + 50 * _HOUR},
            {"signal_id": "early", "trace_id": "t0", "kind": "thumb", "value": 1.0, "occurred_at": done - 9 * _HOUR},
        ],
    )  # fmt: skip
    (row,) = arm_rewards.delays(store).to_dicts()
    assert (row["agent"], row["signals"], len(row["hours"])) == ("shop", 6, 101)
    np.testing.assert_allclose(row["hours"], np.quantile([0, 0, 1, 2, 3, 4], np.linspace(0, 1, 101)), atol=1e-9)


@pytest.mark.parametrize(("days", "recent"), [(1, 1), (14, 2), (400, 3)])
def test_arms_are_listed_with_what_their_newest_trace_ran(store, clock, publish, days, recent):
    ago = [{"started_at": clock.now() - timedelta(days=each), "ended_at": None} for each in (0, 10, 300)]
    publish(
        traces=_traces(
            clock, {"model": "new", "agent_version": "2", **ago[0]}, {"model": "old", "agent_version": "1", **ago[1]},
            {"model": "old", "metadata": '{"prompt_version": "p7"}', **ago[2]}, {"arm": None},
        )
    )  # fmt: skip
    (row,) = arm_rewards.run_arms(store, recent_days=days).to_dicts()
    assert (row["traces"], row["recent"], row["model"], row["models"]) == (3, recent, "new", 2)
    assert (row["agent_version"], row["prompt_version"]) == ("2", "p7")
