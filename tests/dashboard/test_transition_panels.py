"""Panels of transitions and of one trace's surprise: numbers with n and bands, empty states, text as text."""

import pytest
from loop_data import HOSTILE, run_loop, shop
from page_driver import markup, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import links


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _learn(agents=()):
    from dashboard.learn import transition_panels
    from dashboard.ui import theme

    transition_panels.show(tuple(agents), theme.current())


def _trace(trace_id):
    from dashboard.trace import surprise

    surprise.show(trace_id)


def _open(function, **arguments):
    page = AppTest.from_function(function, default_timeout=30, kwargs=arguments).run()
    assert not page.exception, [error.value for error in page.exception]
    return page


def _load(store, folder, **names):
    traces, spans, signals = shop(**names)
    publisher(store, folder)(traces=[*traces, {"trace_id": "lonely", "agent": "small"}], spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store, "rewards", "transitions")


def _table(page, column):
    return next(frame.value for frame in page.dataframe if column in frame.value.columns)


def test_without_a_model_both_say_what_is_needed(store):
    assert "No transition model yet" in shown(_open(_learn))
    assert "at least 30 traces" in shown(_open(_trace, trace_id="t000"))


def test_the_panels_show_reliability_order_surprise_and_learning(store, tmp_path):
    _load(store, tmp_path)
    page = _open(_learn)
    text = shown(page)
    assert "Version 1, abstraction 1" in text
    assert "n 120 traces; model-based" in text
    assert "Does history matter? can't tell yet" in text
    arms = _table(page, "success")
    assert arms["arm"].tolist() == ["a", "b"]
    assert arms["n"].tolist() == [60, 60]
    assert _table(page, "unseen")["state"].str.len().gt(0).all()
    traces = _table(page, "mean z")
    assert traces["p"].is_monotonic_increasing
    assert traces["open"].iloc[0].startswith("/traces?trace=t")
    assert {metric.label for metric in page.metric} == {"expected steps"}


def test_an_agent_with_too_few_traces_says_how_many_are_missing(store, tmp_path):
    _load(store, tmp_path)
    page = _open(_learn, agents=("small",))
    assert "1 of at least 30 traces of this agent; 29 more are needed." in shown(page)


def test_one_trace_shows_its_p_value_and_every_step(store, tmp_path):
    _load(store, tmp_path)
    page = _open(_trace, trace_id="t000")
    labels = [metric.label for metric in page.metric]
    assert labels == ["mean surprise, z", "p-value", "information"]
    assert "Conformal p-value against 119 traces" in shown(page)
    table = _table(page, "after")
    assert table["after"].iloc[0] == "START"
    assert (table["n"] >= 1).all()


def test_hostile_names_are_never_markup(store, tmp_path):
    _load(store, tmp_path, tool=HOSTILE, agent=HOSTILE)
    for page in (_open(_learn, agents=(HOSTILE,)), _open(_trace, trace_id="t000")):
        for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
            assert harmful not in markup(page)
