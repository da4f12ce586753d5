"""Off-policy estimates: right where the truth is known, and refused where the log cannot answer."""

import numpy as np
import polars as pl
import pytest
from drawn_decisions import ARMS, WORTH, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.off_policy.estimate import TABLE, evaluate, evaluate_rounds, sample_ratio
from pipelines.off_policy.logged import prepare
from pipelines.off_policy.targets import AsLogged, BySegment, FixedArm, Rate
from pipelines.stats import confidence_sequence
from pipelines.stats.contract import ContractError, FitRefused


def _in_words(found):
    return found.verdict, found.reason_key


@pytest.fixture(scope="module")
def many():
    """Enough decisions to tell the truth, prepared once."""
    return prepare(drawn(40_000))


@pytest.mark.parametrize(
    ("target", "worth"),
    [
        (AsLogged(), 0.7 * 0.5 + 0.15 * 0.5 + 0.15 * 0.5),
        (FixedArm("b"), 0.5),
        (Rate(0.1), 0.5),
        (BySegment({"new": FixedArm("b"), "old": FixedArm("c")}), 0.65),
        (BySegment({"old": FixedArm("c")}, FixedArm("a")), 0.6),
    ],
)
def test_estimates_find_the_truth(many, target, worth):
    found = evaluate(many, target)
    assert found.verdict == "ok"
    assert found.reason is None
    assert found.lower < worth < found.upper
    assert found.value == pytest.approx(worth, abs=0.02)
    assert found.gain == pytest.approx(found.value - found.logged_value)
    assert found.gain_lower < worth - 0.5 < found.gain_upper
    assert found.table.schema == TABLE
    by_name = {row["estimator"]: row for row in found.table.iter_rows(named=True)}
    for name in ("IPS", "SNIPS", "DR"):
        assert by_name[name]["lower"] < worth < by_name[name]["upper"]
        # What holds at every look is wider than what holds at one.
        assert by_name[name]["lower"] < by_name[name]["fixed_lower"] < by_name[name]["value"]
    assert by_name["DM"]["lower"] is None
    assert found.warnings == ()


def test_the_outcome_model_narrows_the_answer_and_knows_nobodys_own_reward():
    found = evaluate(drawn(4_000, certain=True), BySegment({"new": FixedArm("b"), "old": FixedArm("c")}))
    width = {row["estimator"]: row["fixed_upper"] - row["fixed_lower"] for row in found.table.iter_rows(named=True)
             if row["estimator"] != "DM"}  # fmt: skip
    assert width["DR"] < width["IPS"] / 5
    # Rewards without any pattern, one decision a person: a model that had seen them would fit them.
    random = np.random.default_rng(5)
    noise = drawn(2_000).with_columns(reward=pl.Series(random.random(2_000)), task=pl.int_range(2_000).cast(pl.String))
    prepared = prepare(noise)
    fitted = prepared.fitted[np.arange(2_000), prepared.drawn]
    assert abs(np.corrcoef(fitted, prepared.reward)[0, 1]) < 0.1


def test_decisions_of_a_person_are_in_one_fold():
    logged = drawn(3_000, users=40)
    prepared = prepare(logged)
    # Cross-fitting makes q a function of what others did: within a person, of the context alone.
    cells = pl.DataFrame({"user": logged["user_id"], "task": logged["task"], "q": prepared.fitted[:, 0]})
    assert cells.group_by("user", "task").agg(pl.col("q").n_unique())["q"].max() == 1


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(300, 900), st.floats(0.05, 0.9), st.booleans())
def test_the_logging_policy_is_worth_its_mean_reward(seed, count, rate, again):
    found = evaluate(drawn(count, seed=seed, rate=rate, users=60 if again else None), AsLogged())
    assert found.diagnostics.mean_weight == pytest.approx(1.0)
    assert found.diagnostics.largest_weight == pytest.approx(1.0)
    if found.verdict == "ok":
        table = {row["estimator"]: row["value"] for row in found.table.iter_rows(named=True)}
        assert table["IPS"] == pytest.approx(found.logged_value)
        assert table["SNIPS"] == pytest.approx(found.logged_value)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([FixedArm("b"), Rate(0.5), Rate(0.02)]))
def test_the_order_of_decisions_does_not_matter(seed, target):
    logged = drawn(3_000, seed=seed % 7, users=900)
    shuffled = logged.sample(fraction=1.0, shuffle=True, seed=seed)
    first, second = evaluate(logged, target), evaluate(shuffled, target)
    assert first.verdict == second.verdict
    assert second.table["value"].to_list() == pytest.approx(first.table["value"].to_list(), rel=1e-9)
    for name in ("value", "lower", "upper", "gain", "gain_lower"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-9), name


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_weights_average_one(seed, rate):
    diagnostics = evaluate(drawn(2_000, seed=seed), Rate(rate)).diagnostics
    assert abs(diagnostics.mean_weight_z) < 5.0
    assert diagnostics.ess <= diagnostics.units


def test_the_interval_is_the_confidence_sequence_of_the_pseudo_outcomes():
    logged = drawn(3_000)
    prepared = prepare(logged)
    found = evaluate(prepared, FixedArm("b"))
    p, r = prepared.propensity, prepared.reward
    w = np.where(prepared.drawn == 1, 1.0 / p, 0.0)
    q = prepared.fitted[:, 1]
    values = q + w * (r - q)
    look = confidence_sequence.mean(
        3_000, float(values.mean()), float(values.var()), ess=found.ess, largest_weight=w.max()
    )
    assert found.value == pytest.approx(look.estimate)
    # A little wider: guarded against outcomes not seen yet, which at a rate near one half is next to nothing.
    assert look.lower - 1e-3 < found.lower <= look.lower < look.upper <= found.upper < look.upper + 1e-3


def test_rare_outcomes_do_not_make_an_answer_sure_of_itself():
    random = np.random.default_rng(8)
    count, worth, p = 10_000, 0.003, 0.03
    always, once = [], []
    for _ in range(100):
        rounds = pl.DataFrame(
            {"propensity": p, "target": (random.random(count) < p).astype(float),
             "reward": (random.random(count) < worth).astype(float), "fitted": worth, "direct": worth}
        )  # fmt: skip
        found = evaluate_rounds(rounds, "an arm with three successes in a thousand")
        always.append(found.lower <= worth <= found.upper)
        once.append(found.fixed_lower <= worth <= found.fixed_upper)
    assert np.mean(always) >= 0.95
    assert np.mean(once) < 0.8


def test_nothing_is_said_before_the_weights_are_worth_two_hundred_decisions():
    found = evaluate(drawn(900), FixedArm("b"))
    assert 100 < found.ess < 200
    assert _in_words(found) == ("collecting", "collecting")
    assert f"{found.ess:.0f}" in found.reason
    assert (found.value, found.lower, found.gain) == (None, None, None)
    assert found.table.is_empty()
    assert evaluate(drawn(1_800), FixedArm("b")).verdict == "ok"


def test_decisions_of_a_user_day_count_once():
    apart = evaluate(drawn(6_000), FixedArm("b"))
    together = evaluate(drawn(6_000, users=300), FixedArm("b"))
    assert together.diagnostics.units == 300
    assert together.ess < 300 < apart.ess
    assert "users' days" in evaluate(drawn(600, users=30), FixedArm("b")).reason


def test_what_was_never_tried_is_refused():
    logged = drawn(3_000)
    assert _in_words(evaluate(logged, FixedArm("z"))) == ("refused", "no_overlap")
    # Arm c came late: before, it could not be drawn.
    early = logged.filter(pl.col("arm") != "c").head(600).with_columns(
        arms=pl.lit(["a", "b"]), propensities=pl.concat_list(pl.lit(0.85), pl.lit(0.15)),
        propensity=pl.when(pl.col("arm") == "a").then(0.85).otherwise(0.15),
    )  # fmt: skip
    mixed = pl.concat([early, logged.tail(2_400)])
    found = evaluate(mixed, FixedArm("c"))
    assert _in_words(found) == ("refused", "no_overlap")
    assert found.diagnostics.impossible_share == pytest.approx(0.2)
    assert "20 %" in found.reason
    assert found.overlap.filter(arm="c")["impossible"].item() == pytest.approx(600)
    possible = evaluate(mixed, FixedArm("c"), where_possible=True)
    assert (possible.verdict, possible.n) == ("ok", 2_400)
    assert evaluate(mixed, Rate(0.1)).verdict == "ok"


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ({"propensity": pl.lit(0.0)}, "impossible_propensities"),
        ({"propensity": pl.lit(-0.1)}, "impossible_propensities"),
        ({"propensity": pl.lit(1.2)}, "impossible_propensities"),
        ({"propensity": pl.col("propensity") + 0.01}, "impossible_propensities"),
        ({"propensities": pl.concat_list(pl.lit(1.2), pl.lit(-0.1), pl.lit(-0.1))}, "impossible_propensities"),
        ({"propensities": pl.concat_list(pl.lit(0.7), pl.lit(0.15), pl.lit(0.2))}, "impossible_propensities"),
        ({"propensities": pl.concat_list(pl.lit(0.7), pl.lit(0.3))}, "impossible_propensities"),
        ({"arms": pl.lit(["x", "y", "z"])}, "impossible_propensities"),
        ({"propensity": pl.lit(None, pl.Float64)}, "missing_propensities"),
        ({"propensity": pl.lit(float("nan"))}, "missing_propensities"),
        ({"propensities": pl.lit(None, pl.List(pl.Float64))}, "missing_propensities"),
        ({"propensities": pl.lit([], pl.List(pl.Float64))}, "missing_propensities"),
        ({"propensities": pl.concat_list(pl.lit(0.7), pl.lit(None, pl.Float64), pl.lit(0.3))}, "missing_propensities"),
    ],
)
def test_one_propensity_that_cannot_be_is_enough_to_refuse(columns, key):
    logged = drawn(2_000)
    broken = pl.concat([logged.head(1).with_columns(**columns), logged.tail(1_999)])
    found = evaluate(broken, AsLogged())
    assert _in_words(found) == ("refused", key)
    assert found.value is None
    with pytest.raises(FitRefused) as refused:
        prepare(broken)
    assert refused.value.reason == key


@settings(max_examples=25)
@given(st.integers(0, 1_999), st.sampled_from([0.0, -1e-9, 1.0 + 1e-6, float("inf"), float("nan")]))
def test_rounds_with_a_propensity_that_cannot_be_are_refused(at, propensity):
    p = np.full(2_000, 0.5)
    p[at] = propensity
    rounds = pl.DataFrame({"propensity": p, "target": 0.5, "reward": 1.0, "fitted": 0.0, "direct": 0.0})
    assert _in_words(evaluate_rounds(rounds, "x")) == ("refused", "impossible_propensities")


def test_a_log_that_lost_propensities_is_not_trusted():
    logged = drawn(2_000)
    assert evaluate(logged, AsLogged(), dropped={"missing_propensities": 10}).verdict == "ok"
    for key in ("missing_propensities", "impossible_propensities"):
        found = evaluate(logged, AsLogged(), dropped={key: 40, "no_trace": 5})
        assert _in_words(found) == ("refused", key)
        assert "40 of 2,040" in found.reason
        assert found.dropped["no_trace"] == 5


def test_arms_that_ran_in_other_shares_than_logged_stop_everything():
    logged = drawn(4_000)
    assert evaluate(logged, AsLogged()).diagnostics.sample_ratio_p > 0.001
    # A quarter of arm c's traces never arrive.
    lost = logged.filter((pl.col("arm") != "c") | (pl.int_range(pl.len()) % 4 > 0))
    found = evaluate(lost, AsLogged())
    assert _in_words(found) == ("refused", "sample_ratio")


def test_the_sample_ratio_test_is_chi_square_of_counts_and_holds_its_level():
    from scipy.stats import chisquare

    p = np.array([0.5, 0.3, 0.2])
    random = np.random.default_rng(1)
    arm = random.choice(3, 2_000, p=p)
    expected = chisquare(np.bincount(arm), 2_000 * p).pvalue
    assert sample_ratio(np.tile(p, (2_000, 1)), arm) == pytest.approx(expected)
    # Propensities that differ from decision to decision, some of them certain.
    pvalues = []
    for _ in range(400):
        vectors = random.dirichlet(np.ones(4), 300)
        vectors[:50] = [1.0, 0.0, 0.0, 0.0]
        pvalues.append(sample_ratio(vectors, (random.random(300)[:, None] > vectors.cumsum(axis=1)).sum(axis=1)))
    assert np.mean(np.array(pvalues) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(pvalues) == pytest.approx(0.5, abs=0.06)
    assert sample_ratio(np.tile([1.0, 0.0], (300, 1)), np.zeros(300, dtype=int)) is None


def _weighted(weights):
    w = np.asarray(weights, dtype=float)
    reward = np.arange(w.size) % 2.0
    return pl.DataFrame({"propensity": 0.001, "target": w / 1000, "reward": reward, "fitted": 0.5, "direct": 0.5})


def test_weights_that_rest_on_a_few_decisions_are_refused():
    few = evaluate_rounds(_weighted(np.r_[np.full(250, 100.0), np.zeros(30_000)]), "x")
    assert _in_words(few) == ("refused", "effective_size")
    assert "30,250" in few.reason
    one = evaluate_rounds(_weighted(np.r_[np.ones(5_000), 350.0]), "x")
    assert one.ess >= 200
    assert _in_words(one) == ("refused", "dominated")
    assert "6.54 %" in one.reason
    poor = evaluate_rounds(_weighted(np.r_[np.full(800, 10.0), np.full(20_000, 0.1)]), "x")
    assert poor.verdict == "ok"
    assert any("Poor overlap" in warning for warning in poor.warnings)


def test_propensities_that_are_wrong_show_in_the_mean_weight():
    random = np.random.default_rng(0)
    # Logged .2, drawn with .3.
    w = np.where(random.random(5_000) < 0.3, 5.0, 0.0)
    found = evaluate_rounds(
        pl.DataFrame(
            {"propensity": 0.2, "target": w / 5.0, "reward": np.arange(5_000) % 2.0, "fitted": 0.5, "direct": 0.5}
        ),
        "x",
    )
    assert found.diagnostics.mean_weight_z > 10
    assert any(f"average {w.mean():.3f}" in warning for warning in found.warnings)


def test_rewards_that_are_all_equal_are_no_answer():
    found = evaluate(drawn(3_000).with_columns(reward=pl.lit(0.5)), AsLogged())
    assert _in_words(found) == ("refused", "equal_rewards")
    assert "0.5" in found.reason


def test_no_decision_is_a_refusal_and_other_columns_an_error():
    assert _in_words(evaluate(drawn(10).clear(), AsLogged())) == ("refused", "no_rows")
    assert _in_words(evaluate_rounds(_weighted([]), "x")) == ("refused", "no_rows")
    with pytest.raises(ContractError, match="reward"):
        evaluate(drawn(10).drop("reward"), AsLogged())


def test_arms_are_whatever_the_decisions_had():
    logged = drawn(2_000)
    prepared = prepare(logged)
    assert prepared.choices.arms == ARMS
    assert prepared.choices.segments == ("new", "old")
    assert WORTH[prepared.choices.segment, prepared.drawn].mean() == pytest.approx(prepared.reward.mean(), abs=0.05)
    nameless = prepare(logged.with_columns(segment=pl.lit(None, pl.String), user_id=pl.lit(None, pl.String)))
    assert nameless.choices.segments == ()
    assert set(nameless.choices.segment) == {-1}
