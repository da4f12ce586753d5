"""Work in a process of its own: the same answer, its own errors, and an end when it is killed or told to stop."""

import operator
import os
import threading
import time

import polars as pl
import pytest

from pipelines.compute import Aside, ComputeLost, here
from pipelines.jobs import JobInterrupted
from pipelines.stats.contract import ContractError, FitRefused, numbers, require

SCHEMA = pl.Schema({"a": pl.Int64()})


def go_on():
    pass


@pytest.fixture
def compute():
    made = Aside(go_on)
    yield made
    made.close()


@pytest.mark.process
def test_it_runs_in_another_process_behind_others(compute):
    other = compute(os.getpid)
    assert other != os.getpid() == here(os.getpid)
    assert compute(os.getpid) == other
    assert compute(os.getpriority, os.PRIO_PROCESS, 0) >= os.getpriority(os.PRIO_PROCESS, 0)
    compute.close()
    assert compute(os.getpid) != other


@pytest.mark.process
def test_frames_and_errors_go_there_and_back(compute):
    frame = pl.DataFrame({"a": [1, 2]}, schema=SCHEMA)
    assert compute(require, frame, SCHEMA, "numbers", not_null=["a"]).equals(frame)
    with pytest.raises(ZeroDivisionError):
        compute(operator.truediv, 1, 0)
    with pytest.raises(ContractError) as here_said:
        require(pl.DataFrame({"b": [1]}), SCHEMA, "numbers")
    with pytest.raises(Exception) as there_said:  # noqa: PT011
        compute(require, pl.DataFrame({"b": [1]}), SCHEMA, "numbers")
    assert str(here_said.value) in str(there_said.value)
    with pytest.raises(FitRefused) as refused:
        compute(numbers, "fit", "response", [float("nan")])
    assert (refused.value.model, refused.value.reason) == ("fit", "not_finite")


@pytest.mark.process
def test_a_process_that_ends_is_an_error_with_a_reason_and_the_next_call_has_another(compute):
    with pytest.raises(ComputeLost, match="ended from outside"):
        compute(os._exit, 3)
    assert compute(os.getpid) != os.getpid()


@pytest.mark.process
def test_being_told_to_stop_ends_the_process():
    asked = threading.Event()

    def stop():
        asked.set()
        raise JobInterrupted

    begun = time.monotonic()
    with pytest.raises(JobInterrupted):
        Aside(stop)(time.sleep, 600)
    assert asked.is_set()
    assert time.monotonic() - begun < 300
