"""Headline measures as the Overview words them: a value, its interval and n, and the change since the range before."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final, Literal

from dashboard.ui import format as fmt
from pipelines.stats.proportion import Interval, Verdict, newcombe_difference, verdict, wilson_interval

__all__ = ["LOSS_THAT_MATTERS", "Measure", "measures"]

Measures = Mapping[str, Any]

# The largest worsening of a rate or of the mean reward (both from 0 to 1) that still counts as "no worse".
LOSS_THAT_MATTERS: Final = 0.02

_COLOURS: Final[dict[Verdict, Literal["green", "red", "gray"]]] = {
    "better": "green",
    "no worse": "gray",
    "worse": "red",
    "can't tell yet": "gray",
}


@dataclass(frozen=True)
class Measure:
    """One card: `detail` holds interval and n, `delta` the change with its sign, `against` what it is compared with."""

    label: str
    value: str
    detail: str
    help: str
    delta: str | None = None
    against: str | None = None
    colour: Literal["green", "red", "gray"] = "gray"


def measures(now: Measures, before: Measures | None, *, reward_model: bool) -> list[Measure]:
    """The cards of a scope, from rows of `store.overview.HEADLINE` for it and for the equal range before it."""
    return [
        _traces(now, before),
        _errors(now, before),
        _reward(now, before, reward_model),
        _cost(now, before),
        _duration(now),
        _feedback(now, before),
    ]


def _traces(now: Measures, before: Measures | None) -> Measure:
    detail = fmt.plural(now["users"], "user") if now["users"] else "no user stated"
    changed = fmt.change(now["traces"], before["traces"]) if before else None
    against = f"from {before['traces']:,}" if before else None
    return Measure(
        "Traces", fmt.count(now["traces"]), detail, "Runs of agents that began in the range.",
        changed, against if changed else None,
    )  # fmt: skip


def _errors(now: Measures, before: Measures | None) -> Measure:
    help = (
        "Failed traces among those whose outcome is stated, with the 95 % Wilson interval. Compared with the range "
        f"before by Newcombe's interval; a rise of up to {LOSS_THAT_MATTERS * 100:g} points counts as no worse."
    )
    n = now["known"]
    if n < fmt.MINIMUM_RATE:
        return Measure("Error rate", fmt.NONE, fmt.missing(n, fmt.MINIMUM_RATE, "trace"), help)
    rate = wilson_interval(now["errors"], n)
    detail = f"{fmt.interval_percent(rate)}, n {n:,}"
    if before is None or before["known"] < fmt.MINIMUM_RATE:
        return Measure("Error rate", fmt.percent(rate.estimate), detail, help)
    difference = newcombe_difference(now["errors"], n, before["errors"], before["known"])
    said = verdict(difference, margin=LOSS_THAT_MATTERS, higher_is_better=False)
    return Measure(
        "Error rate", fmt.percent(rate.estimate), detail, help, fmt.points(difference.estimate), said, _COLOURS[said]
    )


def _reward(now: Measures, before: Measures | None, reward_model: bool) -> Measure:
    help = (
        "Mean of the active reward model's estimates, from 0 to 1, with its 95 % interval, which holds both the spread "
        "between traces and the uncertainty of each. For comparing ranges: what is not known of the scale, which all "
        "traces share, is left out here; the page Rewards has it."
    )
    n = now["rewarded"]
    if n < fmt.MINIMUM_MEAN:
        why = fmt.missing(n, fmt.MINIMUM_MEAN, "reward") if reward_model else "no reward model yet"
        return Measure("Mean reward", fmt.NONE, why, help)
    mean = _mean(now)
    detail = f"{mean.lower:.3f} to {mean.upper:.3f}, n {n:,}"
    if before is None or before["rewarded"] < fmt.MINIMUM_MEAN:
        return Measure("Mean reward", f"{mean.estimate:.3f}", detail, help)
    earlier = _mean(before)
    spread = sqrt((mean.upper - mean.estimate) ** 2 + (earlier.upper - earlier.estimate) ** 2)
    change = mean.estimate - earlier.estimate
    said = verdict(Interval(change, change - spread, change + spread), margin=LOSS_THAT_MATTERS, higher_is_better=True)
    return Measure("Mean reward", f"{mean.estimate:.3f}", detail, help, f"{change:+.3f}", said, _COLOURS[said])


def _cost(now: Measures, before: Measures | None) -> Measure:
    help = "Sum over the traces that state a cost, in US dollars."
    if not now["costed"]:
        return Measure("Cost", fmt.NONE, "no trace states a cost", help)
    detail = f"{fmt.money(now['cost_usd'] / now['costed'])} a trace, n {now['costed']:,}"
    changed = fmt.change(now["cost_usd"], before["cost_usd"]) if before and before["costed"] else None
    against = f"from {fmt.money(before['cost_usd'])}" if before and changed else None
    return Measure("Cost", fmt.money(now["cost_usd"]), detail, help, changed, against)


def _duration(now: Measures) -> Measure:
    help = "Half of the traces took at most the first time, 95 % at most the second."
    n = now["timed"]
    if n < fmt.MINIMUM_RATE:
        return Measure("Duration p50", fmt.NONE, fmt.missing(n, fmt.MINIMUM_RATE, "timed trace"), help)
    detail = f"p95 {fmt.duration(now['seconds_p95'])}, n {n:,}"
    return Measure("Duration p50", fmt.duration(now["seconds_p50"]), detail, help)


def _feedback(now: Measures, before: Measures | None) -> Measure:
    help = (
        "Traces with at least one explicit signal (thumb, rating, comment, correction, preference or annotation), with "
        "the 95 % Wilson interval."
    )
    n = now["traces"]
    if n < fmt.MINIMUM_RATE:
        return Measure("Feedback coverage", fmt.NONE, fmt.missing(n, fmt.MINIMUM_RATE, "trace"), help)
    rate = wilson_interval(now["feedback"], n)
    detail = f"{fmt.interval_percent(rate)}, n {n:,}"
    if before is None or before["traces"] < fmt.MINIMUM_RATE:
        return Measure("Feedback coverage", fmt.percent(rate.estimate), detail, help)
    difference = newcombe_difference(now["feedback"], n, before["feedback"], before["traces"])
    return Measure("Feedback coverage", fmt.percent(rate.estimate), detail, help, fmt.points(difference.estimate))


def _mean(row: Measures) -> Interval:
    return fmt.mean_interval(
        row["rewarded"], row["reward"], row["reward_variance"], row["reward_sd2"], row["reward_shared_sd"]
    )
