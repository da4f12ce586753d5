"""Redaction: no literal of the labelled list survives, in prose, in JSON or in tool calls; harmless text stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lint_sentences import LITERAL_HARMFUL, LITERAL_HARMLESS

from pipelines.lessons.graduate.chat import Chat
from pipelines.lessons.graduate.redact import Redactor
from pipelines.lessons.lint.literals import find_literals

FOUND = [(sentence, [one.text for one in find_literals(sentence)]) for sentence in LITERAL_HARMFUL]


def chat(*messages):
    return Chat(tuple(messages), ())


def test_the_labelled_sentences_hold_something_to_redact():
    assert sum(bool(literals) for _, literals in FOUND) == len(LITERAL_HARMFUL)


@given(st.lists(st.sampled_from(FOUND), min_size=1, max_size=5), st.sampled_from([" ", "\n", " - ", "; "]))
def test_no_literal_of_the_labelled_list_survives(chosen, between):
    text = between.join(sentence for sentence, _ in chosen)
    told = Redactor({}).text(text)
    assert find_literals(told) == []
    for _, literals in chosen:
        for literal in literals:
            assert literal not in told


@given(
    st.lists(st.sampled_from(FOUND), min_size=1, max_size=4),
    st.integers(1000, 10**11).map(lambda number: number * 10 + 7),
)
def test_none_survives_in_messages_and_arguments(chosen, number):
    body = json.dumps(
        {"notes": [sentence for sentence, _ in chosen], "order": number, "deep": json.dumps({"n": number})}
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "note_9", "arguments": body}}
    done = Redactor({}).chat(
        chat(
            {"role": "user", "content": chosen[0][0]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": body},
            {"role": "assistant", "content": f"Done with {number}."},
        )
    )
    written = json.dumps(done.messages, ensure_ascii=False)
    for _, literals in chosen:
        assert not [literal for literal in literals if literal in written]
    assert str(number) not in written
    held = done.messages[1]["tool_calls"][0]["function"]
    # Still JSON of the same shape, and the tool still has its name.
    assert json.loads(held["arguments"]).keys() == {"notes", "order", "deep"}
    assert held["name"] == "note_9"


@given(st.text(max_size=200))
def test_any_text_settles_and_stays_settled(text):
    told = Redactor({}).text(text)
    assert Redactor({}).text(told) == told


@pytest.mark.parametrize("sentence", LITERAL_HARMLESS)
def test_harmless_sentences_stay(sentence):
    if not find_literals(sentence):
        assert Redactor({}).text(sentence) == sentence


def test_people_named_in_fields_are_known_everywhere():
    found = {
        "name": "Ann Lee",
        "email": "ann@shop",
        "item": {"name": "Blue lamp"},
        "firstName": "Ann",
        "address1": "Elm",
    }
    done = Redactor({"mia_li_3668": "user"}).chat(
        chat(
            {"role": "user", "content": "I am mia_li_3668, Ann Lee wants a Blue lamp; ann@shop."},
            {"role": "tool", "tool_call_id": "x", "content": json.dumps(found)},
            {"role": "assistant", "content": "Dear Ann, your Blue lamp comes to Elm. Annual plans stay."},
        )
    )
    assert done.messages[0]["content"] == (
        "I am [user A], [name A] wants a Blue lamp; [e-mail address A]."
    )  # fmt: skip
    assert done.messages[2]["content"] == (
        "Dear [name B], your Blue lamp comes to [postal address A]. Annual plans stay."
    )  # fmt: skip
    assert json.loads(done.messages[1]["content"])["item"] == {"name": "Blue lamp"}


def test_the_same_words_have_the_same_placeholder_and_thirty_have_thirty():
    told = Redactor({}).text(" ".join(f"#{number}" for number in [*range(30), 3]))
    marks = told.split("[")[1:]
    assert marks[3].strip() == marks[-1].strip()
    assert len({mark.strip() for mark in marks}) == 30
    assert "AB]" in told


def test_amounts_of_the_operators_own_prompt_stay_and_keys_do_not():
    policy = "Offer $50 for a delay by 2024-05-17. Key sk-live-9f8e7d6c5b4a3f2e1d0c."
    messages = ({"role": "system", "content": policy}, {"role": "user", "content": "I want $50 now."})
    alone = Redactor({}).chat(chat(*messages))
    assert "$50" not in json.dumps(alone.messages)
    shared = Redactor({}).chat(chat(*messages), frozenset((policy,)))
    assert shared.messages[0]["content"] == "Offer $50 for a delay by 2024-05-17. Key [key A]."
    assert shared.messages[1]["content"] == "I want [amount A] now."


def test_a_number_in_prose_is_that_of_the_tools_field():
    redactor = Redactor({})
    assert redactor.text("Pay order 8841 back, ticket #4242.") == "Pay order [number A] back, ticket #[number B]."
    assert redactor.value({"order": 8841, "ticket": "4242"}) == {"order": "[number A]", "ticket": "[number B]"}
