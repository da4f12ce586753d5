"""The words of a lesson draft, made of our own sentences and tool names.

Nothing that a user, a tool or a model said enters a lesson: tool names are the only foreign words, and a name that is
not a plain identifier, or that holds a literal, is not written about.
"""

import re
from typing import Any

from pipelines.lessons.literals import find_literals

__all__ = ["divergence", "divergence_why", "pattern", "pattern_why", "writable"]

Wording = tuple[str, str, str | None, str]
_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,63}")


def writable(name: str) -> bool:
    """Whether a tool's name may stand in a lesson."""
    return _TOOL_NAME.fullmatch(name) is not None and not find_literals(name)


def pattern(row: dict[str, Any]) -> Wording:
    """Title, when, when not and do for one row of PATTERNS, in the direction of its effect."""
    tool, other, better = f"`{row['tool']}`", f"`{row['other_tool']}`", row["effect"] > 0
    if row["kind"] == "used" and better:
        return (
            f"Call {tool} before finishing",
            f"{tool} applies to the request and has not been called yet.",
            f"The request does not concern what {tool} does, or policy forbids it.",
            f"Call {tool} and use its result before you answer or finish.",
        )
    if row["kind"] == "used":
        return (
            f"Do without {tool} where possible",
            f"You are about to call {tool}.",
            f"The request cannot be met without {tool}.",
            f"First check whether the request can be met without {tool}; call it only if it cannot.",
        )
    if row["kind"] == "order":
        first, second = (tool, other) if better else (other, tool)
        return (
            f"Call {first} before {second}",
            f"A request needs both {first} and {second}.",
            f"{first} needs the result of {second}.",
            f"Call {first} first, and {second} only after it.",
        )
    if row["kind"] == "repeated" and better:
        return (
            f"Confirm with a second call of {tool}",
            f"A result of {tool} decides what you do next.",
            None,
            f"Call {tool} again with the same arguments before you rely on an earlier result.",
        )
    if row["kind"] == "repeated":
        return (
            f"Do not repeat {tool} unchanged",
            f"You have called {tool} and consider calling it again with the same arguments.",
            f"The state that {tool} reads has changed since.",
            "Use the earlier result, change the arguments, or tell the user what is missing.",
        )
    if better:
        return (
            f"Go on after {tool} fails",
            f"A call of {tool} failed.",
            f"The request cannot be met without {tool}.",
            "Take another way to the goal instead of calling it again.",
        )
    return (
        f"Do not go on after {tool} fails",
        f"A call of {tool} failed.",
        "The failure shows that the request cannot be met.",
        f"Find the cause, correct the arguments and call {tool} again until it succeeds; otherwise say that it failed.",
    )


def pattern_why(row: dict[str, Any]) -> str:
    """Effect, interval, counts and adjusted p-value of one row of PATTERNS in words."""
    # Of an order and its reverse, the better one is told.
    sign = -1 if row["kind"] == "order" and row["effect"] < 0 else 1
    first, second = (row["tool"], row["other_tool"])[::sign]
    limits = [sign * row[limit] for limit in ("lower", "upper") if row[limit] is not None][::sign]
    rollouts_with, rollouts_without = (row["rollouts_with"], row["rollouts_without"])[::sign]
    effect = sign * row["effect"]
    did = {
        "used": f"called `{row['tool']}`",
        "order": f"called `{first}` before `{second}`",
        "repeated": f"called `{row['tool']}` again with the same arguments",
        "error_then_continue": f"went on after `{row['tool']}` failed",
    }[row["kind"]]
    interval = f" (95 % interval {limits[0]:+.2f} to {limits[1]:+.2f})" if limits else " (no interval)"
    q_value = "below .001" if row["q_value"] < 0.001 else f"{row['q_value']:.3f}"
    side = "better" if effect > 0 else "worse"
    return (
        f"Within the same task, rollouts that {did} did {side}: mean outcome {effect:+.2f}{interval}, "
        f"{rollouts_with:,} rollouts with and {rollouts_without:,} without, {row['tasks']:,} tasks; "
        f"adjusted p {q_value} among {row['family']} patterns tested. Predictive, not causal: the steps were not "
        "assigned at random."
    )


def divergence(row: dict[str, Any]) -> Wording:
    """Title, when, when not and do for one row of DIVERGENCES whose kind is action or arguments."""
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
