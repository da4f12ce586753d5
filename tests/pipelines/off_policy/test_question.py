"""Questions to the log of an agent: read from the store, answered for everyone and by segment."""

import pickle
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from drawn_decisions import drawn
from publishing import publisher

from pipelines.off_policy import question, what_if
from pipelines.off_policy.estimate import evaluate
from pipelines.off_policy.logged import prepare
from pipelines.off_policy.targets import AsLogged, BySegment, FixedArm, Rate
from store import decisions, rewards
from store.clock import FixedClock
from store.connection import Store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
COUNT = 4_000


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An agent with 4,000 decisions, one a minute, whose traces have rewards; every hundredth has no trace."""
    folder = tmp_path_factory.mktemp("questions")
    opened = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    logged = drawn(COUNT).with_row_index("i")
    name = pl.format("d{}", "i")
    begun = pl.lit(NOW - timedelta(days=5)) + pl.duration(minutes="i")
    rows = logged.with_columns(
        decision_id=name, decided_at=begun.cast(pl.Datetime("us", "UTC")), agent=pl.lit("shop"),
        policy_version=pl.lit(1, pl.Int32), session_id=pl.lit(None, pl.String), unit=pl.format("decision:d{}", "i"),
        draw=pl.lit(0.5), explore=pl.col("arm") != "a", rate=pl.lit(0.3), allowed_rate=pl.lit(0.3),
        budget_scale=pl.lit(1.0), expected_regret=pl.lit(0.0), worst_regret=pl.lit(0.0), solicit=pl.lit(False),
        solicit_propensity=pl.lit(0.0), sticky=pl.lit(False), off_policy=pl.lit(True), note=pl.lit(None, pl.String),
        lesson_set_hash=pl.lit(None, pl.String), input_hash=pl.lit(None, pl.String), source=pl.lit("key"),
    )  # fmt: skip
    opened.write(lambda connection: decisions.append(connection, rows))
    kept = rows.filter(pl.col("i") % 100 > 0)
    publisher(opened, folder)(
        traces=[
            {"trace_id": one.replace("d", "t"), "agent": "shop", "decision_id": one, "arm": arm, "started_at": at}
            for one, arm, at in kept.select("decision_id", "arm", "decided_at").iter_rows()
        ]
    )
    frame = kept.select(
        trace_id=pl.col("decision_id").str.replace("d", "t"), mean="reward", sd=pl.lit(0.1), signals=pl.lit(1, pl.Int32)
    )
    rewards.publish(opened, rewards.Fitted("m", {}, frame, pl.DataFrame(schema=rewards.CELLS), frame.height, 1, "0"))
    yield opened
    opened.close()


def test_one_question(store):
    answer = question.ask(store, "shop", FixedArm("b"))
    assert answer.log.draws == COUNT
    assert answer.log.dropped == {"no_trace": 40}
    assert answer.overall.n == COUNT - 40
    assert answer.overall.verdict == "ok"
    assert answer.overall.lower < 0.5 < answer.overall.upper
    assert answer.segments.schema == what_if.CHANGES
    assert set(answer.segments["segment"]) == {"new", "old"}
    # Two looks at once share alpha.
    alone = question.ask(store, "shop", FixedArm("b"), segment="new").overall
    new = answer.segments.filter(segment="new").row(0, named=True)
    assert new["decisions"] == alone.n < COUNT
    assert new["lower"] < alone.lower < alone.upper < new["upper"]
    assert alone.lower < 0.6 < alone.upper


def test_several_questions_to_one_log(store):
    log = question.read(store, "shop")
    assert log.arms == ("a", "b", "c")
    assert log.segments == ("new", "old")
    asked = [Rate(0.1), *what_if.every_arm(log.prepared), BySegment({"new": FixedArm("b"), "old": FixedArm("c")})]
    found = what_if.compare(log.prepared, asked, dropped=log.dropped)
    assert found["verdict"].to_list() == ["ok"] * 5
    assert found["target"].to_list()[1:4] == ["everyone gets a", "everyone gets b", "everyone gets c"]
    best = found.row(4, named=True)
    assert best["lower"] < 0.65 < best["upper"]
    assert best["gain_lower"] > 0.0
    # Answers travel between processes.
    answer = log.ask(Rate(0.1))
    assert pickle.loads(pickle.dumps(answer)).overall.value == answer.overall.value


def test_a_period_and_a_segment_without_decisions(store):
    half = question.read(store, "shop", since=NOW - timedelta(days=5) + timedelta(minutes=COUNT / 2))
    assert half.draws == COUNT / 2
    empty = question.ask(store, "shop", AsLogged(), since=NOW)
    assert (empty.overall.verdict, empty.overall.reason_key, empty.log.draws) == ("refused", "no_rows", 0)
    assert empty.overall.reason.startswith("There is no decision")
    assert empty.segments.is_empty()
    nobody = question.ask(store, "shop", AsLogged(), segment="nobody").overall
    assert nobody.verdict == "refused"
    assert "nobody" in nobody.reason
    assert question.ask(store, "another", Rate(0.1)).overall.reason_key == "no_rows"


def test_the_change_is_told_more_exactly_than_the_value():
    # Half the decisions would have been the same: what both policies share cancels.
    prepared = prepare(drawn(8_000))
    found = evaluate(prepared, Rate(0.2))
    assert found.gain_upper - found.gain_lower < 0.5 * (found.upper - found.lower)
    nothing = evaluate(prepared, AsLogged())
    assert nothing.gain_lower < 0.0 < nothing.gain_upper


def test_segments_beyond_the_largest_are_not_asked():
    logged = drawn(5_000).with_columns(segment=pl.format("s{}", pl.int_range(pl.len()) % 30))
    few = logged.filter(~((pl.col("segment") > "s20") & (pl.int_range(pl.len()) % 4 > 0)))
    found = what_if.segments(prepare(few), AsLogged())
    assert found.height == what_if.MOST_SEGMENTS
    assert found["decisions"].is_sorted(descending=True)
    largest = few.group_by("segment").len().sort("len", descending=True)["len"].head(what_if.MOST_SEGMENTS)
    assert found["decisions"].sum() == largest.sum()
