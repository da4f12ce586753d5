"""Credit on the pages: the table of tools with interval, q, n and basis, and the steps of one trace."""

import polars as pl
import pytest
from loop_data import HOSTILE, run_loop, shop
from page_driver import markup, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from pipelines.credit.measured import WHO_AND_WHEN
from store import credit, links


def _panel():
    from dashboard.learn import credit_panels
    from dashboard.ui import theme

    credit_panels.show((), theme.current())


def _tab():
    import streamlit as st

    from dashboard.trace.credit import credit_tab

    credit_tab(st.session_state["trace"])


def _run(page, **state):
    app = AppTest.from_function(page, default_timeout=30)
    for name, value in state.items():
        app.session_state[name] = value
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def loaded(store, tmp_path):
    traces, spans, signals = shop()
    publisher(store, tmp_path)(traces=traces, spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store, "tasks", "rewards", "credit")
    return store


def _table(page, column):
    return next(frame.value for frame in page.dataframe if column in frame.value.columns)


def test_an_empty_store_says_what_credit_needs(store):
    assert "No credit yet" in shown(_run(_panel))
    assert "No credit yet" in shown(_run(_tab, trace="t"))


def test_the_panel_names_run_n_and_measured_accuracy(loaded):
    page = _run(_panel)
    run = credit.shown_run(loaded)
    text = shown(page)
    assert f"{run['steps']:,} steps of {run['traces']:,} traces" in text
    assert "Who&When" in text
    assert all(f"{one.step * 100:.1f} %" in text for one in WHO_AND_WHEN)
    table = _table(page, "basis")
    assert set(table["tool"]) == {"look_up", "book"}
    assert set(table["basis"]) == {"predictive"}
    assert (table["n"] > 0).all()


def test_too_few_users_are_said_instead_of_a_number(loaded):
    """The shop has eight users: no interval over users can be had."""
    table = _table(_run(_panel), "basis")
    assert table["credit"].isna().all()
    assert table["why not"].str.contains("10 users").any()


def _row(agent, scope, tool, state, estimate, **columns):
    known = estimate is not None
    row = {
        "agent": agent, "scope": scope, "tool": tool, "state": state, "steps": 60, "traces": 50, "clusters": 20,
        "estimate": estimate, "lower": estimate - 0.05 if known else None, "upper": estimate + 0.05 if known else None,
        "sd": 0.025 if known else None, "p_value": 0.01 if known else None, "q_value": 0.02 if known else None,
        "basis": "predictive", "reason": None if known else "no_choice",
    }  # fmt: skip
    return row | columns


def _record(store, rows):
    nothing = {"notes": [{"agent": "a", "reason": "single_user", "text": "All of one user."}], "parameters": {}}
    credit.record(
        store,
        credit.Found(
            steps=pl.DataFrame(schema=credit.STEP_CREDITS), parallel=pl.DataFrame(schema=credit.PARALLEL_CREDITS),
            tools=pl.DataFrame(rows, schema=credit.TOOL_CREDITS), reward_model_id=7, data_version=1, code_version="0",
            traces=50, informative=50, **nothing,
        ),
    )  # fmt: skip


def test_choices_are_drawn_and_listed_by_scope_and_agent(store):
    _record(
        store,
        [
            *(_row("a", "tool", f"tool {n}", None, n / 100 - 0.1) for n in range(20)),
            _row("a", "tool", "always", None, None),
            _row("a", "arm", "v1", None, 0.04, basis="causal"),
            _row("a", "arm", "v2", None, None, reason="zero_propensity"),
            _row(f"z{HOSTILE}", "tool", HOSTILE, HOSTILE, 0.2),
        ],
    )
    page = _run(_panel)
    assert "which is not the one in use" in shown(page)
    assert "a: All of one user." in shown(page)
    assert "The 7 best and the 7 worst of 20." in shown(page)
    assert "Predictive, not causal" in shown(page)
    table = _table(page, "basis").set_index("tool")
    assert table.loc["tool 19", "interval"] == "+0.040 to +0.140"
    assert table.loc["always", "why not"] == "always chosen here: nothing to compare with"
    page.segmented_control(key="credit-scope").set_value("arm").run()
    assert not page.exception
    table = _table(page, "basis").set_index("arm")
    assert table["basis"].tolist() == ["causal", "predictive"]
    assert "propensity of zero" in table.loc["v2", "why not"]
    assert "Causal: arms were drawn at random" in shown(page)
    page.segmented_control(key="credit-scope").set_value("tool").run()
    page.selectbox(key="credit-agent").set_value(1).run()
    assert not page.exception
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)


def test_the_steps_of_a_trace_sum_to_its_reward(loaded):
    page = _run(_tab, trace="t000")
    steps = credit.of_trace(loaded, "t000")
    total = steps["value"][0] + steps["credit"].sum()
    assert f"reward {total:.3f}" in shown(page)
    assert "Who&When" in shown(page)
    table = _table(page, "luck")
    assert table["step"].tolist() == list(range(1, steps.height + 1))
    assert (table["decision"] + table["luck"] - table["credit"]).abs().max() < 1e-12


def test_a_trace_without_credit_says_why(loaded):
    assert "No credit for this trace" in shown(_run(_tab, trace="unknown"))


def test_hostile_names_are_never_markup(store, tmp_path):
    traces, spans, signals = shop(agent=HOSTILE, tool=HOSTILE, user=HOSTILE)
    publisher(store, tmp_path)(traces=traces, spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store, "tasks", "rewards", "credit")
    for page in (_run(_panel), _run(_tab, trace="t000")):
        for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
            assert harmful not in markup(page)
