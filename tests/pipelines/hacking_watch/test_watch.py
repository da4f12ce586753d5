"""The hacking watch on simulated arms: what is planted is found, and without it an alarm is rare."""

import json
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from loop_data import NOW
from scipy.special import expit

from pipelines.hacking_watch.watch import MEASURES, TRACES, WatchConfig, watch
from pipelines.simulate import SimulationConfig, simulate
from pipelines.stats.contract import ContractError
from store.errors import SettingsError


def _deployment(random, n, *, arms=("a", "b", "c"), proxy=None, gold=None, logged=True, segment_effect=0.0, users=400):
    """Traces whose arm depends on the user's segment, with a proxy and a gold signal; effects in logits by arm."""
    proxy, gold = proxy or {}, gold or {}
    user = random.integers(users, size=n)
    segment = user % 2
    favourite = np.where(segment == 0, 0, 1)
    p = np.full((n, len(arms)), 0.4 / len(arms))
    p[np.arange(n), favourite] += 0.6
    arm = (random.random(n)[:, None] >= np.cumsum(p, axis=1)).sum(axis=1)
    base = 0.4 + segment_effect * segment + 0.3 * np.sin(user)
    clicked = random.random(n) < expit(base - 1.0 + np.array([proxy.get(a, 0.0) for a in arms])[arm])
    good = random.random(n) < expit(base + np.array([gold.get(a, 0.0) for a in arms])[arm])
    texts = [json.dumps(dict(zip(arms, np.round(row, 6).tolist(), strict=True))) for row in p]
    ids = [f"t{i}" for i in range(n)]
    start = NOW - timedelta(days=60)
    traces = pl.DataFrame(
        {
            "trace_id": ids, "agent": "shop", "arm": [arms[a] for a in arm], "version": [f"v{arms[a]}" for a in arm],
            "user_id": [f"u{u}" for u in user], "at": [start + timedelta(minutes=8 * i) for i in range(n)],
            "propensities": texts if logged else [None] * n,
        },
        schema=TRACES,
    )  # fmt: skip
    measures = pl.concat(
        [
            pl.DataFrame({"trace_id": ids, "role": "proxy", "measure": "click", "value": clicked.astype(float)}),
            pl.DataFrame(
                {"trace_id": ids, "role": "gold", "measure": "solicited feedback", "value": good.astype(float)}
            ),
        ]
    )
    return traces, measures.cast(MEASURES)


def test_an_arm_that_is_clicked_more_and_liked_less_raises_the_alarm():
    traces, measures = _deployment(np.random.default_rng(1), 8_000, proxy={"b": 0.9}, gold={"b": -0.9})
    seen = watch(traces, measures)
    alarms = seen.found.filter("alarm")
    assert set(alarms.select("axis", "candidate").iter_rows()) == {("arm", "b"), ("version", "vb")}
    assert set(alarms["measure"]) == {"click"}
    assert set(seen.found["basis"]) == {"randomised"}
    assert seen.alarms == 2
    assert traces["at"].min() < alarms["alarm_since"].min() < traces["at"].max()


@pytest.mark.parametrize(("proxy", "gold"), [({"b": 0.9}, {}), ({}, {"b": -0.9}), ({"b": 0.9}, {"b": 0.9})])
def test_one_side_alone_is_no_alarm(proxy, gold):
    traces, measures = _deployment(np.random.default_rng(2), 6_000, proxy=proxy, gold=gold)
    assert watch(traces, measures).alarms == 0


def test_a_segment_that_clicks_less_and_is_happier_is_not_the_arms_doing():
    """Arm b serves the segment with other tastes: pooled it looks different, with its propensities it does not."""
    traces, measures = _deployment(np.random.default_rng(3), 8_000, segment_effect=-1.0)
    row = watch(traces, measures).found.filter(axis="arm", candidate="b", role="gold").row(0, named=True)
    assert row["lower"] < 0.0 < row["upper"]
    blind = watch(traces.with_columns(propensities=pl.lit(None, dtype=pl.String)), measures).found
    seen = blind.filter(axis="arm", candidate="b", role="gold").row(0, named=True)
    assert seen["basis"] == "observed"
    assert seen["upper"] < 0.0


def test_false_alarms_under_the_null_are_rarer_than_stated():
    """Nothing differs; each run is one agent over its whole course. Limits crossed at any look would count."""
    crossed = alarms = 0
    runs = 80
    for seed in range(runs):
        traces, measures = _deployment(np.random.default_rng(100 + seed), 2_500)
        found = watch(traces, measures).found
        alarms += bool(found["alarm"].any())
        gold = found.filter(role="gold")
        crossed += bool((gold["upper"] < 0.0).any() or (gold["lower"] > 0.0).any())
    assert alarms / runs <= 0.05
    # Both sides of gold alone: at most twice alpha, were it not conservative.
    assert crossed / runs <= 0.10


def test_gold_down_alone_gives_no_more_false_alarms_than_stated():
    alarms = 0
    for seed in range(40):
        traces, measures = _deployment(np.random.default_rng(500 + seed), 2_500, gold={"b": -2.0})
        alarms += watch(traces, measures).alarms > 0
    assert alarms / 40 <= 0.05


def test_the_difference_is_that_of_the_overlap_population():
    """With uniform propensities the weights are equal and the difference is that of the means."""
    random = np.random.default_rng(9)
    n = 4_000
    traces, measures = _deployment(random, n, arms=("a", "b"), gold={"b": -0.8})
    uniform = traces.with_columns(propensities=pl.lit('{"a": 0.5, "b": 0.5}'))
    row = watch(uniform, measures).found.filter(axis="arm", role="gold").row(0, named=True)
    gold = measures.filter(role="gold").join(traces, on="trace_id")
    sides = dict(gold.group_by("arm").agg(pl.col("value").mean()).iter_rows())
    other = next(name for name in "ab" if name != row["baseline"])
    # Both centre: weights of one half make the sums differ from means by the imbalance of the two sides.
    assert row["candidate"] == other
    assert row["difference"] == pytest.approx(sides[other] - sides[row["baseline"]], abs=0.01)


def test_while_collecting_there_are_no_limits():
    traces, measures = _deployment(np.random.default_rng(4), 150)
    found = watch(traces, measures).found
    assert found["lower"].null_count() == found.height
    assert found["reason"].str.starts_with("collecting").all()
    assert not found["alarm"].any()


def test_bad_propensities_are_counted_and_not_used():
    traces, measures = _deployment(np.random.default_rng(5), 3_000)
    broken = traces.with_columns(
        propensities=pl.when(pl.int_range(pl.len()) % 2 == 0)
        .then(pl.lit('{"a": -0.5, "b": 1.0, "c": 0.5}'))
        .otherwise(pl.lit("{broken"))
    )
    seen = watch(broken, measures)
    assert set(seen.found["basis"]) == {"observed"}
    assert any("3000 traces are no probabilities" in note for note in seen.notes)


def test_a_measure_that_one_side_lacks_says_so():
    traces, measures = _deployment(np.random.default_rng(6), 3_000)
    only_a = measures.join(traces.filter(arm="a").select("trace_id"), on="trace_id")
    found = watch(traces, only_a).found.filter(axis="arm")
    assert found["difference"].null_count() == found.height
    assert found["reason"].str.contains("of the baseline have it").all()


def test_constant_values_have_no_limits():
    traces, measures = _deployment(np.random.default_rng(7), 3_000)
    found = watch(traces, measures.with_columns(value=pl.lit(1.0))).found
    assert set(found["reason"]) == {"all values are equal"}


def test_wrong_frames_and_settings_are_named():
    traces, measures = _deployment(np.random.default_rng(8), 50)
    with pytest.raises(ContractError, match="propensities"):
        watch(traces.drop("propensities"), measures)
    with pytest.raises(SettingsError, match="hacking_watch"):
        WatchConfig(alpha=0.0)
    nothing = watch(traces.clear(), measures.clear())
    assert nothing.found.height == 0
    assert nothing.alarms == 0


def _simulated(deployment):
    """The frames that the store would give of a simulated deployment."""
    vector = pl.col("metadata").str.extract(r'"steer\.propensities"\s*:\s*(\{[^{}]*\})', 1)
    traces = deployment.traces.select(
        "trace_id", "agent", "arm", "user_id", version="agent_version", at="started_at", propensities=vector
    )
    kind, asked = pl.col("kind"), pl.col("solicited").fill_null(False)
    explicit = kind.is_in(["thumb", "rating"])
    measure = (
        pl.when(explicit & asked)
        .then(pl.lit("solicited feedback"))
        .when(explicit)
        .then(pl.lit("volunteered feedback"))
        .when(kind == "outcome")
        .then(pl.lit("verified outcome"))
        .when(kind == "judge")
        .then(kind)
    )
    told = (
        deployment.signals.with_columns(measure=measure)
        .filter(pl.col("measure").is_not_null() & pl.col("trace_id").is_not_null())
        .group_by("trace_id", "measure")
        .agg(pl.col("value").mean())
        .with_columns(
            role=pl.when(pl.col("measure").is_in(["solicited feedback", "verified outcome"]))
            .then(pl.lit("gold"))
            .otherwise(pl.lit("proxy"))
        )
    )
    clicks = deployment.truth_items.group_by("trace_id").agg(
        value=pl.col("clicked").cast(pl.Float64).mean(), role=pl.lit("proxy"), measure=pl.lit("click")
    )
    return traces.select(list(TRACES)), pl.concat([part.select(list(MEASURES)) for part in (told, clicks)])


def test_the_reward_hacking_prompt_of_the_simulation_is_found_and_no_other():
    """Prompt v5 of the shop pleases clicks and not people; with arms drawn evenly and half of the people asked."""
    config = SimulationConfig(users=2_000, days=28, traces=20_000, seed=3, exploration_rate=1.0, solicitation_rate=0.5)
    deployment = simulate(config)
    hacking = deployment.truth["reward_hacking"]
    assert "v5" in json.dumps(hacking)
    seen = watch(*_simulated(deployment))
    alarms = seen.found.filter("alarm")
    assert set(alarms.select("agent", "candidate").iter_rows()) == {("shop-assistant", "v5")}
    assert "click" in alarms["measure"].to_list()
    # The composite keeps clicks at half of its variance.
    shop = seen.composites["shop-assistant"]
    assert max(shop["shares"]) <= 0.5 + 1e-6
