"""Exploration, the tab Teach: where a look teaches most, and whom to ask."""

import pytest
from explore_data import AGENT, steered_file
from page_driver import open_page, shown, store_for_pages

from pipelines.exploration import intrinsic
from store import arms, exploration_evidence, task_arms


@pytest.fixture
def steered(tmp_path):
    """A store with the steered agent."""
    with store_for_pages(tmp_path / "trimtab.duckdb", steered_file()) as opened:
        yield opened


def test_tasks_and_people_are_as_the_pipeline_ranks_them(steered):
    page = open_page("exploration", tab="Teach")
    means = task_arms.means(steered, AGENT)
    noise = dict(exploration_evidence.noise(steered).select("agent", "variance").iter_rows())
    expected = intrinsic.groups(
        exploration_evidence.tasks(steered), means, noise={name: value**0.5 for name, value in noise.items()}
    )
    tasks = next(f.value for f in page.dataframe if "worth" in f.value.columns)
    assert tasks["task"].tolist() == expected["task"].to_list()
    assert tasks["worth"].tolist() == pytest.approx(expected["worth"].to_list())
    people = next(f.value for f in page.dataframe if "weight" in f.value.columns)
    assert len(people) == 50
    assert people["weight"].is_monotonic_decreasing
    assert "70 of 70 people never answered" in shown(page)


def test_means_of_tasks_are_of_enabled_arms_and_own_signals(steered):
    means = task_arms.means(steered, AGENT)
    assert means["arm"].unique().sort().to_list() == ["a", "b"]
    assert means["n"].sum() == 700
    by_arm = {row["arm"]: row["mean"] for row in means.to_dicts()}
    assert by_arm["b"] > by_arm["a"]  # planted
    arms.set_state(steered, AGENT, "b", "off", reason="slow", by="Ada")
    assert task_arms.means(steered, AGENT)["arm"].unique().to_list() == ["a"]


def test_an_agent_without_traces_says_what_is_missing(steered):
    arms.define(steered, "new", "v1", kind="prompt", definition={}, baseline=True, origin="operator", by="Ada")
    text = shown(open_page("exploration", of="new", tab="Teach"))
    assert "Nothing to compare yet" in text
    assert "published no policy of this agent" in text
