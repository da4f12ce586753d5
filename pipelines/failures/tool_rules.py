"""What good rollouts of the same task do and in which order, and the traces that do otherwise.

Three findings come of it. An action without the check that usually precedes it breaks an order (policy violation). A
usual look-up that was left out leaves the answer without a ground (ungrounded claim), unless another tool regularly
takes its place, which is then the wrong one (wrong tool). Whether a tool looks up or acts is read from its name.
"""

from typing import Final

import polars as pl

from pipelines.failures.axes import CANDIDATES
from pipelines.failures.badness import FailureConfig

__all__ = ["broken_orders", "missing_tools"]

# First or any word of a tool's name that says it changes nothing.
_LOOKS_UP: Final = (
    r"(?i)(^|[_\W])(get|search|find|list|read|fetch|look|lookup|check|query|retrieve|view|describe|show|load|calculate|"
    r"calc|compute|convert|think|verify|validate|count|browse|open|inspect|compare|rank|summari[sz]e|translate|limit)"
)
_SUBSTITUTE = 0.5  # share of rollouts without the usual tool in which another one is used instead,
_TIMES = 3.0  # and by how much that exceeds its share where the usual tool is used


def broken_orders(traces: pl.DataFrame, calls: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """Policy violation: an action without the call that good rollouts make before it.

    A before B is an order when at least the share `usual` of `min_support` or more good rollouts with B have A before
    their first B. The evidence is B. The candidate's subject is "A before B".
    """
    first = _first_calls(traces, calls)
    acts = first.filter((pl.col("kind") == "tool") & ~pl.col("name").str.contains(_LOOKS_UP))
    before = acts.join(first.select("trace_key", earlier="name", at="position"), on="trace_key").filter(
        pl.col("at") < pl.col("position")
    )
    with_action = acts.filter(~pl.col("bad")).group_by("agent", "name").agg(rollouts=pl.len())
    orders = (
        before.filter(~pl.col("bad"))
        .group_by("agent", "name", "earlier")
        .agg(kept=pl.len())
        .join(with_action, on=["agent", "name"])
        .filter((pl.col("rollouts") >= config.min_support) & (pl.col("kept") / pl.col("rollouts") >= config.usual))
    )
    broken = (
        acts.join(orders, on=["agent", "name"])
        .join(before.select("trace_key", "name", "earlier"), on=["trace_key", "name", "earlier"], how="anti")
        .sort("trace_key", "position", "earlier")
    )
    share = (pl.col("kept") * 100 / pl.col("rollouts")).round(0).cast(pl.Int64)
    return broken.select(
        "trace_key",
        axis=pl.lit("policy_violation"),
        rule=pl.lit("broken_order"),
        subject=pl.format("{} before {}", "earlier", "name"),
        span_id="span_id",
        position="position",
        strength=pl.lit(0.6),
        detail=pl.format("{} without {} before it; {} % of good rollouts have it", "name", "earlier", share),
    ).select(list(CANDIDATES))


def missing_tools(
    traces: pl.DataFrame, calls: pl.DataFrame, answers: pl.DataFrame, orders: pl.DataFrame, config: FailureConfig
) -> pl.DataFrame:
    """Wrong tool or ungrounded claim: a call that good rollouts of the same task make is missing.

    `orders` are the candidates of `broken_orders`: a check that is missing before an action is told there. Traces that
    ended in error had no chance to make their calls and are left out. The share of a task's good rollouts is shrunk
    towards the agent's by `min_task_support` rollouts.
    """
    used = _first_calls(traces, calls).filter(pl.col("kind") != "guardrail")
    usual = _usual(traces, used, config)
    if usual.is_empty():
        return pl.DataFrame(schema=CANDIDATES)
    alive = traces.filter(~pl.col("failed").fill_null(False)).select("trace_key", "agent", "task", "bad")
    asked = alive.join(usual, on=["agent", "task"], nulls_equal=True)
    made = asked.join(used.select("trace_key", "name"), on=["trace_key", "name"], how="semi")
    missing = asked.join(used.select("trace_key", "name"), on=["trace_key", "name"], how="anti")
    told = orders.select("trace_key", name=pl.col("subject").str.split(" before ").list.first())
    missing = missing.join(told, on=["trace_key", "name"], how="anti")
    instead = _substitutes(made, missing, used)
    replaced = (
        missing.join(instead, on=["agent", "name"])
        .join(used.select("trace_key", other="name", span_id="span_id", position="position"), on=["trace_key", "other"])
        .sort("trace_key", "position")
        .group_by("trace_key", "other", maintain_order=True)
        .first()
    )
    wrong = replaced.select(
        "trace_key",
        axis=pl.lit("wrong_tool"),
        rule=pl.lit("used_instead"),
        subject=pl.format("{} instead of {}", "other", "name"),
        span_id="span_id",
        position="position",
        strength=pl.lit(0.6),
        detail=pl.format("{} was used where good rollouts of the task use {}", "other", "name"),
    )
    bare = missing.join(replaced.select("trace_key").unique(), on="trace_key", how="anti").join(
        answers.filter("answered").select("trace_key", answer_span="span_id"), on="trace_key"
    )
    return pl.concat([wrong, _left_out(bare)]).select(list(CANDIDATES))


def _left_out(bare: pl.DataFrame) -> pl.DataFrame:
    """Answers without the usual call: ungrounded where it looks something up, the wrong tool where it acts."""
    looks_up = (pl.col("kind") == "retriever") | pl.col("name").str.contains(_LOOKS_UP)
    first = bare.sort("trace_key", "name").with_columns(looks_up=looks_up)
    return first.select(
        "trace_key",
        axis=pl.when("looks_up").then(pl.lit("ungrounded_claim")).otherwise(pl.lit("wrong_tool")),
        rule=pl.when("looks_up").then(pl.lit("missing_lookup")).otherwise(pl.lit("missing_tool")),
        subject="name",
        span_id="answer_span",
        position=pl.lit(None, dtype=pl.Int32),
        strength=pl.lit(0.5),
        detail=pl.format("the answer came without {}, which good rollouts of the task use", "name"),
    )


def _first_calls(traces: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """The first call of each tool in each trace, with the trace's agent, task and `bad`."""
    first = calls.sort("trace_key", "position").group_by("trace_key", "name", maintain_order=True).first()
    return first.select("trace_key", "name", "kind", "span_id", "position").join(
        traces.select("trace_key", "agent", "task", "bad"), on="trace_key"
    )


def _usual(traces: pl.DataFrame, used: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """(agent, task, name, kind) of the calls that good rollouts usually make; the null task is a task of its own."""
    good = traces.filter(~pl.col("bad") & ~pl.col("failed").fill_null(False))
    done = used.filter(~pl.col("bad"))
    of_agent = (
        good.group_by("agent").agg(agent_rollouts=pl.len()).filter(pl.col("agent_rollouts") >= config.min_support)
    )
    of_task = good.group_by("agent", "task").agg(rollouts=pl.len())
    tools = done.group_by("agent", "name").agg(agent_uses=pl.col("trace_key").len(), kind=pl.col("kind").first())
    uses = done.group_by("agent", "task", "name").agg(uses=pl.len())
    everywhere = (
        traces.select("agent", "task")
        .unique()
        .join(of_agent, on="agent")
        .join(tools, on="agent")
        .join(of_task, on=["agent", "task"], how="left", nulls_equal=True)
        .join(uses, on=["agent", "task", "name"], how="left", nulls_equal=True)
    )
    prior = float(config.min_task_support)
    share = (pl.col("uses").fill_null(0) + prior * pl.col("agent_uses") / pl.col("agent_rollouts")) / (
        pl.col("rollouts").fill_null(0) + prior
    )
    return everywhere.filter(share >= config.usual).select("agent", "task", "name", "kind")


def _substitutes(made: pl.DataFrame, missing: pl.DataFrame, used: pl.DataFrame) -> pl.DataFrame:
    """(agent, name, other): tools that are used where the usual one is missing, and not beside it."""
    sides = []
    for rows, label in ((made, "beside"), (missing, "without")):
        total = rows.group_by("agent", "name").agg(total=pl.len())
        together = rows.select("trace_key", "agent", "name").join(
            used.select("trace_key", other="name"), on="trace_key"
        )
        counted = together.group_by("agent", "name", "other").agg(n=pl.len()).join(total, on=["agent", "name"])
        sides.append(counted.select("agent", "name", "other", (pl.col("n") / pl.col("total")).alias(label)))
    beside, without = sides
    both = without.join(beside, on=["agent", "name", "other"], how="left").with_columns(pl.col("beside").fill_null(0.0))
    return both.filter(
        (pl.col("other") != pl.col("name"))
        & (pl.col("without") >= _SUBSTITUTE)
        & (pl.col("without") >= _TIMES * pl.col("beside"))
    ).select("agent", "name", "other")
