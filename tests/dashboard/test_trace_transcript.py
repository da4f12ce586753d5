"""A trace as text for a model: complete where it fits, bounded and honest where it does not."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dashboard.trace.transcript import transcript
from dashboard.trace.turns import Turn

TRACE = {
    "trace_id": "t1", "agent": "desk", "agent_version": "v2", "model": "m", "task": "refund", "arm": None,
    "started_at": datetime(2026, 11, 1, tzinfo=UTC), "seconds": 4.2, "status": "error", "reward": 0.31,
    "reward_sd": 0.1, "reward_signals": 2,
}  # fmt: skip
SIGNALS = [{"kind": "thumb", "name": None, "value": 0.0, "annotator_kind": "user", "text": "no\nhelp"}]


def test_everything_of_a_short_trace_is_in_its_text():
    turns = [
        Turn("user", "I want my money"),
        Turn("tool", "not found", "lookup", '{"id": 7}', "error", 2, "s"),
        Turn("tool", None, "wait", "{}"),
        Turn("assistant", "Sorry"),
    ]
    assert transcript(TRACE, turns, SIGNALS) == (
        "trace: t1\nagent: desk v2\nmodel: m\ntask: refund\nstarted: 2026-11-01 00:00:00 UTC\nduration: 4.2 s\n"
        "status: error\nreward: 0.31 ± 0.10 (n 2)\n\n"
        "[1] user\nI want my money\n\n"
        '[2] tool lookup (failed)\narguments: {"id": 7}\nresult: not found\n\n'
        "[3] tool wait\narguments: {}\nno result\n\n"
        "[4] assistant\nSorry\n\n"
        "signals:\n- thumb 0 by user: no help"
    )


def test_a_long_turn_is_cut_in_its_middle():
    text = transcript(TRACE, [Turn("user", "a" * 5000 + "b" * 5000)], [], most=8_000)
    assert "characters left out" in text
    assert "aaa" in text
    assert text.endswith("bbb")


def test_of_too_many_turns_those_in_the_middle_go():
    text = transcript(TRACE, [Turn("user", f"turn number {i} " * 20) for i in range(1, 200)], [], most=8_000)
    assert "turn number 1 " in text
    assert "turn number 199 " in text
    assert "of 199 turns left out" in text
    assert "turn number 100 " not in text


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "tool"]), st.text(max_size=3000), st.none() | st.text(max_size=500)),
        max_size=30,
    ),
    st.sampled_from([1_000, 2_000, 8_000]),
)
def test_the_text_is_never_longer_than_asked_and_says_what_it_omits(said, most):
    turns = [Turn(role, text, None, arguments) for role, text, arguments in said]
    text = transcript(TRACE, turns, SIGNALS, most=most)
    assert len(text) <= most
    numbered = sum(f"[{place}] " in text for place in range(1, len(turns) + 1))
    assert numbered == len(turns) or "turns left out" in text
