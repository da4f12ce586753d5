"""Stated against revealed: the test keeps its level when both agree, and finds those who do not."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from pipelines.preferences import stated_revealed

TIME = pl.Datetime("us", "UTC")


def _compared(count, *, apart, sd=0.2, seed=1):
    """Revealed and stated weights of people around one truth; the first `apart` people's are reversed in a feature."""
    random = np.random.default_rng(seed)
    truth = random.normal(0.6, 0.4, (count, 4)) + np.array([1.0, 0.0, 0.0, 0.5])
    meant = truth * np.exp(random.normal(0.0, 0.3, (count, 1)))  # the scale of what is said is another
    meant[:apart, 0] *= -1
    noise = np.tile(np.eye(4) * sd**2, (count, 1, 1))
    said, done = (value + random.normal(0.0, sd, (count, 4)) for value in (meant, truth))
    return stated_revealed.test(done, noise, said, noise, np.random.default_rng(seed))


def test_the_p_value_is_uniform_when_both_point_the_same_way():
    tested = _compared(4_000, apart=0, sd=0.08)
    assert kstest(tested.p_value, "uniform").pvalue > 0.001
    assert np.mean(tested.p_value < 0.05) == pytest.approx(0.05, abs=0.012)


def test_contradictions_are_found_at_the_stated_false_discovery():
    tested = _compared(2_000, apart=200)
    q, found = stated_revealed.decide(tested)
    assert np.all(q[found] <= stated_revealed.FALSE_DISCOVERY)
    assert found[:200].mean() > 0.9
    assert found[200:].sum() / found.sum() < 0.07


def test_a_certain_but_small_angle_is_no_contradiction():
    direction = np.array([[1.0, 0.0], [1.0, 0.0]])
    other = np.array([[1.0, np.tan(np.radians(15))], [1.0, np.tan(np.radians(25))]])
    tiny = np.tile(np.eye(2) * 1e-6, (2, 1, 1))
    tested = stated_revealed.test(direction, tiny, other, tiny, np.random.default_rng(1))
    assert tested.angle == pytest.approx([15.0, 25.0])
    assert np.all(tested.p_value < 1e-6)
    assert stated_revealed.decide(tested)[1].tolist() == [False, True]
    assert np.all((tested.lower <= tested.angle) & (tested.angle <= tested.upper))


def test_lengths_do_not_matter_and_opposite_directions_are_half_a_turn():
    here = np.array([[1.0, 2.0, -0.5]])
    noise = np.eye(3)[None] * 0.01
    same = stated_revealed.test(here, noise, 7.0 * here, 49.0 * noise, np.random.default_rng(1))
    assert same.angle[0] == pytest.approx(0.0, abs=1e-5)
    assert same.p_value[0] == pytest.approx(1.0)
    reverse = stated_revealed.test(here, noise, -here, noise, np.random.default_rng(1))
    assert reverse.angle[0] == pytest.approx(180.0)


def test_one_feature_has_no_direction():
    with pytest.raises(ValueError, match="two features"):
        stated_revealed.test(np.ones((1, 1)), np.ones((1, 1, 1)), np.ones((1, 1)), np.ones((1, 1, 1)), None)


def _statements(users, repeats, *, error, seed=3):
    random = np.random.default_rng(seed)
    meant = random.normal([1.0, -0.5], [0.6, 0.3], (users, 2))
    rows = [
        (f"u{user}", feature, float(meant[user, column] + random.normal(0, error)), None)
        for user in range(users) for column, feature in enumerate(("price", "health")) for _ in range(repeats)
    ]  # fmt: skip
    schema = {"user_id": pl.String, "feature": pl.String, "value": pl.Float64, "occurred_at": TIME}
    return pl.DataFrame(rows, schema=schema, orient="row"), meant


def test_statements_are_shrunk_by_their_own_error_and_intervals_cover():
    frame, meant = _statements(500, 3, error=0.4)
    stated = stated_revealed.shrink(frame, ["price", "health", "never stated"][:2], {}, 0)
    assert stated is not None
    assert stated.error == pytest.approx([0.4, 0.4], abs=0.03)
    assert not stated.assumed
    assert np.sqrt(np.diag(stated.spread[0])) == pytest.approx([0.6, 0.3], abs=0.06)
    covered = np.abs(stated.weights - meant) < 1.96 * np.sqrt(np.einsum("uii->ui", stated.covariance))
    assert 0.93 <= covered.mean() <= 0.97
    assert stated.statements.tolist() == [6] * 500


def test_single_statements_have_an_assumed_error_and_say_so():
    frame, _ = _statements(100, 1, error=0.4)
    stated = stated_revealed.shrink(frame, ["price", "health"], {}, 0)
    assert stated is not None
    assert stated.assumed


def test_nobody_or_one_person_stated_nothing_to_shrink():
    frame, _ = _statements(1, 3, error=0.1)
    assert stated_revealed.shrink(frame, ["price", "health"], {}, 0) is None
    assert stated_revealed.shrink(frame, ["other"], {}, 0) is None
