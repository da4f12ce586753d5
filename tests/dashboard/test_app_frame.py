"""The frame of the dashboard: its pages in order, its cache, and what it says when the store cannot be read."""

from datetime import timedelta

import pytest
from loop_data import NOW
from page_driver import APP, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from dashboard import data
from dashboard.ui import filters
from store import meta
from store.errors import QueryTimeout, StoreLocked

PAGES = ("Overview", "Review", "Lessons", "Traces", "Users", "Rewards", "Exploration", "Drift", "Data", "Settings")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def test_pages_are_listed_in_the_order_of_the_design(store):
    source = APP.read_text(encoding="utf-8")
    places = [source.index(f'title="{title}"') for title in PAGES]
    assert places == sorted(places)
    assert source.count("st.Page(") == len(PAGES)


@pytest.mark.parametrize("title", PAGES)
def test_every_page_opens_on_an_empty_store(store, title):
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    app.switch_page(f"views/{title.lower()}.py").run()
    assert not app.exception, [error.value for error in app.exception]
    assert app.title[0].value == title


def test_a_store_that_cannot_be_read_is_said_and_not_a_crash(store, monkeypatch):
    def locked():
        raise StoreLocked(APP, 4711, "python")

    monkeypatch.setattr("dashboard.runtime.current", locked)
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not app.exception
    assert app.error[0].value == "The store could not be read."
    assert "process 4711 (python)" in app.code[0].value


def test_an_answer_is_kept_until_the_data_version_moves(store):
    asked = []

    def question(store, number, *, timeout=None):
        asked.append((number, timeout))
        return len(asked)

    assert [data.query(question, 1), data.query(question, 1), data.query(question, 2)] == [1, 1, 2]
    store.write(meta.bump)
    assert data.query(question, 1) == 3
    assert data.fresh(question, 1) == 4
    assert {timeout for _, timeout in asked} == {10.0}
    assert data.query(question, 1, timeout=2.0) == 5


def test_an_error_is_not_kept(store):
    answers = iter([QueryTimeout(1), "answer"])

    def question(store):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(QueryTimeout):
        data.query(question)
    assert data.query(question) == "answer"


def _selection(**query):
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    selection: filters.Selection = app.session_state["selection"]
    return selection


@pytest.fixture
def filled(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": "a", "agent": "desk", "arm": "x", "model": "m", "started_at": NOW - timedelta(days=400)},
            {"trace_id": "b", "agent": "shop", "arm": "y", "model": "m", "started_at": NOW},
        ]
    )
    return store


@pytest.mark.parametrize(
    ("query", "since", "until", "bucket"),
    [
        # Ranges move on in steps: the end of the one that has begun.
        ({"range": "24 hours"}, NOW - timedelta(days=1, minutes=-1), NOW + timedelta(minutes=1), "hour"),
        ({"range": "7 days"}, NOW - timedelta(days=7, minutes=-10), NOW + timedelta(minutes=10), "day"),
        ({}, NOW - timedelta(days=30, minutes=-30), NOW + timedelta(minutes=30), "day"),
        ({"range": "all time"}, None, None, "week"),
        ({"range": "from day to day", "from": "2026-11-02", "to": "2026-11-01"}, "2026-11-01", "2026-11-03", "hour"),
        ({"range": "from day to day", "from": "2025-11-02", "to": "2026-11-01"}, "2025-11-02", "2026-11-02", "week"),
    ],
)
def test_a_range_gives_its_limits_and_the_bucket_of_charts(filled, query, since, until, bucket):
    selection = _selection(**query)

    def expected(limit):
        return f"{limit}T00:00:00+00:00" if isinstance(limit, str) else limit.isoformat()

    scope = selection.scope
    assert (scope.since and scope.since.isoformat()) == (since and expected(since))
    assert (scope.until and scope.until.isoformat()) == (until and expected(until))
    assert selection.bucket == bucket


def test_a_segment_narrows_the_scope_and_one_value_is_no_choice(filled):
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert [widget.key for widget in app.multiselect] == ["agent", "arm"]
    scope = _selection(agent="shop", arm="y").scope
    assert (scope.agents, scope.arms, scope.models) == (("shop",), ("y",), ())
    assert _selection(model="m").scope.models == ("m",)
    assert _selection(model="unknown").scope.models == ()
