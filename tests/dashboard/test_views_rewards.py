"""Rewards: the model card, coverage, means with intervals, pass^k of repeated runs, and the lowest tasks."""

import pytest
from loop_data import HOSTILE, run_loop, shop
from page_driver import markup, open_page, shown, store_for_pages
from publishing import publisher

from store import links


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _repeated_tasks(successes):
    """One agent's tasks with four rollouts each, of which so many succeed."""
    traces, signals = [], []
    for number, good in enumerate(successes):
        for rollout in range(4):
            name = f"r{number}-{rollout}"
            traces.append({"trace_id": name, "agent": "airline", "task": f"task {number}"})
            signals.append(
                {"signal_id": name, "trace_id": name, "kind": "outcome", "value": float(rollout < good),
                 "annotator_kind": "code"}
            )  # fmt: skip
    return traces, signals


@pytest.fixture
def loaded(store, tmp_path):
    publish = publisher(store, tmp_path)
    traces, spans, signals = shop()
    publish(traces=traces, spans=spans, signals=signals)
    repeated, outcomes = _repeated_tasks([4, 2, 0, 0, 4, 1, 3, 0])
    publish(traces=repeated, signals=outcomes)
    links.refresh(store)
    run_loop(store)
    return store


def _table(page, column):
    return next(frame.value for frame in page.dataframe if column in frame.value.columns)


def test_an_empty_store_says_what_rewards_need(store):
    assert "No reward model yet" in shown(open_page("rewards"))


def test_signals_without_a_model_are_shown_all_the_same(store, tmp_path):
    publisher(store, tmp_path)(signals=[{"signal_id": "s", "user_id": "u", "kind": "thumb", "value": 1.0}])
    page = open_page("rewards")
    assert "No reward model yet" in shown(page)
    assert _table(page, "unlinked")["unlinked"].tolist() == [1]


def test_the_model_card_names_version_n_and_date(loaded):
    page = open_page("rewards", tab="Models")
    values = {metric.label: metric.value for metric in page.metric}
    assert values == {
        **values, "model version": "1", "traces": "152", "signals used": "152", "fitted": "2026-11-20 12:00",
    }  # fmt: skip
    text = shown(page)
    assert "n 120 of 120 traces" in text
    assert "n 32 of 32 traces" in text


def test_coverage_is_counted_per_kind(loaded):
    table = _table(open_page("rewards", tab="Signals"), "unlinked").set_index("kind")
    assert table.loc["thumb", "traces"] == 120
    assert table.loc["outcome", "share"] == pytest.approx(32 / 152)


def test_pass_k_is_shown_for_tasks_that_were_repeated(loaded):
    """By C(c, k) / C(4, k) over tasks with 4, 2, 0, 0, 4, 1, 3 and 0 successes of 4."""
    table = _table(open_page("rewards"), "pass^1").set_index("agent")
    assert table.index.tolist() == ["airline"]
    row = table.loc["airline"]
    assert row["mean outcome"] == pytest.approx(14 / 32)
    expected = [14 / 32, (1 + 1 / 6 + 1 + 1 / 2) / 8, (1 + 1 + 1 / 4) / 8, 2 / 8]
    for k, value in enumerate(expected, start=1):
        assert row[f"pass^{k}"].startswith(f"{value:.3f} (")
        assert row[f"pass^{k}"].endswith("n 8")


def test_the_lowest_tasks_come_first_with_their_interval(loaded):
    table = _table(open_page("rewards"), "as observed")
    assert table["mean"].is_monotonic_increasing
    assert table["task"].iloc[0] in ("task 2", "task 3", "task 7")
    assert table["n with signals"].iloc[0] == 4
    assert table["open"].iloc[0].startswith("/traces?task=task%20")


def test_arms_are_compared_with_intervals_and_too_few_traces_are_said(loaded, tmp_path):
    page = open_page("rewards")
    arms = _table(page, "arm")
    assert arms[["agent", "arm", "n"]].values.tolist() == [["shop", "a", 60], ["shop", "b", 60]]
    assert (arms["lower"] < arms["mean"]).all()
    assert (arms["mean"] < arms["upper"]).all()
    publisher(loaded, tmp_path / "more")(
        traces=[{"trace_id": "few", "agent": "new agent", "input": "x"}],
        signals=[{"signal_id": "few", "trace_id": "few", "kind": "thumb", "value": 1.0}],
    )
    run_loop(loaded, "rewards")
    assert "new agent: not enough data: 1 of 30 traces" in shown(open_page("rewards"))


def test_hostile_names_are_never_markup(store, tmp_path):
    traces, spans, signals = shop(agent=HOSTILE, tool="x", user=HOSTILE)
    publisher(store, tmp_path)(traces=traces, spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store)
    page = open_page("rewards")
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)


TABS = ("Rewards", "Signals", "Models", "Preferences", "Judges", "Steps", "Hacking watch")


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_answers(loaded, tab):
    page = open_page("rewards", tab=tab)
    assert "n 120 of 120 traces" in shown(page)
    assert "could not be read" not in shown(page)


def test_the_volunteered_thumbs_are_shown_with_their_interval(loaded):
    table = _table(open_page("rewards", tab="Signals"), "volunteered").set_index("agent")
    assert " % up (" in table.loc["shop", "volunteered"]
    assert table.loc["shop", "asked at random"] == "not enough data: 0 of 20"
