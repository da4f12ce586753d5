"""The benchmark of change detection, small: what it counts, and that few of those flagged are false."""

from pathlib import Path

import numpy as np
import pytest

from bench.drift import RATE, alarms, detections, false_discoveries
from bench.drift_streams import CHANGE, EVENTS, SCENARIOS


def test_streams_are_the_same_each_time_and_change_where_they_say() -> None:
    for scenario in SCENARIOS:
        changed = scenario.streams(200, changed=True)
        np.testing.assert_array_equal(changed, scenario.streams(200, changed=True))
        assert changed.shape == (200, EVENTS)
        still = scenario.streams(200, changed=False)
        step, none = (each[:, CHANGE:].mean() - each[:, :CHANGE].mean() for each in (changed, still))
        assert abs(step) > 0.07
        assert abs(none) < 0.02 * max(1.0, float(still.std()))


def test_the_first_alarm_counts() -> None:
    p = np.array([[0.5, 0.5, 0.5], [0.5, 0.01, 0.5], [0.001, 0.001, 0.02]])
    assert alarms(p, 0.01, RATE).tolist() == [60, 40, 0]


def test_without_river_the_rows_are_ours_and_find_what_changed(tmp_path: Path) -> None:
    rows = detections(tmp_path, scale=100)
    assert {row.detector for row in rows} == {"ours, p ≤ 0.01", "ours, p ≤ 0.002"}
    assert len(rows) == 2 * len(SCENARIOS)
    assert np.mean([row.false_alarms for row in rows]) <= 0.03
    assert np.mean([row.power for row in rows if "0.01" in row.detector]) >= 0.95


@pytest.mark.parametrize("concentrated", [False, True])
def test_few_of_those_flagged_are_false(concentrated: bool) -> None:
    found = false_discoveries(scale=50, seeds=3, concentrated=concentrated)
    assert (found.seeds, found.users) == (3, 2_000)
    assert found.flagged > 15
    assert found.false <= 4
    changed, hit = found.by_length[1_000]
    assert hit >= 0.9 * changed
    assert found.by_length[10][1] == 0
    assert sum(of for of, _ in found.by_length.values()) == 3 * 40
