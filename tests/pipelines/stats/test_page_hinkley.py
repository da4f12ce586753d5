"""Page-Hinkley against the alarms that river 0.26.1 documents, and against one stream at a time."""

import random

import numpy as np
import pytest

from pipelines.stats.page_hinkley import PageHinkley, alarms


def stream_of_documentation() -> np.ndarray:
    """The stream of river's documentation of `drift.PageHinkley`."""
    draw = random.Random(12345)
    return np.array(draw.choices([0, 1], k=1000) + draw.choices(range(4, 8), k=1000), dtype=float)


def stream_of_its_test() -> np.ndarray:
    """The stream of river's own test; on 0.26.1 it raises four alarms, where older tests expect others."""
    draw = np.random.RandomState(12345)
    return np.concatenate((draw.randint(2, size=1000), draw.randint(8, size=1000))).astype(float)


def test_alarms_are_where_river_documents_them() -> None:
    raised = alarms(np.stack([stream_of_documentation(), stream_of_its_test()]))
    assert np.flatnonzero(raised[0]).tolist() == [1006]
    assert np.flatnonzero(raised[1]).tolist() == [1020, 1397, 1548, 1988]


def test_streams_do_not_touch_each_other() -> None:
    streams = np.random.default_rng(3).normal(0, 3, (40, 400)).cumsum(axis=1) / 20
    settings = PageHinkley(threshold=20.0, min_instances=10)
    together = alarms(streams, settings)
    assert together.any(axis=1).sum() > 5
    np.testing.assert_array_equal(together, np.vstack([alarms(one[None], settings) for one in streams]))


def test_a_fall_is_seen_as_a_rise_is_and_nothing_within_the_warm_up() -> None:
    step = np.repeat([0.0, 10.0], 100)[None]
    up = np.flatnonzero(alarms(step)[0])
    assert up[0] in range(100, 110)
    assert np.flatnonzero(alarms(-step)[0])[0] in range(100, 110)
    assert not alarms(step, PageHinkley(min_instances=201)).any()
    assert not alarms(np.ones((2, 500))).any()


@pytest.mark.parametrize("streams", [np.zeros(5), np.array([[0.0, np.nan]])])
def test_refuses_wrong_streams(streams: np.ndarray) -> None:
    with pytest.raises(ValueError, match="streams must be finite"):
        alarms(streams)
