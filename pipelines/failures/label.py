"""Failure labels of traces by rules, from the frames that `store.failures` reads. A pure function of them."""

from dataclasses import dataclass

import polars as pl

from pipelines.failures import answer_rules, argument_rules, call_rules, guardrail_rules, tool_rules
from pipelines.failures.axes import CANDIDATES, EXPLORATION, UNKNOWN
from pipelines.failures.badness import FailureConfig
from pipelines.failures.weigh import labels, weigh
from pipelines.stats.contract import require
from store.failures import ANSWERS, CALLS, REQUESTS

__all__ = ["RULES_VERSION", "Labelled", "candidates", "label"]

RULES_VERSION = 1


@dataclass(frozen=True)
class Labelled:
    """`labels` of columns `weigh.LABELS`, `rules` of columns `weigh.RULES`."""

    labels: pl.DataFrame
    rules: pl.DataFrame

    def first(self, axis: str) -> int:
        """How many bad traces have this axis as their label."""
        return self.labels.filter((pl.col("rank") == 1) & (pl.col("axis") == axis)).height

    @property
    def unknown(self) -> int:
        return self.first(UNKNOWN)

    @property
    def explored(self) -> int:
        return self.first(EXPLORATION)


def label(
    examined: pl.DataFrame,
    calls: pl.DataFrame,
    answers: pl.DataFrame,
    requests: pl.DataFrame,
    config: FailureConfig | None = None,
    *,
    violations: pl.DataFrame | None = None,
) -> Labelled:
    """Label every bad trace of `examined` (see `badness.examined`); the good ones are what is learnt from.

    `calls`, `answers` and `requests` have the columns CALLS, ANSWERS and REQUESTS, about these traces; `violations`
    (columns `guardrail_rules.VIOLATIONS`) are what audits found in them. Raises ContractError for other columns.
    """
    config = config or FailureConfig()
    found = candidates(examined, calls, answers, requests, config)
    if violations is not None:
        broken = require(violations, guardrail_rules.VIOLATIONS, "violations", not_null=["trace_id", "guardrail_id"])
        found = pl.concat([found, guardrail_rules.against_guardrails(examined, broken)])
    rules = weigh(examined, found, config)
    return Labelled(labels(examined, found, rules, config), rules)


def candidates(
    examined: pl.DataFrame, calls: pl.DataFrame, answers: pl.DataFrame, requests: pl.DataFrame, config: FailureConfig
) -> pl.DataFrame:
    """Everything that any rule finds in any examined trace (columns CANDIDATES)."""
    calls = require(calls, CALLS, "calls", not_null=["trace_key", "span_id", "position", "kind", "name", "failed"])
    answers = require(answers, ANSWERS, "answers", not_null=["trace_key", "answered"], unique="trace_key")
    requests = require(requests, REQUESTS, "requests", not_null=["trace_key"], unique="trace_key")
    orders = tool_rules.broken_orders(examined, calls, config)
    failed = call_rules.failed_calls(calls)
    found = [
        call_rules.loops(calls),
        failed,
        call_rules.warned(calls),
        call_rules.refused(calls),
        call_rules.failed_traces(examined, answers, failed),
        argument_rules.odd_arguments(examined, calls, config),
        orders,
        tool_rules.missing_tools(examined, calls, answers, orders, config),
        answer_rules.unsupported_figures(answers),
        answer_rules.unmentioned_failures(examined, calls, answers),
        answer_rules.asked_back(calls, answers),
        answer_rules.vague_requests(examined, requests, config),
        answer_rules.short_requests(examined, requests, config),
        answer_rules.explored(examined),
    ]
    return pl.concat([frame.cast(CANDIDATES) for frame in found])
