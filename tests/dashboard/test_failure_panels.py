"""Panels of failure labels, signal yield and the hacking watch: empty, too little, and with something to say."""

import numpy as np
import polars as pl
import pytest
from loop_data import HOSTILE, NOW, run_loop
from page_driver import markup, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import failures, hacking_watch


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _open(function, **values):
    app = AppTest.from_function(function, default_timeout=30, kwargs=values)
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _failures(agents=()):
    from dashboard.learn import failure_panels

    failure_panels.show(agents)


def _yields(agents=()):
    from dashboard.learn import yield_panels
    from dashboard.ui import theme

    yield_panels.show(theme.current(), agents)


def _watch(agents=()):
    from dashboard.learn import watch_panels

    watch_panels.show(agents)


def _trace(trace_id):
    from dashboard.trace import failure

    failure.show(trace_id)


def _table(app, column):
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def _repeating(store, folder, *, agent="shop", tool="look_up"):
    """60 traces; in the odd ones of the first half the same call is made twice and the outcome is missed."""
    traces, spans, signals = [], [], []
    for i in range(60):
        bad = i < 30 and i % 2 == 1
        traces.append({"trace_id": f"t{i}", "agent": agent, "task": "x", "input": "find tea", "started_at": NOW})
        spans += [
            {"trace_id": f"t{i}", "span_id": f"s{i}-{n}", "kind": "tool", "name": tool, "ordinal": n,
             "input": '{"q": "tea"}', "output": HOSTILE}
            for n in range(2 if bad else 1)
        ]  # fmt: skip
        signals.append(
            {"signal_id": f"g{i}", "trace_id": f"t{i}", "kind": "outcome", "value": 0.0 if bad else 1.0,
             "annotator_kind": "code"}
        )  # fmt: skip
    publisher(store, folder)(traces=traces, spans=spans, signals=signals)
    run_loop(store, "failures")


@pytest.mark.parametrize(
    ("panel", "said"),
    [(_failures, "No failure labels yet"), (_yields, "No yield measured yet"), (_watch, "Nothing watched yet")],
)
def test_an_empty_store_says_what_would_be_here(store, panel, said):
    assert said in shown(_open(panel))


def test_causes_are_counted_with_shares_and_examples_lead_to_the_evidence(store, tmp_path):
    _repeating(store, tmp_path)
    app = _open(_failures)
    assert "15 of 60 traces went badly: 15 with a cause" in shown(app)
    causes = _table(app, "whose doing")
    assert causes[["cause", "whose doing", "traces"]].values.tolist() == [["loop", "the agent", 15]]
    examples = _table(app, "open")
    assert len(examples) == 15
    assert all("&span=s" in link and "&view=Spans" in link for link in examples["open"])
    rules = _table(app, "in good")
    assert rules["in bad"].tolist() == [1.0]
    assert rules["in good"].tolist() == [0.0]
    assert "n 0, nothing was labelled twice" in shown(app)


def test_a_filter_on_agents_narrows_and_says_when_nothing_is_left(store, tmp_path):
    _repeating(store, tmp_path)
    assert "No bad traces" in shown(_open(_failures, agents=("other",)))
    assert "15 of 60" in shown(_open(_failures, agents=("shop",)))


def test_a_trace_shows_its_label_and_opens_the_evidence(store, tmp_path):
    _repeating(store, tmp_path)
    app = _open(_trace, trace_id="t1")
    assert "Failure: loop" in shown(app)
    assert "look_up was called 2 times" in shown(app)
    app.button(key="failure-t1-1").click().run()
    assert app.query_params["span"] in ("s1-1", ["s1-1"])
    assert app.session_state["view"] == "Spans"
    assert "did not go badly" in shown(_open(_trace, trace_id="t2"))


def test_exploration_is_not_called_a_failure(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": "t", "metadata": '{"steer.explore": true}', "input": "x"},
            {"trace_id": "u", "input": "x"},
        ],
        signals=[
            {"signal_id": name, "trace_id": name, "kind": "outcome", "value": 0.0, "annotator_kind": "code"}
            for name in "tu"
        ],
    )
    run_loop(store, "failures")
    assert "Deliberate exploration, not a failure of the agent" in shown(_open(_trace, trace_id="t"))
    assert "cause unknown" in shown(_open(_trace, trace_id="u"))
    assert "1 deliberate exploration, 1 unknown" in shown(_open(_failures))


def test_before_any_run_a_trace_says_so(store):
    assert "once the failure labels job has run" in shown(_open(_trace, trace_id="t"))


def test_hostile_names_are_never_markup(store, tmp_path):
    _repeating(store, tmp_path, agent=HOSTILE, tool=HOSTILE)
    for app in (_open(_failures), _open(_trace, trace_id="t1")):
        for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
            assert harmful not in markup(app)


def _judged(store, folder, traces=400):
    random = np.random.default_rng(2)
    rows, signals = [], []
    for i in range(traces):
        good = random.random() < 0.7
        rows.append(
            {"trace_id": f"t{i}", "agent": "shop", "user_id": f"u{i % 50}", "input_tokens": 900, "output_tokens": 100}
        )
        for kind, value, annotator in (
            ("outcome", good, "code"), ("judge", good if random.random() < 0.9 else not good, "llm"),
            ("copy", random.random() < 0.5, "user"),
        ):  # fmt: skip
            if kind != "copy" or value:
                signals.append(
                    {"signal_id": f"{kind}{i}", "trace_id": f"t{i}", "kind": kind, "name": kind, "value": float(value),
                     "annotator_kind": annotator}
                )  # fmt: skip
    publisher(store, folder)(traces=rows, signals=signals)
    run_loop(store, "signal-yield")


def test_yields_are_shown_with_interval_n_and_estimator(store, tmp_path):
    _judged(store, tmp_path)
    app = _open(_yields)
    table = _table(app, "against").set_index("source")
    assert table.loc["judge: judge", "bits"] > 0.2
    assert abs(table.loc["copy", "bits"]) < 0.02
    assert table.loc["judge: judge", "n"] == 400
    # 1,000 tokens an episode.
    assert table.loc["judge: judge", "thousand"] == pytest.approx(table.loc["judge: judge", "bits"])
    assert "Miller-Madow" in shown(app)
    assert "verified outcome: not enough data: 0 of 200 traces with solicited feedback" in shown(app)


def test_too_few_traces_say_how_many_are_missing(store, tmp_path):
    _judged(store, tmp_path, traces=50)
    text = shown(_open(_yields))
    assert "Signal yield: not enough data" in text
    assert "50 of at least 200 traces" in text


def _arms(store, folder, effect):
    random = np.random.default_rng(3)
    traces, signals = [], []
    for i in range(3_000):
        arm = "ab"[i % 2]
        hacked = effect if arm == "b" else 0.0
        traces.append(
            {"trace_id": f"t{i}", "agent": HOSTILE, "arm": arm, "user_id": f"u{i % 700}", "started_at": NOW,
             "metadata": '{"steer.propensities": {"a": 0.5, "b": 0.5}}'}
        )  # fmt: skip
        signals += [
            {"signal_id": f"c{i}", "trace_id": f"t{i}", "kind": "click",
             "value": float(random.random() < 0.3 + hacked)},
            {"signal_id": f"o{i}", "trace_id": f"t{i}", "kind": "outcome", "annotator_kind": "code",
             "value": float(random.random() < 0.7 - hacked)},
        ]  # fmt: skip
    publisher(store, folder)(traces=traces, signals=signals)
    run_loop(store, "hacking-watch")


def test_an_alarm_is_told_with_both_sides(store, tmp_path):
    _arms(store, tmp_path, 0.25)
    app = _open(_watch)
    text = shown(app)
    assert "1 alarm: better at the proxy, worse at the goal" in text
    assert "arm b against a: click +0.2" in text
    assert "drawn with logged propensities" in text
    verdicts = _table(app, "verdict").set_index("measure")["verdict"].to_dict()
    assert verdicts == {"click": "better", "gold": "worse"}
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(app)


def test_no_alarm_says_how_many_comparisons_have_limits(store, tmp_path):
    _arms(store, tmp_path, 0.0)
    assert "No alarm. 1 of 1 comparison have enough gold signals" in shown(_open(_watch))
    assert "Nothing to compare" in shown(_open(_watch, agents=("other",)))


def test_what_was_recorded_is_read_back(store, tmp_path):
    _arms(store, tmp_path, 0.25)
    run = hacking_watch.latest_run(store)
    assert (run["comparisons"], run["alarms"]) == (1, 1)
    found = hacking_watch.found(store)
    assert found.filter("alarm")["measure"].to_list() == ["click"]
    run_loop(store, "hacking-watch")
    assert hacking_watch.found(store).height == found.height
    assert failures.latest_run(store) is None
    assert failures.counts(store).equals(pl.DataFrame(schema=failures.COUNTS))
