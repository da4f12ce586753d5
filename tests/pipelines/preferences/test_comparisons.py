"""Rankings from pairs: winners found, ranks with intervals, small samples and broken connections said."""

import numpy as np
import polars as pl
import pytest

from pipelines.preferences import comparisons

REWARDED = {"agent": pl.String, "task": pl.String, "user_id": pl.String, "trace_id": pl.String, "arm": pl.String,
            "model": pl.String, "mean": pl.Float64}  # fmt: skip


def _pairs(strengths, count, *, ties=0.0, seed=1, **fixed):
    """Comparisons of random pairs by 40 people, won by Bradley-Terry."""
    random = np.random.default_rng(seed)
    items = list(strengths)
    rows = []
    for _ in range(count):
        first, second = random.choice(items, 2, replace=False)
        wins = random.random() < 1 / (1 + np.exp(strengths[second] - strengths[first]))
        winner, loser = (first, second) if wins else (second, first)
        rows.append(("shop", "arm", "stated", winner, loser, bool(random.random() < ties), f"u{random.integers(40)}"))
    frame = pl.DataFrame(rows, schema=comparisons.PAIRS, orient="row")
    return frame.with_columns(**{name: pl.lit(value) for name, value in fixed.items()})


def _by_item(frame):
    return {row["item"]: row for row in frame.to_dicts()}


def test_strengths_ranks_and_verdicts_follow_who_wins():
    ranked = _by_item(comparisons.rank(_pairs({"a": 1.0, "b": 0.0, "c": -1.0}, 1_500), np.random.default_rng(1)))
    assert ranked["a"]["strength"] - ranked["c"]["strength"] == pytest.approx(2.0, abs=0.4)
    assert (ranked["a"]["rank_lower"], ranked["a"]["rank_upper"]) == (1, 1)
    assert (ranked["c"]["rank_lower"], ranked["c"]["rank_upper"]) == (3, 3)
    assert ranked["a"]["best"] > 0.99
    reference = ranked["a"]["reference"]
    verdicts = {item: row["verdict"] for item, row in ranked.items() if item != reference}
    order = ["a", "b", "c"]
    for item, verdict in verdicts.items():
        assert verdict == ("better" if order.index(item) < order.index(reference) else "worse")


def test_equals_are_not_ranked_apart():
    ranked = _by_item(comparisons.rank(_pairs({"a": 0.0, "b": 0.0}, 300, ties=0.3), np.random.default_rng(1)))
    assert all((row["rank_lower"], row["rank_upper"]) == (1, 2) for row in ranked.values())
    assert {row["verdict"] for row in ranked.values()} <= {None, "can't tell yet", "no worse"}


def test_too_few_comparisons_say_how_many_are_missing():
    ranked = _by_item(comparisons.rank(_pairs({"a": 0.2, "b": 0.0}, 12), np.random.default_rng(1)))
    assert {row["reason"] for row in ranked.values()} == {"12 of 30 comparisons"}
    assert {row["verdict"] for row in ranked.values()} == {None}


def test_components_are_kept_apart():
    frame = pl.concat([_pairs({"a": 0.5, "b": 0.0}, 200), _pairs({"c": 0.5, "d": 0.0}, 200, seed=2)])
    ranked = _by_item(comparisons.rank(frame, np.random.default_rng(1)))
    assert ranked["a"]["component"] == ranked["b"]["component"]
    assert ranked["a"]["component"] != ranked["c"]["component"]
    assert ranked["c"]["reference"] in ("c", "d")


def test_one_person_alone_is_refused_by_name():
    frame = _pairs({"a": 0.5, "b": 0.0}, 100).with_columns(user_id=pl.lit("only"))
    ranked = comparisons.rank(frame, np.random.default_rng(1))
    assert ranked["verdict"].null_count() == 2
    assert all("one user" in reason for reason in ranked["reason"])


def test_comparisons_of_unknown_people_count_each_for_itself():
    frame = _pairs({"a": 1.5, "b": 0.0}, 200).with_columns(user_id=pl.lit(None, dtype=pl.String))
    assert comparisons.rank(frame, np.random.default_rng(1))["users"].to_list() == [200, 200]


def _rewarded(rows):
    return pl.DataFrame(rows, schema=REWARDED, orient="row")


def test_pairs_are_of_one_task_and_two_arms_and_use_each_trace_once():
    random = np.random.default_rng(2)
    rows = [
        ("shop", f"task {number % 5}", f"u{number % 20}", f"t{number}", "ab"[int(random.integers(2))], "m",
         float(random.random()))
        for number in range(400)
    ]  # fmt: skip
    pairs = comparisons.pairs_of_rewards(_rewarded(rows), "arm", np.random.default_rng(1))
    assert pairs.height > 100
    assert (pairs["winner"] != pairs["loser"]).all()
    assert 2 * pairs.height <= 400
    assert comparisons.pairs_of_rewards(_rewarded(rows), "model", np.random.default_rng(1)).is_empty()


def test_the_better_arm_wins_and_near_equals_tie():
    rows = [("shop", "t", f"u{n}", f"x{n}", "ab"[n % 2], None, 0.6 if n % 2 else 0.5) for n in range(60)]
    pairs = comparisons.pairs_of_rewards(_rewarded(rows), "arm", np.random.default_rng(1))
    assert set(pairs["winner"]) == {"b"}
    assert not pairs["tie"].any()
    level = _rewarded(rows).with_columns(mean=pl.lit(0.5) + pl.int_range(pl.len()) % 2 * 0.001)
    assert comparisons.pairs_of_rewards(level, "arm", np.random.default_rng(1))["tie"].all()


def test_nothing_to_pair_is_an_empty_frame():
    assert comparisons.pairs_of_rewards(_rewarded([]), "arm", np.random.default_rng(1)).is_empty()
    assert comparisons.rank(pl.DataFrame(schema=comparisons.PAIRS), np.random.default_rng(1)).is_empty()
