"""The fixed axes of failure labels (DESIGN §5) and whose doing each is.

A label is the first of its trace by whose doing it is: what the agent did wrong goes before what happened to it, that
before what it was asked, and deliberate exploration comes last: it explains a bad trace only where nothing else does,
and it is never counted as a failure of the agent.
"""

from typing import Final

import polars as pl

__all__ = ["AXES", "CANDIDATES", "DOING", "EXPLORATION", "HARD", "TITLES", "UNKNOWN"]

EXPLORATION: Final = "deliberate_exploration"
UNKNOWN: Final = "unknown"

TITLES: Final[dict[str, str]] = {
    "ungrounded_claim": "ungrounded claim",
    "wrong_tool": "wrong tool",
    "wrong_argument": "wrong argument",
    "loop": "loop",
    "policy_violation": "policy violation",
    "environment_error": "tool or environment error",
    "underspecified_request": "underspecified request",
    EXPLORATION: "deliberate exploration",
    UNKNOWN: "unknown",
}
AXES: Final = tuple(TITLES)

# 0 the agent, 1 its environment, 2 the request, 3 our own experiment, 4 nobody knows.
DOING: Final[dict[str, int]] = {
    **dict.fromkeys(("ungrounded_claim", "wrong_tool", "wrong_argument", "loop", "policy_violation"), 0),
    "environment_error": 1,
    "underspecified_request": 2,
    EXPLORATION: 3,
    UNKNOWN: 4,
}

# Rules whose finding is a fact whatever it led to; what the others learnt from successful rollouts must also explain.
HARD: Final = frozenset(
    {
        "refused_arguments",
        "warned_arguments",
        "failed_call",
        "failed_trace",
        "refused_by_guardrail",
        "against_guardrail",
        "explored",
    }
)

CANDIDATES: Final = pl.Schema(
    {
        "trace_key": pl.UInt64(),
        "axis": pl.String(),
        "rule": pl.String(),
        "subject": pl.String(),  # what it is about, such as a tool: findings of one subject are weighed together
        "span_id": pl.String(),
        "position": pl.Int32(),  # of the evidence among the trace's calls; null: its answer or the whole trace
        "strength": pl.Float64(),  # confidence before it is known how often the finding goes with a bad trace
        "detail": pl.String(),
    }
)
