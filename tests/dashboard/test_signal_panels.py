"""The panel on volunteered feedback: its shares, its curve, and where it says that there is too little."""

import polars as pl
import pytest

from dashboard.learn import signal_panels
from dashboard.ui import theme
from store.feedback import THUMBS


def thumbs(**changes):
    row = {
        "agent": "<b>shop</b>", "traces": 1000, "volunteered": 200, "volunteered_up": 50, "solicited": 100,
        "solicited_up": 80, **changes,
    }  # fmt: skip
    return pl.DataFrame([row], schema=THUMBS)


def test_the_diamond_stands_on_its_curve():
    figure = signal_panels.curve(thumbs(), theme.LIGHT)
    line, diamond = figure.data
    # Odds .25 / .75 observed and .8 / .2 asked: rho = (1/3) / 4.
    assert diamond.x[0] == pytest.approx(1 / 12)
    assert diamond.y[0] == pytest.approx(0.8)
    assert min(diamond.error_y.array[0], diamond.error_y.arrayminus[0]) > 0.05
    below, above = next(y for x, y in zip(line.x, line.y, strict=True) if x <= 0.083), line.y[0]
    assert above == pytest.approx(0.25)
    assert below == pytest.approx(0.8, abs=0.01)
    assert "<b>" not in line.name


@pytest.mark.parametrize("changes", [{"solicited": 19}, {"volunteered_up": 0}, {"solicited_up": 100}])
def test_no_diamond_where_it_would_say_nothing(changes):
    assert len(signal_panels.curve(thumbs(**changes), theme.LIGHT).data) == 1


def test_shares_below_the_minimum_are_not_shown():
    assert signal_panels._share(3, 19) == "not enough data: 19 of 20"
    assert signal_panels._share(50, 200).startswith("25.0 % up (")


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        ((None, None, None, None), "not estimated"),
        ((1.0, None, None, None), "1.00 (fixed)"),
        ((1.0, 0.0, 1.0, 1.0), "1.00 (fixed)"),
        ((0.8, 0.2, 0.55, 1.3), "0.80 (0.55 to 1.30)"),
        # A version of before limits were kept.
        ((0.8, 0.1, None, None), "0.80 (0.60 to 1.00)"),
    ],
)
def test_a_loading_is_shown_with_its_own_limits(estimate, shown):
    assert signal_panels._with_limits(*estimate) == shown
