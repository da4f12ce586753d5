"""Which arm for which request: a lift where there is one, no claim where there is none, leaks and bad logs refused."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards import choice_of_arm
from pipelines.rewards.leakage import LeakedSplit
from pipelines.stats.contract import ContractError

ARMS = ("a", "b", "c")


def _requests(n, seed, *, depends):
    """Requests about sums or about stories, each asked once; with `depends`, arm a is good at sums and b at stories."""
    random = np.random.default_rng(seed)
    sums = random.random(n) < 0.5
    texts = [
        f"{'add the numbers and give their total' if one else 'tell what happened to the people in the story'} {i}"
        for i, one in enumerate(sums)
    ]
    chance = np.tile([0.6, 0.58, 0.4], (n, 1))
    if depends:
        chance[:, 0] = np.where(sums, 0.8, 0.4)
        chance[:, 1] = np.where(sums, 0.4, 0.78)
    return texts, (random.random((n, 3)) < chance).astype(float), sums, chance


def test_a_lift_that_is_there_is_found_with_its_interval():
    texts, outcomes, _, chance = _requests(1_500, 1, depends=True)
    lift = choice_of_arm.full(texts, outcomes, ARMS)
    truth = chance.max(axis=1).mean() - chance.mean(axis=0).max()
    assert lift.lower < truth < lift.upper
    assert lift.lower > 0
    assert lift.claim is not None
    assert "Choosing the arm by request adds" in lift.text
    assert (lift.n, lift.groups) == (1_500, 1_500)


@pytest.mark.thorough
def test_no_claim_is_made_where_there_is_nothing():
    claims = 0
    for seed in range(12):
        texts, outcomes, _, _ = _requests(400, 100 + seed, depends=False)
        lift = choice_of_arm.full(texts, outcomes, ARMS)
        claims += lift.claim is not None
        assert ("No claim" in lift.text) is (lift.claim is None)
    assert claims <= 1


def test_a_split_with_questions_on_both_sides_is_refused():
    texts, outcomes, _, _ = _requests(300, 3, depends=True)
    with pytest.raises(LeakedSplit, match="100 of the 100 questions"):
        choice_of_arm.released_split(texts, outcomes, texts[:100], outcomes[:100], ARMS)
    assert choice_of_arm.released_split(texts[:200], outcomes[:200], texts[200:], outcomes[200:], ARMS).n == 100


def test_a_log_with_propensities_gives_the_lift_whatever_the_policy_preferred():
    lifts = []
    for seed in range(6):
        _, outcomes, sums, chance = _requests(4_000, 20 + seed, depends=True)
        random = np.random.default_rng(50 + seed)
        # The log prefers arm c where it does well: raw means would mislead.
        propensities = np.where(sums[:, None], [0.2, 0.2, 0.6], [0.5, 0.2, 0.3])
        arm = (random.random(4_000)[:, None] > propensities.cumsum(axis=1)).sum(axis=1)
        rows = np.arange(4_000)
        lift = choice_of_arm.logged(
            sums[:, None].astype(float),
            [ARMS[a] for a in arm],
            outcomes[rows, arm],
            propensities[rows, arm],
            [f"user {i % 500}" for i in range(4_000)],
        )
        truth = chance.max(axis=1).mean() - chance.mean(axis=0).max()
        lifts.append((lift.lower < truth < lift.upper, lift.lift - truth))
        assert lift.claim is not None
    assert sum(inside for inside, _ in lifts) >= 5
    assert abs(np.mean([error for _, error in lifts])) < 0.03


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("propensity", float("nan"), "propensity is missing in 1 of"),
        ("propensity", 0.0, "propensity must be from"),
        ("propensity", -0.2, "propensity must be from"),
        ("propensity", 1.2, "propensity must be from"),
        ("reward", 1.5, "reward must lie from 0 to 1"),
        ("reward", float("nan"), "reward must lie from 0 to 1"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_refused_by_name(column, value, says):
    values = {"reward": np.full(200, 0.5), "propensity": np.full(200, 0.5)}
    values[column][7] = value
    with pytest.raises(ContractError, match=says):
        choice_of_arm.logged(
            np.ones((200, 1)), ["a", "b"] * 100, values["reward"], values["propensity"],
            [f"u{i}" for i in range(200)],
        )  # fmt: skip


def test_too_little_to_compare_is_refused():
    values = np.full(200, 0.5)
    users = [f"u{i}" for i in range(200)]
    features = np.ones((200, 1))
    for arms, groups, says in (
        (["a"] * 200, users, "only one arm"),
        (["a"] * 190 + ["b"] * 10, users, "arm 'b' has 10 requests"),
        (["a", "b"] * 100, ["one"] * 200, "1 groups"),
    ):
        with pytest.raises(ContractError, match=says):
            choice_of_arm.logged(features, arms, values, values, groups)
    with pytest.raises(ContractError, match="only one arm"):
        choice_of_arm.full(users, values[:, None], ["a"])


# ----- ../shared/data/prompt_oirl -----


PROMPTS = ("nan", "CoT", "APE", "Dis", "ToT", "Decomp")


def _prompt_oirl(shared_data, name, part):
    """Questions and mean correctness (questions, prompts) of one side of the released split of one benchmark."""
    frame = pl.read_parquet(shared_data / "prompt_oirl" / f"{name}_{part}.parquet")
    means = frame.group_by("question", maintain_order=True).agg(pl.col(PROMPTS).mean())
    return means["question"].to_list(), means.select(PROMPTS).to_numpy()


def _by_question(shared_data, name):
    """Both sides together, each question once."""
    parts = [pl.read_parquet(shared_data / "prompt_oirl" / f"{name}_{part}.parquet") for part in ("train", "test")]
    rows = pl.concat([part.select("question", *PROMPTS) for part in parts])
    means = rows.group_by("question", maintain_order=True).agg(pl.col(PROMPTS).mean())
    return means["question"].to_list(), means.select(PROMPTS).to_numpy()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["gsm8k", "mawps", "svamp"])
def test_on_prompt_oirl_choosing_the_prompt_by_question_adds_little(shared_data, name):
    texts, outcomes = _by_question(shared_data, name)
    if name == "gsm8k":  # every third of its 8,473 questions, for time
        texts, outcomes = texts[::3], outcomes[::3]
    lift = choice_of_arm.full(texts, outcomes, PROMPTS)
    # Published features gain .001, .009 and .003: no more than a point or two either way, and no claim beyond it.
    assert -0.015 < lift.lift < 0.025
    assert lift.lower < lift.lift < lift.upper
    assert (lift.claim is None) is (lift.lower <= 0)
    assert lift.groups == len(texts)


@pytest.mark.parametrize(("name", "leaks"), [("gsm8k", False), ("mawps", True), ("svamp", True)])
def test_the_released_split_of_prompt_oirl_is_refused_where_it_leaks(shared_data, name, leaks):
    train, test = (_prompt_oirl(shared_data, name, part) for part in ("train", "test"))
    if leaks:
        with pytest.raises(LeakedSplit, match="Split by questions and measure again") as refused:
            choice_of_arm.released_split(*train, *test, PROMPTS)
        assert refused.value.shared == refused.value.test == len({" ".join(q.lower().split()) for q in test[0]})
    else:
        assert abs(choice_of_arm.released_split(*train, *test, PROMPTS).lift) < 0.05
