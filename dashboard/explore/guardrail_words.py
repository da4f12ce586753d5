"""Guardrails in words: their kinds, what each is about, and its limit with its unit."""

from typing import Any, Final

__all__ = ["KINDS", "METRIC_UNITS", "SUBJECTS", "THRESHOLDS", "kind_words", "limit_words"]

KINDS: Final = {
    "off_limits_tool": "tool off limits",
    "off_limits_site": "site off limits",
    "off_limits_action": "action off limits",
    "min_delay_seconds": "least delay between actions",
    "max_actions_per_minute": "most actions a minute",
    "max_spend_usd": "most spend a trace",
    "safety_floor": "safety floor against the baseline",
}
# What a kind is about: label and placeholder.
SUBJECTS: Final = {
    "off_limits_tool": ("Tool", "delete_account, or refund_*"),
    "off_limits_site": ("Site", "example.com"),
    "off_limits_action": ("Action", "send_email(to=*@example.com)"),
}
# Label, step, and what is usual.
THRESHOLDS: Final = {
    "min_delay_seconds": ("Seconds", 0.5, 2.0),
    "max_actions_per_minute": ("Actions", 1.0, 30.0),
    "max_spend_usd": ("US dollars", 0.1, 1.0),
    "safety_floor": ("Margin that is tolerated, in the metric's unit", 0.01, 0.05),
}
METRIC_UNITS: Final = {"cost_usd": "$", "latency_seconds": "s"}


def kind_words(kind: str | None) -> str:
    """The kind as a page names it."""
    return KINDS.get(kind or "", kind or "")


def limit_words(row: dict[str, Any]) -> str | None:
    """The limit with its unit, None where the kind has none."""
    threshold, kind = row["threshold"], row["kind"]
    if threshold is None:
        return None
    if kind == "min_delay_seconds":
        return f"{threshold:g} s"
    if kind == "max_actions_per_minute":
        return f"{threshold:g} a minute"
    if kind == "max_spend_usd":
        return f"${threshold:g}"
    unit = METRIC_UNITS.get(row["subject"] or "", "")
    return (
        f"{threshold:g} {unit}".strip() + " below the baseline" if unit != "$" else f"${threshold:g} above the baseline"
    )
