"""Findings of drift in words: who it is about, what is measured, how large the change is, and how sure that is."""

import json
from hashlib import blake2s
from math import exp
from typing import Any, Final, Literal

from dashboard.learn.figures import Z95
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.drift import metrics
from pipelines.drift.metrics import Metric
from store.errors import NotFound

__all__ = [
    "counted", "effect", "effect_limits", "few", "identity", "known", "mean", "number", "p", "subject", "title",
    "towards", "unit",
]  # fmt: skip

_SHORT: Final = {"standard deviations": "sd", "texts": "place of words"}


def known(name: str) -> Metric | None:
    """What is known of a metric; None of one that is not measured any more."""
    try:
        return metrics.metric(name)
    except NotFound:
        return None


def title(metric: str) -> str:
    """What the metric is called; one that is not measured any more keeps its name."""
    found = known(metric)
    return one_line(metric if found is None else found.title, 60)


def unit(metric: str) -> str:
    """The metric's unit; empty for shares, which need none, and unknown ones."""
    found = known(metric)
    named = "" if found is None else one_line(found.unit, 40)
    return "" if named.startswith("share") or named == "reward" else _SHORT.get(named, named)


def subject(finding: dict[str, Any], limit: int = 80) -> str:
    """Who a finding is about, as plain text on one line."""
    if finding["level"] == "user":
        return one_line(finding["user_id"], limit) or "(empty)"
    agent = one_line(finding["agent"], 40) or "all agents"
    if finding["level"] == "segment":
        return f"{one_line(finding['segment'], limit) or '(no segment)'} at {agent}"
    return f"everybody at {agent}"


def identity(finding: dict[str, Any]) -> str:
    """A short key of the subject and metric for the address, the same in every run."""
    level = finding["level"]
    named = [finding["user_id"]] if level == "user" else [finding["segment"], finding["agent"]]
    return blake2s(json.dumps([level, *named, finding["metric"]]).encode(), digest_size=8).hexdigest()


def effect(value: float | None, likelihood: str) -> str:
    """A shrunken change with its sign: in the metric's unit, or of skewed ones in percent."""
    if value is None:
        return fmt.NONE
    if likelihood == "log":
        percent = (exp(min(value, 50.0)) - 1) * 100
        return f"{percent:+.0f} %" if abs(percent) >= 9.5 else f"{percent:+.1f} %"
    size = abs(value)
    return f"{value:+.2f}" if size >= 0.095 or value == 0 else f"{value:+.{3 if size >= 0.0095 else 4}f}"


def effect_limits(finding: dict[str, Any]) -> str:
    """The 95 % interval of a shrunken change."""
    value, sd = finding["effect"], finding["effect_sd"]
    if value is None or sd is None:
        return fmt.NONE
    likelihood = finding["likelihood"]
    return f"{effect(value - Z95 * sd, likelihood)} to {effect(value + Z95 * sd, likelihood)}"


def number(value: float | None, metric: str = "") -> str:
    """A mean in the metric's unit, money with its sign."""
    if value is None:
        return fmt.NONE
    named = unit(metric) if metric else ""
    if named == "USD":
        return fmt.money(value)
    said = f"{value:,.2f}" if 0.01 <= abs(value) < 10_000 or value == 0 else f"{value:.3g}"
    return f"{said} {named}" if named else said


def counted(finding: dict[str, Any]) -> str:
    """What n counts where that is not events: days of segments and everybody, but of categories sessions."""
    if finding["level"] == "user":
        return ""
    found = known(finding["metric"])
    return " sessions" if found is not None and found.likelihood == "categorical" else " days"


def mean(value: float | None, n: int | None, metric: str, counted: str = "") -> str:
    """A mean with its n in the metric's unit: 0.82, n 34; `counted` of `counted`."""
    said = "" if value is None else f"{number(value, metric)}, "
    return fmt.NONE if n is None else f"{said}n {n:,}{counted}"


def towards(metric: str, effect: float | None) -> Literal["better", "worse", "neither"]:
    """Whether a change is for the better or the worse; neither where the metric has no good side, or none is told."""
    found = known(metric)
    if found is None or found.higher_is == "neither" or not effect:
        return "neither"
    return "better" if (effect > 0) == (found.higher_is == "better") else "worse"


def p(value: float | None) -> str:
    """A p- or q-value; no zeros without end."""
    if value is None:
        return fmt.NONE
    return "below .0001" if value < 0.0001 else f"{value:.4f}"


def few(number: float) -> str:
    """A small expected count: 0.05, 0.7, 3."""
    return f"{number:.2g}" if number < 1 else f"{number:.0f}"
