"""Exploration, the tab What if: answers as the estimator gives them, and refusals without a number."""

import polars as pl
import pytest
from explore_data import AGENT, steered_file
from page_driver import click, open_page, shown, store_for_pages

from dashboard.explore.answers import comparison_rows, gain_words
from pipelines.off_policy import question, what_if
from pipelines.off_policy.targets import FixedArm, Rate
from store import arms


@pytest.fixture
def steered(tmp_path):
    """A store with the steered agent."""
    with store_for_pages(tmp_path / "trimtab.duckdb", steered_file()) as opened:
        yield opened


def ask(page, kind, **values):
    """The page after the question was asked."""
    page.segmented_control(key="what_if_kind_shop").set_value(kind).run()
    for key, value in values.items():
        element = page.slider if key == "rate" else page.selectbox
        element(key=f"what_if_{key}_shop").set_value(value)
    return click(page, "what_if_ask_shop")


def figures(page):
    """Metrics by label, those of the headline left out."""
    return {metric.label: metric.value for metric in page.metric}


def test_nothing_is_read_before_it_is_asked(steered, monkeypatch):
    monkeypatch.setattr(question, "read", lambda *_args, **_named: pytest.fail("read"))
    assert "Ask what another policy would have earned" in shown(open_page("exploration", tab="What if"))


def test_one_arm_for_everyone_is_answered_as_the_estimator_does(steered):
    page = ask(open_page("exploration", tab="What if"), "everyone gets one arm", arm="b")
    expected = question.ask(steered, AGENT, FixedArm("b")).overall
    assert expected.verdict == "ok"
    shown_figures = figures(page)
    assert shown_figures["Mean reward"] == f"{expected.value:.3f}"
    assert shown_figures["Change"] == f"{expected.gain:+.3f}"
    assert shown_figures["Effective size"] == f"{expected.ess:,.0f}"
    text = shown(page)
    assert f"{expected.lower:.3f} to {expected.upper:.3f} at every look, n {expected.n:,}" in text
    assert ": better" in text  # planted: .8 for b, .45 for a
    estimators = next(f.value for f in page.dataframe if "estimator" in f.value.columns)
    assert estimators["estimator"].tolist()[:3] == ["DR", "IPS", "SNIPS"]
    assert estimators["value"].tolist()[0] == pytest.approx(expected.value)


def test_another_rate_is_answered_for_everyone_and_by_segment(steered):
    page = ask(open_page("exploration", tab="What if"), "another exploration rate", rate=10.0)
    expected = question.ask(steered, AGENT, Rate(0.1))
    assert figures(page)["Mean reward"] == f"{expected.overall.value:.3f}"
    segments = next(f.value for f in page.dataframe if "value_limits" in f.value.columns)
    assert sorted(segments["label"]) == ["north", "south"]
    found = dict(expected.segments.select("segment", "verdict").iter_rows())
    for row in segments.to_dict("records"):
        if found[row["label"]] != "ok":
            assert row["value"] != row["value"]  # NaN
            assert row["reason"]


def test_an_arm_that_was_never_drawn_is_refused_without_a_number(steered):
    page = ask(open_page("exploration", tab="What if"), "everyone gets one arm", arm="c")
    text = shown(page).replace("\\", "")
    assert "**Refused.**" in text
    assert "No reweighting can show what was never tried" in text
    assert not {"Mean reward", "Change", "As it ran"} & set(figures(page))
    assert not [f for f in page.dataframe if "estimator" in f.value.columns]


def test_all_arms_are_compared(steered):
    page = ask(open_page("exploration", tab="What if"), "compare all arms")
    rows = next(f.value for f in page.dataframe if "verdict" in f.value.columns)
    assert dict(zip(rows["label"], rows["verdict"], strict=True)) == {
        "everyone gets a": "worse", "everyone gets b": "better",
    }  # fmt: skip


def test_an_agent_without_decisions_is_refused_in_words(steered):
    arms.define(steered, "new", "v1", kind="prompt", definition={}, baseline=True, origin="operator", by="Ada")
    page = open_page("exploration", of="new", tab="What if")
    page = click(page, "what_if_ask_new")
    assert "**Refused.**" in shown(page)
    assert "Mean reward" not in figures(page)


def test_a_row_that_is_not_ok_shows_no_number():
    row = dict.fromkeys(what_if.CHANGES, None) | {
        "target": "t", "decisions": 9, "ess": 3.0, "verdict": "collecting", "reason": "too few", "value": 0.4,
        "gain": 0.1, "gain_lower": 0.05, "gain_upper": 0.2, "lower": 0.3, "upper": 0.5,
    }  # fmt: skip
    shown_row = comparison_rows(pl.DataFrame([row], schema=what_if.CHANGES), "target").row(0, named=True)
    assert (shown_row["value"], shown_row["gain"], shown_row["limits"], shown_row["value_limits"]) == (None,) * 4
    assert (shown_row["verdict"], shown_row["reason"]) == ("not yet", "too few")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((0.01, 0.2), "better"),
        ((-0.2, -0.01), "worse"),
        ((-0.1, 0.1), "can't tell yet"),
        ((None, None), "can't tell yet"),
    ],
)
def test_limits_of_a_change_in_words(limits, said):
    assert gain_words(*limits) == said
