"""The Open Bandit Dataset's sample: a uniform and a learning policy on the same page, each asked about from the other.

The facts are those of ../shared/data/README.md (obd_small, st-tech/zr-obp @8cbd5fa, Apache-2.0).
"""

import polars as pl
import pytest

from pipelines.off_policy.estimate import evaluate_rounds

ITEMS = 34
# How often the learning policy shows each item at each position, of 100,000 simulations with its production priors:
# obp 0.5.5, BernoulliTS(n_actions=34, len_list=3, is_zozotown_prior=True, campaign="men", random_state=12345).
SHOWN = (
    (4650, 430, 3179, 1365, 84, 250, 3671, 1652, 1684, 3342, 378, 87, 47, 28810, 1740, 335, 470, 870, 5323, 1629, 198,
     3999, 6337, 15440, 277, 27, 3225, 2157, 281, 2567, 176, 2930, 436, 1954),
    (4531, 314, 4047, 3193, 60, 183, 5681, 2122, 1598, 4439, 775, 88, 57, 31437, 1759, 249, 248, 931, 2175, 1070, 175,
     2207, 3575, 16139, 248, 31, 2876, 2098, 232, 2050, 145, 2310, 250, 2707),
    (5268, 324, 5247, 5856, 41, 180, 7725, 2914, 1744, 5848, 1389, 128, 88, 20887, 2211, 251, 252, 1080, 1981, 947, 232,
     1885, 3362, 15442, 299, 25, 3251, 2441, 253, 2196, 156, 2380, 243, 3474),
)  # fmt: skip


@pytest.fixture(scope="module")
def logs(shared_data):
    """The uniform policy's log and the learning policy's."""
    folder = shared_data / "obd_small"
    if not folder.is_dir():
        pytest.skip("../shared/data/obd_small is not here")
    return tuple(
        pl.read_csv(folder / f"{name}_men.csv.gz", columns=["item_id", "position", "click", "propensity_score"])
        for name in ("random", "bts")
    )


def _frequencies(log):
    """Of items at each position."""
    counted = log.group_by("position", "item_id").len("target")
    return counted.with_columns(pl.col("target") / pl.col("target").sum().over("position"))


def _rounds(log, target):
    """`target` (position, item_id, target) on another policy's log, without a model of the outcome."""
    joined = log.join(target, on=["position", "item_id"], how="left", maintain_order="left")
    return joined.select(
        propensity="propensity_score", target=pl.col("target").fill_null(0.0),
        reward=pl.col("click").cast(pl.Float64), fitted=pl.lit(0.0), direct=pl.lit(0.0),
    )  # fmt: skip


def _ips(found):
    row = found.table.filter(estimator="IPS").row(0, named=True)
    return row["value"], (row["fixed_upper"] - row["fixed_lower"]) / 2 / 1.959964


def test_on_policy_click_rates(logs):
    uniform, learning = logs
    assert uniform["click"].mean() == pytest.approx(0.0046)
    assert learning["click"].mean() == pytest.approx(0.0069)


def test_the_learning_policy_from_the_uniform_log(logs):
    uniform, learning = logs
    table = pl.DataFrame(
        [(place, item, n / 100_000) for place, row in enumerate(SHOWN, 1) for item, n in enumerate(row)],
        schema=["position", "item_id", "target"],
        orient="row",
    )
    found = evaluate_rounds(_rounds(uniform, table), "the learning policy")
    value, error = _ips(found)
    assert found.verdict == "ok"
    assert value == pytest.approx(0.0045, abs=5e-5)
    assert error == pytest.approx(0.0012, abs=5e-5)
    assert found.lower < learning["click"].mean() < found.upper
    # With the frequencies of its own log rather than simulated ones the answer is the same within its error.
    value, error = _ips(evaluate_rounds(_rounds(uniform, _frequencies(learning)), "the learning policy"))
    assert abs(value - 0.0045) < error < 0.0015


def test_the_uniform_policy_from_the_learning_log_has_poor_overlap(logs):
    uniform, learning = logs
    even = _frequencies(uniform).with_columns(target=pl.lit(1.0 / ITEMS))
    for target, ess, weight in ((even, 655.7, 178.3), (_frequencies(uniform), 624.0, 197.47)):
        found = evaluate_rounds(_rounds(learning, target), "the uniform policy")
        assert found.ess == pytest.approx(ess, abs=0.1)
        assert found.diagnostics.largest_weight == pytest.approx(weight, abs=0.06)
        (warning,) = (one for one in found.warnings if "Poor overlap" in one)
        assert f"{ess:.0f} of 10,000" in warning
        assert f"counts like {weight:.0f}" in warning
        # The interval says so too: it cannot even tell the value from 0.
        assert found.lower < 0.0 < uniform["click"].mean() < found.upper


def test_a_thirtieth_of_the_learning_log_is_not_enough(logs):
    uniform, learning = logs
    even = _frequencies(uniform).with_columns(target=pl.lit(1.0 / ITEMS))
    found = evaluate_rounds(_rounds(learning.head(333), even), "the uniform policy")
    assert found.verdict == "collecting"
    assert found.value is None
