"""Attribution on labelled failures: the measured accuracy that pages show is what the benchmark computes."""

import pytest

from bench.who_and_when import SETS, measure, read
from pipelines.credit.measured import WHO_AND_WHEN


@pytest.mark.parametrize("shown", WHO_AND_WHEN, ids=[one.name for one in WHO_AND_WHEN])
def test_the_accuracy_on_the_page_is_what_is_measured(shared_data, shown):
    now = measure(shown.name, read(shared_data / "who_and_when" / "Who&When" / shown.name))
    for name, value in vars(shown).items():
        expected = value if isinstance(value, str | int) else pytest.approx(value, abs=0.02)
        assert getattr(now, name) == expected, name


def test_both_sets_are_measured_beside_the_published_constants():
    assert [one.name for one in WHO_AND_WHEN] == list(SETS)
    generated, crafted = WHO_AND_WHEN
    assert (generated.logs, crafted.logs) == (126, 58)
    assert generated.first_step == pytest.approx(0.2698, abs=1e-4)
    assert (generated.random_step, crafted.random_step) == pytest.approx((0.1200, 0.0416), abs=1e-4)
