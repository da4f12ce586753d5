"""What gives the outcome away is refused by name, and what does not is left alone."""

import numpy as np
import pytest

from pipelines.rewards.leakage import LeakedSplit, check_split, refuse

RANDOM = np.random.default_rng(5)
LABELS = (RANDOM.random(400) < 0.7).astype(float)


def _reasons(columns, **more):
    return {one.feature: one.reason for one in refuse(columns, LABELS, **more)}


@pytest.mark.parametrize(
    "name",
    ["reward", "task.reward", "final_score", "user_rating", "thumb", "was_resolved", "is_correct", "csat", "label",
     "judge_verdict", "feedback.text", "success", "ground_truth"],
)  # fmt: skip
def test_a_feature_that_is_the_outcome_by_name_is_refused(name):
    assert _reasons({name: None}) == {name: "named_outcome"}


@pytest.mark.parametrize("name", ["next_action", "days_after", "follow_up_count", "later.visits"])
def test_a_feature_that_comes_later_by_name_is_refused(name):
    assert _reasons({name: None}) == {name: "named_late"}


@pytest.mark.parametrize(
    "name",
    ["segment", "plan", "answer_features.price", "turn", "steer.explore", "tokens", "scorecard_id", "temperature"],
)
def test_an_honest_feature_is_used(name):
    assert _reasons({name: RANDOM.normal(size=400) + 0.8 * LABELS}) == {}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_feature_that_tells_the_label_is_refused_whatever_it_is_called(sign):
    assert _reasons({"x": sign * LABELS + 0.01 * RANDOM.random(400)}) == {"x": "gives_away_label"}


def test_a_feature_that_tells_few_labels_is_not_judged_by_them():
    few = np.full(400, np.nan)
    few[:20] = LABELS[:20]
    assert refuse({"x": LABELS}, few) == []


def test_a_feature_that_becomes_known_after_the_trace_is_refused():
    ended = np.full(400, 100.0)
    known = np.full(400, 90.0)
    late = known.copy()
    late[7] = 101.0
    columns = {"early": RANDOM.normal(size=400), "late": RANDOM.normal(size=400)}
    refused = refuse(columns, LABELS, known_at={"early": known, "late": late}, ended_at=ended)
    assert [(one.feature, one.reason) for one in refused] == [("late", "after_the_end")]
    assert "1 traces" in refused[0].text


def test_a_split_with_a_question_on_both_sides_is_refused_with_its_numbers():
    check_split(["a", "b"], ["c"])
    with pytest.raises(LeakedSplit, match="2 of the 3 questions in test are also in train") as raised:
        check_split(["a", "b", "c"], ["b", "c", "d", "d"])
    assert (raised.value.shared, raised.value.test, raised.value.example) == (2, 3, "b")
