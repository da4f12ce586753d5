"""Two rollouts side by side: every step once and in order, and the first difference found."""

from hypothesis import given
from hypothesis import strategies as st

from dashboard.lessons.alignment import Step, align, parting
from dashboard.lessons.playbook_panel import difference


def _steps(*names):
    """Steps from texts such as "look a": the name of the action, then its arguments."""
    listed = []
    for number, text in enumerate(names, start=1):
        name, _, arguments = text.partition(" ")
        listed.append(Step(number, f"s{number}", name, arguments or None, arguments, None, False))
    return listed


ROLLOUT = st.lists(st.sampled_from(["look a", "look b", "book a", "pay a", "say"]), max_size=12).map(
    lambda names: _steps(*names)
)


@given(good=ROLLOUT, bad=ROLLOUT)
def test_every_step_stands_once_and_in_order(good, bad):
    pairs = align(good, bad)
    assert [pair.good for pair in pairs if pair.good] == good
    assert [pair.bad for pair in pairs if pair.bad] == bad
    assert all(pair.good or pair.bad for pair in pairs)


@given(good=ROLLOUT, bad=ROLLOUT)
def test_rollouts_part_where_they_first_differ(good, bad):
    """Before the parting both took the same steps; without one they are the same throughout."""
    pairs = align(good, bad)
    place = parting(pairs)
    keys = [[(step.name, step.arguments) for step in side] for side in (good, bad)]
    if place is None:
        assert keys[0] == keys[1]
    else:
        assert keys[0][:place] == keys[1][:place]
        assert keys[0] != keys[1]


def test_pairs_say_how_they_differ():
    pairs = align(_steps("look a", "book a", "pay a"), _steps("look b", "pay a", "say"))
    assert [pair.kind for pair in pairs] == ["other arguments", "only good", "same", "only bad"]
    assert [pair.kind for pair in align(_steps("book"), _steps("say"))] == ["other action"]
    assert parting(align(_steps("look a"), _steps("look a"))) is None


def test_the_difference_of_playbooks_is_a_unified_diff():
    changed = difference("# Lessons\nDo a", "# Lessons\nDo b", "version 1", "version 2")
    assert changed.splitlines()[:2] == ["--- version 1", "+++ version 2"]
    assert changed.splitlines()[-2:] == ["-Do a", "+Do b"]
    assert difference("same", "same", "version 1", "version 2") == ""
