"""Users: the list, one user's summary, what they value and say, and what hostile ids and huge stores do to it."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from choice_data import FEATURES, deployment
from drift_world import WHO, drift_file, hostile_file
from loop_data import HOSTILE, NOW, run_loop
from page_driver import markup, open_page, shown, store_for_pages, unescaped
from publishing import publisher

from dashboard.users import listing
from pipelines.failures.axes import UNKNOWN
from store import decisions, drift_responses, failures, links, users
from store.clock import FixedClock
from store.connection import Store

HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _load(store, tmp_path, **names):
    traces, signals = deployment(**names)
    publisher(store, tmp_path)(traces=traces, signals=signals)
    links.refresh(store)
    run_loop(store, "rewards", "preferences")


@cache
def _file():
    """A database file of the deployment with its jobs run, made once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trimtab.duckdb"
        store = Store.open(path, clock=FixedClock(NOW), threads=1)
        _load(store, Path(folder))
        store.close()
        return path.read_bytes()


@pytest.fixture
def loaded(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb", _file()) as opened:
        yield opened


@pytest.fixture
def world(tmp_path):
    """A steered agent with findings of drift and an incident."""
    with store_for_pages(tmp_path / "trimtab.duckdb", drift_file()) as opened:
        yield opened


def test_an_empty_store_says_how_users_appear(store):
    assert "There are no users yet" in shown(open_page("users"))


def test_an_unknown_user_is_said(store):
    text = shown(open_page("users", user="nobody"))
    assert "there is no such user" in text


def test_the_list_counts_sorts_and_shows_intervals(loaded):
    page = open_page("users", users_sort="most traces")
    table = page.dataframe[0].value
    assert table["user"].iloc[0] == "ada"
    assert table["traces"].iloc[0] == 45
    assert table["reward"].iloc[0].endswith("n 45")
    assert table["reward"].iloc[1] == "too few: 6 of 10 traces"
    assert len(table) == 41
    assert "41 users." in shown(page)


def test_the_list_is_searched(loaded):
    page = open_page("users", find_user="USER 07")
    assert page.dataframe[0].value["user"].tolist() == ["user 07"]
    assert "1 user matches." in shown(page)
    assert "No user matches" in shown(open_page("users", find_user="no such"))


def test_one_user_shows_weights_against_everyone_and_says_where_they_lean(loaded):
    page = open_page("users", user="ada", user_tab="Preferences")
    text = shown(page)
    assert "ada" in [element.value for element in page.text]
    assert {metric.label for metric in page.metric} == {"traces", "mean reward", "signals", "latest"}
    assert "mostly the user's own choices" in text
    assert "from 45 lists shown" in text
    assert len(page.get("plotly_chart")) == 3


def test_a_contradiction_is_said_with_angle_q_and_n(loaded):
    text = shown(open_page("users", user="ada", user_tab="Preferences"))
    assert "Their choices contradict their goals." in text
    assert "from 45 lists and 12 stated values" in text
    assert "q below .0001" in text


def test_a_user_with_few_lists_leans_on_the_population_and_is_not_compared(loaded):
    text = shown(open_page("users", user="user 03", user_tab="Preferences"))
    assert "this leans on the population" in text
    assert "Says and does: not enough data" in text
    assert "6 of at least 30 lists shown to this user; 24 more are needed." in text
    assert "What they chose over time: not enough data" in text
    assert "Reward over time: not enough data" in shown(open_page("users", user="user 03"))


def test_a_user_without_lists_gets_what_holds_for_everyone(loaded, tmp_path):
    publisher(loaded, tmp_path / "more")(traces=[{"trace_id": "new", "user_id": "newcomer", "started_at": NOW}])
    text = shown(open_page("users", user="newcomer", user_tab="Preferences"))
    assert "No choices of this user" in text
    assert "Nothing to compare" in text
    assert "No signals of this user" in shown(open_page("users", user="newcomer", user_tab="Signals"))


def test_without_lists_the_reason_is_shown(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "user_id": "ada", "started_at": NOW}])
    run_loop(store, "preferences")
    text = shown(open_page("users", user="ada", user_tab="Preferences"))
    assert "Preferences cannot be inferred yet" in text
    assert "No list of items was shown to a known person." in text.replace("\\", "")


@pytest.mark.parametrize("name", [HOSTILE, "x" * 3_000, "🦊" * 40, " ", "a*b%c_d"])
def test_hostile_ids_are_shown_as_they_are(store, tmp_path, name):
    publisher(store, tmp_path)(
        traces=[{"trace_id": "t", "user_id": name, "started_at": NOW, "metadata": {"segment": name}}],
        signals=[{"signal_id": "s", "trace_id": "t", "kind": "thumb", "name": name, "value": 1.0}],
    )
    run_loop(store, "preferences")
    listed = open_page("users")
    assert len(listed.dataframe[0].value) == 1
    page = open_page("users", user=name)
    for harmful in HARMFUL:
        assert harmful not in markup(page)
        assert harmful not in markup(listed)
    assert page.metric[0].value == "1"


def test_hostile_features_and_agents_are_never_markup(store, tmp_path):
    features = ("<img src=x onerror=1>", "**bold** :red[x]", "[a](http://e)")
    _load(store, tmp_path, ada=HOSTILE, features=features, agent=HOSTILE, segment=HOSTILE)
    for page in (open_page("users"), open_page("users", user=HOSTILE, user_tab="Preferences")):
        for harmful in HARMFUL:
            assert harmful not in markup(page)
    charts = [
        chart.proto.spec for chart in open_page("users", user=HOSTILE, user_tab="Preferences").get("plotly_chart")
    ]
    assert charts
    assert not any("<img src=x" in spec for spec in charts)


def test_a_hundred_thousand_users_are_paged(store):
    def work(connection):
        connection.execute(
            """INSERT INTO user_summaries SELECT 1, 'user ' || i, NULL, i % 50, 1, 3, 1, i % 20, 0.5, 0.01, 0.01, [0.5],
            $now, $now FROM range(100000) AS r(i)""",
            {"now": NOW},
        )
        connection.execute("INSERT INTO user_runs VALUES (1, $now, 1, 100000, NULL)", {"now": NOW})

    store.write(work)
    page = open_page("users", users_page="1500")
    assert len(page.dataframe[0].value) == listing.PAGE_SIZE
    assert "100,000 users." in shown(page)
    assert users.page(store, search="99999").total == 1


def test_features_are_named(loaded):
    assert users.page(loaded).total == 41
    figure = open_page("users", user="ada", user_tab="Preferences").get("plotly_chart")[0].proto.spec
    assert all(f'"{feature}"' in figure for feature in FEATURES)


def test_a_person_with_few_statements_leans_on_their_segment_and_the_page_says_so(loaded):
    loaded.write(
        lambda connection: connection.execute(
            """INSERT INTO reward_people
            SELECT max(reward_model_id), 'ada', 3, 0.7, 0.1, 0.2, 0.3, 0.62, '<b>explorers</b>' FROM reward_models
            WHERE active"""
        )
    )
    page = open_page("users", user="ada")
    said = next(line.value for line in page.text if line.value.startswith("Satisfied with"))
    assert said == (
        "Satisfied with 70.0 % of average traces (50.4 % to 89.6 %), from 3 statements of their own; 62.0 % of this is "
        "what is usual for <b>explorers</b>."
    )
    assert "<b>" not in markup(page)


def test_the_list_says_who_changed_and_sorts_by_it(world):
    page = open_page("users", users_sort="changed")
    table = page.dataframe[0].value
    assert table["user"].iloc[0] == WHO
    assert table["drift"].iloc[0] == "Stated satisfaction, worse and 1 more"
    said = dict(zip(table["user"], table["drift"], strict=True))
    found = open_page("users", find_user="user 1").dataframe[0].value
    assert found.set_index("user")["drift"]["user 1"] == "no change seen"
    assert set(said.values()) <= {"Stated satisfaction, worse and 1 more", "no change seen", "not enough data"}
    assert "2 of the 70 with enough data changed." in shown(page)
    keys = {button.key for button in page.get("download_button")}
    assert keys == {"users-export-csv", "users-export-parquet"}


def test_segments_filter_the_list(world):
    table = open_page("users", segment="north").dataframe[0].value
    assert set(table["segment"]) == {"north"}
    assert len(table) == 35


def test_the_timeline_shows_the_change_the_incident_and_every_metric_before_and_after(world):
    page = open_page("users", user=WHO)
    table = page.dataframe[0].value
    assert table["metric"].tolist() == ["Stated satisfaction", "Latency", "Reward"]
    assert table["change"].tolist() == ["-0.45", "+65 %", "-0.010"]
    chart = page.get("plotly_chart")[0].proto.spec
    assert "change, 2026-11-12" in chart
    assert "Reward fell for segment north: model two" in [text.value for text in page.text]
    other = open_page("users", user=WHO, metric="reward")
    assert "No change is seen (p 0.6000, n 40)." in shown(other)
    assert "change, 2026" not in other.get("plotly_chart")[0].proto.spec
    nobody = open_page("users", user="user 3")
    assert "Not scanned: Latency needs 20 events of this user or more." in shown(nobody)
    assert "Nothing was scanned of this user" in shown(nobody)


def test_steering_says_the_rate_why_what_came_of_it_and_each_decision(world):
    page = open_page("users", user="user 2", user_tab="Steering")
    text = shown(page)
    own = decisions.recent(world, limit=10_000).filter(user_id="user 2")
    assert "20.0 % of decisions may leave the greedy arm" in text
    assert "user 2 takes it well." in text
    assert f"shop: {int(own['explore'].sum())} of 10 decisions explored" in text
    assert page.dataframe[0].value["at"].tolist() == own["decided_at"].to_list()
    assert "No lessons for this user" in text


def test_lessons_served_are_counted_with_their_rewards(world):
    made = decisions.recent(world, limit=3).with_columns(
        decision_id=pl.format("x{}", pl.int_range(pl.len())), user_id=pl.lit("user 2"), playbook_version=pl.lit(1),
        empty_probability=pl.lit(0.1),
        decided_at=pl.lit(NOW - timedelta(days=1)).cast(pl.Datetime("us", "UTC")),
        exposures=pl.Series(
            [[{"lesson_id": HOSTILE, "lesson_version": 1, "status": status, "served_probability": 0.9, "match": 1.0,
               "tokens": 5}] for status in ("served", "served", "withheld")],
            dtype=decisions.DECISIONS["exposures"],
        ),
    )  # fmt: skip
    world.write(lambda connection: decisions.append(connection, made))
    page = open_page("users", user="user 2", user_tab="Steering")
    (lessons,) = [table.value for table in page.dataframe if "withheld" in table.value.columns]
    assert lessons[["served", "withheld", "without"]].to_numpy().tolist() == [[2, 1, "too few: 0 of 10"]]
    assert not any(harmful in markup(page) for harmful in HARMFUL)


def test_what_went_wrong_is_listed_with_causes(world):
    assert "No failure labels yet" in shown(open_page("users", user=WHO, user_tab="What went wrong"))
    label = {"rank": 1, "origin": "rule", "rule": "r", "span_id": None, "confidence": 0.8}
    labels = [
        {**label, "trace_id": "t0000", "axis": "tool_fault", "detail": HOSTILE},
        {**label, "trace_id": "t0070", "axis": UNKNOWN, "detail": "no rule found a cause"},
        {**label, "trace_id": "t0001", "axis": UNKNOWN, "detail": "another user's"},
    ]
    summary = failures.Summary(
        rules_version=1, reward_model_id=None, traces=700, bad=3, unknown=2, explored=0, parameters={}
    )
    failures.record(
        world, pl.DataFrame(labels, schema=failures.LABELS), pl.DataFrame(schema=failures.RULES), summary,
        data_version=1, code_version="test",
    )  # fmt: skip
    page = open_page("users", user=WHO, user_tab="What went wrong")
    assert "2 of their 10 traces went badly; a share: not enough data: 10 of 20 traces." in shown(page).replace("*", "")
    table = page.dataframe[0].value
    assert table["open"].tolist() == ["/traces?trace=t0070", "/traces?trace=t0000"]
    assert table["found"].iloc[1] == HOSTILE
    assert table["confidence"].isna().tolist() == [True, False]
    assert not any(harmful in markup(page) for harmful in HARMFUL)
    assert "Nothing went badly for this user" in shown(open_page("users", user="user 5", user_tab="What went wrong"))


def test_responses_in_force_are_on_the_user_s_page(world):
    response = drift_responses.Response("ask", "They changed.", agent="shop", user_id=WHO, rate=0.2, days=7)
    drift_responses.apply(world, response, {"text": "Asks more."}, operator="Ada", render=lambda *_: None)
    page = open_page("users", user=WHO, user_tab="Steering")
    assert "Responses so far" in shown(page)
    (table,) = [each.value for each in page.dataframe if "expected" in each.value.columns]
    assert table["expected"].tolist() == ["Asks more."]


def test_every_tab_of_a_hostile_user_is_plain_text(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb", hostile_file()):
        for tab in ("Timeline", "Preferences", "Steering", "What went wrong", "Signals"):
            page = open_page("users", user=HOSTILE, user_tab=tab)
            assert not any(harmful in markup(page) for harmful in HARMFUL), tab
            assert not any("<img src=x" in chart.proto.spec for chart in page.get("plotly_chart"))
            assert unescaped(shown(page))
