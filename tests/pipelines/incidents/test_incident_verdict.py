"""Which cause an incident names, where measured shares and what is known to have happened compete."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.incidents.causes import Suspect
from pipelines.incidents.describe import Coincidence, judge
from pipelines.incidents.grouping import FINDINGS, SCANNED, group

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
WATCHED = Coincidence("model", "m", NOON, "The model watch saw words of m change.")
NOTICED = Coincidence("version", "v2", NOON, "Version v2 first seen.", "version:desk:v2")


def tool(lower):
    return Suspect("tool", "tools", "search", "only there", None, (lower + 1) / 2, lower, 1.0, 500, 500)


def cause(*suspects, coincidences):
    row = {
        "level": "population", "metric": "reward", "changed_at": NOON, "changed_from": NOON - timedelta(days=1),
        "changed_to": NOON + timedelta(days=1), "before_mean": 0.8, "before_n": 9, "after_mean": 0.6, "after_n": 9,
        "effect": -0.2, "effect_sd": 0.02, "q_value": 0.001,
    }  # fmt: skip
    (one,), _ = group(pl.DataFrame([row], schema=FINDINGS), pl.DataFrame(schema=SCANNED))
    found = judge(one, suspects, coincidences, judged_by="reward", traces=1_000)
    return found.cause, found.name


@pytest.mark.parametrize(
    ("lower", "coincidence", "named"),
    [
        (0.5, WATCHED, ("model", "m")),
        (0.7, WATCHED, ("tool", "search")),
        (0.5, NOTICED, ("tool", "search")),
        (0.4, NOTICED, ("version", "v2")),
    ],
)
def test_a_tested_change_of_the_model_counts_for_more_than_what_only_coincides(lower, coincidence, named):
    assert cause(tool(lower), coincidences=[coincidence]) == named
