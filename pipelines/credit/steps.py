"""Prefixes of traces: what was known before each step, and which choice the step was.

A state is made of facts known at that moment only (event time): that a step was chosen, and how it was called, from its
start; its status and cost from its end, which for a step that encloses others comes after them. A span that merely
encloses others is no step of its own. What happens later in a trace cannot change what is said of an earlier step.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.contract import ContractError, require
from store.credit import STEPS, TRACES

__all__ = [
    "MOST_ERRORS",
    "MOST_SHAPES",
    "RUNNING",
    "START",
    "STEPS",
    "TRACES",
    "Prefixes",
    "edges",
    "prefixes",
    "spend_bucket",
    "step_bucket",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


START = 0  # code of "nothing yet" where the last step is asked for
_STEP_EDGES = np.array([1, 2, 3, 4, 5, 6, 7, 9, 13, 21, 41])
_MOST_BITS = 62
MOST_ERRORS = 2
MOST_SHAPES = 3  # numbers 0 to 2 are shapes, 3 is any other
RUNNING = 2  # status of a last step that has not ended
_LONGEST_US = 10**12
_USUAL_SHARE = 0.05  # a shape of arguments that fewer calls of the tool have is unusual
_LARGEST_COST = 1e12  # USD of one step: sums of larger ones need not be numbers


@dataclass(frozen=True)
class Prefixes:
    """One entry per step, in order of trace and position; arrays of shape (steps,).

    Before the step: `last` (code of the name of the step that started last, START for none), `last_failed` (0, 1 or
    RUNNING), `last_variant`, `bucket` of the step's number, `errors` (0, 1, 2 or more), `flags` (repeated or oddly
    shaped calls so far), `used` (bits of the names so far), `spend` (bucket of tokens or cost so far). The choice:
    `what` (code of its name), `variant`. What came of it: `failed`, `odd` (unusual arguments), `bit` of its name,
    `tokens`, `cost`.
    `names` says what each code is (what, agent, name, uses), `shapes` the shape of a tool's arguments by number, the
    most frequent being 0; a variant is twice that number, plus one where the same call was made before.
    """

    trace: Ints
    position: Ints
    agent: Ints
    last: Ints
    last_failed: Ints
    last_variant: Ints
    bucket: Ints
    errors: Ints
    flags: Ints
    used: NDArray[np.uint64]
    spend: Ints
    what: Ints
    variant: Ints
    failed: Ints
    odd: Ints
    bit: NDArray[np.uint64]
    tokens: Floats
    cost: Floats
    tokens_before: Floats
    cost_before: Floats
    first: Bools
    final: Bools
    names: pl.DataFrame
    shapes: pl.DataFrame
    agents: list[str | None]
    span_id: pl.Series

    def __len__(self) -> int:
        return len(self.trace)


def prefixes(traces: pl.DataFrame, steps: pl.DataFrame) -> Prefixes:
    """What was known before each step. `traces` has the columns TRACES, `steps` STEPS; traces without steps are absent.

    Raises: `ContractError` for other columns.
    """
    required = ["trace_no", "reward", "reward_sd", "signals"]
    traces = require(traces, TRACES, "credit traces", not_null=required, unit_interval=["reward", "reward_sd"])
    steps = require(steps, STEPS, "credit steps", not_null=["trace_no", "position", "span_id", "kind"])
    if not (traces["trace_no"] == pl.int_range(traces.height, dtype=pl.UInt32, eager=True)).all():
        raise ContractError("credit traces", "column trace_no must count the rows from 0.")
    if steps.height and int(steps["trace_no"].max() or 0) >= traces.height:  # type: ignore[arg-type]
        raise ContractError("credit steps", "column trace_no must name rows of the traces.")
    agents = traces["agent"].unique().sort(nulls_last=True).to_list()
    codes = pl.DataFrame({"agent": agents}, schema={"agent": pl.String()}).with_row_index("agent_no")
    agent_of = traces.select("trace_no", "agent").join(codes, on="agent", how="left", nulls_equal=True)
    frame = (
        steps.sort("trace_no", "position")
        .join(agent_of.select("trace_no", "agent_no"), on="trace_no", how="left", maintain_order="left")
        .with_columns(name=pl.coalesce("name", "kind"), failed=pl.col("failed").fill_null(False))
    )
    names = (
        frame.group_by("agent_no", "name")
        .agg(uses=pl.len())
        .sort(["agent_no", "uses", "name"], descending=[False, True, False])
        .with_columns(rank=pl.int_range(pl.len()).over("agent_no"))
        .with_row_index("what", offset=1)
    )
    frame = frame.join(names.select("agent_no", "name", "what", "rank"), on=["agent_no", "name"], maintain_order="left")
    shapes = _shapes(frame)
    frame = _variants(frame, shapes).with_columns(
        fresh=pl.struct("trace_no", "what").is_first_distinct(), tokens=pl.col("tokens").fill_null(0)
    )
    named = names.join(codes, on="agent_no", how="left", maintain_order="left").select("what", "agent", "name", "uses")
    return _before(frame, named, shapes.select("what", "shape_no", "shape"), agents)


def edges(trace: Ints) -> tuple[Bools, Bools]:
    """Where a trace's steps begin and end, in entries sorted by trace."""
    change = trace[1:] != trace[:-1]
    one = np.ones(min(1, len(trace)), dtype=bool)
    return np.concatenate([one, change]), np.concatenate([change, one])


def _shapes(frame: pl.DataFrame) -> pl.DataFrame:
    """Shapes of arguments per tool, numbered by frequency, and which ones are unusual."""
    return (
        frame.filter(pl.col("shape").is_not_null())
        .group_by("what", "shape")
        .agg(uses=pl.len())
        .sort(["what", "uses", "shape"], descending=[False, True, False])
        .with_columns(
            shape_no=pl.int_range(pl.len()).over("what").clip(0, MOST_SHAPES),
            odd=pl.col("uses") < _USUAL_SHARE * pl.col("uses").sum().over("what"),
        )
    )


def _variants(frame: pl.DataFrame, shapes: pl.DataFrame) -> pl.DataFrame:
    """With `repeated` (the same call was made before in this trace), `odd` and `variant`: how it was called."""
    repeated = pl.col("call").is_not_null() & ~pl.struct("trace_no", "what", "call").is_first_distinct()
    return (
        frame.with_columns(repeated=repeated)
        .join(shapes.drop("uses"), on=["what", "shape"], how="left", maintain_order="left")
        .with_columns(pl.col("shape_no").fill_null(0), pl.col("odd").fill_null(False))
        .with_columns(variant=pl.col("shape_no").cast(pl.Int64) * 2 + pl.col("repeated").cast(pl.Int64))
    )


def _before(frame: pl.DataFrame, names: pl.DataFrame, shapes: pl.DataFrame, agents: list[str | None]) -> Prefixes:
    trace = frame["trace_no"].to_numpy().astype(np.int64)
    first, final = edges(trace)
    begins = np.flatnonzero(first)
    length = np.diff(np.append(begins, len(trace)))

    def so_far(values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Sum over the earlier steps of the same trace."""
        total = np.cumsum(values) - values
        return np.asarray(total - np.repeat(total[begins], length))

    def previous(values: Ints) -> Ints:
        shifted = np.concatenate([np.zeros(min(1, len(values)), dtype=np.int64), values[:-1]])
        return np.where(first, 0, shifted)

    what = frame["what"].to_numpy().astype(np.int64)
    failed = frame["failed"].to_numpy().astype(np.int64)
    variant = frame["variant"].to_numpy()
    bit = np.left_shift(np.uint64(1), np.minimum(frame["rank"].to_numpy(), _MOST_BITS - 1).astype(np.uint64))
    # Beyond so many names one bit stands for all the others: it is set once, by the first of them.
    shared = frame["rank"].to_numpy() >= _MOST_BITS - 1
    fresh = frame["fresh"].to_numpy().copy()
    if shared.any():
        rare = pl.DataFrame({"trace": trace, "shared": shared}).select(pl.struct("trace", "shared").is_first_distinct())
        fresh &= ~shared | rare.to_series().to_numpy()
    odd_calls = frame["odd"].to_numpy().astype(np.int64)
    repeats = frame["repeated"].to_numpy().astype(np.int64)
    tokens = frame["tokens"].to_numpy().astype(np.float64)
    cost = frame["cost_usd"].clip(-_LARGEST_COST, _LARGEST_COST).fill_null(0.0).to_numpy()
    position = np.arange(len(trace)) - np.repeat(begins, length) + 1
    errors, tokens_before, cost_before = (so_far(values).astype(np.float64) for values in (failed, tokens, cost))
    last_failed = previous(failed)
    overlapping, starts, ends = _times(frame, trace, begins, length)
    if overlapping.any():
        at = np.flatnonzero(overlapping)
        known = [_ended(starts[at], ends[at], trace[at], values[at]) for values in (failed, tokens, cost)]
        errors[at], tokens_before[at], cost_before[at] = known
        before_last = np.maximum(np.arange(len(trace)) - 1, 0)
        running = overlapping & ~first & (ends[before_last] > starts)
        last_failed = np.where(running, RUNNING, last_failed)
    return Prefixes(
        trace=trace,
        position=position,
        agent=frame["agent_no"].to_numpy().astype(np.int64),
        last=previous(what),
        last_failed=last_failed,
        last_variant=previous(variant),
        bucket=step_bucket(position),
        errors=np.minimum(errors, MOST_ERRORS).astype(np.int64),
        flags=(np.minimum(so_far(repeats), 1) + 2 * np.minimum(so_far(odd_calls), 1)).astype(np.int64),
        used=so_far(np.where(fresh, bit, np.uint64(0))).astype(np.uint64),
        spend=spend_bucket(tokens_before, cost_before),
        what=what,
        variant=variant,
        failed=failed,
        odd=odd_calls,
        bit=bit,
        tokens=tokens,
        cost=cost,
        tokens_before=tokens_before,
        cost_before=cost_before,
        first=first,
        final=final,
        names=names,
        shapes=shapes,
        agents=agents,
        span_id=frame["span_id"],
    )


def _times(frame: pl.DataFrame, trace: Ints, begins: Ints, length: Ints) -> tuple[Bools, Ints, Ints]:
    """Steps of traces in which some step starts before an earlier one has ended, and when steps start and end.

    Times are in half microseconds from the trace's first start; a step without length is over just after its start.
    Where a trace has a step without a time, its steps follow one another.
    """
    started = frame["started_us"].fill_null(0).to_numpy()
    ended = np.maximum(frame["ended_us"].fill_null(frame["started_us"]).fill_null(0).to_numpy(), started)
    timed = ~np.isin(trace, np.unique(trace[frame["started_us"].is_null().to_numpy()]))
    origin = np.repeat(started[begins], length)
    starts = np.clip(started - origin, 0, _LONGEST_US - 1)
    ends = np.clip(ended - origin, 0, _LONGEST_US - 1)
    latest = np.maximum.accumulate(trace * _LONGEST_US + ends) - trace * _LONGEST_US if len(trace) else ends
    clash = np.zeros(len(trace), dtype=bool)
    clash[1:] = (trace[1:] == trace[:-1]) & (latest[:-1] > starts[1:])
    overlapping = np.isin(trace, np.unique(trace[clash])) & timed if clash.any() else clash
    return overlapping, 2 * starts, 2 * ends + (ends == starts)


def _ended(starts: Ints, ends: Ints, trace: Ints, values: NDArray[np.generic]) -> Floats:
    """For each step, the sum of `values` over the steps of its trace that had ended when it started."""
    width = 4 * _LONGEST_US
    code = np.unique(trace, return_inverse=True)[1].astype(np.int64)
    order = np.lexsort((ends, code))
    keys = code[order] * width + ends[order]
    total = np.concatenate([[0.0], np.cumsum(values.astype(np.float64)[order])])
    upto = np.searchsorted(keys, code * width + starts, side="right")
    return np.asarray(total[upto] - total[np.searchsorted(keys, code * width, side="left")])


def step_bucket(position: Ints) -> Ints:
    """Bucket of a step's number: single steps up to 6, then wider and wider."""
    return np.searchsorted(_STEP_EDGES, position, side="right").astype(np.int64)


def spend_bucket(tokens: Floats, cost: Floats) -> Ints:
    """Bucket of what was spent: by powers of four of tokens, of a ten-thousandth of a dollar where none are stated."""
    amount = np.where(tokens > 0, tokens, cost * 1e4)
    return np.minimum(np.floor(np.log2(np.maximum(amount, 0.0) + 1.0) / 2.0), 15).astype(np.int64)
