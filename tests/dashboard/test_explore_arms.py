"""Exploration, the tab Arms: what is said of each arm, and what an operator may do to one."""

import json

import pytest
from explore_data import AGENT, steered_file
from page_driver import click, field, open_page, shown, store_for_pages

from pipelines.exploration import stopping
from store import arms, logged_decisions, policies


@pytest.fixture
def steered(tmp_path):
    """A store with the steered agent."""
    with store_for_pages(tmp_path / "trimtab.duckdb", steered_file()) as opened:
        yield opened


def table(page):
    """The table of arms, by arm."""
    frame = next(each.value for each in page.dataframe if "best" in each.value.columns)
    return {row["arm"]: row for row in frame.to_dict("records")}


def state(store, arm):
    """An arm's state, reason and who set it."""
    return arms.listed(store, agent=AGENT).filter(arm=arm).select("state", "state_reason", "state_by").row(0)


def test_every_arm_comes_with_its_posterior_and_verdict(steered):
    page = open_page("exploration", tab="Arms")
    rows = table(page)
    policy = policies.newest(steered, AGENT)[0]
    held = {arm.name: place for place, arm in enumerate(policy.arms)}
    for name in ("a", "b", "c"):
        assert rows[name]["mean"] == pytest.approx(policy.mean[held[name]])
        assert rows[name]["n"] == policy.n[held[name]]
    assert sum(row["best"] for row in rows.values()) == pytest.approx(1.0, abs=1e-6)
    usable = logged_decisions.usable(logged_decisions.read(steered, AGENT))
    verdict = stopping.verdicts(usable, "a").filter(arm="b").row(0, named=True)
    assert verdict["verdict"] == "better"  # planted: .8 against .45
    assert rows["b"]["verdict"] == "better"
    assert rows["b"]["difference"] == (
        f"{verdict['estimate']:+.3f} ({verdict['lower']:+.3f} to {verdict['upper']:+.3f})"
    )
    assert (rows["a"]["verdict"], rows["c"]["verdict"]) == ("baseline", "not compared")
    assert rows["c"]["state"] == "shadow"
    assert "policy version 1" in shown(page)


def test_an_arm_with_too_little_data_says_what_it_is_worth(steered):
    arms.set_baseline(steered, AGENT, "b", by="Ada")
    with_few = steered.clock.now()
    steered.write(lambda connection: connection.execute("DELETE FROM decisions WHERE decision_id > 'd0150'") and None)
    rows = table(open_page("exploration", tab="Arms"))
    assert with_few == steered.clock.now()
    assert rows["a"]["difference"].startswith("not enough data: worth ")
    assert rows["a"]["verdict"].startswith("can't tell yet")


def test_an_arm_that_trimtab_switched_off_stays_and_says_why(steered):
    arms.set_state(steered, AGENT, "b", "off", reason="Safety floor: reward of b is worse.", by="trimtab")
    page = open_page("exploration", tab="Arms")
    assert "switched off by Trimtab" in shown(page)
    assert shown(page).count("Safety floor: reward of b is worse.") >= 2
    assert table(page)["b"]["why"] == "Safety floor: reward of b is worse."


def test_switching_off_wants_a_reason_and_is_taken_back(steered):
    page = open_page("exploration", tab="Arms")
    page.selectbox(key="arm_chosen_shop").set_value("b").run()
    field(page.selectbox, "arm_state_shop").set_value("off")
    page = click(page, "arm_state_save_shop")
    assert "no reason was given" in shown(page)
    assert state(steered, "b")[0] == "enabled"
    page.text_input(key="arm_reason_shop").set_value("too slow")
    page = click(page, "arm_state_save_shop")
    assert state(steered, "b") == ("off", "too slow", "local operator")
    field(page.selectbox, "arm_state_shop").set_value("enabled")
    click(page, "arm_state_save_shop")
    assert state(steered, "b")[0] == "enabled"


def test_each_arm_begins_with_its_own_state(steered):
    page = open_page("exploration", tab="Arms")
    page.selectbox(key="arm_chosen_shop").set_value("c").run()
    assert field(page.selectbox, "arm_state_shop").value == "shadow"
    page.selectbox(key="arm_chosen_shop").set_value("b").run()
    assert field(page.selectbox, "arm_state_shop").value == "enabled"


def test_only_an_enabled_arm_can_become_the_baseline(steered):
    page = open_page("exploration", tab="Arms")
    page.selectbox(key="arm_chosen_shop").set_value("c").run()
    assert page.button(key="arm_baseline_shop").disabled
    page.selectbox(key="arm_chosen_shop").set_value("b").run()
    click(page, "arm_baseline_shop")
    assert arms.listed(steered, agent=AGENT).filter("baseline")["arm"].to_list() == ["b"]


def test_a_new_arm_is_defined_as_a_shadow_and_bad_definitions_are_refused(steered):
    page = open_page("exploration", tab="Arms")
    page.text_input(key="arm_new_name_shop").set_value("d")
    for typed, said in (('{"model": ', "is no JSON"), ("[1]", "is no JSON object")):
        page.text_area(key="arm_new_definition_shop").set_value(typed)
        page = click(page, "arm_define_shop")
        assert said in shown(page)
    page.text_area(key="arm_new_definition_shop").set_value('{"model": "aurora"}')
    page = click(page, "arm_define_shop")
    row = arms.listed(steered, agent=AGENT).filter(arm="d").row(0, named=True)
    assert (row["state"], row["origin"], json.loads(row["definition"])) == ("shadow", "operator", {"model": "aurora"})
    page = click(page, "arm_define_shop")
    assert "already has an arm" in shown(page)


def test_a_definition_is_changed(steered):
    page = open_page("exploration", tab="Arms")
    field(page.text_area, "arm_description_shop").set_value("Short answers")
    field(page.text_area, "arm_definition_shop").set_value('{"prompt": "v9"}')
    click(page, "arm_change_shop")
    row = arms.listed(steered, agent=AGENT).filter(arm="a").row(0, named=True)
    assert (row["description"], json.loads(row["definition"])) == ("Short answers", {"prompt": "v9"})


def test_fifty_arms_are_all_in_the_table(steered):
    from loop_data import run_loop

    for number in range(47):
        arms.define(
            steered, AGENT, f"arm {number:02}", kind="prompt", definition={}, origin="operator", by="Ada",
        )  # fmt: skip
    run_loop(steered, "policies")
    page = open_page("exploration", tab="Arms")
    assert len(table(page)) == 50
    assert "The 20 arms with the highest means are drawn; all 50 are in the table." in shown(page)
    page = open_page("exploration", tab="Rates")
    page = click(page, "preview_shop")
    assert page.table[0].value["if applied"].tolist()[0] == "69 of 70"
    # 48 others at the floor of .01 each would be 48 %: the cap is what an operator allowed, and holds.
    explored = page.table[0].value["if applied"].tolist()[2]
    assert float(explored.split("(")[1].split()[0]) <= 20.0, explored
