"""What is known of a group beside its rollouts, as text of a prompt: the overview, and what was found over them."""

from collections.abc import Mapping
from typing import Any, Final

from pipelines.lessons.drafting.group import Group, Rollout

__all__ = ["findings", "one_line", "overview"]

_NAME_CHARACTERS: Final = 120
_MOST_PATTERNS: Final = 8
_MOST_KNOWN: Final = 6


def overview(group: Group) -> str:
    """Which rollouts are told of."""
    told = f"{len(group.rollouts)} of {group.size} runs" if len(group.rollouts) < group.size else f"{group.size} runs"
    return (
        f"AGENT {one_line(group.agent)}, TASK {one_line(group.task)}: {told} of the same task; mean outcome of all "
        f"{group.mean_outcome:.2f} ± {group.standard_error:.2f}."
    )


def findings(group: Group) -> str:
    """Where the best and the worst rollout part, the tested patterns, and the lessons that cover the task."""
    parts = [_divergence(group)]
    if group.patterns:
        listed = sorted(group.patterns, key=lambda row: (not row["survives"], row["p_value"], row["pattern"]))
        held = sum(bool(row["survives"]) for row in group.patterns)
        parts.append(
            f"STEP PATTERNS of this agent, tested within task over {group.patterns[0]['family']} patterns; {held} hold "
            "after control for false discoveries:\n" + "\n".join(_pattern(row) for row in listed[:_MOST_PATTERNS])
        )
    else:
        parts.append("STEP PATTERNS: too few runs to test any.")
    if group.known:
        parts.append(
            "LESSONS that the agent has, or that wait for review:\n"
            + "\n".join(
                f"- ({one.state}) When: {one_line(one.when_text, 300)} Do: {one_line(one.do_text, 300)}"
                for one in group.known[:_MOST_KNOWN]
            )
        )
    else:
        parts.append("LESSONS: none covers this task.")
    return "\n\n".join(parts)


def _divergence(group: Group) -> str:
    row = group.divergence
    if row is None or row["kind"] == "none":
        return "FIRST DIFFERENCE: the best and the worst run take the same actions."
    places = [
        f"{rollout.alias} at step {step.number}"
        for rollout in group.rollouts
        for step in rollout.steps
        if step.span_id in (row["best_span_id"], row["worst_span_id"]) and _extreme(group, rollout)
    ]
    best, worst = (one_line(row[f"{side}_action"] or "no further action") for side in ("best", "worst"))
    what = "arguments of the call" if row["kind"] == "arguments" else "action"
    return (
        f"FIRST DIFFERENCE of the best and the worst run, in the {what}: {best} against {worst} ({', '.join(places)})."
    )


def _extreme(group: Group, rollout: Rollout) -> bool:
    """Whether a rollout is the best or the worst one; span ids are unique within their trace only."""
    return rollout in (group.rollouts[0], group.rollouts[-1])


def _pattern(row: Mapping[str, Any]) -> str:
    known = row["lower"] is not None and row["upper"] is not None
    interval = f", 95 % interval {row['lower']:+.2f} to {row['upper']:+.2f}" if known else ""
    verdict = f"adjusted p {row['q_value']:.3f}: {'holds' if row['survives'] else 'does not hold'}"
    return f"- {one_line(row['pattern'])}: outcome {row['effect']:+.2f}{interval}, {verdict}"


def one_line(text: str | None, most: int = _NAME_CHARACTERS) -> str:
    """The beginning of a text on one line: names in traces are foreign text too."""
    return " ".join((text or "").split())[:most]
