"""The Traces page: find a trace, open it, and read it in every way; whatever it holds stays text."""

import json
from datetime import timedelta

import pytest
from loop_data import NOW
from page_driver import APP, click, markup, much_comes_in, open_page, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import meta, search, traces
from store.errors import QueryTimeout
from store.search import Found

HOSTILE = "<script>x</script> **b** ![i](http://evil.example/i.png) $\\frac{1}{2}$ :red[r] \u202e\x07"
TABS = ("Waterfall", "Conversation", "Spans", "Signals", "Rollouts", "Copy as text")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def publish(store, tmp_path):
    return publisher(store, tmp_path)


@pytest.fixture
def listed(store, publish):
    """120 traces, one every hour back from now, of two agents; every fifth failed."""
    publish(
        traces=[
            {
                "trace_id": f"t{i:03d}", "agent": ("desk", "shop")[i % 2], "user_id": f"u{i % 3}", "task": f"k{i % 4}",
                "started_at": NOW - timedelta(hours=i + 1), "ended_at": NOW - timedelta(hours=i + 1, seconds=-i),
                "status": "error" if i % 5 == 0 else "ok", "cost_usd": i / 100,
                "input": f"question {i}" + (" about zebras" if i % 10 == 3 else ""), "output": f"answer {i}",
            }
            for i in range(120)
        ]
    )  # fmt: skip
    store.write(meta.bump)
    return store


@pytest.fixture
def opened(store, publish):
    """A trace with an agent span, two model calls and two tool calls, one of which failed; signals and two rollouts."""
    at = NOW - timedelta(hours=1)
    say = json.dumps([{"role": "system", "content": "be kind"}, {"role": "user", "content": "refund me"}])

    def span(number, kind, start, end, **columns):
        return {
            "trace_id": "t", "span_id": f"s{number}", "parent_span_id": "s1" if number > 1 else None, "kind": kind,
            "name": f"{kind} {number}", "started_at": at + timedelta(seconds=start),
            "ended_at": at + timedelta(seconds=end), "status": "ok", **columns,
        }  # fmt: skip

    publish(
        traces=[
            {"trace_id": "t", "agent": "desk", "agent_version": "v2", "user_id": "ada", "session_id": "s",
             "task": "refund", "status": "error", "cost_usd": 0.0123, "started_at": at,
             "ended_at": at + timedelta(seconds=9)},
            *({"trace_id": f"r{i}", "agent": "desk", "task": "refund", "status": "ok", "output": f"rollout {i}",
               "started_at": at - timedelta(days=i)} for i in (1, 2)),
        ],
        spans=[
            span(1, "agent", 0, 9),
            span(2, "llm", 0, 2, input=say, output="", input_tokens=40, output_tokens=7,
                 attributes={"temperature": 0.2}),
            span(3, "tool", 2, 4, input='{"order": 7}', output='{"paid": true}'),
            span(4, "tool", 4, 5, input='{"order": 8}', status="error", status_message="no such order"),
            span(5, "llm", 5, 9, input="[]", output="You get it back."),
        ],
        signals=[
            {"signal_id": "1", "trace_id": "t", "kind": "thumb", "value": 1.0, "annotator_kind": "user",
             "occurred_at": NOW},
            {"signal_id": "2", "session_id": "s", "kind": "comment", "text": "thanks a lot", "occurred_at": NOW},
        ],
    )  # fmt: skip

    def work(connection):
        connection.execute("INSERT INTO signal_links VALUES ('2', 't', 'session')")
        connection.execute(
            """INSERT INTO reward_models (reward_model_id, method, fitted_at, data_version, traces, signals, parameters,
                code_version, active) VALUES (1, 'm', $now, 1, 1, 1, '{}', 'c', true)""",
            {"now": NOW},
        )
        connection.execute(
            """INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals)
            VALUES ('t', 1, 0.42, 0.11, 2), ('r1', 1, 0.9, 0.05, 1)"""
        )
        meta.bump(connection)

    store.write(work)
    return store


def _open(**query):
    """The page as a link with these parameters opens it."""
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    app.switch_page("views/traces.py").run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def _table(page, place=0):
    return page.dataframe[place].value


def test_an_empty_store_says_how_to_fill_it(store):
    page = open_page("traces")
    assert "There are no traces yet" in shown(page)
    assert [link.label for link in page.page_link] == ["Upload on the Data page"]


def test_the_latest_fifty_are_listed_and_counted(listed):
    page = open_page("traces")
    assert _table(page)["trace_id"].tolist() == [f"t{i:03d}" for i in range(50)]
    assert "120 traces, " in shown(page)
    assert _table(page)["status"].tolist()[:2] == ["✕ failed", "ok"]
    page.pagination[0].set_value(3).run()
    assert _table(page)["trace_id"].tolist() == [f"t{i:03d}" for i in range(100, 120)]


def test_a_page_of_the_list_is_in_the_url(listed):
    assert _table(_open(page="2"))["trace_id"].tolist()[0] == "t050"


def test_a_page_beyond_the_last_shows_traces_all_the_same(listed):
    assert len(_table(_open(page="99"))) > 0


def test_the_order_can_be_chosen(listed):
    assert _table(open_page("traces", sort="costliest"))["trace_id"].tolist()[0] == "t119"
    page = open_page("traces")
    page.selectbox(key="sort").set_value("oldest").run()
    assert _table(page)["trace_id"].tolist()[0] == "t119"


@pytest.mark.parametrize(
    ("query", "count", "words"),
    [
        ({"user": "u1"}, 40, "user u1"),
        ({"user": "u*"}, 120, "user u*"),
        ({"task": "k2", "status": "error"}, 6, "task k2, status error"),
        ({"min_cost": "1.1"}, 10, "cost at least $1.10"),
        ({"min_seconds": "115"}, 5, "duration at least 1 min 55 s"),
        ({"agent": "shop"}, 60, None),
        ({"reward_below": "0.5"}, 0, "reward below 0.5"),
        ({"tool_error": "true"}, 0, "a tool call failed"),
        ({"feedback": "true"}, 0, "has explicit feedback"),
        ({"session": "nobody"}, 0, "session nobody"),
        ({"status": "exploded"}, 120, None),
    ],
)
def test_filters_narrow_the_list_and_are_named(listed, query, count, words):
    page = _open(**query)
    text = shown(page)
    assert f"{count} trace" in text
    if words:
        assert words in text
        assert page.button(key="clear-filters")
    if count == 0:
        assert "No trace matches" in text


def test_filters_can_be_cleared_at_once(listed):
    page = click(open_page("traces", user="u1", status="error", min_cost="0.5", q="zebras"), "clear-filters")
    assert "120 traces" in shown(page)
    assert page.text_input(key="user").value == ""
    assert page.number_input(key="min_cost").value is None


def test_a_text_search_says_what_it_searched(listed):
    page = open_page("traces", q="ZEBRAS")
    assert _table(page)["trace_id"].tolist() == [f"t{i:03d}" for i in range(3, 120, 10)]
    assert "Searched all 120 texts" in shown(page)
    assert "holds “ZEBRAS”" in shown(page)


def test_a_search_that_was_cut_says_so_and_can_go_on(listed, monkeypatch):
    budgets = []

    def cut(store, text, wanted, *, budget):
        budgets.append(budget)
        return Found(("t003",), 40, 120, 0.8, "time")

    cut.__module__, cut.__qualname__ = "tests", f"cut-{id(budgets)}"
    monkeypatch.setattr(search, "find", cut)
    page = open_page("traces", q="zebras")
    assert "Searched the newest 40 of 120 texts (33.3 %) in 800 ms, then time was up" in shown(page)
    click(page, "search-deep")
    assert budgets == [0.8, 30.0]


def test_selecting_a_row_opens_its_trace(listed):
    page = open_page("traces")
    page.session_state["traces-table"] = {"selection": {"rows": [2], "columns": [], "cells": []}}
    page.run()
    assert page.query_params["trace"] == "t002"
    assert "3 of 120" in shown(page)


def test_neighbours_are_a_key_away(listed):
    page = open_page("traces", trace="t001", status="ok")
    keys = {button.key: button.proto.shortcut for button in page.button if button.key.startswith("trace-")}
    assert {key: value.lower() for key, value in keys.items()} == {
        "trace-back": "escape", "trace-previous": "k", "trace-next": "j",
    }  # fmt: skip
    assert "1 of 96" in shown(page)
    assert page.button(key="trace-previous").disabled
    click(page, "trace-next")
    assert page.query_params["trace"] == "t002"
    click(page, "trace-previous")
    assert page.query_params["trace"] == "t001"
    click(page, "trace-back")
    assert "trace" not in page.query_params
    assert "96 traces" in shown(page)


def test_a_trace_outside_the_list_can_still_be_read(listed):
    assert "not among the 24 listed" in shown(open_page("traces", trace="t001", status="error"))


def test_a_trace_that_is_not_there_says_so(listed):
    page = open_page("traces", trace="**nobody**")
    assert "there is no such trace" in page.warning[0].value
    assert "**nobody**" in [text.value for text in page.text]
    assert not page.tabs


def test_the_top_of_a_trace_says_what_it_was(opened):
    texts = [text.value for text in open_page("traces", trace="t").text]
    for fact in ("desk v2", "failed", "2026-11-20 11:00:00 UTC", "9.0 s", "0.42 ± 0.11 (n 2)", "$0.0123",
                 "40 in, 7 out", "5, 2 tool calls, 1 failed", "ada", "refund"):  # fmt: skip
        assert fact in texts


def test_the_waterfall_draws_every_span(opened):
    page = open_page("traces", trace="t")
    chart = page.get("plotly_chart")[0]
    spec = json.loads(chart.proto.spec)
    assert sorted(len(trace["y"]) for trace in spec["data"]) == [1, 2, 2]
    assert "Waterfall of 5 spans" in chart.proto.alt
    assert "Click a bar" in shown(page)


def test_a_link_to_a_span_shows_it(opened):
    page = open_page("traces", trace="t", span="s4")
    assert "tool 4 · tool, step 4 · 1.0 s" in [text.value for text in page.text]
    assert "no such order" in [code.value for code in page.code]
    listed = open_page("traces", trace="t", span="s2", view="Spans")
    assert '{\n  "temperature": 0.2\n}' in [code.value for code in listed.code]
    assert "there is no such span" in open_page("traces", trace="t", span="nobody").warning[0].value


def test_the_conversation_shows_messages_and_calls_in_order(opened):
    page = open_page("traces", trace="t", view="Conversation")
    texts = [text.value for text in page.text]
    assert [text for text in texts if text in ("be kind", "refund me", "You get it back.")] == [
        "be kind", "refund me", "You get it back.",
    ]  # fmt: skip
    assert [code.value for code in page.code] == ['{"order": 7}', '{"paid": true}', '{"order": 8}', "no such order"]


def test_all_spans_are_in_a_table(opened):
    table = _table(open_page("traces", trace="t", view="Spans"))
    assert table["span_id"].tolist() == ["s1", "s2", "s3", "s4", "s5"]
    assert table["offset"].tolist() == ["0 ms", "0 ms", "2.0 s", "4.0 s", "5.0 s"]
    assert table["duration"].tolist() == ["9.0 s", "2.0 s", "2.0 s", "1.0 s", "4.0 s"]


def test_a_trace_is_followed_also_while_agents_send_much_and_the_list_is_held(opened, publish, monkeypatch):
    much_comes_in(monkeypatch)
    page, listing = open_page("traces", trace="t", view="Spans"), open_page("traces")
    later = {"kind": "tool", "name": "tool 6", "started_at": NOW - timedelta(minutes=50), "status": "ok"}
    publish(
        spans=[{"trace_id": "t", "span_id": "s6", **later}],
        traces=[{"trace_id": "new", "agent": "desk", "started_at": NOW, "status": "ok"}],
    )
    opened.write(meta.bump)
    assert _table(page.run())["span_id"].tolist() == ["s1", "s2", "s3", "s4", "s5", "s6"]
    assert len(_table(listing.run())) == 3


def test_signals_say_how_they_were_joined(opened):
    page = open_page("traces", trace="t", view="Signals")
    assert sorted(_table(page)["linked_by"]) == ["its trace id", "linked by session"]
    assert "thanks a lot" in [code.value for code in page.code]


def test_other_rollouts_are_listed_with_their_rewards_and_can_be_opened(opened):
    page = open_page("traces", trace="t", view="Rollouts")
    assert _table(page)["trace_id"].tolist() == ["r1", "r2"]
    assert _table(page)["reward"].tolist()[0] == "0.90 ± 0.05"
    assert "3 runs of this task by this agent, this one included. Mean reward 0.66 (n 2)." in shown(page)
    page.session_state["rollouts-t"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    page.run()
    assert page.query_params["trace"] == "r2"


def test_a_trace_can_be_copied_for_a_model(opened):
    page = open_page("traces", trace="t", view="Copy as text")
    text = page.code[0].value
    assert text.startswith("trace: t\nagent: desk v2")
    assert "[2] user\nrefund me" in text
    assert "- thumb 1 by user" in text


@pytest.mark.parametrize("tab", TABS)
def test_a_trace_without_spans_signals_and_task_says_so_in_every_tab(store, publish, tab):
    publish(traces=[{"trace_id": "bare", "input": "just this", "output": "and that"}])
    text = shown(open_page("traces", trace="bare", view=tab))
    expected = {
        "Waterfall": "No spans were received", "Conversation": "just this", "Spans": "No spans were received",
        "Signals": "No signal was received", "Rollouts": "has no task yet", "Copy as text": "[2] assistant\nand that",
    }  # fmt: skip
    assert expected[tab] in text


@pytest.mark.parametrize("tab", TABS)
def test_hostile_and_huge_text_stays_text_in_every_tab(store, publish, tab):
    columns = {"agent": HOSTILE, "user_id": HOSTILE, "session_id": HOSTILE, "task": HOSTILE, "arm": HOSTILE}
    publish(
        traces=[
            {"trace_id": HOSTILE, **columns, "model": HOSTILE, "input": HOSTILE, "output": HOSTILE, "started_at": NOW},
            {"trace_id": "other", **columns, "output": HOSTILE, "started_at": NOW},
        ],
        spans=[
            {"trace_id": HOSTILE, "span_id": HOSTILE, "kind": "tool", "name": HOSTILE, "status": "error",
             "input": json.dumps({HOSTILE: "\ud83d"}), "output": "x" * 300_000, "status_message": HOSTILE},
            {"trace_id": HOSTILE, "span_id": "2", "kind": "llm", "output": HOSTILE,
             "input": json.dumps([{"role": HOSTILE, "content": HOSTILE}])},
        ],
        signals=[
            {"signal_id": "1", "trace_id": HOSTILE, "kind": "comment", "name": HOSTILE, "text": HOSTILE,
             "item": HOSTILE},
        ],
    )  # fmt: skip
    page = open_page("traces", trace=HOSTILE, span=HOSTILE, view=tab)
    for piece in ("<script>", "![i]", "**b**", "\\frac", ":red[r]"):
        assert piece not in markup(page)
        assert all(piece not in badge.label for badge in page.get("badge"))
    assert all("<script>" not in chart.proto.spec for chart in page.get("plotly_chart"))
    assert max((len(code.value) for code in page.code), default=0) <= 24_000
    assert "\u202e" not in shown(page)


def test_ten_thousand_spans_are_read_without_drawing_them_all(store, publish):
    publish(
        spans=[
            {"trace_id": "big", "span_id": f"{i}", "parent_span_id": f"{(i - 1) // 8}" if i else None, "kind": "tool",
             "started_at": NOW + timedelta(milliseconds=i), "ended_at": NOW + timedelta(milliseconds=i + 5),
             "status": "error" if i % 2500 == 7 else "ok", "input": "i", "output": "o"}
            for i in range(10_000)
        ]
    )  # fmt: skip
    page = open_page("traces", trace="big")
    assert "200 of 10,000 spans are drawn (in order)" in shown(page)
    spec = json.loads(page.get("plotly_chart")[0].proto.spec)
    assert sum(len(trace["y"]) for trace in spec["data"]) == 200
    page.segmented_control(key="bars").set_value("failed").run()
    assert "4 of 10,000 spans are drawn (failed)" in shown(page)
    assert len(_table(open_page("traces", trace="big", view="Spans"))) == 10_000
    assert "Steps 1 to 60 of 10,000" in shown(open_page("traces", trace="big", view="Conversation"))
    assert "The first 400 of 10,000 steps" in shown(open_page("traces", trace="big", view="Copy as text"))


def test_a_source_without_times_is_drawn_by_step(store, publish):
    publish(spans=[{"trace_id": "t", "span_id": f"{i}", "kind": "tool", "ordinal": i} for i in range(3)])
    page = open_page("traces", trace="t")
    assert "The source states no times: bars are steps" in shown(page)
    assert "not stated; received 2026-11-20 12:00:00 UTC" in [text.value for text in page.text]


@pytest.mark.parametrize(("name", "query", "said"), [
    ("page", {}, "The list of traces took longer than 10 s"),
    ("neighbours", {"trace": "t001"}, "The place in the list took longer than 10 s"),
    ("one", {"trace": "t001"}, "The trace took longer than 10 s"),
])  # fmt: skip
def test_a_query_that_takes_too_long_is_said_and_can_be_tried_again(listed, monkeypatch, name, query, said):
    def slow(*_, **__):
        raise QueryTimeout(10)

    slow.__module__, slow.__qualname__ = "store.traces", name
    with monkeypatch.context() as patched:
        patched.setattr(traces, name, slow)
        page = open_page("traces", **query)
        assert said in page.warning[0].value
    retry = next(button for button in page.button if button.key.startswith("retry-"))
    retry.click().run()
    assert not page.warning
