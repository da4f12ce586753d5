"""The learning loop on bad input: every job ends with sane numbers or a named reason, never with a silent number."""

import json

import bad_deployments as bad
import pytest

from store.connection import Store

# The reasons that must be named of each deployment: by rewards, by credit, by preferences.
REASONS = {
    "all positive": ({"constant_labels"}, {"constant_reward"}, "no_lists"),
    "all negative": ({"constant_labels"}, {"constant_reward"}, "no_lists"),
    "constant outcomes": ({"constant_labels"}, {"constant_reward"}, "no_lists"),
    "one user": ({"single_user", "too_few_users"}, {"single_user"}, "one_user"),
    "no user ids": ({"too_few_users", "unknown_users"}, {"unknown_users"}, "no_lists"),
    "no signals": ({"no_signals"}, {"no_signals"}, "no_lists"),
    "unknown kinds": ({"unknown_kind"}, set(), "no_lists"),
    "only unknown kinds": ({"no_signals"}, {"no_signals"}, "no_lists"),
    "propensity unknown": ({"propensity_missing"}, set(), "no_lists"),
    "impossible propensities": ({"propensity_invalid"}, set(), "no_lists"),
    "no clicks": ({"clicks_unusable"}, set(), "nothing_chosen"),
    "no impressions": ({"no_anchor"}, set(), "no_lists"),
    "impressions twice": ({"no_anchor"}, set(), None),
    "impossible draws": ({"propensity_invalid"}, set(), None),
    "separated": ({"no_anchor", "not_calibrated"}, set(), "no_lists"),
    "outcome by name": ({"named_outcome"}, set(), "no_lists"),
    "outcome in disguise": ({"gives_away_label"}, set(), "no_lists"),
    "no spans": ({"no_anchor"}, {"no_steps"}, "no_lists"),
    "no times": ({"no_anchor"}, set(), "no_lists"),
    "early signals": ({"before_trace", "no_signals"}, {"no_signals"}, "no_lists"),
    "hostile names": ({"no_anchor"}, set(), None),
    "extreme numbers": ({"no_anchor", "unknown_kind"}, set(), "no_features"),
}


def _rows(store: Store, sql: str) -> list[tuple]:
    with store.read() as reader:
        return reader.any_frame(sql).rows()


def not_finite(store: Store) -> list[tuple[str, str, int]]:
    """Every column of floating numbers of a derived table that holds one that is none, with how many."""
    columns = _rows(
        store,
        """SELECT table_name, column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'main' AND regexp_matches(data_type, 'DOUBLE|FLOAT')
            AND table_name NOT IN ('signals', 'spans', 'trace_records', 'superseded_signals', 'superseded_spans')""",
    )
    found = []
    for table, column, kind in columns:
        wrong = f'NOT isfinite("{column}")'
        if kind.endswith("[]"):
            wrong = f'len(list_filter("{column}", lambda x: NOT isfinite(x))) > 0'
        ((count,),) = _rows(store, f"SELECT count(*) FROM {table} WHERE {wrong}")
        if count:
            found.append((table, column, count))
    assert len(columns) > 50
    return found


def _sane_rewards(store: Store) -> None:
    ((rewarded, lowest, highest, least_sd, most_sd),) = _rows(
        store, "SELECT count(*), min(mean), max(mean), min(sd), max(sd) FROM rewards"
    )
    assert rewarded == bad.TRACES
    assert 0.0 <= lowest <= highest <= 1.0
    assert 0.0 < least_sd <= most_sd < 0.6


def _telescoping_credit(store: Store) -> None:
    for gap, steps, most in _rows(
        store,
        """SELECT abs(arg_min(c.value, c.position) + sum(c.credit) - any_value(r.mean)), max(abs(c.credit - c.decision
            - c.luck)), max(abs(c.credit))
        FROM step_credits AS c JOIN rewards AS r USING (trace_id) GROUP BY trace_id""",
    ):
        assert gap < 1e-9
        assert steps < 1e-9
        assert most <= 1.0


def _sane_shares(store: Store) -> None:
    """What is a probability lies from 0 to 1, and intervals hold their estimate."""
    assert _rows(store, "SELECT * FROM failure_labels WHERE confidence NOT BETWEEN 0 AND 1") == []
    assert _rows(store, "SELECT * FROM trace_surprise WHERE p_value NOT BETWEEN 0 AND 1") == []
    assert _rows(store, "SELECT * FROM reliability WHERE NOT (lower <= estimate AND estimate <= upper)") == []
    assert _rows(store, "SELECT * FROM signal_yields WHERE bits < 0 OR (bits IS NULL) <> (reason IS NOT NULL)") == []
    assert _rows(store, "SELECT * FROM reward_metrics WHERE lower > value OR upper < value") == []
    assert _rows(store, "SELECT * FROM hacking_watch WHERE (lower IS NULL) <> (reason IS NOT NULL)") == []
    assert _rows(store, "SELECT * FROM hacking_watch WHERE alarm") == []


@pytest.mark.parametrize("name", REASONS)
def test_every_job_gives_sane_numbers_or_names_the_reason(name):
    of_rewards, of_credit, of_preferences = REASONS[name]
    with bad.after_the_loop(name) as store:
        assert not_finite(store) == []
        _sane_rewards(store)
        _telescoping_credit(store)
        _sane_shares(store)
        ((parameters,),) = _rows(store, "SELECT parameters FROM reward_models WHERE active")
        assert of_rewards <= {note["reason"] for note in json.loads(parameters)["notes"]}
        assert all(note["text"] for note in json.loads(parameters)["notes"])
        ((notes, steps),) = _rows(store, "SELECT notes, steps FROM credit_runs")
        assert of_credit <= {note["reason"] for note in json.loads(notes)}
        assert (steps == 0) == bool(of_credit & {"constant_reward", "no_signals", "no_steps"})
        ((found,),) = _rows(store, "SELECT parameters FROM preference_runs")
        assert (json.loads(found).get("refused") or {}).get("reason") == of_preferences


def test_every_deployment_is_looked_at():
    assert set(REASONS) == set(bad.DEPLOYMENTS)
