"""pass^k against enumeration and the published numbers of tau-bench."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stats.contract import ContractError
from pipelines.stats.pass_k import pass_k, unbiased


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_estimator_is_the_share_of_subsets_that_all_succeed(rollouts: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rollouts)))
    subsets = list(combinations(rollouts, k))
    expected = sum(all(subset) for subset in subsets) / len(subsets)
    assert unbiased(np.array([sum(rollouts)]), np.array([len(rollouts)]), k)[0] == pytest.approx(expected)


def test_small_tasks_are_left_out_and_counted() -> None:
    outcomes = pl.DataFrame({"task": ["a", "a", "b"], "success": [True, True, False]})
    table = pass_k(outcomes, 3)
    assert table["mean"].to_list() == [0.5, 1.0, None]
    assert table["tasks"].to_list() == [2, 1, 0]
    assert table["tasks_too_small"].to_list() == [0, 1, 2]
    assert table["lower"].to_list()[1:] == [None, None]


def test_refuses_wrong_input() -> None:
    with pytest.raises(ValueError, match="pass"):
        unbiased(np.array([1]), np.array([2]), 3)
    with pytest.raises(ContractError, match="success may not be null"):
        pass_k(pl.DataFrame({"task": ["a"], "success": [None]}))


def test_tau_bench(shared_data: Path) -> None:
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    outcomes = pl.DataFrame([{"task": str(run["task_id"]), "success": run["reward"] == 1.0} for run in runs])
    table = pass_k(outcomes)
    assert [round(value, 3) for value in table["mean"]] == [0.42, 0.273, 0.22, 0.2]
    assert table["tasks"].to_list() == [50] * 4
    assert (table["lower"] < table["mean"]).all()
    assert (table["mean"] < table["upper"]).all()
