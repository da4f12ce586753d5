"""Users: the list, one user's summary, what they value and say, and what hostile ids and huge stores do to it."""

import pytest
from choice_data import FEATURES, deployment
from loop_data import HOSTILE, NOW, run_loop
from page_driver import markup, open_page, shown, store_for_pages
from publishing import publisher

from dashboard.users import listing
from store import links, users

HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _load(store, tmp_path, **names):
    traces, signals = deployment(**names)
    publisher(store, tmp_path)(traces=traces, signals=signals)
    store.write(links.refresh)
    run_loop(store, "rewards", "preferences")


@pytest.fixture
def loaded(store, tmp_path):
    _load(store, tmp_path)
    return store


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
    page = open_page("users", user="ada")
    text = shown(page)
    assert "ada" in [element.value for element in page.text]
    assert {metric.label for metric in page.metric} == {"traces", "mean reward", "signals", "latest"}
    assert "mostly the user's own choices" in text
    assert "from 45 lists shown" in text
    assert len(page.get("plotly_chart")) == 3


def test_a_contradiction_is_said_with_angle_q_and_n(loaded):
    text = shown(open_page("users", user="ada"))
    assert "Their choices contradict their goals." in text
    assert "from 45 lists and 12 stated values" in text
    assert "q below .0001" in text


def test_a_user_with_few_lists_leans_on_the_population_and_is_not_compared(loaded):
    text = shown(open_page("users", user="user 03"))
    assert "this leans on the population" in text
    assert "Says and does: not enough data" in text
    assert "6 of at least 30 lists shown to this user; 24 more are needed." in text
    assert "Reward over time: not enough data" in text


def test_a_user_without_lists_gets_what_holds_for_everyone(loaded, tmp_path):
    publisher(loaded, tmp_path / "more")(traces=[{"trace_id": "new", "user_id": "newcomer", "started_at": NOW}])
    text = shown(open_page("users", user="newcomer"))
    assert "No choices of this user" in text
    assert "Nothing to compare" in text
    assert "No signals of this user" in text


def test_without_lists_the_reason_is_shown(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "user_id": "ada", "started_at": NOW}])
    run_loop(store, "preferences")
    text = shown(open_page("users", user="ada"))
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
    for page in (open_page("users"), open_page("users", user=HOSTILE)):
        for harmful in HARMFUL:
            assert harmful not in markup(page)
    charts = [chart.proto.spec for chart in open_page("users", user=HOSTILE).get("plotly_chart")]
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
    figure = open_page("users", user="ada").get("plotly_chart")[0].proto.spec
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
