"""What exploring did cost: against people of the same segment, by day, in reward points and money."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from pipelines.exploration.regret import LEDGER, OUTCOMES, realised


def row(
    day: int, segment: str | None, explore: bool | None, reward: float | None, usd: float | None
) -> tuple[object, ...]:
    moment = datetime(2026, 11, day, 23, 30, tzinfo=UTC)
    return (segment, moment, explore, reward, 0.1, 0 if reward is None else 2, usd)


def frame(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=OUTCOMES, orient="row")


def test_days_in_points_and_money() -> None:
    found = realised(
        frame(
            row(1, "young", False, 0.8, 0.01), row(2, "young", False, 0.6, 0.03), row(1, "old", False, 0.2, None),
            row(1, "young", True, 0.5, 0.05), row(1, "old", True, 0.4, 0.02), row(2, "young", True, None, 0.02),
            row(2, "young", True, 0.9, 0.02), row(3, "young", None, 0.1, 9.0),
        )
    )  # fmt: skip
    assert found.schema == LEDGER
    assert found.select("day", "explored", "judged").rows() == [
        (date(2026, 11, 1), 2, 2), (date(2026, 11, 2), 2, 1),
    ]  # fmt: skip
    # Day 1: .7 - .5 of the young and .2 - .4 of the old; day 2: .7 - .9 for one of two, counted for both.
    assert found["realised"].to_list() == pytest.approx([0.0, -0.4])
    assert found["extra_usd"].to_list() == pytest.approx([0.05 - 0.02 + 0.02 - 0.02, 0.0])


def test_people_of_no_segment_are_compared_with_each_other_or_with_all() -> None:
    found = realised(
        frame(row(1, None, False, 0.6, None), row(1, "x", False, 0.8, None), row(1, None, True, 0.5, None),
              row(1, "y", True, 0.5, None))
    )  # fmt: skip
    assert found["realised"][0] == pytest.approx(0.1 + 0.2)
    assert found["extra_usd"][0] is None


def test_nothing_explored_is_no_day() -> None:
    assert realised(frame(row(1, "x", False, 0.6, 0.1))).is_empty()
    assert realised(frame()).schema == LEDGER
    unknown = realised(frame(row(1, "x", True, None, None)))
    assert unknown.select("explored", "judged", "realised").rows() == [(1, 0, None)]


def test_the_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        greedy = [row(1, "x", False, float(np.clip(rng.normal(0.6, 0.1), 0, 1)), None) for _ in range(300)]
        explored = [row(2, "x", True, float(np.clip(rng.normal(0.5, 0.1), 0, 1)), None) for _ in range(40)]
        found = realised(frame(*greedy, *explored)).row(0, named=True)
        held += abs(found["realised"] - 4.0) <= 1.96 * found["realised_sd"]
    assert held / 150 >= 0.93
