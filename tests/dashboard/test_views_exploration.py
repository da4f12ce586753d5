"""The Exploration page: its answer, its agents and tabs, and the tab Rates with approvals, bounds and lists."""

import time
from datetime import timedelta

import polars as pl
import pytest
from explore_data import AGENT, REASON, recommend, steer, steered_file, unit_rows
from loop_data import HOSTILE, run_loop
from page_driver import click, field, markup, open_page, shown, store_for_pages

from store import arms, audit, exploration, guardrails, never_explore


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def steered(tmp_path):
    """A store with the steered agent."""
    with store_for_pages(tmp_path / "trimtab.duckdb", steered_file()) as opened:
        yield opened


def actions(store):
    """What operators did, newest first, without what setting the store up did."""
    return [row["action"] for row in audit.recent(store).to_dicts() if row["actor"] == "local operator"]


def test_an_empty_store_says_what_to_do_and_how_an_agent_asks(store):
    text = shown(open_page("exploration"))
    assert "No agent has an arm yet" in text
    assert "/v1/steer" in text
    assert "--scope steer" in text


def test_the_first_arm_of_an_agent_is_defined_in_an_empty_store(store):
    page = open_page("exploration")
    page.text_input(key="arm_new_agent_").set_value("bot")
    page.text_input(key="arm_new_name_").set_value("v1")
    page.selectbox(key="arm_new_state_").set_value("enabled")
    page.checkbox(key="arm_new_baseline_").check()
    page = click(page, "arm_define_")
    assert arms.listed(store).select("agent", "arm", "state", "baseline").row(0) == ("bot", "v1", "enabled", True)
    assert {metric.label: metric.value for metric in page.metric}["Arms enabled"] == "1 of 1"


def test_the_answer_names_what_waits_what_is_off_and_what_was_violated(steered):
    arms.set_state(steered, AGENT, "c", "off", reason="Safety floor: reward of c is worse.", by="trimtab")
    rail = guardrails.define(steered, AGENT, kind="max_spend_usd", threshold=1.0, by="Ada")
    guardrails.add_violations(
        steered,
        pl.DataFrame(
            [{"agent": AGENT, "guardrail_id": rail, "trace_id": "t0001", "detail": "spent $2", "action": "alert"}],
            schema=guardrails.FOUND,
        ),
    )
    page = open_page("exploration")
    text = shown(page)
    assert "**1 recommended rate waits for you**" in text
    assert "**1 arm switched off by Trimtab**" in text
    assert "Safety floor: reward of c is worse." in text
    assert "**1 guardrail violation** in 7 days" in text
    figures = {metric.label: metric.value for metric in page.metric}
    # One decision every 40 minutes before noon, .04 points each: 18 of them since midnight.
    assert figures["Regret today, at worst"] == "0.72 points"
    assert figures["Arms enabled"] == "2 of 3"


def test_a_budget_stands_beside_the_regret_of_the_day(steered):
    exploration.set_bounds(
        steered, AGENT, "agent", "", floor=None, cap=None, dial=None, daily_regret_budget=2.0, solicit_rate=None,
        automatic=None, by="Ada",
    )  # fmt: skip
    figures = {metric.label: metric.value for metric in open_page("exploration").metric}
    assert figures["Regret today, at worst"] == "0.72 of 2.00"


def test_agent_and_tab_come_from_the_url(steered):
    arms.define(steered, "travel", "v1", kind="prompt", definition={}, baseline=True, origin="operator", by="Ada")
    page = open_page("exploration", of="travel", tab="Ledger")
    assert page.selectbox(key="of").value == "travel"
    assert "No decision in the last 30 days" in shown(page)
    assert open_page("exploration", of="nobody").selectbox(key="of").value == "shop"


def test_a_recommendation_comes_with_reason_interval_and_units(steered):
    page = open_page("exploration")
    text = shown(page)
    assert REASON in text
    assert "4.0 % to 16.0 %, n 640" in text
    assert "for whoever has no rate of their own; 3 users have one, 8.3 % on average" in text
    assert "**2 segments**, recommended: mean 8.0 %, from 6.0 % over a median of 8.0 % to 10.0 %." in text
    assert "**3 users**" in text
    assert "1 are never explored" in text
    users = next(f.value for f in page.dataframe if "user 2" in f.value.get("unit", pl.Series()).tolist())
    assert users["unit"].tolist() == ["user 2", "user 1", "user 0"]
    assert users["why"].tolist()[0] == "user 2 takes it well."


def test_apply_is_enabled_by_the_preview_and_recorded(steered):
    page = open_page("exploration")
    assert page.button(key="apply_shop").disabled
    page = click(page, "preview_shop")
    rows = page.table[0].value
    assert rows["now"].tolist()[0] == "70 of 70"
    assert rows["if applied"].tolist()[0] == "69 of 70"
    assert "Exploring stops:" in shown(page)
    assert not page.button(key="apply_shop").disabled
    page = click(page, "apply_shop")
    assert exploration.current(steered).select("state", "decided_by").row(0) == ("applied", "local operator")
    assert actions(steered) == ["exploration apply"]
    assert "**0 recommended rates wait for you**" in shown(page)
    assert not [button for button in page.button if button.key == "apply_shop"]


def test_a_preview_does_not_count_for_a_newer_recommendation(steered):
    page = click(open_page("exploration"), "preview_shop")
    steered.clock.moment += timedelta(minutes=1)
    recommend(steered, rate=0.15)
    page.run()
    assert page.button(key="apply_shop").disabled


def test_without_a_policy_nothing_can_be_previewed_or_applied(store):
    arms.define(store, AGENT, "a", kind="prompt", definition={}, baseline=True, origin="operator", by="Ada")
    recommend(store)
    page = click(open_page("exploration"), "preview_shop")
    assert "There is no policy of this agent yet" in shown(page)
    assert page.button(key="apply_shop").disabled


def test_with_one_arm_enabled_the_preview_says_that_nothing_is_explored(steered):
    arms.set_state(steered, AGENT, "b", "shadow", reason="wait", by="Ada")
    run_loop(steered, "policies")
    page = click(open_page("exploration"), "preview_shop")
    assert "1 arm enabled: nothing is explored at any rate" in shown(page)
    assert page.table[0].value["if applied"].tolist()[2] == "0.0 (0 %)"


def test_declining_asks_for_a_reason(steered):
    page = click(open_page("exploration"), "decline_shop")
    assert "no reason was given" in shown(page)
    assert exploration.current(steered)["state"].to_list() == ["recommended"]
    page.text_area(key="decline_reason_shop").set_value("holiday freeze")
    page = click(page, "decline_shop")
    assert exploration.history(steered)["state"].to_list() == ["declined"]
    assert "declined" in next(f.value for f in page.dataframe if "decided" in f.value.columns)["state"].tolist()


def test_a_rate_that_somebody_else_decided_is_refused_and_said(steered):
    page = click(open_page("exploration"), "preview_shop")
    waiting = exploration.current(steered).row(0, named=True)
    exploration.decline(steered, AGENT, waiting["recommended_at"], operator="Bob", reason="mine")
    page = click(page, "apply_shop")
    assert "the recommendation is declined" in shown(page)
    assert actions(steered) == []


def test_bounds_are_saved_in_shares_and_refused_when_they_contradict(steered):
    page = open_page("exploration")
    field(page.number_input, "bounds_floor_shop").set_value(2.5)
    field(page.number_input, "bounds_budget_shop").set_value(4.0)
    field(page.slider, "bounds_dial_shop").set_value(0.7)
    page = click(page, "bounds_save_shop")
    held = exploration.bounds(steered, AGENT).row(0, named=True)
    assert (held["floor"], held["dial"], held["daily_regret_budget"], held["solicit_rate"]) == (0.025, 0.7, 4.0, 0.02)
    field(page.number_input, "bounds_floor_shop").set_value(30.0)
    page = click(page, "bounds_save_shop")
    assert "the floor 0.3 is above the cap 0.2" in shown(page).replace("\\", "")
    assert exploration.bounds(steered, AGENT)["floor"][0] == 0.025


def test_bounds_of_a_user_are_saved_listed_and_removed(steered):
    page = open_page("exploration")
    page.selectbox(key="unit_scope_shop").set_value("user")
    page.text_input(key="unit_name_shop").set_value("user 3")
    page.number_input(key="unit_cap_shop").set_value(2.0)
    page = click(page, "unit_save_shop")
    assert exploration.bounds(steered, AGENT).select("scope", "unit", "cap", "floor").row(0) == (
        "user", "user 3", 0.02, None,
    )  # fmt: skip
    page.number_input(key="unit_cap_shop").set_value(None)
    click(page, "unit_save_shop")
    assert exploration.bounds(steered, AGENT).is_empty()


def test_the_never_list_wants_a_reason_and_can_be_taken_back(steered):
    page = open_page("exploration")
    page.text_input(key="never_unit_shop").set_value("user 4")
    page = click(page, "never_add_shop")
    assert "no reason was given" in shown(page)
    page.text_input(key="never_reason_shop").set_value("complained")
    page.checkbox(key="never_every_shop").check()
    page = click(page, "never_add_shop")
    assert never_explore.listed(steered).select("agent", "kind", "unit").row(0) == ("*", "user", "user 4")
    page.selectbox(key="never_chosen_shop").set_value(0).run()
    click(page, "never_remove_shop")
    assert never_explore.listed(steered).is_empty()
    assert actions(steered) == ["never explore remove", "never explore add"]


def test_a_hundred_thousand_users_are_paged_and_searched(steered):
    steered.clock.moment += timedelta(minutes=1)
    people = [("user", f"person {number:06}", 0.01 + number / 1e6) for number in range(100_000)]
    recommend(steered, unit_rows(people), rate=0.11)
    begin = time.process_time()
    page = open_page("exploration")
    assert time.process_time() - begin < 30
    assert "**100,000 users**" in shown(page)
    table = next(f.value for f in page.dataframe if "tolerance" in f.value.columns)
    assert table["unit"].tolist()[0] == "person 099999"
    assert len(table) == 50
    page.text_input(key="unit_search_shop").set_value("n 000123").run()
    table = next(f.value for f in page.dataframe if "tolerance" in f.value.columns)
    assert table["unit"].tolist() == ["person 000123"]
    page = click(page, "preview_shop")
    assert not page.button(key="apply_shop").disabled


def test_hostile_names_are_never_markup(store, tmp_path):
    steer(store, tmp_path, agent=HOSTILE, names=(HOSTILE, "b"))
    never_explore.add(store, HOSTILE, "user", HOSTILE, reason=HOSTILE, by="Ada")
    for tab in ("Rates", "Arms", "What if", "Ledger", "Guardrails", "Teach"):
        page = open_page("exploration", tab=tab)
        for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
            assert harmful not in markup(page), (tab, harmful)
