"""Paired comparisons: against published data, exact enumeration and the exact test of another package."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, binomtest

from pipelines.lessons.payoff.pairs import compare, table
from store.errors import SettingsError


def cheatsheets(shared_data):
    outcomes = pl.read_ndjson(shared_data / "dynamic_cheatsheet" / "outcomes.jsonl")
    lessons = outcomes.filter(pl.col("arm") != "Baseline")
    return table(lessons, by=["task", "model"], pair="qid", arm="arm", control="EmptyCheatsheet", good="correct")


def test_dynamic_cheatsheet_has_exactly_two_lesson_effects(shared_data):
    found = cheatsheets(shared_data)
    assert found.height == 14
    told = found.filter(pl.col("verdict") != "can't tell yet").sort("task")
    assert told.select("task", "model", "fixed", "broke", "verdict").rows() == [
        ("AIME_2020_2024", "claude-3-5-sonnet", 16, 5, "better"),
        ("MathEquationBalancer", "claude-3-5-sonnet", 60, 2, "better"),
    ]
    assert told["p_value"][0] == pytest.approx(0.0266, abs=5e-5)
    assert told["p_value"][1] < 1e-14
    # Over all fourteen questions together only the second holds.
    assert told["p_together"].to_list() == [pytest.approx(0.0266 * 13, abs=1e-3), pytest.approx(0.0, abs=1e-12)]
    net = found.filter(task="AIME_2024", model="gpt-4o", arm="DynamicCheatsheet_Cumulative").row(0, named=True)
    assert (net["pairs"], net["fixed"], net["broke"], net["effect"]) == (30, 2, 2, 0.0)
    assert net["verdict"] == "can't tell yet"


def test_verdicts_agree_with_the_exact_test():
    for pairs in (12, 400):
        for fixed in range(12):
            for broke in range(0, 12 - fixed, 2):
                found = compare(pairs, fixed, broke)
                p = binomtest(fixed, fixed + broke).pvalue if fixed + broke else 1.0
                assert found.p_value == pytest.approx(p)
                assert (found.lower > 0 or found.upper < 0) == (p <= 0.05), (pairs, fixed, broke)
                assert found.lower <= found.effect <= found.upper


def test_the_interval_covers_by_enumeration():
    """Every outcome of 25 pairs with its probability, for rates of fixed and broken pairs."""
    pairs = 25
    for fix, breaks in ((0.02, 0.02), (0.1, 0.02), (0.3, 0.3), (0.5, 0.1), (0.0, 0.2)):
        covered, differ = 0.0, fix + breaks
        for d in range(pairs + 1):
            of_d = binom.pmf(d, pairs, differ)
            shares = binom.pmf(np.arange(d + 1), d, fix / differ)
            for fixed, share in enumerate(shares):
                if of_d * share > 1e-12:
                    found = compare(pairs, fixed, d - fixed)
                    covered += of_d * share * (found.lower <= fix - breaks <= found.upper)
        assert covered >= 0.95, (fix, breaks, covered)


def test_sequential_limits_hold_at_every_look():
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(40):
        fixed = broke = 0
        ever = False
        for step in random.choice(3, 150, p=[0.8, 0.1, 0.1]):
            fixed, broke = fixed + (step == 1), broke + (step == 2)
            n = fixed + broke
            if n and step:
                found = compare(1000, int(fixed), int(broke), sequential=True)
                ever |= found.verdict in ("better", "worse")
        wrong += ever
    assert wrong <= 6  # 2 expected at most


def test_sequential_limits_invert_the_mixture():
    found = compare(100, 30, 10, sequential=True)
    low, high = (found.lower, found.upper)
    assert 0.0 < low < 0.2 < high
    once = compare(100, 30, 10)
    assert low <= once.lower
    assert high >= once.upper


def test_pairs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at most 3 pairs"):
        compare(3, 2, 2)
    nothing = compare(0, 0, 0)
    assert nothing.verdict == "can't tell yet"
    assert "No task was done both" in nothing.reason


def test_an_outcome_that_comes_twice_is_refused():
    rows = pl.DataFrame({"task": ["t", "t"], "qid": ["q", "q"], "arm": ["a", "a"], "good": [True, False]})
    with pytest.raises(SettingsError, match="1 rows repeat one"):
        table(rows, by=["task"], pair="qid", arm="arm", control="a", good="good")
    with pytest.raises(SettingsError, match="no row of the control"):
        table(rows.head(1), by=["task"], pair="qid", arm="arm", control="b", good="good")
