"""200,000 decisions: drawn as often as was logged, never below the floor, and each reproducible from its policy."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from steering_policies import arm, policy_of

from pipelines.steering.assignment import draw_of
from pipelines.steering.decide import Decider, Decision, Question
from pipelines.steering.decision_log import frame_of
from pipelines.steering.policy import Policy
from pipelines.steering.replay import replay
from pipelines.steering.snapshot import Policies
from store.clock import FixedClock

DECISIONS = 200_000
BUDGET = 6_000.0  # runs short on the second day
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def versions() -> dict[int, Policy]:
    """Three versions of a policy: two segments, people with posteriors and rates of their own, then another arm."""
    random = np.random.default_rng(5)
    people = {}
    for number in range(60):
        row = {"segment": ["new", "old", None][number % 3]}
        if number % 2:
            row |= {"mean": random.uniform(0.4, 0.7, 3), "sd": random.uniform(0.02, 0.15, 3)}
        if number % 5 == 0:
            row |= {"rate": random.choice([0.0, 0.004, 0.3, 1.0])}
        people[f"user-{number}"] = row | {"opted_out": number % 11 == 0}
    segments = {
        "new": {"mean": (0.5, 0.55, 0.5), "sd": (0.1, 0.1, 0.1), "rate": 0.4},
        "old": {"rate": 0.1},
        "children": {},
    }
    people["child"] = {"segment": "children"}
    first = policy_of(segments=segments, people=people, never_segments=frozenset({"children"}))
    first = replace(first, never_tasks=frozenset({"payment"}), daily_regret_budget=BUDGET)
    second = replace(first, version=2, mean=np.array([0.57, 0.6, 0.5]), rate=0.35)
    third = replace(
        policy_of(
            [arm("baseline", baseline=True), arm("short answers", state="shadow"), arm("model b"), arm("model c")],
            (0.6, 0.7, 0.6, 0.59), (0.03, 0.02, 0.04, 0.1), version=3,
        ),
        daily_regret_budget=BUDGET,
    )  # fmt: skip
    return {1: first, 2: second, 3: third}


class Run:
    """Agents that ask a policy which changes under way."""

    def __init__(self) -> None:
        self.held = versions()
        self.clock = FixedClock(START)
        random = np.random.default_rng(8)
        now = [self.held[1]]
        policies = Policies(lambda agent: now, self.clock)
        decider = Decider(policies, self.clock, new_id=lambda: random.bytes(8).hex())
        users = [*self.held[1].users.index, "somebody", None]
        people = random.integers(0, len(users), DECISIONS)
        tasks = random.choice(["refund", "payment", None], DECISIONS, p=[0.5, 0.05, 0.45])
        kinds = random.random(DECISIONS)
        rows: list[Decision] = []
        for number in range(DECISIONS):
            if number in (DECISIONS // 2, 3 * DECISIONS // 4):
                now[:] = [self.held[now[0].version + 1]]
                policies.refresh(None)
            if number % 20_000 == 0:
                self.clock.moment += timedelta(hours=3)
            self.clock.moment += timedelta(milliseconds=2)
            # A tenth goes on with a session of a thousand steps ago or less, a fifth has none, some can run two arms.
            session = None if kinds[number] < 0.2 else f"s-{number - (number % 997 if kinds[number] > 0.9 else 0)}"
            arms = ("baseline", " model b", "short answers", "what?") if kinds[number] > 0.97 else None
            question = Question(
                "support-bot", users[people[number]], session, tasks[number], arms=arms
            )  # fmt: skip
            rows.append(decider.decide(question, "key").decision)
        policies.close()
        self.log = frame_of(rows)


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


@pytest.mark.thorough
def test_frequencies_are_the_propensities_that_were_logged(run: Run) -> None:
    fresh = run.log.filter(~pl.col("sticky"))
    drawn = fresh.select("decision_id", "policy_version", pl.col("arm").alias("got"), "arms", "propensities").explode(
        "arms", "propensities"
    )
    cells = drawn.group_by("policy_version", "arms").agg(
        got=(pl.col("got") == pl.col("arms")).sum(),
        expected=pl.col("propensities").sum(),
        variance=(pl.col("propensities") * (1 - pl.col("propensities"))).sum(),
    )
    assert cells.height == 9
    for row in cells.iter_rows(named=True):
        assert abs(row["got"] - row["expected"]) <= 4 * math.sqrt(row["variance"]), row


def test_frequencies_hold_at_every_height_of_the_propensity(run: Run) -> None:
    drawn = (
        run.log.filter(~pl.col("sticky"))
        .select(pl.col("arm").alias("got"), "arms", "propensities")
        .explode("arms", "propensities")
        .with_columns(height=(pl.col("propensities") * 20).floor())
    )
    for _, cell in drawn.group_by("height"):
        chance = cell["propensities"].to_numpy()
        got = (cell["got"] == cell["arms"]).sum()
        assert abs(got - chance.sum()) <= 4 * math.sqrt((chance * (1 - chance)).sum()) + 1e-9


def test_draws_are_uniform_and_have_nothing_to_do_with_their_order(run: Run) -> None:
    draws = run.log.filter(~pl.col("sticky"))["draw"].unique(maintain_order=True).to_numpy()
    count = len(draws)
    ranked = np.sort(draws)
    apart = np.abs(ranked - (np.arange(count) + 0.5) / count).max()
    assert apart < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov at .001
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / math.sqrt(count)
    assert draws.min() >= 0
    assert draws.max() < 1


def test_vectors_sum_to_one_and_floors_hold(run: Run) -> None:
    sums = run.log.select(total=pl.col("propensities").list.sum())["total"]
    assert float((sums - 1).abs().max()) < 1e-9  # type: ignore[arg-type]
    explored = run.log.filter(pl.col("rate") > 0)
    assert explored.height > DECISIONS / 2
    floor = pl.min_horizontal(0.01, pl.col("rate") / (pl.col("arms").list.len() - 1))
    assert explored.select((pl.col("propensities").list.min() >= floor - 1e-12).all()).item()
    assert (explored["rate"] <= explored["allowed_rate"] * explored["budget_scale"] + 1e-12).all()
    certain = run.log.filter(pl.col("rate") == 0)
    assert certain.height > 1_000
    assert (certain["propensity"] == 1).all()
    assert not certain["off_policy"].any()
    assert not certain["explore"].any()


def test_nobody_who_must_not_be_explored_was(run: Run) -> None:
    users = run.held[1].users
    opted_out = [name for name, place in users.index.items() if users.opted_out[place]]
    first_two = run.log.filter(pl.col("policy_version") < 3, ~pl.col("sticky"))
    for never in (pl.col("user_id").is_in(opted_out), pl.col("segment") == "children", pl.col("task") == "payment"):
        rows = first_two.filter(never)
        assert rows.height > 300
        assert not rows["explore"].any()
        assert (rows["rate"] == 0).all()
        assert rows["note"].is_not_null().all()
    sticky = run.log.filter(pl.col("policy_version") < 3, pl.col("user_id").is_in(opted_out), pl.col("sticky"))
    assert sticky.height > 10
    assert not sticky["explore"].any()


def test_a_session_keeps_its_arm_as_long_as_it_may(run: Run) -> None:
    sessions = run.log.filter(pl.col("session_id").is_not_null())
    assert sessions["sticky"].sum() > 5_000
    moved = sessions.with_columns(before=pl.col("arm").shift().over("session_id")).filter(
        pl.col("before").is_not_null() & (pl.col("arm") != pl.col("before"))
    )
    assert moved.height > 0
    assert not moved["off_policy"].any()
    assert moved["note"].str.contains("the session ran").all()
    assert not moved["sticky"].any()


def test_the_budget_of_every_day_holds(run: Run) -> None:
    days = run.log.group_by(pl.col("decided_at").dt.date()).agg(pl.col("worst_regret").sum(), pl.len())
    assert days.height >= 2
    assert float(days["worst_regret"].max()) <= BUDGET + 1e-6  # type: ignore[arg-type]
    assert float(days["worst_regret"].max()) > BUDGET * 0.9  # type: ignore[arg-type]
    assert run.log.filter((pl.col("budget_scale") < 1) & (pl.col("budget_scale") > 0)).height > 0


@pytest.mark.thorough
def test_replaying_the_log_reproduces_every_decision(run: Run) -> None:
    found = replay(run.log, lambda agent, version: run.held[version])
    assert found.is_empty(), found.head(10)


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("arm", {"arm": pl.col("arm").replace_strict({"baseline": "short answers"}, default="baseline")}),
        ("rate", {"rate": pl.col("rate") + 1e-6}),
        ("draw", {"draw": pl.col("draw") / 2}),
        ("propensities", {"propensities": pl.col("propensities").list.reverse()}),
        ("allowed_rate", {"allowed_rate": pl.col("allowed_rate") + 0.1}),
        ("segment", {"segment": pl.lit("other")}),
        ("greedy_arm", {"greedy_arm": pl.lit("with tools")}),
        ("unit", {"unit": pl.col("unit") + "x"}),
        ("propensity", {"propensity": pl.col("propensity") * 0.5}),
    ],
)  # fmt: skip
def test_replay_finds_what_was_changed(run: Run, what: str, changed: dict[str, pl.Expr]) -> None:
    rows = run.log.filter(~pl.col("sticky"), pl.col("rate") > 0, pl.col("policy_version") == 1).head(500)
    found = replay(rows.with_columns(**changed), lambda agent, version: run.held[version])
    assert what in found["what"].to_list()
    assert found.filter(pl.col("what") == what)["decision_id"].n_unique() > 250


def test_replay_finds_a_session_that_did_not_keep_its_arm(run: Run) -> None:
    sticky = run.log.filter(pl.col("sticky"))["session_id"][0]
    rows = run.log.filter(pl.col("session_id") == sticky)
    lied = rows.with_columns(propensity=pl.when(pl.col("sticky")).then(0.123).otherwise(pl.col("propensity")))
    assert replay(rows, lambda agent, version: run.held[version]).is_empty()
    assert replay(lied, lambda agent, version: run.held[version])["what"].to_list() == ["propensity"] * int(
        rows["sticky"].sum()
    )


def test_the_same_questions_get_the_same_arms_in_any_order() -> None:
    """Without sessions to remember, in another order and at another time: the arm hangs on policy and unit alone."""
    policy = versions()[1]
    unlimited = replace(policy, daily_regret_budget=None)
    questions = [Question("support-bot", f"user-{number % 70}", f"s-{number}") for number in range(2_000)]

    def arms(asked: list[Question], moment: datetime) -> dict[str | None, str]:
        clock = FixedClock(moment)
        policies = Policies(lambda agent: [unlimited], clock)
        try:
            decider = Decider(policies, clock)
            return {each.session_id: decider.decide(each, "k").decision.arm for each in asked}
        finally:
            policies.close()

    assert arms(questions, START) == arms(questions[::-1], START + timedelta(days=400))


def test_draws_are_the_same_on_every_machine() -> None:
    # The first 53 bits of BLAKE2b-64, as `printf 'salt\\0agent\\0session:s' | b2sum -l 64` gives them.
    assert draw_of("salt", "agent", "session:s") == (0x94BB93CC189677D9 >> 11) / 2**53
