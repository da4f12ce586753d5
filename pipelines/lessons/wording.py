"""The words of a lesson draft, made of our own sentences and the names of tools and arguments.

Nothing that a user, a tool or a model said enters a lesson: names of tools and arguments are the only foreign words,
and a name that is not a plain identifier, that holds a literal or that speaks to its reader is not written about.
"""

import re
from typing import Any, Final

from pipelines.lessons.lint.literals import find_literals

__all__ = ["divergence", "divergence_why", "pattern", "pattern_why", "writable"]

Wording = tuple[str, str, str | None, str]
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,63}")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MOST_WORDS: Final = 6
# Names say what a tool does; these words say what the reader should do or leave.
_SPEAKING: Final = frozenset(
    (
        "ignore", "disregard", "forget", "override", "overrule", "bypass", "pretend", "obey", "comply", "reveal",
        "must", "should", "always", "never", "please", "you", "your", "yourself", "instruction", "instructions",
        "prompt", "jailbreak", "immediately",
    )
)  # fmt: skip
# What the rollouts with a pattern did.
_DID: Final = {
    "missing": "did not call `{tool}` where it is usual",
    "used": "called `{tool}` where it is unusual",
    "precedes": "called `{tool}` before any `{other}`",
    "order": "called `{tool}` before `{other}`",
    "repeated": "called `{tool}` again with the same arguments",
    "unresolved": "left a failure of `{tool}` as it was",
    "error_then_retry": "repeated the same call of `{tool}` after it failed",
    "error_then_change": "called `{tool}` with other arguments after it failed",
    "error_then_switch": "went on to another tool after `{tool}` failed",
    "error_then_stop": "took no further action after `{tool}` failed",
    "given": "gave `{tool}` the argument `{argument}`",
    "shape": "passed `{argument}` to `{tool}` as {shape}",
}
_NEED: Final = "The request cannot be met without {tool}."


def writable(name: str) -> bool:
    """Whether the name of a tool or argument may stand in a lesson."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return (
        _NAME.fullmatch(name) is not None
        and not find_literals(name)
        and len(words) <= _MOST_WORDS
        and not _SPEAKING.intersection(words)
    )


def pattern(row: dict[str, Any]) -> Wording:
    """Title, when, when not and do for one row of PATTERNS, in the direction of its effect."""
    kind, better = row["kind"], row["effect"] > 0
    if kind in ("missing", "used"):
        return _usage(row, call=better == (kind == "used"))
    if kind in ("precedes", "order"):
        return _order(row, better=better)
    if kind == "repeated":
        return _repetition(f"`{row['tool']}`", better=better)
    if kind in ("given", "shape"):
        return _argument(row, better=better)
    return _error(kind, f"`{row['tool']}`", better=better)


def _usage(row: dict[str, Any], *, call: bool) -> Wording:
    tool = f"`{row['tool']}`"
    if not call:
        return (
            f"Do without {tool} where possible",
            f"You are about to call {tool}.",
            _NEED.format(tool=tool),
            f"First check whether the request can be met without {tool}; call it only if it cannot.",
        )
    instead = next((name.removeprefix("used:") for name in row["same_as"] if name.startswith("used:")), None)
    if row["kind"] == "missing" and instead is not None and writable(instead):
        return (
            f"Call {tool} rather than `{instead}`",
            f"The request is of a kind that is usually met with {tool}, and you are about to call `{instead}`.",
            f"The request does not concern what {tool} does, or policy forbids it.",
            f"Call {tool} and use its result; call `{instead}` only if something is still missing.",
        )
    return (
        f"Call {tool} before finishing",
        f"{tool} applies to the request and has not been called yet.",
        f"The request does not concern what {tool} does, or policy forbids it.",
        f"Call {tool} and use its result before you answer or finish.",
    )


def _order(row: dict[str, Any], *, better: bool) -> Wording:
    tool, other = f"`{row['tool']}`", f"`{row['other_tool']}`"
    if row["kind"] == "precedes" and not better:
        return (
            f"Call {other} without {tool} before it",
            f"You are about to call {tool} and then {other}.",
            f"{other} needs the result of {tool}.",
            f"Call {other} first; call {tool} only if its result is still needed.",
        )
    if row["kind"] == "precedes":
        return (
            f"Call {tool} before {other}",
            f"You are about to call {other} and have not called {tool} yet.",
            f"{tool} needs the result of {other}.",
            f"Call {tool} first, for the same case, and {other} only after it.",
        )
    first, second = (tool, other) if better else (other, tool)
    return (
        f"Call {first} before {second}",
        f"A request needs both {first} and {second}.",
        f"{first} needs the result of {second}.",
        f"Call {first} first, and {second} only after it.",
    )


def _repetition(tool: str, *, better: bool) -> Wording:
    if better:
        return (
            f"Confirm with a second call of {tool}",
            f"A result of {tool} decides what you do next.",
            None,
            f"Call {tool} again with the same arguments before you rely on an earlier result.",
        )
    return (
        f"Do not repeat {tool} unchanged",
        f"You have called {tool} and consider calling it again with the same arguments.",
        f"The state that {tool} reads has changed since.",
        "Use the earlier result, change the arguments, or tell the user what is missing.",
    )


def _argument(row: dict[str, Any], *, better: bool) -> Wording:
    tool, argument, shape = f"`{row['tool']}`", f"`{row['argument']}`", row["shape"]
    when = f"You are about to call {tool}."
    if row["kind"] == "given" and better:
        return (
            f"Give {tool} the argument {argument}",
            when,
            f"Nothing is known that {argument} could hold.",
            f"Set {argument} from the request or from earlier results.",
        )
    if row["kind"] == "given":
        return (
            f"Call {tool} without {argument}",
            when,
            f"The request asks for what {argument} sets.",
            f"Leave {argument} out unless the request demands it.",
        )
    instead = next((_other_shape(name, row) for name in row["same_as"] if name.startswith("not shape:")), None)
    wanted = shape if better else instead
    if wanted is None:
        return (
            f"Do not pass {argument} to {tool} as {shape}",
            when,
            f"The description of {tool} asks for {shape}.",
            f"Pass {argument} as the description of {tool} states it, not as {shape}.",
        )
    unwanted = instead if better else shape
    return (
        f"Pass {argument} to {tool} as {wanted}",
        when,
        f"The description of {tool} asks for something else.",
        f"Pass {argument} as {wanted}{f', not as {unwanted}' if unwanted else ''}; convert what the user said.",
    )


def _other_shape(name: str, row: dict[str, Any]) -> str | None:
    tool, _, shape = name.removeprefix("not shape:").rpartition("=")
    return shape if tool == f"{row['tool']}.{row['argument']}" else None


def _error(kind: str, tool: str, *, better: bool) -> Wording:
    when = f"A call of {tool} failed."
    if kind == "unresolved" and not better:
        return (
            f"Do not go on after {tool} fails",
            when,
            "The failure shows that the request cannot be met.",
            f"Find the cause, correct the arguments and call {tool} again until it succeeds; otherwise say that it "
            "failed.",
        )
    if kind == "error_then_retry" and better:
        return (
            f"Try {tool} again after it fails",
            when,
            "It failed because of its arguments.",
            f"Call {tool} once more.",
        )
    if kind == "error_then_change" and better:
        return (
            f"Correct the arguments when {tool} fails",
            when,
            "The failure has nothing to do with the arguments.",
            f"Read the error, correct the arguments and call {tool} again.",
        )
    if kind == "error_then_stop" and better:
        return (
            f"Stop and say so when {tool} fails",
            when,
            "Another way to the goal is known.",
            "Take no further action; tell the user what failed and what is missing.",
        )
    if kind in ("error_then_switch", "unresolved") and better:
        return (
            f"Go on after {tool} fails",
            when,
            _NEED.format(tool=tool),
            "Take another way to the goal instead of calling it again.",
        )
    doing = {
        "error_then_retry": ("Do not repeat the same call", "Correct the arguments or take another way to the goal."),
        "error_then_change": ("Do not vary the arguments", "Try the same call once more, or take another way."),
        "error_then_switch": ("Do not move on to another tool", f"Find the cause and call {tool} again first."),
        "error_then_stop": ("Do not stop", f"Find the cause and call {tool} again, or take another way to the goal."),
    }[kind]
    return f"{doing[0]} when {tool} fails", when, None, doing[1]


def pattern_why(row: dict[str, Any]) -> str:
    """Effect, interval, counts and adjusted p-value of one row of PATTERNS in words."""
    # Of an order and its reverse, the better one is told.
    turned = row["kind"] == "order" and row["effect"] < 0
    sign = -1 if turned else 1
    first, second = (row["tool"], row["other_tool"])[::sign]
    limits = [sign * row[limit] for limit in ("lower", "upper") if row[limit] is not None][::sign]
    rollouts_with, rollouts_without = (row["rollouts_with"], row["rollouts_without"])[::sign]
    effect = sign * row["effect"]
    did = _DID[row["kind"]].format(tool=first, other=second, argument=row["argument"], shape=row["shape"])
    # Not in brackets: a signed number before one reads like a telephone number.
    interval = f", 95 % interval {limits[0]:+.2f} to {limits[1]:+.2f}" if limits else ", no interval"
    q_value = "below .001" if row["q_value"] < 0.001 else f"{row['q_value']:.3f}"
    side = "better" if effect > 0 else "worse"
    return (
        f"Within the same task, rollouts that {did} did {side}: mean outcome {effect:+.2f}{interval}; "
        f"{rollouts_with:,} rollouts with and {rollouts_without:,} without, {row['tasks']:,} tasks; "
        f"adjusted p {q_value} among {row['family']} patterns tested. Predictive, not causal: the steps were not "
        "assigned at random."
    )


def divergence(row: dict[str, Any]) -> Wording:
    """Title, when, when not and do for one group whose first difference is an action or arguments."""
    best, worst = row["best_action"], row["worst_action"]
    before = row["previous_action"]
    when_text = f"On this task, after `{before}`." if before else "At the start of this task."
    if row["kind"] == "arguments":
        title = f"Check the arguments of `{best}`"
        do_text = f"Before calling `{best}`, check every argument against the request and against earlier results."
    elif best is None:
        title = f"Consider finishing instead of calling `{worst}`"
        do_text = f"Consider answering now; call `{worst}` only if something is still missing."
    elif worst is None:
        title = f"Consider `{best}` before finishing"
        do_text = f"Consider calling `{best}` before you answer or finish."
    else:
        title = f"Consider `{best}` rather than `{worst}`"
        do_text = f"Consider calling `{best}` first; call `{worst}` only once its conditions are known to hold."
    return title, when_text, None, do_text


def divergence_why(row: dict[str, Any], tested: int, held: int) -> str:
    """That the draft is a hypothesis, from how many rollouts, and what testing found.

    `row` joins GROUPS and DIVERGENCES; `tested` and `held` count the agent's patterns.
    """
    if held:
        testing = f"{held} of {tested} step patterns tested held, but name tools that cannot be written about."
    elif tested:
        testing = f"None of the {tested} step patterns tested for this agent held after control for false discoveries."
    else:
        testing = "There were too few rollouts to test step patterns of this agent."
    return (
        f"Hypothesis from {row['rollouts']:,} rollouts of one task (mean outcome {row['mean_outcome']:.2f} "
        f"± {row['standard_error']:.2f}), not a tested effect: the best and the worst of them first differ at action "
        f"{row['step']}. {testing}"
    )
