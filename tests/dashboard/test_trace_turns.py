"""A trace as a conversation: every message and call once, in order, whatever way it was logged."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dashboard.trace.turns import Message, Turn, conversation, messages


def _step(number, kind, *, input=None, output=None, name=None, status="ok", message=None):
    return {
        "step": number, "span_id": f"s{number}", "kind": kind, "name": name, "status": status,
        "status_message": message, "input": input, "output": output, "input_characters": None,
        "output_characters": output and len(output),
    }  # fmt: skip


def _said(turns):
    return [(turn.role, turn.text) for turn in turns]


CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "yes"},
    {"role": "assistant", "content": "which?"},
    {"role": "user", "content": "yes"},
]


def test_messages_logged_as_what_is_new_are_all_shown():
    steps = [
        _step(1, "agent", input="yes", output="done"),
        _step(2, "llm", input=json.dumps(CHAT[:2]), output="which?"),
        _step(3, "llm", input=json.dumps([CHAT[3]]), output="done"),
    ]
    assert _said(conversation(steps)) == [
        ("system", "be kind"), ("user", "yes"), ("assistant", "which?"), ("user", "yes"), ("assistant", "done"),
    ]  # fmt: skip


def test_messages_logged_as_the_whole_history_are_shown_once():
    steps = [
        _step(1, "llm", input=json.dumps(CHAT[:2]), output="which?"),
        _step(2, "llm", input=json.dumps({"messages": CHAT}), output="done"),
        _step(3, "llm", input=json.dumps([*CHAT, {"role": "assistant", "content": "done"}]), output="bye"),
    ]
    assert _said(conversation(steps)) == [
        ("system", "be kind"), ("user", "yes"), ("assistant", "which?"), ("user", "yes"), ("assistant", "done"),
        ("assistant", "bye"),
    ]  # fmt: skip


def test_a_tool_call_is_shown_with_arguments_and_result_and_not_repeated():
    asked = [{"role": "user", "content": "book"}]
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "book", "arguments": '{"n": 1}'}}],
    }
    steps = [
        _step(1, "llm", input=json.dumps(asked), output=json.dumps(call)),
        _step(2, "tool", name="book", input='{"n": 1}', output="booked", status="ok"),
        _step(3, "llm", input=json.dumps([{"role": "tool", "content": "booked", "name": "book"}]), output="done"),
    ]
    turns = conversation(steps)
    assert _said(turns) == [("user", "book"), ("tool", "booked"), ("assistant", "done")]
    assert turns[1] == Turn("tool", "booked", "book", '{"n": 1}', "ok", 2, "s2", 6)


def test_calls_without_spans_of_their_own_are_shown_from_the_answer():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "book", "arguments": {"n": 1}}}, "odd"]}
    turns = conversation([_step(1, "llm", input="book", output=json.dumps(call))])
    assert [(turn.role, turn.name, turn.arguments) for turn in turns] == [
        ("user", None, None),
        ("tool", "book", '{"n": 1}'),
    ]


def test_a_failed_call_says_why():
    steps = [
        _step(1, "llm", input="hi", status="error", message="overloaded"),
        _step(2, "tool", name="x", status="error", message="no such flight"),
    ]
    assert _said(conversation(steps)) == [("user", "hi"), ("assistant", "overloaded"), ("tool", "no such flight")]


def test_messages_after_the_last_turn_are_kept_with_their_role():
    turns = conversation([_step(1, "llm", input="a", output="b"), _step(2, "other", name="user", input="thanks")])
    assert _said(turns) == [("user", "a"), ("assistant", "b"), ("user", "thanks")]


def test_a_trace_without_messages_shows_its_own_texts():
    assert _said(conversation([], input="question", output="answer")) == [("user", "question"), ("assistant", "answer")]
    assert _said(conversation([_step(1, "chain", input="in", output="out")])) == [("user", "in"), ("assistant", "out")]
    assert conversation([]) == []


def test_known_forms_of_messages_are_read():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}, "b"]
    assert messages(json.dumps({"role": "human", "content": parts}), "user") == [
        Message("user", 'a\n{"type": "image_url", "image_url": {"url": "u"}}\nb')
    ]
    assert messages(json.dumps({"choices": [{"message": {"role": "assistant", "content": "x"}}]}), "assistant") == [
        Message("assistant", "x")
    ]
    assert messages(json.dumps([{"role": "critic", "content": "x", "name": "n"}]), "user") == [
        Message("critic", "x", "n")
    ]


def test_other_json_and_broken_json_are_one_message():
    for text in ('{"a": 1}', "[1, 2]", '[{"role": "user"', "[" * 50_000, "[]", '{"messages": "x"}'):
        assert messages(text, "user") == [Message("user", text)]
    assert messages(None, "user") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "tool_calls", "function", "name", "messages", "message"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from(["llm", "tool", "agent", "other", "chain"]), JSON, JSON), max_size=5))
def test_no_logged_value_breaks_the_conversation(logged):
    steps = [_step(i, kind, input=json.dumps(a), output=json.dumps(b)) for i, (kind, a, b) in enumerate(logged, 1)]
    for turn in conversation(steps):
        assert isinstance(turn.text, str | None)
        assert isinstance(turn.role, str)


@given(st.lists(st.sampled_from(["yes", "no", "more"]), min_size=1, max_size=6))
def test_both_ways_of_logging_give_the_same_conversation(asked):
    whole, new, history = [], [], []
    for number, text in enumerate(asked, 1):
        fresh = [{"role": "system", "content": "s"}] if number == 1 else []
        fresh.append({"role": "user", "content": text})
        history += fresh
        whole.append(_step(number, "llm", input=json.dumps(history), output=f"answer {number}"))
        new.append(_step(number, "llm", input=json.dumps(fresh), output=f"answer {number}"))
        history.append({"role": "assistant", "content": f"answer {number}"})
    assert _said(conversation(whole)) == _said(conversation(new))
