"""Rollouts and their calls as frames, from short rows, for tests of contrasts."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from pipelines.lessons.actions import CALLS
from store.contrasts import ROLLOUTS
from store.lessons import STEPS

START = datetime(2026, 11, 1, tzinfo=UTC)
_SHAPES = {str: "@S", int: "@0", float: "@0", bool: "@B", list: "@A", type(None): "@_"}


class Call(NamedTuple):
    """One call: of `name`, `fault` says how it failed (None: it did not), `arguments` what it was given."""

    name: str
    fault: str | None = None
    arguments: Mapping[str, Any] | None = None
    kind: str = "tool"


class Rollout(NamedTuple):
    """One trace; outcome None: no signals."""

    trace_id: str
    task: str
    outcome: float | None
    agent: str = "a"
    axis: str | None = None
    failed: bool = False


def key(trace_id: str) -> int:
    """The key of a trace."""
    return int(pl.Series([trace_id]).hash(seed=1)[0])


def rollouts(rows: Sequence[Rollout]) -> pl.DataFrame:
    """One hour apart, reward .1 + .8 outcome with sd .2, outcomes without noise (columns ROLLOUTS)."""
    return pl.DataFrame(
        [
            (
                one.trace_id, key(one.trace_id), one.agent, one.task, START + timedelta(hours=place), one.failed,
                None if one.outcome is None else 0.1 + 0.8 * one.outcome, 0.2, one.outcome, 0.0, one.axis,
            )
            for place, one in enumerate(rows)
        ],
        schema=ROLLOUTS, orient="row",
    )  # fmt: skip


def shape(arguments: Mapping[str, Any] | None) -> str | None:
    """As the store gives it: every value replaced by its type."""
    if arguments is None:
        return None
    return "{" + ",".join(f'"{name}":{_SHAPES[type(value)]}' for name, value in arguments.items()) + "}"


def calls(sequences: Mapping[str, Sequence[Call]], *, spans: bool = False) -> pl.DataFrame:
    """Calls of each trace in order (columns CALLS, with span_id where `spans`)."""
    rows = [
        (
            key(trace_id), place, call.kind, call.name, call.fault is not None, call.fault,
            hash((call.name, json.dumps(call.arguments))) % 2**63, shape(call.arguments), f"{trace_id}.{place}",
        )
        for trace_id, made in sequences.items()
        for place, call in enumerate(made, start=1)
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=pl.Schema({**CALLS, "span_id": pl.String()}), orient="row")
    return frame if spans else frame.drop("span_id")


def steps(sequences: Mapping[str, Sequence[Call]]) -> pl.DataFrame:
    """The same as spans with texts (columns STEPS)."""
    rows = [
        (
            trace_id, f"{trace_id}.{place}", place, call.kind, call.name, "error" if call.fault else "ok",
            None if call.arguments is None else json.dumps(call.arguments), "done",
        )
        for trace_id, made in sequences.items()
        for place, call in enumerate(made, start=1)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=STEPS, orient="row")
