"""Traces, spans and signals fit together: ids, parents, order in time, conversations, and what belongs to what."""

import json

import polars as pl

from pipelines.simulate import Deployment

SPAN_KINDS = {"agent", "llm", "tool", "retriever", "chain", "embedding", "guardrail", "evaluator", "other"}
EXPLICIT = {"thumb", "rating", "comment", "correction", "preference", "annotation"}
IMPLICIT = {"impression", "click", "copy", "edit", "retry", "abandon", "purchase"}
SIGNAL_KINDS = EXPLICIT | IMPLICIT | {"judge", "outcome", "demonstration"}
WITHOUT_TRACE = {"purchase", "preference"}  # known to billing by session, stated in a survey by user


def test_ids_look_real_and_are_unique(deployment: Deployment) -> None:
    for frame, column, pattern in (
        (deployment.traces, "trace_id", "^[0-9a-f]{32}$"),
        (deployment.spans, "span_id", "^[0-9a-f]{16}$"),
        (deployment.signals, "signal_id", "^sig_[0-9a-f]{20}$"),
    ):
        assert frame[column].is_unique().all()
        assert frame[column].str.contains(pattern).all()
    assert deployment.traces.height == deployment.config.traces
    assert deployment.traces["user_id"].n_unique() == deployment.config.users


def test_every_parent_is_a_span_of_the_same_trace(deployment: Deployment) -> None:
    spans = deployment.spans
    parents = spans.select("trace_id", parent_span_id="span_id", parent_start="started_at", parent_end="ended_at")
    children = spans.filter(pl.col("parent_span_id").is_not_null())
    joined = children.join(parents, on=["trace_id", "parent_span_id"], how="inner")
    assert joined.height == children.height
    assert (joined["started_at"] >= joined["parent_start"]).all()
    assert (joined["ended_at"] <= joined["parent_end"]).all()
    assert (spans["ended_at"] >= spans["started_at"]).all()


def test_a_trace_is_one_tree_as_long_as_its_root(deployment: Deployment) -> None:
    roots = deployment.spans.filter(pl.col("parent_span_id").is_null())
    assert roots.height == deployment.traces.height
    assert (roots["kind"] == "agent").all()
    same = ["trace_id", "started_at", "ended_at", "status", "agent", "arm", "user_id", "session_id", "input", "output"]
    assert roots.select(same).sort("trace_id").equals(deployment.traces.select(same).sort("trace_id"))


def test_steps_are_in_order(deployment: Deployment) -> None:
    spans = deployment.spans.with_columns(expected=pl.int_range(pl.len()).over("trace_id"))
    assert (spans["ordinal"] == spans["expected"]).all()
    later = spans.with_columns(before=pl.col("started_at").shift(1).over("trace_id"))
    assert (later["started_at"] >= later["before"]).fill_null(True).all()
    counts = deployment.spans.group_by("trace_id").len()["len"]
    assert 5.0 <= counts.mean() <= 8.0  # type: ignore[operator]
    assert set(deployment.spans["kind"].unique()) < SPAN_KINDS


def test_tokens_and_cost_of_a_trace_are_those_of_its_spans(deployment: Deployment) -> None:
    sums = deployment.spans.group_by("trace_id").agg(pl.col("input_tokens", "output_tokens", "cost_usd").sum())
    both = deployment.traces.join(sums, on="trace_id", suffix="_of_spans")
    assert (both["input_tokens"] == both["input_tokens_of_spans"]).all()
    assert (both["output_tokens"] == both["output_tokens_of_spans"]).all()
    assert (both["cost_usd"] - both["cost_usd_of_spans"]).abs().max() < 1e-8  # type: ignore[operator]


def test_turns_of_a_session_follow_one_another(deployment: Deployment) -> None:
    turns = deployment.truth_traces.sort("session_id", "turn")
    same = turns["session_id"] == turns["session_id"].shift(1)
    gap = turns["started_at"] - turns["ended_at"].shift(1)
    assert gap.filter(same.fill_null(False)).dt.total_seconds().min() >= 8  # type: ignore[operator]
    agreed = turns.group_by("session_id").agg(pl.col("user_id").n_unique(), pl.col("agent").n_unique(), pl.len())
    assert (agreed["user_id"] == 1).all()
    assert (agreed["agent"] == 1).all()
    assert set(agreed["len"].unique()) == {1, 2, 3, 4}


def test_everything_happens_in_the_period(deployment: Deployment) -> None:
    config = deployment.config
    assert deployment.traces["started_at"].min() >= config.start  # type: ignore[operator]
    assert deployment.traces["ended_at"].max() < config.until  # type: ignore[operator]
    assert deployment.signals["occurred_at"].min() >= config.start  # type: ignore[operator]
    assert deployment.signals["occurred_at"].max() < config.until  # type: ignore[operator]
    assert deployment.traces["started_at"].is_sorted()
    assert deployment.traces["started_at"].dt.date().n_unique() == config.days


def test_signals_are_about_traces_that_exist(deployment: Deployment) -> None:
    signals = deployment.signals
    assert set(signals["kind"].unique()) < SIGNAL_KINDS
    assert set(signals.filter(pl.col("trace_id").is_null())["kind"].unique()) == WITHOUT_TRACE
    about = signals.filter(pl.col("trace_id").is_not_null())
    joined = about.join(deployment.traces.select("trace_id", "started_at", "user_id", "session_id"), on="trace_id")
    assert joined.height == about.height
    assert (joined["user_id"] == joined["user_id_right"]).all()
    assert (joined["session_id"] == joined["session_id_right"]).all()
    assert (joined["occurred_at"] >= joined["started_at"]).all()
    users = set(deployment.traces["user_id"])
    assert set(signals.filter(pl.col("kind") == "preference")["user_id"]) == users
    purchases = signals.filter(pl.col("kind") == "purchase")
    assert purchases["session_id"].is_in(deployment.traces["session_id"].to_list()).all()


def test_values_keep_to_their_scales(deployment: Deployment) -> None:
    directed = deployment.signals.filter(pl.col("value").is_not_null() & (pl.col("kind") != "preference"))
    assert directed["value"].is_between(0.0, 1.0).all()
    propensity = deployment.signals["propensity"].drop_nulls()
    assert propensity.is_between(0.0, 1.0, closed="right").all()
    solicited = deployment.signals.filter(pl.col("solicited").fill_null(False))
    assert set(solicited["kind"]) == {"thumb", "comment"}
    assert (solicited["propensity"] == deployment.config.solicitation_rate).all()


def test_clicks_belong_to_the_latest_trace_of_their_session(deployment: Deployment) -> None:
    """What the store will do: as of the time of the click, the session's last trace started is the one clicked in."""
    clicks = deployment.clicks.with_columns(
        at=pl.from_epoch("ts", time_unit="ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    )
    traces = deployment.traces.select(pl.col("session_id").alias("session"), "started_at", "trace_id", "user_id")
    linked = clicks.sort("at").join_asof(
        traces.sort("started_at"), left_on="at", right_on="started_at", by="session", check_sortedness=False
    )
    assert (linked["user"] == linked["user_id"]).all()
    shop = deployment.truth_items.filter(pl.col("attractiveness").is_not_null())
    same = ["trace_id", "item", "position", "base_rank", "clicked"]
    found = linked.with_columns(pl.col("clicked") == 1).select(same)
    assert found.sort("trace_id", "position").equals(shop.select(same).sort("trace_id", "position"))


def test_texts_of_spans_are_conversations(deployment: Deployment) -> None:
    spans = deployment.spans.head(7_000)
    for row in spans.filter(pl.col("kind") == "llm").iter_rows(named=True):
        messages = json.loads(row["input"])
        assert [message["role"] for message in messages[:1]] == ["system"]
        assert messages[-1]["role"] in {"user", "tool"}
        asked = {call["id"] for message in messages for call in message.get("tool_calls") or []}
        answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
        assert set(answered) == asked
        assert json.loads(row["output"])["role"] == "assistant"
    for row in spans.filter(pl.col("kind").is_in(["tool", "guardrail", "retriever"])).iter_rows(named=True):
        assert isinstance(json.loads(row["input"]), dict)
        assert isinstance(json.loads(row["output"]), dict)


def test_calls_of_a_conversation_are_the_tool_spans(deployment: Deployment) -> None:
    """The answering model saw exactly the calls and results that the spans record, but for one failed search."""
    ids = set(deployment.traces["trace_id"].head(400))
    for trace_id, steps in deployment.spans.filter(pl.col("trace_id").is_in(list(ids))).group_by("trace_id"):
        agent = steps.sort("ordinal")["agent"][0]
        calls = steps.filter(pl.col("name").is_in(["load_profile", "route_request"]).not_())
        tools = calls.filter(pl.col("kind").is_in(["tool", "retriever"])).sort("ordinal")
        seen = json.loads(steps.sort("ordinal")["input"][-1])
        results = [message["content"] for message in seen if message["role"] == "tool"]
        expected = tools["output"].to_list()
        if agent == "travel-desk" and tools["name"].to_list()[:2] == ["search_trips"] * 2:
            expected = expected[1:]
        assert results == expected, trace_id


def test_the_trace_carries_what_steering_decided(deployment: Deployment) -> None:
    traces = deployment.traces.join(deployment.truth_traces.select("trace_id", "propensity", "explored"), on="trace_id")
    for row in traces.head(2_000).iter_rows(named=True):
        metadata = json.loads(row["metadata"])
        assert metadata["solicitation.propensity"] == deployment.config.solicitation_rate
        if row["decision_id"] is None:
            assert row["agent"] == "support-desk"
            assert "steer.arm" not in metadata
            continue
        assert metadata["steer.decision_id"] == row["decision_id"]
        assert metadata["steer.arm"] == row["arm"]
        assert metadata["steer.explore"] == row["explored"]
        assert abs(metadata["steer.propensity"] - row["propensity"]) < 1e-5
        assert abs(sum(metadata["steer.propensities"].values()) - 1.0) < 1e-5
        assert abs(metadata["steer.propensities"][row["arm"]] - row["propensity"]) < 1e-5


def test_tasks_are_stated_but_for_the_support_desk(deployment: Deployment) -> None:
    both = deployment.traces.join(deployment.truth_traces.select("trace_id", true="task"), on="trace_id")
    support = both.filter(pl.col("agent") == "support-desk")
    assert support["task"].null_count() == support.height
    others = both.filter(pl.col("agent") != "support-desk")
    assert (others["task"] == others["true"]).all()
    rollouts = both.group_by("agent", "true").len()
    assert rollouts["len"].median() >= 10  # type: ignore[operator]


def test_the_injection_is_in_the_traces_that_the_truth_names(deployment: Deployment) -> None:
    truth = deployment.truth["injections"]
    assert len(truth) == deployment.config.injections
    attacked = deployment.traces.filter(pl.col("input").str.contains("Ignore all previous instructions", literal=True))
    assert set(attacked["trace_id"]) == {one["trace_id"] for one in truth}
    assert (attacked["agent"] == "support-desk").all()
    assert all(text.endswith(truth[0]["text"]) for text in attacked["input"])
