"""Drift: what changed, how many flags are expected to be false, what is suspected, and every action of operators."""

import json
from datetime import UTC, datetime

import pytest
from drift_world import WHO, drift_file, hostile_file
from loop_data import HOSTILE
from page_driver import click, markup, open_page, store_for_pages, unescaped, untouched
from page_driver import shown as as_written

from dashboard.drift import words
from store import (
    drift,
    drift_responses,
    drift_rules,
    drift_series,
    incidents,
    interventions,
    model_anchors,
    model_probes,
)
from store.errors import QueryTimeout, StoreError

HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")
TABS = ("Findings", "Heat map", "Incidents", "Models", "Responses")


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def world(tmp_path):
    """A store in which everything was found."""
    with store_for_pages(tmp_path / "trimtab.duckdb", drift_file()) as opened:
        yield opened


def shown(page):
    """What the page says, as a reader sees it."""
    return unescaped(as_written(page))


def incident_of(store):
    """The id of the only incident."""
    return incidents.listed(store)["incident_id"][0]


def test_an_empty_store_says_what_each_tab_needs(store):
    said = {tab: shown(open_page("drift", tab=tab)) for tab in TABS}
    assert "No scan yet" in said["Findings"]
    assert "Nothing was measured of users" in said["Heat map"]
    assert "No incident so far" in said["Incidents"]
    assert "Models have not been watched yet" in said["Models"]
    assert "No rule so far" in said["Responses"]


def test_the_answer_counts_incidents_flags_and_users_without_enough_data(world):
    page = open_page("drift")
    text = shown(page)
    assert "1 incident is open. 2 users of 70 changed. Expect about 0.2 of these 4 findings to be a false flag." in text
    assert "about 0.2 of these 4 expected false; 2 of 70 users" in text
    assert {metric.label: metric.value for metric in page.metric} == {
        "Incidents open": "1", "Findings flagged": "4", "Not enough data": "20 users",
    }  # fmt: skip
    assert "each needs 20 events of a metric; half of them lack 12 or more" in text
    assert "Select a row" in text
    assert "About 0.2 of the 4 flagged are expected false." in text


def test_findings_are_by_shrunken_effect_with_interval_n_p_q_metric_and_likelihood(world):
    table = open_page("drift").dataframe[0].value
    assert table["change"].tolist() == ["+65 %", "-0.45", "-0.20", "+11 %"]
    assert table["interval"].iloc[1] == "-0.65 to -0.25"
    assert table["interval"].iloc[0] == "+36 % to +101 %"
    row = table.iloc[1]
    assert row["who"] == WHO
    assert row["metric"] == "Stated satisfaction"
    assert (row["before"], row["after"]) == ("0.90, n 20", "0.30, n 20")
    assert (row["p"], row["q"], row["n"], row["likelihood"]) == ("below .0001", "below .0001", 40, "bernoulli")
    assert table["who"].tolist()[2:] == ["north at shop", "everybody at shop"]
    assert table["after"].iloc[0] == "3.40 seconds, n 20"


@pytest.mark.parametrize(
    ("query", "who"),
    [
        ({"level": "segments"}, ["north at shop"]),
        ({"metric": "latency"}, [WHO]),
        ({"segment": "north", "level": "users"}, [WHO, WHO]),
        ({"everyone": "true", "level": "users", "findings_order": "surest"}, [WHO, WHO, "user 1", "user 2", WHO]),
        ({"drift_user": "user 1"}, ["user 1"]),
        ({"level": "nonsense", "metric": "nonsense"}, [WHO, WHO, "north at shop", "everybody at shop"]),
    ],
)
def test_filters_live_in_the_address(world, query, who):
    assert open_page("drift", **query).dataframe[0].value["who"].tolist() == who


def test_filters_that_match_nothing_and_unknown_users_say_so(world):
    assert "No flagged finding by these filters" in shown(open_page("drift", segment="south"))
    assert "This user was not scanned" in shown(open_page("drift", drift_user="nobody"))
    page = click(open_page("drift", drift_user="nobody"), "drift-all-users")
    assert len(page.dataframe[0].value) == 4


def test_the_address_names_a_finding_which_is_shown_in_full(world):
    row = drift.findings(world, user_id=WHO, metric="stated satisfaction").row(0, named=True)
    page = open_page("drift", finding=words.identity(row))
    text = shown(page)
    values = {metric.label: metric.value for metric in page.metric}
    assert values["before"] == "0.90"
    assert values["after"] == "0.30"
    assert values["change"] == "-0.45"
    assert values["changed at"] == "2026-11-12"
    assert "2026-11-11 to 2026-11-13" in text
    assert "Larger than is practical: 97.0 %" in text
    assert "bernoulli likelihood" in text
    assert len(page.get("plotly_chart")) == 1
    assert "not in this list" in shown(open_page("drift", finding="0123"))


def test_a_segment_s_finding_shows_the_days_that_were_tested(world):
    row = drift.findings(world, level="segment").row(0, named=True)
    page = open_page("drift", finding=words.identity(row))
    assert {metric.label for metric in page.metric} >= {"before", "after"}
    (chart,) = page.get("plotly_chart")
    days = drift_series.daily(world, row["metric"], agent=row["agent"], segment=row["segment"])
    drawn = json.loads(chart.proto.spec)["data"][0]
    assert len(drawn["customdata"]) == days.filter(days["n"] >= 3).height > 5
    said = shown(page)
    assert f"{days['n'].sum():,} sessions" in said
    assert "less what the mix of tasks and the weekday explain" in said


def test_a_metric_of_everybody_without_days_says_so(world):
    row = drift.findings(world, level="population").row(0, named=True)
    page = open_page("drift", finding=words.identity(row))
    assert not page.get("plotly_chart")
    assert "No days to show" in shown(page)


def test_a_suggested_response_says_what_it_would_change_and_is_applied_and_taken_back(world):
    row = drift.findings(world, user_id=WHO, metric="stated satisfaction").row(0, named=True)
    page = open_page("drift", finding=words.identity(row))
    assert "decisions a day" in shown(page)
    with untouched(world):
        open_page("drift", finding=words.identity(row))
    page = click(page, "apply-finding-0")
    assert "Response 1: raise the exploration rate" in shown(page)
    (held,) = drift_responses.listed(world, holding=True).to_dicts()
    assert (held["action"], held["user_id"], held["applied_by"]) == ("explore", WHO, "local operator")
    page = click(page, "apply-finding-0")
    assert "does the same and is in force" in shown(page)
    page = click(page, "undo-save")
    assert "no reason was given" in shown(page)
    page.text_input(key="undo-reason").set_value("It did not help.")
    page = click(page, "undo-save")
    assert "Response 1 is taken back" in shown(page)
    assert drift_responses.listed(world, holding=True).is_empty()


def test_the_heat_map_has_a_row_a_user_and_a_table(world):
    page = open_page("drift", tab="Heat map", heat_metric="stated satisfaction")
    assert len(page.get("plotly_chart")) == 1
    table = page.dataframe[0].value
    assert table["user"].unique().tolist() == [WHO, "user 1"]
    assert table["n"].min() >= 1
    assert "90 users; the surest changes first" in shown(page)
    assert "No events" in shown(open_page("drift", tab="Heat map", heat_metric="stated satisfaction", heat_page="3"))


def test_an_incident_opens_with_cause_evidence_timeline_and_people(world):
    assert "1 incident is open" in shown(open_page("drift"))
    listed = open_page("drift", tab="Incidents").dataframe[0].value
    assert listed["moved"].iloc[0] == "Latency, Reward, Stated satisfaction"
    assert listed["users"].iloc[0] == "30 of 70"
    page = open_page("drift", incident=incident_of(world))
    text = shown(page)
    assert "Incident" in [title.value for title in page.title]
    assert "Traces moved over to model model two." in text
    assert "At the same time: model two was approved at that time." in text
    assert "30 of 70 users flagged, 42.9 % (31.9 to 54.5 %)" in text
    suspects, moved, affected = (table.value for table in page.dataframe[:3])
    assert suspects["interval"].tolist() == ["60.0 % to 95.0 %"]
    assert moved["metric"].tolist() == ["Latency", "Reward", "Stated satisfaction"]
    assert affected["who"].tolist() == ["everybody at shop", "north at shop", WHO, WHO]
    assert len(page.get("plotly_chart")) == 2


def test_an_incident_is_acknowledged_resolved_and_reopened_each_with_its_words(world):
    number = incident_of(world)
    page = open_page("drift", incident=number)
    page = click(page, "incident-acknowledge")
    assert "Acknowledged." in shown(page)
    page = click(page, "incident-resolve")
    assert "nothing was written" in shown(page)
    assert incidents.one(world, number)["state"] == "acknowledged"
    page.text_area(key=f"incident-text-{number}").set_value("The model is back.")
    page = click(page, "incident-resolve")
    assert "Resolved." in shown(page)
    page.text_area(key=f"incident-text-{number}").set_value(HOSTILE)
    page = click(page, "incident-reopen")
    assert "Opened again." in shown(page)
    page.text_area(key=f"incident-text-{number}").set_value("Seen.")
    page = click(page, "incident-comment")
    kinds = incidents.events(world, number)["kind"].to_list()
    assert kinds == ["opened", "acknowledged", "resolved", "reopened", "note"]
    assert not any(harmful in markup(page) for harmful in HARMFUL)
    page = click(page, "all-incidents")
    assert "Drift" in [title.value for title in page.title]


def test_an_unknown_incident_is_said(world):
    assert "there is no such incident" in shown(open_page("drift", incident="nonsense"))


def test_a_known_change_is_noted_and_taken_back(world):
    page = open_page("drift", tab="Incidents")
    page = click(page, "note-save")
    assert "the title has 0 characters" in shown(page)
    page.text_input(key="note-title").set_value("Autumn campaign")
    page.selectbox(key="note-kind").set_value("campaign")
    page.selectbox(key="note-agent").set_value("shop")
    page.date_input(key="note-day").set_value(datetime(2026, 11, 12, tzinfo=UTC).date())
    page = click(page, "note-save")
    assert "Noted: Autumn campaign." in shown(page)
    (row,) = interventions.known(world).filter(origin="noted").to_dicts()
    assert (row["kind"], row["agent"], row["happened_at"]) == ("campaign", "shop", datetime(2026, 11, 12, tzinfo=UTC))
    page.text_input(key="withdraw-reason").set_value("It was later.")
    page = click(page, "withdraw-save")
    assert "Taken back." in shown(page)
    assert interventions.known(world).filter(origin="noted").is_empty()


def test_a_changed_model_is_said_with_figures_and_can_be_compared_anew(world):
    page = open_page("drift", tab="Models")
    assert "1 model of 1 changed behind the name." in shown(page)
    table = page.dataframe[0].value
    assert table["change"].iloc[0] == "+50.0 %"
    assert table["interval"].iloc[0] == "+40.0 % to +60.0 %"
    assert table["found"].tolist() == ["change", "not enough data"]
    assert len(page.get("plotly_chart")) == 1
    page = click(page, "anchor-save")
    assert "the reason has 0 characters" in shown(page)
    page.text_input(key="anchor-reason").set_value("We moved to the new version.")
    page = click(page, "anchor-save")
    assert model_anchors.anchors(world)["model"].to_list() == ["model two"]
    assert "No change is seen in 1 model." in shown(page)


def test_probes_are_switched_on_with_a_cap_and_get_prompts(world):
    page = open_page("drift", tab="Models")
    assert "Probes are off." in shown(page)
    toggle = next(each for each in page.toggle if each.key.startswith("probes-on"))
    toggle.set_value(True)
    next(each for each in page.number_input if each.key.startswith("probes-usd")).set_value(0.25)
    page = click(page, "probes-save")
    assert "probes are on, at most $0.25 a day" in shown(page)
    assert (model_probes.settings(world).switched_on, model_probes.settings(world).daily_usd) == (True, 0.25)
    page.text_area(key="probe-text").set_value(HOSTILE)
    page = click(page, "probe-add")
    (probe,) = model_probes.active(world).to_dicts()
    assert probe["prompt"] == HOSTILE
    assert not any(harmful in markup(page) for harmful in HARMFUL)
    page = click(page, f"retire-{probe['probe_id']}")
    assert model_probes.active(world).is_empty()


def test_a_rule_is_set_and_switched_off_with_a_reason_and_on_again(world):
    page = open_page("drift", tab="Responses")
    page.selectbox(key="rule-metric").set_value("latency")
    page.number_input(key="rule-rate").set_value(12.0)
    page = click(page, "rule-save")
    assert "The rule is set and switched on" in shown(page)
    (rule,) = drift_rules.listed(world).to_dicts()
    assert "Latency moved for the worse: raise the exploration rate to 12.0 % for 14 days" in shown(page)
    page = click(page, f"off-{rule['rule_id']}")
    assert "no reason was given" in shown(page)
    page.text_input(key=f"rule-reason-{rule['rule_id']}").set_value("Too many.")
    page = click(page, f"off-{rule['rule_id']}")
    assert drift_rules.listed(world)["state"].to_list() == ["off"]
    page = click(page, f"on-{rule['rule_id']}")
    assert drift_rules.listed(world)["state"].to_list() == ["on"]


@pytest.mark.parametrize(
    ("error", "said"), [(QueryTimeout(2.0), "took longer than 2 s"), (StoreError("disk on fire"), "could not be read")]
)
def test_an_error_of_the_store_stands_in_its_tab_and_the_answer_stays(world, monkeypatch, error, said):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(drift, "findings", fails)
    page = open_page("drift")
    text = shown(page)
    assert said in text
    assert "1 incident is open." in text
    assert "retry-tab-Findings" in {button.key for button in page.button}


def test_a_hundred_thousand_users_are_cut_and_paged(world):
    def work(connection):
        connection.execute(
            """INSERT INTO drift_findings BY NAME
            SELECT f.* REPLACE ('user ' || (100 + i) AS user_id, i < 2000 AS flagged, i / 2e5 AS p_value)
            FROM drift_findings AS f, range(100000) AS r(i)
            WHERE level = 'user' AND metric = 'stated satisfaction' AND p_value < 0.01"""
        )
        connection.execute("UPDATE drift_runs SET users = 120000, scanned = 100000, flagged = 2002, too_few = 20000")
        connection.execute("UPDATE drift_metrics SET subjects = 120000, scanned = 100000, flagged = 2001")

    world.write(work)
    page = open_page("drift")
    assert "2,002 users of 100,000 changed." in shown(page)
    assert "The first 1,000 findings listed." in shown(page)
    assert "20,000 users" in {metric.value for metric in page.metric}
    page = open_page("drift", tab="Heat map", heat_metric="stated satisfaction", heat_page="900")
    assert "120,000 users, of whom the first 500 are shown" in shown(page)


def test_hostile_names_are_never_markup(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb", hostile_file()) as opened:
        number = incident_of(opened)
        row = drift.findings(opened, user_id=HOSTILE).row(0, named=True)
        queries = [*({"tab": tab} for tab in TABS), {"incident": number}, {"finding": words.identity(row)},
                   {"drift_user": HOSTILE}]  # fmt: skip
        for query in queries:
            page = open_page("drift", **query)
            for harmful in HARMFUL:
                assert harmful not in markup(page), query
            for chart in page.get("plotly_chart"):
                assert "<img src=x" not in chart.proto.spec
