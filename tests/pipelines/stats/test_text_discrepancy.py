"""MMD with the Hamming kernel and the shift of log-probabilities: by hand, by brute force, calibrated, powerful."""

from itertools import permutations
from math import comb, isclose

import numpy as np
import pytest
from scipy.stats import binom

from pipelines.stats import log_probability_shift, text_discrepancy
from pipelines.stats.permutation import assignments, permutation_test
from pipelines.stats.text_discrepancy import compare, hamming_kernel

LETTERS = list("abcd")


def answers(random: np.random.Generator, shares: list[float], count: int) -> list[str]:
    lengths = random.integers(3, 8, size=count)
    return ["".join(random.choice(LETTERS, size=length, p=shares)) for length in lengths]


def test_the_kernel_is_the_share_of_equal_characters_with_padding() -> None:
    # L = 4: "abcd" and "abxd" agree in 3 places, "ab" and "abcd" in 2, "ab" and "a" in "a" and 2 places of padding.
    kernel = hamming_kernel(["abcd", "abxd", "ab", "a"])
    assert kernel.tolist() == [
        [1.0, 0.75, 0.5, 0.25], [0.75, 1.0, 0.5, 0.25], [0.5, 0.5, 1.0, 0.75], [0.25, 0.25, 0.75, 1.0],
    ]  # fmt: skip
    assert hamming_kernel(["aa", "ab", "ax"], characters=1).min() == 1.0
    assert hamming_kernel(["", ""]).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert hamming_kernel(["\U0001f600é", "\U0001f600e", "\ud800"])[0].tolist() == [1.0, 0.5, 0.0]


def test_the_statistic_of_the_paper_on_an_example_by_hand() -> None:
    # One prompt. Old: "aa", "ab" (kernel 1/2). New: "bb", "bb" (kernel 1). Mixed: 0, 0, 1/2, 1/2, mean 1/4.
    found = compare({"p": ["aa", "ab"]}, {"p": ["bb", "bb"]}, np.random.default_rng(0))
    assert found is not None
    assert isclose(found.mmd, 0.5 - 2 * 0.25 + 1.0)
    assert (found.alike_before, found.alike_after, found.effect) == (0.5, 0.25, -0.25)
    # Of the 6 ways to choose the new answers, {bb, bb} gives 1, its complement too, the other four less.
    assert found.p_value == pytest.approx(2 / 6, abs=0.12)


def test_answers_to_different_prompts_are_never_compared() -> None:
    random = np.random.default_rng(1)
    before = {"p": ["aaaa"] * 6, "q": ["bbbb"] * 6}
    same = compare(before, {"p": ["aaaa"] * 4, "q": ["bbbb"] * 4}, random)
    swapped = compare(before, {"p": ["bbbb"] * 4, "q": ["aaaa"] * 4}, random)
    assert same is not None
    assert swapped is not None
    assert (same.mmd, same.p_value) == (0.0, 1.0)
    assert isclose(swapped.mmd, 2.0)
    # All 4 of 10 in the right place, in both prompts: 1 in C(10, 4)^2.
    assert swapped.p_value < 5 / comb(10, 4)
    assert compare({"p": ["a"]}, {"p": ["b"] * 9}, random) is None
    assert compare({"p": ["a"] * 9}, {"q": ["b"] * 9}, random) is None


def test_the_fast_statistic_is_the_definition() -> None:
    random = np.random.default_rng(2)
    before = {name: answers(random, [0.25] * 4, 5) for name in "pqr"}
    after = {name: answers(random, [0.4, 0.3, 0.2, 0.1], 3) for name in "pqr"}
    sums, pairs = {"oo": 0.0, "on": 0.0, "nn": 0.0}, {"oo": 0, "on": 0, "nn": 0}
    for prompt in "pqr":
        length = max(len(text) for text in before[prompt] + after[prompt])
        sides = {
            "o": [t.ljust(length, "\0") for t in before[prompt]],
            "n": [t.ljust(length, "\0") for t in after[prompt]],
        }
        for key in sums:
            for i, x in enumerate(sides[key[0]]):
                for j, y in enumerate(sides[key[1]]):
                    if key[0] != key[1] or i != j:
                        sums[key] += sum(a == b for a, b in zip(x, y, strict=True)) / length
                        pairs[key] += 1
    expected = sums["oo"] / pairs["oo"] - 2 * sums["on"] / pairs["on"] + sums["nn"] / pairs["nn"]
    found = compare(before, after, random)
    assert found is not None
    assert isclose(found.mmd, expected, rel_tol=1e-9)
    assert found.effect_sd > 0


def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    random = np.random.default_rng(3)
    runs = 300
    p_values, shifts = [], []
    for _ in range(runs):
        old, new = ({name: answers(random, [0.4, 0.3, 0.2, 0.1], size) for name in "pq"} for size in (10, 6))
        found = compare(old, new, random, most=499)
        assert found is not None
        p_values.append(found.p_value)
        noisy = [{token: float(random.normal(-2, 0.1)) for token in "abc"} for _ in range(14)]
        shift = log_probability_shift.compare({"x": noisy[:8]}, {"x": noisy[8:]}, random, most=499)
        assert shift is not None
        shifts.append(shift.p_value)
    for values in (np.array(p_values), np.array(shifts)):
        for level in (0.02, 0.05, 0.2):
            assert binom.ppf(0.0005, runs, level * 0.8) <= (values <= level).sum() <= binom.ppf(0.9995, runs, level)


def test_a_changed_distribution_is_found() -> None:
    random = np.random.default_rng(4)
    found = 0
    for _ in range(20):
        old = {name: answers(random, [0.25] * 4, 20) for name in "pqrstu"}
        new = {name: answers(random, [0.55, 0.15, 0.15, 0.15], 10) for name in "pqrstu"}
        test = compare(old, new, random, most=999)
        found += test is not None and test.p_value <= 0.01
    assert found >= 18


def test_log_probabilities_that_shift_a_little_are_found_and_missing_tokens_are_no_more_likely_than_the_last() -> None:
    random = np.random.default_rng(5)

    def listed(mean: float, count: int) -> list[dict[str, float]]:
        return [{"yes": float(random.normal(mean, 0.02)), "no": -2.0} for _ in range(count)]

    moved = log_probability_shift.compare({"x": listed(-0.5, 20)}, {"x": listed(-0.55, 10)}, random)
    assert moved is not None
    assert moved.p_value < 0.001
    assert moved.effect == pytest.approx(-0.05, abs=0.03)
    # By hand: "no" is missing once and stands for -1, the least that was listed there; means -1.5 and -3.
    seldom = log_probability_shift.compare(
        {"x": [{"yes": -1.0}, {"yes": -1.0, "no": -2.0}]}, {"x": [{"yes": -1.0, "no": -3.0}] * 2}, random
    )
    assert seldom is not None
    assert isclose(seldom.statistic, (0.0 + 1.5) / 2)
    assert log_probability_shift.compare({"x": [{}, {}]}, {"x": [{"a": -1.0}] * 3}, random) is None


def test_permutation_p_values_are_those_of_all_permutations() -> None:
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    observed = float(values[:3].sum())
    every = [sum(values[list(order[:3])]) for order in permutations(range(6))]
    exact = np.mean([each >= observed for each in every])
    random = np.random.default_rng(6)
    test = permutation_test(observed, lambda count: assignments(count, 6, 3, random) @ values, most=20_000)
    assert test.p_value == pytest.approx(float(exact), abs=0.25 * float(exact) + 0.02)
    assert permutation_test(1e9, lambda count: np.zeros(count), most=99).p_value == 0.01
    assert permutation_test(0.0, lambda count: np.zeros(count), most=99).p_value == 1.0
    with pytest.raises(ValueError, match="at least one"):
        permutation_test(0.0, lambda count: np.zeros(count), most=0)
    marks = assignments(50, 7, 3, random)
    assert (marks.sum(axis=1) == 3).all()
    assert assignments(2, 4, 0, random).sum() == 0
    assert text_discrepancy.CHARACTERS == 1_000
