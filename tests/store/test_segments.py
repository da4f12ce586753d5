"""Segments by rule against a plain count in Python, priority, versions, and everybody agreeing on a user's segment."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import segments_job
from store import (
    arm_rewards,
    audit,
    preferences,
    result_rows,
    reward_features,
    rewards,
    segment_members,
    segments,
    users,
)
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.segment_conditions import TESTS, Condition, checked, listed, parsed, words
from store.segments import Rule
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_TRACE = {
    "trace_id": pl.String, "user_id": pl.String, "agent": pl.String, "metadata": pl.String,
    "seen_at": pl.Datetime("us", "UTC"),
}  # fmt: skip
MANY = Condition("traces", "at least", ("3",))


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """A store whose traces each example replaces: opening one costs more than the examples."""
    opened = Store.open(None, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store in memory."""
    opened = Store.open(None, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def trace(user: str | None, number: int, metadata: object = None, agent: str = "shop", day: int = 0) -> dict[str, Any]:
    text = metadata if isinstance(metadata, str) or metadata is None else json.dumps(metadata)
    return {
        "trace_id": f"t{number:04d}", "user_id": user, "agent": agent, "metadata": text,
        "seen_at": NOW - timedelta(days=day),
    }  # fmt: skip


def fill(store: Store, traces: list[dict[str, Any]]) -> None:
    """Put these traces, and no others, into the store, and forget all rules."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for table in ("traces", "segment_rules", "user_segments", "segment_counts"):
            connection.execute(f"DELETE FROM {table}")
        frame = pl.DataFrame(traces, schema=_TRACE)
        fixed = {"status": "unknown", "span_count": 0, "error_count": 0, "tool_count": 0, "batch_id": 1}
        result_rows.insert(connection, "traces", frame, key={**fixed, "publication": 1, "source": "test", "arm": "a"})

    store.write(work)


def put(store: Store, segment: str, *conditions: Condition, priority: int = 100) -> int:
    return segments.put(store, Rule(segment, priority, conditions), reason="a test", operator="ada")


def members(store: Store) -> dict[str, str]:
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT user_id, segment FROM {segments.expression()}",
            pl.Schema({"user_id": pl.String(), "segment": pl.String()}),
        )
    assert frame["user_id"].is_unique().all()
    return dict(frame.iter_rows())


def test_the_first_rule_that_matches_decides_and_metadata_the_rest(store: Store) -> None:
    fill(store, [
        *[trace("often", n, {"segment": "north"}) for n in range(3)],
        trace("rich", 10, {"plan": "pro", "segment": "south"}),
        *[trace("both", n, {"plan": "pro"}) for n in range(20, 23)],
        trace("plain", 30, {"segment": "north"}), trace("silent", 40), trace(None, 50, {"plan": "pro"}),
    ])  # fmt: skip
    assert members(store) == {"often": "north", "rich": "south", "plain": "north"}
    put(store, "busy", MANY, priority=2)
    put(store, "payers", Condition("metadata", "is one of", ("pro", "team"), "plan"), priority=1)
    assert segment_members.stale(store)
    assert segment_members.recount(store) == 3
    assert not segment_members.stale(store)
    assert members(store) == {"often": "busy", "rich": "payers", "both": "payers", "plain": "north"}
    put(store, "busy", MANY, priority=0)
    assert segment_members.recount(store) == 1
    assert members(store)["both"] == "busy"
    segments.remove(store, "busy", reason="no use", operator="ada")
    assert segment_members.recount(store) == 2
    assert members(store) == {"often": "north", "rich": "payers", "both": "payers", "plain": "north"}
    assert segment_members.recount(store) == 0


VALUES = st.sampled_from(["pro", "free", "", "Pro", 'a"b', "1"])
METADATA = st.one_of(
    st.none(), st.just("no json {"), st.just("[1]"),
    st.dictionaries(st.sampled_from(["plan", "Plan", "a.b", "segment", "it's"]), VALUES | st.none() | st.just(1)),
)  # fmt: skip
TRACES = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3", None]), METADATA, st.sampled_from(["shop", "desk", None]),
              st.integers(0, 3)),
    max_size=12,
)  # fmt: skip
CONDITIONS = st.one_of(
    st.builds(Condition, st.just("metadata"), st.sampled_from(["is one of", "is none of"]),
              st.sampled_from([("pro",), ("free", "1"), ('a"b',)]), st.sampled_from(["plan", "Plan", "a.b", "it's"])),
    st.builds(Condition, st.just("metadata"), st.sampled_from(["is stated", "is not stated"]), st.just(()),
              st.sampled_from(["plan", "Plan", "a.b"])),
    st.builds(Condition, st.just("agent"), st.sampled_from(TESTS["agent"]),
              st.sampled_from([("shop",), ("desk", "other")])),
    st.builds(Condition, st.just("traces"), st.sampled_from(TESTS["traces"]), st.sampled_from([("1",), ("3",)])),
    st.builds(Condition, st.just("first seen"), st.sampled_from(["on or after", "before"]),
              st.sampled_from([("2026-11-19",), ("2026-11-18",)])),
    st.builds(Condition, st.just("first seen"), st.sampled_from(["within days", "more than days ago"]),
              st.sampled_from([("1",), ("2",)])),
)  # fmt: skip
RULES = st.dictionaries(
    st.sampled_from(["x", "y", "it's z"]), st.tuples(st.integers(0, 2), st.lists(CONDITIONS, min_size=1, max_size=3))
)


def stated(own: list[dict[str, Any]], key: str) -> str | None:
    """What the newest trace that states a key says, as text."""
    found = None
    for one in sorted(own, key=lambda row: (row["seen_at"], row["trace_id"])):
        try:
            document = json.loads(one["metadata"] or "")
        except ValueError:
            continue
        if isinstance(document, dict) and document.get(key) is not None:
            found = str(document[key])
    return found


def true(one: Condition, own: list[dict[str, Any]]) -> bool:
    """Whether a condition holds for the user with these traces."""
    first = min(row["seen_at"] for row in own)
    match one.field, one.test:
        case "metadata", "is one of":
            return stated(own, one.key or "") in one.values
        case "metadata", "is none of":
            return stated(own, one.key or "") not in one.values
        case "metadata", "is stated":
            return stated(own, one.key or "") is not None
        case "metadata", "is not stated":
            return stated(own, one.key or "") is None
        case "agent", test:
            return bool({row["agent"] for row in own} & set(one.values)) is (test == "is one of")
        case "traces", test:
            return len(own) >= int(one.values[0]) if test == "at least" else len(own) <= int(one.values[0])
        case "first seen", ("on or after" | "before") as test:
            midnight = datetime.fromisoformat(one.values[0]).replace(tzinfo=UTC)
            return (first >= midnight) is (test == "on or after")
        case _, test:
            return (NOW - first <= timedelta(days=int(one.values[0]))) is (test == "within days")


@settings(max_examples=30)
@given(TRACES, RULES)
def test_members_are_those_of_a_plain_count(
    shared: Store, rows: list[tuple[Any, ...]], stated_rules: dict[str, tuple[int, list[Condition]]]
) -> None:
    traces = [trace(user, n, metadata, agent, day) for n, (user, metadata, agent, day) in enumerate(rows)]
    fill(shared, traces)
    for name, (priority, conditions) in stated_rules.items():
        put(shared, name, *conditions, priority=priority)
    segment_members.recount(shared)
    expected = {}
    for user in {row["user_id"] for row in traces} - {None}:
        own = [row for row in traces if row["user_id"] == user]
        named = [{**row, "metadata": row["metadata"]} for row in own if stated([row], "segment")]
        segment = stated(named, "segment")
        for name, (_, conditions) in sorted(stated_rules.items(), key=lambda rule: (rule[1][0], rule[0])):
            if all(true(one, own) for one in conditions):
                segment = name
                break
        if segment:
            expected[user] = segment
    assert members(shared) == expected


@settings(max_examples=15)
@given(TRACES, RULES, CONDITIONS, st.integers(0, 2))
def test_a_preview_says_what_saving_does(
    shared: Store, rows: list[tuple[Any, ...]], before: dict[str, tuple[int, list[Condition]]], new: Condition,
    priority: int,
) -> None:  # fmt: skip
    fill(shared, [trace(user, n, metadata, agent, day) for n, (user, metadata, agent, day) in enumerate(rows)])
    for name, (other, conditions) in before.items():
        put(shared, name, *conditions, priority=other)
    segment_members.recount(shared)
    held = members(shared)
    rule = Rule("x", priority, (new,))
    told = segment_members.preview(shared, rule)
    segments.put(shared, rule, reason="a test", operator="ada")
    segment_members.recount(shared)
    after = members(shared)
    with shared.read() as reader:
        taken = reader.value("SELECT count(*) FROM user_segments WHERE segment = 'x'")
    everyone = {row[0] for row in rows} - {None}
    moved: dict[tuple[str | None, str | None], int] = {}
    for user in everyone:
        pair = (held.get(user), after.get(user))
        if pair[0] != pair[1]:
            moved[pair] = moved.get(pair, 0) + 1
    assert (told.users, told.taken) == (len(everyone), taken)
    assert told.matching >= told.taken
    assert {(a, b): n for a, b, n in told.moved.iter_rows()} == moved


def test_lists_steering_rewards_and_preferences_agree(store: Store) -> None:
    fill(store, [
        *[trace("often", n, {"segment": "north"}, "desk" if n else "shop") for n in range(3)],
        # Its traces have one time: every reader has to take the same one.
        *[trace("torn", n, {"segment": f"s{n}"}) for n in range(10, 12)],
        trace("plain", 30, {"segment": "north"}, "desk"), trace("silent", 40), trace("odd", 50, "no json {"),
    ])  # fmt: skip

    def by_reader() -> list[dict[str, str]]:
        users.count(store)
        listed = users.page(store).rows.select("user_id", "segment")
        alone = {user: users.one(store, user)["segment"][0] for user in listed["user_id"]}
        steered = arm_rewards.evidence(store).people.select("user_id", "segment").unique()
        pooled = rewards.measured(store).traces.sort("started_at", "trace_id").select("user_id", "segment")
        valued = preferences.segments(store)
        assert steered["user_id"].is_unique().all()
        frames = [listed, steered, pooled.group_by("user_id").last(), valued]
        named = [dict(frame.drop_nulls("segment").iter_rows()) for frame in frames]
        return [*named, {user: segment for user, segment in alone.items() if segment is not None}]

    first = by_reader()
    assert first[0] == {"often": "north", "torn": "s11", "plain": "north"}
    assert all(one == first[0] for one in first)
    put(store, "new", Condition("traces", "at most", ("2",)))
    segment_members.recount(store)
    at_once = users.page(store).rows.drop_nulls("segment")
    second = by_reader()
    assert dict(at_once.select("user_id", "segment").iter_rows()) == second[0]
    assert second[0] == {"often": "north", "torn": "new", "plain": "new", "silent": "new", "odd": "new"}
    assert all(one == second[0] for one in second)
    assert users.segments(store) == ["new", "north"]
    segments.remove(store, "new", reason="", operator="ada")
    segment_members.recount(store)
    back = users.page(store).rows.drop_nulls("segment")
    assert dict(back.select("user_id", "segment").iter_rows()) == first[0]
    put(store, "new", Condition("traces", "at most", ("2",)))
    segment_members.recount(store)
    facts = reward_features.gather(store).facts
    assert dict(facts.select("user_id", "segment_by_rule").unique().iter_rows()) == {
        "often": None, "torn": "new", "plain": "new", "silent": "new", "odd": "new",
    }  # fmt: skip


def test_the_job_follows_rules_facts_and_days(store: Store) -> None:
    fill(store, [trace("a", 1), trace("b", 2, day=2)])
    assert not segments_job.has_work(store, Settings())  # Without rules nothing is counted.
    put(store, "fresh", Condition("first seen", "within days", ("1",)))
    assert segments_job.has_work(store, Settings())
    segment_members.recount(store)
    assert members(store) == {"a": "fresh"}
    assert not segments_job.has_work(store, Settings())
    clock = store.clock
    assert isinstance(clock, FixedClock)
    clock.moment += timedelta(days=2)
    assert segments_job.has_work(store, Settings())
    assert segment_members.recount(store) == 1
    assert members(store) == {}
    segments.remove(store, "fresh", reason="", operator="ada")
    assert segments_job.has_work(store, Settings())
    segment_members.recount(store)
    clock.moment += timedelta(days=2)
    assert not segments_job.has_work(store, Settings())


def test_versions_and_the_audit_log(store: Store) -> None:
    assert put(store, "busy", MANY) == 1
    assert put(store, " busy ", MANY, priority=5) == 2
    assert segments.rules(store).select("segment", "version", "priority").rows() == [("busy", 2, 5)]
    segments.remove(store, "busy", reason="no use", operator="bo")
    assert segments.rules(store).is_empty()
    assert put(store, "busy", MANY) == 4
    kept = segments.history(store)
    assert sorted(kept.select("version", "removed", "set_by").rows()) == [
        (1, False, "ada"), (2, False, "ada"), (3, True, "bo"), (4, False, "ada"),
    ]  # fmt: skip
    assert audit.recent(store)["action"].to_list() == ["segment set", "segment remove", "segment set", "segment set"]
    with pytest.raises(NotFound):
        segments.remove(store, "other", reason="", operator="ada")
    with pytest.raises(ActionRefused, match="no person"):
        segments.put(store, Rule("x", 1, (MANY,)), reason="r", operator="trimtab")
    with pytest.raises(ActionRefused, match="no reason"):
        segments.put(store, Rule("x", 1, (MANY,)), reason=" ", operator="ada")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule("", 1, (MANY,)), "the name is"),
        (Rule("a\nb", 1, (MANY,)), "the name is"),
        (Rule("x", -1, (MANY,)), "the priority is -1"),
        (Rule("x", 1, ()), "there are 0 conditions"),
        (Rule("x", 1, (Condition("planet", "is", ("a",)),)), "there is no field"),  # type: ignore[arg-type]
        (Rule("x", 1, (Condition("traces", "is one of", ("1",)),)), "has no test"),
        (Rule("x", 1, (Condition("traces", "at least", ("-1",)),)), "traces at least"),
        (Rule("x", 1, (Condition("traces", "at least", ("1", "2")),)), "has 2 values"),
        (Rule("x", 1, (Condition("metadata", "is one of", ("a",)),)), "a key is missing"),
        (Rule("x", 1, (Condition("metadata", "is one of", (), "plan"),)), "has 0 values"),
        (Rule("x", 1, (Condition("metadata", "is stated", (), 'a"b'),)), "the key has quotes"),
        (Rule("x", 1, (Condition("first seen", "before", ("31.3.2026",)),)), "first seen before"),
        (Rule("x", 1, (Condition("first seen", "within days", ("٣",)),)), "within days"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(store: Store, rule: Rule, why: str) -> None:
    with pytest.raises(ActionRefused, match=why):
        segment_members.preview(store, rule)
    with pytest.raises(ActionRefused, match=why):
        segments.put(store, rule, reason="r", operator="ada")


@given(st.lists(CONDITIONS, min_size=1, max_size=5))
def test_conditions_survive_json(conditions: list[Condition]) -> None:
    assert parsed(json.dumps(listed(conditions))) == checked(conditions)
    assert all(words(one) for one in conditions)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["field", "test", "values", "key", "x"]), inner, max_size=3)))  # fmt: skip
def test_other_json_is_refused_in_words(document: object) -> None:
    with pytest.raises(ActionRefused):
        parsed(json.dumps(document))
