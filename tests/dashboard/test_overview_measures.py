"""The Overview's cards: numbers with interval and n, verdicts, and what they say of too little data."""

from dashboard.overview.measures import measures

FULL = {
    "traces": 1000, "known": 1000, "errors": 50, "users": 40, "feedback": 100, "costed": 900, "cost_usd": 9.0,
    "timed": 1000, "seconds_p50": 2.0, "seconds_p95": 9.5, "rewarded": 400, "reward": 0.6, "reward_variance": 0.04,
    "reward_sd2": 0.01, "reward_shared_sd": 0.0,
}  # fmt: skip
NOTHING = {
    **dict.fromkeys(FULL, 0), "cost_usd": None, "seconds_p50": None, "seconds_p95": None, "reward": None,
    "reward_variance": None, "reward_sd2": None, "reward_shared_sd": None,
}  # fmt: skip


def _cards(now, before=None, reward_model=True):
    return {card.label: card for card in measures(now, before, reward_model=reward_model)}


def test_every_number_carries_its_interval_and_n():
    cards = _cards(FULL)
    # Wilson's limits of 50 of 1,000 and 100 of 1,000.
    assert (cards["Error rate"].value, cards["Error rate"].detail) == ("5.0 %", "3.8 to 6.5 %, n 1,000")
    assert cards["Feedback coverage"].detail == "8.3 to 12.0 %, n 1,000"
    assert (cards["Mean reward"].value, cards["Mean reward"].detail) == ("0.600", "0.578 to 0.622, n 400")
    assert (cards["Cost"].value, cards["Cost"].detail) == ("$9.00", "$0.0100 a trace, n 900")
    assert (cards["Duration p50"].value, cards["Duration p50"].detail) == ("2.0 s", "p95 9.5 s, n 1,000")
    assert cards["Traces"].detail == "40 users"
    assert all(card.delta is None for card in cards.values())


def test_without_enough_data_a_card_says_what_is_missing():
    cards = _cards({**FULL, "traces": 19, "known": 5, "rewarded": 29, "timed": 2})
    assert (cards["Error rate"].value, cards["Error rate"].detail) == ("–", "not enough data: 5 of 20 traces")
    assert cards["Mean reward"].detail == "not enough data: 29 of 30 rewards"
    assert cards["Feedback coverage"].detail == "not enough data: 19 of 20 traces"
    assert cards["Duration p50"].detail == "not enough data: 2 of 20 timed traces"


def test_an_empty_range_has_no_numbers():
    cards = _cards(NOTHING, NOTHING, reward_model=False)
    assert [card.value for card in cards.values()] == ["0", "–", "–", "–", "–", "–"]
    assert cards["Mean reward"].detail == "no reward model yet"
    assert cards["Cost"].detail == "no trace states a cost"
    assert all(card.delta is None for card in cards.values())


def test_a_change_is_judged_by_its_interval():
    worse = _cards({**FULL, "errors": 150, "reward": 0.4}, FULL)
    assert (worse["Error rate"].delta, worse["Error rate"].against) == ("+10.0 points", "worse")
    assert worse["Error rate"].colour == "red"
    assert (worse["Mean reward"].delta, worse["Mean reward"].against) == ("-0.200", "worse")
    better = _cards(FULL, {**FULL, "errors": 150, "reward": 0.4})
    assert better["Error rate"].against == "better"
    assert better["Error rate"].colour == "green"
    assert better["Mean reward"].against == "better"
    same = _cards({**FULL, "known": 100_000, "errors": 5_000}, {**FULL, "known": 100_000, "errors": 5_000})
    assert same["Error rate"].against == "no worse"
    few = _cards({**FULL, "known": 40, "errors": 2}, {**FULL, "known": 40, "errors": 2})
    assert few["Error rate"].against == "can't tell yet"


def test_counts_and_costs_are_compared_with_the_range_before():
    cards = _cards(FULL, {**FULL, "traces": 800, "cost_usd": 18.0})
    assert (cards["Traces"].delta, cards["Traces"].against) == ("+25 %", "from 800")
    assert (cards["Cost"].delta, cards["Cost"].against) == ("-50 %", "from $18.00")
    assert _cards(FULL, NOTHING)["Traces"].delta is None
