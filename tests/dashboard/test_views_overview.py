"""The Overview page: the answer on top, what waits, faults in red, and what an empty or thin store says."""

from dataclasses import replace
from datetime import timedelta

import pytest
from loop_data import NOW
from page_driver import APP, markup, much_comes_in, open_page, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from dashboard import answers, runtime
from dashboard.feel import sidebar
from store import audit, meta, overview
from store.errors import QueryTimeout
from store.settings import Settings

HOSTILE = "<script>x</script> **b** ![i](http://evil.example/i.png) $\\frac{1}{2}$"


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _traces(agent, count, *, newest, failed, prefix=""):
    return [
        {
            "trace_id": f"{prefix}{agent}-{i}",
            "agent": agent,
            "user_id": f"u{i % 7}",
            "started_at": newest - timedelta(hours=6 * i),
            "ended_at": newest - timedelta(hours=6 * i) + timedelta(seconds=2),
            "status": "error" if i < failed else "ok",
            "cost_usd": 0.01,
        }
        for i in range(count)
    ]


@pytest.fixture
def full(store, tmp_path):
    """Two agents over the last 25 days, one before that, one with a hostile name; rewards, feedback, and work to do."""
    publisher(store, tmp_path)(
        traces=[
            *_traces("desk", 100, newest=NOW - timedelta(hours=1), failed=10),
            *_traces("shop", 60, newest=NOW - timedelta(hours=2), failed=0),
            *_traces("desk", 40, newest=NOW - timedelta(days=35), failed=2, prefix="old-"),
            *_traces(HOSTILE, 1, newest=NOW - timedelta(hours=3), failed=1),
        ],
        signals=[
            {"signal_id": f"s{i}", "trace_id": f"desk-{i}", "kind": "thumb", "value": 1.0, "occurred_at": NOW}
            for i in range(16)
        ],
    )
    store.write(_work_to_do)
    return store


def _work_to_do(connection):
    now = {"now": NOW - timedelta(hours=3)}
    connection.execute(
        """INSERT INTO reward_models (reward_model_id, method, fitted_at, data_version, traces, signals, parameters,
            code_version, active) VALUES (1, 'm', $now, 1, 1, 1, '{}', 'c', true)""",
        now,
    )
    connection.execute(
        """INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals)
        SELECT trace_id, 1, CASE WHEN status = 'error' THEN 0.1 ELSE 0.7 END, 0.1, 1 FROM traces"""
    )
    connection.execute(
        """INSERT INTO lessons (lesson_id, agent, state, version, origin, created_at, updated_at)
        SELECT id, 'desk', 'proposed', 1, 'contrast', $now, $now FROM (VALUES ('a'), ('b')) AS l(id)""",
        now,
    )
    connection.execute(
        """INSERT INTO drift_findings
            (run_id, level, user_id, metric, likelihood, events, statistic, p_value, flagged, found_at)
        VALUES (1, 'user', 'u1', 'm', 'bernoulli', 50, 9, 0.001, true, $now)""",
        now,
    )
    connection.execute(
        """INSERT INTO drift_runs (run_id, found_at, data_version, code_version, false_discovery_rate, users, scanned,
            flagged, too_few, min_events) VALUES (1, $now, 1, 'c', 0.05, 1, 1, 1, 0, 20)""",
        now,
    )
    connection.execute(
        """INSERT INTO ingest_batches (batch_id, source, file_name, state, rejected, received_at)
        VALUES (99, 's', 'f', 'done', 7, $now)""",
        now,
    )
    connection.execute(
        """INSERT INTO job_runs (run_id, job, cause, attempt, status, started_at, finished_at, error, code_version)
        VALUES (1, 'rewards', 'schedule', 2, 'failed', $now, $now, 'value is 1.7, ![not](markdown)', 'c')""",
        now,
    )
    meta.bump(connection)


def _open(**query):
    """The page as a link with these parameters opens it."""
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _metrics(page):
    return {metric.label: metric for metric in page.metric}


def _links(page):
    return [link.label for link in page.page_link]


def test_an_empty_store_teaches_how_to_fill_it(store):
    page = open_page("overview")
    assert "There are no traces yet" in shown(page)
    assert "make demo" in [code.value for code in page.code]
    assert any("inbox" in code.value for code in page.code)
    assert "Upload on the Data page" in _links(page)
    assert not page.metric


def test_the_answer_is_on_top(full):
    page = open_page("overview")
    metrics = _metrics(page)
    # 161 traces in 30 days, 11 of them failed; 40 before that with 2.
    assert (metrics["Traces"].value, metrics["Traces"].delta) == ("161", "+302 %")
    assert (metrics["Error rate"].value, metrics["Error rate"].delta) == ("6.8 %", "+1.8 points")
    assert (metrics["Mean reward"].value) == "0.659"
    assert metrics["Cost"].value == "\\$1.61"
    assert metrics["Duration p50"].value == "2.0 s"
    assert metrics["Feedback coverage"].value == "9.9 %"
    text = shown(page)
    assert "3.9 to 11.8 %, n 161" in text
    assert "against the equal range before" in text
    assert "201 traces" in text


def test_a_failing_job_stands_in_red_with_its_error(full):
    page = open_page("overview")
    assert "Job **rewards** failed 3 h ago, attempt 2" in page.error[0].value
    assert "value is 1.7, ![not](markdown)" in [code.value for code in page.code]
    assert "![not]" not in markup(page)


def test_what_waits_leads_to_where_it_is_done(full):
    page = open_page("overview")
    assert _links(page)[:4] == [
        "1 failed job", "2 proposed lessons to review", "1 user flagged for drift", "1 batch with rejected records",
    ]  # fmt: skip
    assert "7 records rejected" in shown(page)


def test_nothing_waiting_says_so(store, tmp_path):
    publisher(store, tmp_path)(traces=_traces("desk", 30, newest=NOW, failed=1))
    page = open_page("overview")
    assert "Nothing. Lessons to review" in shown(page)
    assert not page.error


def test_agents_are_listed_with_their_numbers(full):
    table = open_page("overview").dataframe[0].value
    assert table["agent"].tolist() == ["desk", "shop", HOSTILE]
    assert table["traces"].tolist() == [100, 60, 1]
    assert table["error_rate"].tolist()[:2] == [10.0, 0.0]
    assert table["error_interval"].tolist()[0] == "5.5 to 17.4 %"
    assert table["error_rate"].isna().tolist() == [False, False, True]
    assert sum(table["course"].iloc[0]) == 100


def test_charts_are_named_for_those_who_do_not_see_them(full):
    charts = open_page("overview").get("plotly_chart")
    assert len(charts) == 2
    assert "161 in all, of which 11 failed" in charts[0].proto.alt
    assert "161 rewarded traces" in charts[1].proto.alt


def test_the_filters_of_the_sidebar_hold(full):
    page = _open(range="7 days", agent="shop")
    assert page.selectbox(key="range").value == "7 days"
    assert page.multiselect(key="agent").value == ["shop"]
    assert _metrics(page)["Traces"].value == "28"


def test_values_that_are_not_offered_are_ignored(full):
    page = _open(range="forever", agent="nobody")
    assert page.selectbox(key="range").value == "30 days"
    assert _metrics(page)["Traces"].value == "161"


def test_a_range_of_days_includes_both(full):
    page = _open(**{"range": "from day to day", "from": "2026-11-19", "to": "2026-11-19"})
    assert "19 Nov 00:00 to 19 Nov 2026 23:59 UTC" in shown(page)
    assert _metrics(page)["Traces"].value == "8"


def test_a_range_without_traces_says_where_they_are(full):
    page = _open(**{"range": "from day to day", "from": "2026-01-01", "to": "2026-01-31"})
    assert "No traces in this range" in shown(page)
    assert "2026-11-20 11:00:00 UTC" in shown(page)


def test_old_data_is_shown_whole_until_a_range_is_chosen(store, tmp_path):
    publisher(store, tmp_path)(traces=_traces("desk", 30, newest=NOW - timedelta(days=200), failed=1))
    page = open_page("overview")
    assert page.selectbox(key="range").value == "all time"
    assert _metrics(page)["Traces"].value == "30"
    assert "Newest trace 200 days ago" in shown(page)


def test_too_little_data_says_how_much_is_missing(store, tmp_path):
    publisher(store, tmp_path)(traces=_traces("desk", 3, newest=NOW, failed=1))
    page = open_page("overview")
    assert _metrics(page)["Error rate"].value == "–"
    assert "not enough data: 3 of 20 traces" in shown(page)
    assert "no reward model yet" in shown(page)


def test_text_from_data_is_never_markup(full):
    page = open_page("overview")
    for piece in ("<script>", "![i]", "**b**", "\\frac"):
        assert piece not in markup(page)
    assert all("<script>" not in chart.proto.spec for chart in page.get("plotly_chart"))


def test_a_query_that_takes_too_long_leaves_the_rest_of_the_page(full, monkeypatch):
    def slow(*_, **__):
        raise QueryTimeout(10)

    slow.__module__, slow.__qualname__ = "store.overview", "headline"
    monkeypatch.setattr(overview, "headline", slow)
    page = open_page("overview")
    assert "The headline numbers took longer than 10 s" in page.warning[0].value
    assert not page.metric
    assert page.dataframe[0].value["agent"].tolist()[0] == "desk"


def _opened_before_more_came(store, tmp_path):
    """The page with thirty traces, after thirty more have come; it has not been drawn again."""
    publish = publisher(store, tmp_path)
    publish(traces=_traces("desk", 30, newest=NOW, failed=1))
    page = open_page("overview")
    publish(traces=_traces("shop", 30, newest=NOW, failed=1))
    store.write(meta.bump)
    return page


def test_new_data_is_shown_at_once(store, tmp_path):
    page = _opened_before_more_came(store, tmp_path)
    assert _metrics(page.run())["Traces"].value == "60"


def test_while_agents_send_much_answers_are_held_and_else_not(store, tmp_path, monkeypatch):
    sending = much_comes_in(monkeypatch)
    page = _opened_before_more_came(store, tmp_path)
    assert _metrics(page.run())["Traces"].value == "30"
    sending[0] = False
    assert _metrics(page.run())["Traces"].value == "60"


def test_beside_data_that_streams_in_the_page_says_how_old_it_is(store, tmp_path, monkeypatch):
    runtime.install(replace(runtime.current(), settings=Settings(page_age_seconds=60)))
    # As if reading took long, and as if a moment were old.
    monkeypatch.setattr(answers, "_QUICK_SECONDS", -1.0)
    monkeypatch.setattr(sidebar, "WORTH_SAYING", 1e-9)
    page = _opened_before_more_came(store, tmp_path)
    page.run()
    assert _metrics(page)["Traces"].value == "30"
    assert "s before: data is coming in." in page.caption[0].value
    assert any("Data is coming in" in caption.value for caption in page.sidebar.caption)

    # What somebody did is in every page from then on.
    store.write(lambda connection: audit.append(connection, NOW, "ana", "setting", "retention", {}))
    page.run()
    assert _metrics(page)["Traces"].value == "60"
    assert page.caption[0].value.endswith("UTC.")
