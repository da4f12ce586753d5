"""Credit of steps: exact values of a known decision process, conservation, no hindsight, and refusals with a reason."""

import numpy as np
import polars as pl
import pytest
from credit_frames import NONE, process, steps_frame, traces_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.credit.credits import CreditConfig, assign
from pipelines.credit.steps import RUNNING, prefixes
from pipelines.stats.contract import ContractError


def _assign(traces, steps, *, seed=1, config=None):
    return assign(traces, steps, NONE, np.random.default_rng(seed), config)


@pytest.fixture(scope="module")
def known():
    played = process(30_000, seed=4)
    return played, _assign(played.traces, played.steps)


def _correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def test_credit_is_that_of_the_exact_values(known):
    played, credited = known
    frame = credited.frame
    assert frame.height == played.steps.height
    assert credited.methods == {"a": "cell means"}
    assert _correlation(frame["credit"], played.credit) >= 0.99
    inner = ~credited.prefixes.final
    assert _correlation(frame["credit"].to_numpy()[inner], played.credit[inner]) >= 0.97
    assert _correlation(frame["decision"], played.decision) >= 0.97
    assert float(np.sqrt(np.mean((frame["value"].to_numpy() - played.value) ** 2))) < 0.02


def test_decisions_per_situation_beat_the_success_rate_of_runs_with_the_tool(known):
    played, credited = known
    prefixes = credited.prefixes
    rewards = played.traces["reward"].to_numpy()[prefixes.trace]
    frame = pl.DataFrame(
        {
            "bucket": prefixes.bucket, "last": prefixes.last, "failed": prefixes.last_failed, "errors": prefixes.errors,
            "used": prefixes.used, "what": prefixes.what, "exact": played.decision, "reward": rewards,
            "estimate": credited.frame["decision"],
        }
    )  # fmt: skip
    keys = ["bucket", "last", "failed", "errors", "used", "what"]
    means = frame.group_by(keys).agg(pl.len(), pl.col("exact", "estimate", "reward").mean())
    cells = means.filter(pl.col("len") >= 200)
    ours = _correlation(cells["estimate"], cells["exact"])
    naive = _correlation(cells["reward"] - rewards.mean(), cells["exact"])
    assert ours >= 0.95
    assert naive <= ours - 0.2


def test_the_standard_deviation_of_a_value_is_about_its_error(known):
    played, credited = known
    inner = ~credited.prefixes.final & (credited.prefixes.position > 1)
    error = (credited.values.value - played.value)[inner]
    z = error / credited.values.sd[inner]
    assert 0.5 < float(np.sqrt(np.mean(z**2))) < 1.6


traces_ = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 2)), max_size=6),
        st.floats(0, 1),
        st.sampled_from([None, "u", "v", "w"]),
        st.integers(0, 2),
    ),
    max_size=60,
)


def _frames(drawn):
    flat = [(t, p + 1, *step) for t, (steps, *_) in enumerate(drawn) for p, step in enumerate(steps)]
    steps = steps_frame(
        [row[0] for row in flat], [row[1] for row in flat], [row[2] for row in flat],
        failed=[row[3] for row in flat], call=[row[4] for row in flat],
    )  # fmt: skip
    return traces_frame(
        [row[1] for row in drawn], users=[row[2] for row in drawn], signals=[row[3] for row in drawn], sd=0.1
    ), steps


@given(traces_)
@settings(max_examples=60)
def test_credits_sum_to_the_reward_minus_the_baseline(drawn):
    traces, steps = _frames(drawn)
    credited = _assign(traces, steps, config=CreditConfig(min_traces=1, min_visits=0))
    frame = credited.frame.join(traces.select("trace_no", "reward"), on="trace_no")
    sums = frame.group_by("trace_no").agg(
        pl.col("credit").sum(), split=(pl.col("decision") + pl.col("luck")).sum(), reward=pl.col("reward").first(),
        baseline=pl.col("value").sort_by("position").first(),
    )  # fmt: skip
    for column in ("credit", "split"):
        assert sums.filter((pl.col(column) - (pl.col("reward") - pl.col("baseline"))).abs() > 1e-12).is_empty()
    assert frame.select(pl.all_horizontal(pl.col("value", "credit", "sd").is_finite())).to_series().all()
    # Every trace is credited in whole, or its agent is refused by name.
    stepped = steps["trace_no"].n_unique()
    refused = not credited.notes.filter(
        pl.col("reason").is_in(["no_signals", "constant_reward", "no_steps"])
    ).is_empty()
    assert frame["trace_no"].n_unique() == (0 if refused else stepped)


def test_what_happens_later_does_not_change_what_is_said_of_earlier_steps():
    """One user's traces are changed from their third step on: all that is known before it stays as it was."""
    played = process(3_000, seed=9, users=60)
    mine = played.traces.filter(pl.col("user_id") == "u7")["trace_no"]
    later = pl.col("trace_no").is_in(mine.implode()) & (pl.col("position") >= 3)
    rng = np.random.default_rng(0)
    changed = played.steps.with_columns(
        name=pl.when(later).then(pl.Series(rng.permutation(played.steps["name"].to_numpy()))).otherwise("name"),
        failed=pl.when(later).then(~pl.col("failed")).otherwise("failed"),
        tokens=pl.when(later).then(10_000).otherwise("tokens"),
    )
    before, after = _assign(played.traces, played.steps), _assign(played.traces, changed)
    early = pl.col("trace_no").is_in(mine.implode()) & (pl.col("position") <= 3)
    kept = [one.frame.filter(early)["value"].to_numpy() for one in (before, after)]
    assert len(kept[0]) > 100
    np.testing.assert_allclose(kept[0], kept[1], rtol=0, atol=1e-12)
    late = pl.col("trace_no").is_in(mine.implode()) & (pl.col("position") > 3)
    assert not np.array_equal(before.frame.filter(late)["value"], after.frame.filter(late)["value"])


def test_the_result_of_a_step_is_not_known_before_it_has_ended():
    """A tool that encloses another fails at its end: inside it nothing is known of that, afterwards it is."""
    times = [(0, 90), (10, 20), (30, 90), (100, 110)]
    steps = steps_frame(
        [0] * 4, [1, 2, 3, 4], ["outer", "inner", "inner", "answer"], failed=[True, True, False, False], times=times,
        tokens=[1000, None, None, None],
    )  # fmt: skip
    found = prefixes(traces_frame([1.0]), steps)
    assert found.errors.tolist() == [0, 0, 1, 2]
    assert found.last_failed.tolist() == [0, RUNNING, 1, 0]
    assert found.tokens_before.tolist() == [0, 0, 0, 1000]
    plain = prefixes(traces_frame([1.0]), steps.with_columns(started_us=None, ended_us=None))
    assert plain.errors.tolist() == [0, 1, 2, 2]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 15), st.booleans()), min_size=1, max_size=12))
def test_failures_that_are_known_are_those_that_had_ended(drawn):
    ordered = sorted(drawn)
    steps = steps_frame(
        [0] * len(ordered), list(range(1, len(ordered) + 1)), ["x"] * len(ordered), failed=[f for *_, f in ordered],
        times=[(start, start + length) for start, length, _ in ordered],
    )  # fmt: skip
    found = prefixes(traces_frame([1.0]), steps)
    spans = [(start, start + length, failed) for start, length, failed in ordered]
    clash = any(spans[i][1] > spans[j][0] for j in range(len(spans)) for i in range(j))
    for at, (start, _, _) in enumerate(spans):
        over = [f for begin, end, f in spans if end < start or (end == start and begin < end)]
        expected = sum(over) if clash else sum(f for *_, f in spans[:at])
        assert found.errors[at] == min(2, expected)


def test_no_outcome_of_a_user_is_used_for_the_same_user():
    played = process(3_000, seed=2, users=60)
    flipped = played.traces.with_columns(
        reward=pl.when(pl.col("user_id") == "u7").then(1.0 - pl.col("reward")).otherwise("reward")
    )
    mine = pl.col("trace_no").is_in(played.traces.filter(user_id="u7")["trace_no"].implode())
    values = [_assign(traces, played.steps).frame.filter(mine)["value"] for traces in (played.traces, flipped)]
    # Only β may have seen it, by way of the other users' baselines.
    assert float((values[0] - values[1]).abs().max()) < 1e-3


def test_a_call_made_twice_gets_credit_for_each_visit():
    traces = traces_frame([float(n % 2) for n in range(200)], users=[f"u{n % 20}" for n in range(200)])
    at, position, names, call = [], [], [], []
    for trace in range(200):
        made = ["look", "look", "look"] if trace % 2 == 0 else ["look"]
        for place, name in enumerate(made, start=1):
            at.append(trace), position.append(place), names.append(name), call.append(7)
    credited = _assign(traces, steps_frame(at, position, names, call=call))
    frame = credited.frame
    assert frame.height == 400
    first = frame.filter(pl.col("position") == 1)
    assert frame.filter(pl.col("position") == 2)["value"].mean() < 0.1 < first["value"].mean()
    assert credited.prefixes.variant.tolist()[:3] == [0, 1, 1]


def test_boosting_takes_over_where_situations_hardly_repeat():
    rng = np.random.default_rng(6)
    good = rng.random(150) < 0.5
    at = np.repeat(np.arange(150), 6).tolist()
    names = [f"{'g' if good[t] and rng.random() < 0.8 else 'b'}{rng.integers(30)}" for t in at]
    traces = traces_frame(good.astype(float).tolist(), users=[f"u{n % 30}" for n in range(150)])
    credited = _assign(traces, steps_frame(at, list(range(1, 7)) * 150, names))
    assert credited.methods == {"a": "gradient boosting"}
    assert credited.notes["reason"].to_list() == ["sparse_states"]
    frame = credited.frame
    total = frame.group_by("trace_no").agg(pl.col("credit").sum(), pl.col("value").sort_by("position").first())
    joined = total.join(traces, on="trace_no")
    assert (joined["credit"] - (joined["reward"] - joined["value"])).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("traces", "reason"),
    [
        (traces_frame([0.7] * 60, users=[f"u{n}" for n in range(60)]), "constant_reward"),
        (traces_frame([0.0, 1.0] * 10, users=[f"u{n}" for n in range(20)]), "too_few_traces"),
        (traces_frame([0.0, 1.0] * 30, users=[f"u{n}" for n in range(60)], signals=0), "no_signals"),
    ],
)
def test_what_cannot_tell_steps_apart_gets_no_credit_but_a_reason(traces, reason):
    n = traces.height
    steps = steps_frame(list(range(n)), [1] * n, ["look"] * n)
    credited = _assign(traces, steps)
    assert credited.frame.is_empty()
    assert credited.notes["reason"].to_list() == [reason]


def test_traces_without_steps_and_an_empty_store_are_said():
    traces = traces_frame([0.0, 1.0] * 30)
    none = steps_frame([], [], [])
    assert _assign(traces, none).notes["reason"].to_list() == ["no_steps"]
    assert _assign(traces.head(0), none).frame.is_empty()


def test_one_user_is_said_and_crossfitted_by_trace():
    played = process(400, seed=3, users=1)
    credited = _assign(played.traces, played.steps)
    assert credited.notes["reason"].to_list()[0] == "single_user"
    assert len(np.unique(credited.outcomes.fold)) == 5
    assert credited.frame.height == played.steps.height


def test_frames_of_other_columns_are_refused():
    traces = traces_frame([0.0, 1.0])
    with pytest.raises(ContractError, match="trace_no"):
        _assign(traces.with_columns(pl.col("trace_no") + 1), steps_frame([0], [1], ["x"]))
    with pytest.raises(ContractError, match="name rows"):
        _assign(traces, steps_frame([2], [1], ["x"]))
    for bad in (1.2, float("nan")):
        with pytest.raises(ContractError, match="reward must lie from 0 to 1"):
            _assign(traces.with_columns(reward=pl.lit(bad)), steps_frame([0], [1], ["x"]))
    with pytest.raises(ContractError, match="missing"):
        _assign(traces, steps_frame([0], [1], ["x"]).drop("kind"))
