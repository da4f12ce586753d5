"""Exploration: what is recommended and why, applying and declining, and what is missing for a recommendation."""

import pytest
from loop_data import HOSTILE, load_shop, shop_file
from page_driver import click, markup, open_page, shown, store_for_pages

from store import audit, exploration


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def loaded(tmp_path):
    """A store with the shop in it and the loop run."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        yield opened


def test_an_empty_store_says_what_an_arm_is(store):
    assert "No agent runs several arms" in shown(open_page("exploration"))


def test_too_few_traces_say_how_many_are_missing(store, tmp_path):
    load_shop(store, tmp_path, traces=40)
    text = shown(open_page("exploration"))
    assert "1 agent without a recommendation" in text
    assert "arm a has 20 traces with signals and needs 10 more" in text


def test_a_recommendation_comes_with_reason_interval_and_arms(loaded):
    page = open_page("exploration")
    row = exploration.current(loaded).row(0, named=True)
    text = shown(page)
    assert "1 recommendation waits for you" in text
    assert row["reason"] in text
    assert "n 120" in text
    arms = next(frame.value for frame in page.dataframe if "P(best)" in frame.value.columns)
    assert arms["arm"].tolist() == ["b", "a"]
    assert arms["P(best)"].sum() == pytest.approx(1.0)


def test_applying_is_recorded_and_shown(loaded):
    page = click(open_page("exploration"), "apply_shop")
    row = exploration.current(loaded).row(0, named=True)
    assert (row["state"], row["decided_by"]) == ("applied", "local operator")
    assert audit.recent(loaded)["action"].to_list() == ["exploration apply"]
    assert "0 recommendations wait for you" in shown(page)
    assert "1 agent has an applied rate" in shown(page)
    assert not [button for button in page.button if button.key == "apply_shop"]


def test_declining_asks_for_a_reason(loaded):
    page = click(open_page("exploration"), "decline_shop")
    assert "no reason was given" in shown(page)
    assert exploration.current(loaded)["state"].to_list() == ["recommended"]
    page.text_area(key="decline_reason_shop").set_value("holiday freeze")
    click(page, "decline_shop")
    assert exploration.history(loaded)["state"].to_list() == ["declined"]
    assert "declined" in next(f.value for f in page.dataframe if "state" in f.value.columns)["state"].tolist()


def test_a_rate_that_somebody_else_decided_is_refused_and_said(loaded):
    page = open_page("exploration")
    waiting = exploration.current(loaded).row(0, named=True)
    exploration.decline(loaded, "shop", waiting["recommended_at"], operator="Bob", reason="mine")
    page = click(page, "apply_shop")
    assert "the recommendation is declined" in shown(page)
    assert audit.recent(loaded).height == 1


def test_hostile_names_are_never_markup(store, tmp_path):
    load_shop(store, tmp_path, agent=HOSTILE)
    page = open_page("exploration")
    assert HOSTILE in [element.value for element in page.text]
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)
