"""Definitions of guardrails: what may be stated, in its one form, so that the same guardrail is the same row."""

import hashlib
import json
import math
import unicodedata
from typing import Final, Literal, get_args

from store.arms import clean_name, unusable
from store.errors import ActionRefused
from store.guardrail_subjects import action_pattern, site

__all__ = ["ACTION", "KINDS", "MAX_SUBJECT", "METRICS", "Kind", "OnViolation", "checked", "name"]

Kind = Literal[
    "off_limits_tool", "off_limits_site", "off_limits_action", "min_delay_seconds", "max_actions_per_minute",
    "max_spend_usd", "safety_floor",
]  # fmt: skip
OnViolation = Literal["alert", "switch_off"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
# What a safety floor may hold, with its direction: 1 where more is better.
METRICS: Final[dict[str, int]] = {
    "reward": 1, "error_rate": -1, "cost_usd": -1, "latency_seconds": -1, "refusal": -1,
    "thumb": 1, "rating": 1, "outcome": 1, "purchase": 1, "correction": -1, "retry": -1, "abandon": -1,
}  # fmt: skip
MAX_SUBJECT: Final = 500
ACTION: Final = "Defining the guardrail"
_THRESHOLDS: Final[dict[str, tuple[float, float, str]]] = {
    "min_delay_seconds": (0.001, 86_400.0, "seconds from 0.001 to 86,400"),
    "max_actions_per_minute": (1.0, 1e6, "a whole number from 1 to 1,000,000"),
    "max_spend_usd": (1e-6, 1e6, "US dollars from 0.000001 to 1,000,000"),
    "safety_floor": (0.0, 1e6, "a margin in the metric's unit, from 0 to 1,000,000"),
}


def checked(
    agent: str, *, kind: str, subject: str | None, threshold: float | None, arm: str | None, on_violation: str
) -> dict[str, object]:
    """A definition in its one form, with its id. Raises: `ActionRefused` naming the first field that cannot be used."""
    _require(kind in KINDS, "kind", kind, f"Expected one of {', '.join(KINDS)}.")
    _require(on_violation in get_args(OnViolation), "on_violation", on_violation, "Expected alert or switch_off.")
    row: dict[str, object] = {
        "agent": name("agent", agent),
        "arm": None if arm is None else name("arm", arm),
        "kind": kind,
        "subject": _about(kind, subject),
        "threshold": _limit(kind, threshold),
        "on_violation": on_violation,
    }
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return {**row, "guardrail_id": hashlib.sha256(text.encode()).hexdigest()[:12]}


def name(field: str, value: object) -> str:
    """The name of an agent, an arm or a person as the store keeps it. Raises: `ActionRefused`."""
    cleaned = clean_name(value) if isinstance(value, str) else ""
    problem = unusable(cleaned)
    if problem is not None:
        raise ActionRefused(ACTION, f"the field {field} cannot be used: {problem}", "Write another one.")
    return cleaned


def _about(kind: str, subject: object) -> str | None:
    if kind not in ("off_limits_tool", "off_limits_site", "off_limits_action", "safety_floor"):
        _require(subject is None or subject == "", "subject", subject, f"The kind {kind} has none: leave it out.")
        return None
    text = unicodedata.normalize("NFC", subject).strip() if isinstance(subject, str) else ""
    _require(
        0 < len(text) <= MAX_SUBJECT, "subject", subject, f"Say what it is about in 1 to {MAX_SUBJECT} characters."
    )
    if kind == "off_limits_site":
        meant = site(text)
        _require(meant is not None, "subject", subject, "Expected a host such as example.com or example.com:8443.")
        return str(meant)
    if kind == "off_limits_action":
        remedy = "Expected NAME or NAME(ARGUMENT=PATTERN, ...) such as send_email(to=*@example.com)."
        _require(action_pattern(text) is not None, "subject", subject, remedy)
    if kind == "safety_floor":
        _require(text in METRICS, "subject", subject, f"Expected one of {', '.join(METRICS)}.")
    return text


def _limit(kind: str, threshold: object) -> float | None:
    if kind not in _THRESHOLDS:
        _require(threshold is None, "threshold", threshold, f"The kind {kind} has none: leave it out.")
        return None
    lowest, highest, what = _THRESHOLDS[kind]
    stated = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    number = float(threshold) if stated else math.nan  # type: ignore[arg-type]
    whole = kind != "max_actions_per_minute" or not math.isfinite(number) or number.is_integer()
    _require(lowest <= number <= highest and whole, "threshold", threshold, f"Expected {what}.")
    return number


def _require(condition: bool, field: str, value: object, remedy: str) -> None:
    if not condition:
        raise ActionRefused(ACTION, f"the field {field} is {repr(value)[:200]}.", remedy)
