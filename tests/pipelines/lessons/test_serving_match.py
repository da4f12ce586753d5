"""Conditions against requests: the weights are those of an independent implementation, and no text breaks it."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from served_lessons import lesson
from sklearn.feature_extraction.text import TfidfVectorizer

from pipelines.lessons.serving.match import FLOOR, HOLDS_FROM, Matcher, judged
from pipelines.lessons.serving.words import HEAD, TAIL, distinct, terms

CONDITIONS = [
    "The customer wants to cancel a flight with a basic economy ticket.",
    "A refund of a damaged item is requested and the item was damaged twice.",
    "Baggage allowance of a flight in business class",
    "A parcel is late.",
]


def matcher(*conditions: str, **changed):
    return Matcher([lesson(f"l{i}", when_text=text, trust="operator", **changed) for i, text in enumerate(conditions)])


def by_scikit_learn(conditions, request):
    """The share of each condition's squared TF-IDF weight on words of the request."""
    model = TfidfVectorizer(analyzer=terms, sublinear_tf=True, norm="l2")
    rows = model.fit_transform(conditions).toarray()
    named = np.isin(model.get_feature_names_out(), list(set(terms(request))))
    return (rows**2 * named).sum(axis=1)


@pytest.mark.parametrize(
    "request_text",
    ["please cancel my flight", "my item arrived damaged, refund me", "how many bags in business?", "hello", "tickets"],
)
def test_coverage_is_the_share_of_squared_weight(request_text):
    found = matcher(*CONDITIONS).coverage(distinct(request_text))
    assert found == pytest.approx(by_scikit_learn(CONDITIONS, request_text), abs=1e-9)


def test_conditions_hold_from_the_threshold_on():
    found = matcher("cancel flight economy ticket seat", "cancel flight economy", "meal").matches("Cancel it!")
    assert found[0] == 0.0  # one of five words, and the most frequent one
    assert found[1] > HOLDS_FROM
    assert found[2] == 0.0


def test_the_length_of_a_request_takes_nothing_away():
    short = matcher(*CONDITIONS).matches("cancel my economy ticket")
    long = matcher(*CONDITIONS).matches("cancel my economy ticket " + "as I told you on the phone yesterday " * 60)
    assert long.tolist() == short.tolist()


@pytest.mark.parametrize(
    ("when", "changed"),
    [
        ("You are about to call `refund`.", {"trust": "system"}),
        ("When handling a request for late parcel", {"trust": "model", "task": "late parcels"}),
        ("When a user asks something", {"trust": "operator"}),
        ("", {"trust": "operator"}),
        ("🙂 — …", {"trust": "operator"}),
        ("The shop agent is asked", {"trust": "operator"}),
    ],
)
def test_what_words_cannot_judge_matches_everything_of_its_scope(when, changed):
    one = lesson("l", when_text=when, **changed)
    assert judged(one) == []
    assert Matcher([one]).matches("something else entirely").tolist() == [1.0]


def test_a_narrow_scope_is_served_whatever_the_words():
    for scope in ({"task": "refund"}, {"user_id": "u"}):
        assert matcher("the parcel is late", **scope).matches("good morning").tolist() == [FLOOR]
        assert matcher("the parcel is late", **scope).matches("parcel late").tolist() == [1.0]
    assert matcher("the parcel is late", segment="gold").matches("good morning").tolist() == [0.0]


@pytest.mark.parametrize("nothing", [None, "", "   ", "🙂🙂", "the of and", "\ud800"])
def test_a_request_without_words_matches_everything(nothing):
    assert matcher(*CONDITIONS).matches(nothing).tolist() == [1.0] * len(CONDITIONS)


def test_the_beginning_and_the_end_of_a_long_text_are_read():
    filler = "x " * 600_000
    assert distinct("first " + filler + " last") == {"first", "last", "x"}
    assert distinct("x " * (HEAD // 2) + "hidden " + "y " * (TAIL // 2)) == {"x", "y"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("parcels", "parcel"), ("Policies", "policy"), ("refund", "REFUNDS"), ("ticket's", "ticket"), ("boxes", "boxe")],
)
def test_plurals_are_one_word(one, other):
    assert terms(one)[0] == terms(other)[0]


@pytest.mark.parametrize("word", ["address", "status", "bus", "sees", "shoes"])
def test_what_only_looks_like_a_plural_stays(word):
    assert terms(f"{word} word")[0] == word


def test_texts_without_blanks_between_words_are_compared_by_character():
    found = matcher("顾客要求退款", "航班延误").matches("我想退款")
    assert found[0] > found[1] == 0.0


@given(
    st.lists(st.text(max_size=60), max_size=8),
    st.one_of(st.none(), st.text(max_size=200)),
    st.sampled_from(["system", "operator", "model"]),
)
@example(["\ud800 lone", "a\0b", "𝕏 ﷺ"], "\ud800 a b", "operator")
@settings(max_examples=150, deadline=None)
def test_any_texts_give_shares(conditions, text, trust):
    lessons = [lesson(f"l{i}", when_text=when, trust=trust) for i, when in enumerate(conditions)]
    found = Matcher(lessons).matches(text)
    assert found.shape == (len(conditions),)
    assert ((found == 0) | ((found >= HOLDS_FROM) & (found <= 1))).all()
    # A request that says the condition itself always matches it.
    for place, when in enumerate(conditions):
        assert Matcher(lessons).matches(when)[place] == 1.0


def test_megabytes_are_read_in_bounded_work():
    huge = [chr(0x1F600) * 1_000_000, "word " * 200_000, "e" + "\u0301" * 1_000_000, "refund" * 170_000]
    for text in huge:
        assert len(distinct(text)) <= HEAD + TAIL
        assert matcher(text, "refund").matches(text)[0] == 1.0
