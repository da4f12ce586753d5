"""Conversations out of traces: tau-bench as its files have them, whole histories said once, the API's rules kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ingest.layouts.tau_bench import import_tau_bench
from pipelines.lessons.graduate.chat import Chat, conversation
from pipelines.lessons.graduate.unlesson import Removal, without
from pipelines.lessons.paragraphs import block, joined
from tests.pipelines.judges.model_tuning import problems

STEP = dict.fromkeys(("kind", "name", "status", "status_message", "input", "output"))


def step(kind, **columns):
    return {**STEP, "kind": kind, **columns}


def sound(chat):
    """The independent reader takes it."""
    document = {"messages": list(chat.messages)} | ({"tools": list(chat.tools)} if chat.tools else {})
    return problems((json.dumps(document) + "\n").encode(), "supervised") == []


def test_tau_bench_conversations_are_those_of_the_file(shared_data):
    records = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text(encoding="utf-8"))
    for record in records:
        rows = import_tau_bench(record, "tau_bench")
        spans = sorted(rows.spans, key=lambda span: span["ordinal"])
        chat = conversation(
            [{name: span.get(name) for name in STEP} for span in spans], input=rows.traces[0]["input"], output=None
        )
        told = record["traj"]
        while told[-1]["role"] != "assistant":
            told = told[:-1]
        assert [(one["role"], one["content"] or "") for one in chat.messages] == [
            (one["role"], one["content"] or "") for one in told
        ]
        calls = [call["function"] for one in chat.messages for call in one.get("tool_calls", ())]
        theirs = [call["function"] for one in told for call in one.get("tool_calls") or ()]
        assert [(one["name"], json.loads(one["arguments"])) for one in calls] == [
            (one["name"], json.loads(one["arguments"])) for one in theirs
        ]
        assert sound(chat)


def test_a_history_that_is_logged_whole_is_said_once():
    first = [{"role": "system", "content": "S"}, {"role": "user", "content": "A?"}]
    second = [*first, {"role": "assistant", "content": "B."}, {"role": "user", "content": "C?"}]
    chat = conversation(
        [step("llm", input=json.dumps(first), output="B."), step("llm", input=json.dumps(second), output="D.")],
        input=None, output=None,
    )  # fmt: skip
    assert [one["content"] for one in chat.messages] == ["S", "A?", "B.", "C?", "D."]


def test_calls_that_only_messages_tell_are_kept_with_their_results():
    call = {"id": "x9", "type": "function", "function": {"name": "look up!", "arguments": '{"a": 1}'}}
    chat = conversation(
        [
            step("llm", input="[]", output=None),
            step("llm", input=json.dumps([{"role": "user", "content": "A?"}]),
                 output=json.dumps([{"role": "assistant", "content": None, "tool_calls": [call, call]}])),
            step("llm", input=json.dumps([{"role": "tool", "tool_call_id": "x9", "content": "1"},
                                          {"role": "tool", "tool_call_id": "x9", "content": "2"}]), output="B."),
        ],
        input=None, output=None,
    )  # fmt: skip
    assert sound(chat)
    assert [one["content"] for one in chat.messages if one["role"] == "tool"] == ["1", "2"]
    assert chat.tools[0]["function"]["name"] == "look_up_"
    assert chat.tools[0]["function"]["parameters"]["properties"] == {"a": {}}


def test_traces_without_model_calls_are_told_by_their_input_tools_and_output():
    chat = conversation(
        [step("agent", input="A?", output="B."), step("tool", name="find", input="what", output="it"),
         step("tool", name="pay", input="{}", status="error", status_message="no money")],
        input=None, output=None,
    )  # fmt: skip
    assert [one["role"] for one in chat.messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert chat.messages[4]["content"] == "no money"
    assert sound(chat)
    assert conversation([], input="A?", output=None) is None
    assert conversation([], input=None, output="B.") is None


TEXT = st.one_of(
    st.none(), st.text(max_size=20), st.sampled_from(["[]", "{}", "[1]", '{"role": 3}', '[{"role": "x"}]'])
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "human", "robot"])},
    optional={"content": TEXT, "tool_calls": st.just([{"function": {"name": "f", "arguments": "{}"}}, 7])},
)
LOGGED = st.one_of(TEXT, st.lists(MESSAGE, max_size=5).map(json.dumps))


@given(
    st.lists(
        st.builds(
            lambda kind, name, read, wrote: step(kind, name=name, input=read, output=wrote),
            st.sampled_from(["llm", "tool", "agent", "chain", "retriever"]), TEXT, LOGGED, LOGGED,
        ),
        max_size=6,
    ),
    TEXT,
    TEXT,
)  # fmt: skip
def test_whatever_was_logged_the_conversation_keeps_the_rules(steps, read, wrote):
    chat = conversation(steps, input=read, output=wrote)
    assert chat is None or sound(chat)


LESSON = {"lesson_id": "ab12cd", "title": "T", "task": None, "when_text": "W", "when_not": "N",
          "do_text": "Look the order up before paying."}  # fmt: skip
OTHER = LESSON | {"lesson_id": "ef34", "title": "Other", "do_text": "Greet them."}


@pytest.mark.parametrize("place", ["system", "user"])
def test_the_paragraph_of_the_lesson_goes_and_others_stay(place):
    told = f"Help.\n\n{joined([block(OTHER), block(LESSON)])}\nEnd."
    chat = Chat(
        ({"role": place, "content": told}, {"role": "assistant", "content": "Yes [ab12cd], (lesson ab12cd)."}), ()
    )
    found = without(chat, Removal(["ab12cd"], [LESSON["do_text"]]))
    assert "ab12cd" not in str(found.messages)
    assert "Look the order" not in str(found.messages)
    assert block(OTHER) in found.messages[0]["content"]
    assert found.messages[0]["content"].endswith("End.")
    assert found.messages[1]["content"] == "Yes,."
    alone = Chat(({"role": "system", "content": joined([block(LESSON)])}, chat.messages[1]), ())
    assert [one["role"] for one in without(alone, Removal(["ab12cd"], [LESSON["do_text"]])).messages] == ["assistant"]


@pytest.mark.parametrize(
    "content", ["Remember: look  the order up\nbefore PAYING. Thanks", "As in ab12cd.", "the lesson (see ab12cd here)"]
)
def test_what_still_tells_the_lesson_is_not_used(content):
    removal = Removal(["ab12cd"], [LESSON["do_text"]])
    assert without(Chat(({"role": "system", "content": content},), ()), removal) is None
    assert without(Chat(({"role": "system", "content": "Help."},), ()), removal) is not None
