"""The preference panels of Rewards: weights, what was left out and why, segments, contradictions and rankings."""

import pytest
from choice_data import comparisons, deployment
from loop_data import HOSTILE, NOW, run_loop
from page_driver import markup, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import links


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


_APP = """
import streamlit as st
from dashboard.learn import preference_panels
from dashboard.ui import theme

def main():
    preference_panels.show(theme.LIGHT)

st.navigation([st.Page(main, title="Panels", default=True), st.Page("views/users.py", title="Users")]).run()
"""


@pytest.fixture
def panel(tmp_path):
    """Runs the panels in an app that has a Users page, which they link to."""
    folder = tmp_path / "app"
    (folder / "views").mkdir(parents=True)
    (folder / "app.py").write_text(_APP, encoding="utf-8")
    (folder / "views" / "users.py").write_text("", encoding="utf-8")

    def run():
        app = AppTest.from_file(str(folder / "app.py"), default_timeout=30).run()
        assert not app.exception, [error.value for error in app.exception]
        return app

    return run


def _load(store, tmp_path, more=(), **names):
    traces, signals = deployment(**names)
    publisher(store, tmp_path)(traces=traces, signals=[*signals, *more])
    links.refresh(store)
    run_loop(store, "rewards", "preferences")


def _table(app, column):
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_before_the_first_run_it_says_what_is_needed(store, panel):
    assert "No preferences yet" in shown(panel())


def test_weights_agreement_and_who_contradicts(store, tmp_path, panel):
    _load(store, tmp_path)
    app = panel()
    text = shown(app)
    assert len(app.get("plotly_chart")) == 1
    assert "From 285 lists with 855 items shown to 41 people" in text
    assert "1 of 1 people with enough choices and goals contradict themselves" in text
    assert "ada: " in text
    assert set(_table(app, "share of direction")["from"]) >= {"choices", "stated goals"}


def test_rankings_of_people_and_of_rewards(store, tmp_path, panel):
    _load(store, tmp_path, more=comparisons())
    table = _table(panel(), "P(best)")
    by_item = {(row["compared"], row["item"]): row for row in table.to_dict("records")}
    assert by_item["prompt", "v2"]["by"] == "people"
    assert by_item["prompt", "v2"]["n"] == 50
    assert by_item["arm", "b"]["by"] == "rewards of the same task"
    assert by_item["arm", "b"]["P(best)"] > 0.9


def test_a_refused_fit_shows_its_reason_and_what_was_left_out(store, tmp_path, panel):
    publisher(store, tmp_path)(
        traces=[{"trace_id": "t", "user_id": "ada", "started_at": NOW}],
        signals=[
            {"signal_id": "i", "trace_id": "t", "kind": "impression", "item": "x", "metadata": {"price": 1.0}},
            {"signal_id": "j", "trace_id": "elsewhere", "kind": "impression", "item": "x"},
        ],
    )
    run_loop(store, "preferences")
    text = shown(panel())
    assert "Preferences cannot be inferred yet" in text
    assert "1 lists were shown; 100 are needed" in text.replace("\\", "")
    assert "1 impressions: the trace is not in the store" in text


def test_hostile_names_are_never_markup(store, tmp_path, panel):
    features = ("<img src=x onerror=1>", "**bold** :red[x]", "[a](http://e)")
    _load(store, tmp_path, more=comparisons(HOSTILE, "v1"), ada=HOSTILE, features=features, agent=HOSTILE)
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(panel())
