"""Where two rollouts of a task part: the first step at which best and worst differ (as AutoGuide, arXiv 2403.08978)."""

import polars as pl

__all__ = ["DIVERGENCES", "first_differences"]

DIVERGENCES = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "kind": pl.String(),  # action, arguments, none (the difference is not in the actions)
        "step": pl.Int64(),  # of the first difference; null when none
        "previous_action": pl.String(),
        "best_action": pl.String(),  # null: that rollout takes no further action
        "worst_action": pl.String(),
        "best_span_id": pl.String(),
        "worst_span_id": pl.String(),
    }
)


def first_differences(groups: pl.DataFrame, acted: pl.DataFrame) -> pl.DataFrame:
    """One row (columns DIVERGENCES) per row of `groups`, which names a best and a worst trace per agent and task.

    `acted` has trace_id, span_id, name and arguments of the actions, in their order within each trace.
    """
    wanted = pl.concat([groups["best_trace_id"], groups["worst_trace_id"]]).unique().to_list()
    columns = ["name", "arguments", "span_id"]
    sequences: dict[str, list[tuple[str, str | None, str]]] = {
        str(trace_id): list(frame.select(columns).iter_rows())
        for (trace_id,), frame in acted.filter(pl.col("trace_id").is_in(wanted)).group_by(
            "trace_id", maintain_order=True
        )
    }
    rows = []
    for agent, task, best_id, worst_id in groups.select("agent", "task", "best_trace_id", "worst_trace_id").iter_rows():
        best, worst = sequences.get(best_id, []), sequences.get(worst_id, [])
        rows.append((agent, task, *_first_difference(best, worst)))
    return pl.DataFrame(rows, schema=DIVERGENCES, orient="row")


def _first_difference(
    best: list[tuple[str, str | None, str]], worst: list[tuple[str, str | None, str]]
) -> tuple[object, ...]:
    """The first step at which the action differs; where none does, the first at which its arguments do."""
    for compared, kind in ((1, "action"), (2, "arguments")):
        for place in range(max(len(best), len(worst))):
            good = best[place] if place < len(best) else None
            bad = worst[place] if place < len(worst) else None
            if good is not None and bad is not None and good[:compared] == bad[:compared]:
                continue
            previous = best[place - 1][0] if place else None
            good_action, good_span = (good[0], good[2]) if good else (None, None)
            bad_action, bad_span = (bad[0], bad[2]) if bad else (None, None)
            return (kind, place + 1, previous, good_action, bad_action, good_span, bad_span)
    return ("none", None, None, None, None, None, None)
