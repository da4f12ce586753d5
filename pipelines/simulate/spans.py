"""Spans of all traces as a frame with the columns of the span layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate.agents import AGENTS, MODELS
from pipelines.simulate.arrays import Bools, Floats, Ints, Texts, hex_ids, text_where
from pipelines.simulate.outcomes import World
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.script import Script
from pipelines.simulate.sessions import Sessions
from pipelines.simulate.timing import StepTimes

__all__ = ["CHARACTERS_PER_TOKEN", "POLICY_VERSION", "Spans", "moments", "steering", "write_spans"]

CHARACTERS_PER_TOKEN = 4
POLICY_VERSION = "logged-2026-10"


@dataclass(frozen=True)
class Spans:
    """The span frame, and per trace what it sums to; `mistake_span` is empty where no mistake was planted."""

    frame: pl.DataFrame
    input_tokens: Ints
    output_tokens: Ints
    cost_usd: Floats
    mistake_span: Texts


@dataclass(frozen=True)
class _Flat:
    """Entries per span, in order of trace and time."""

    trace: Ints
    ordinal: Ints
    parent: Ints  # index of the parent's entry, -1 for roots
    kind: Texts
    name: Texts
    start_ms: Ints
    end_ms: Ints
    errored: Bools
    mistaken: Bools
    input: Texts
    output: Texts


def moments(world: World, milliseconds: Ints) -> pl.Series:
    """Milliseconds since the start of the period as UTC timestamps."""
    start = int(world.config.start.timestamp()) * 1000
    return pl.Series((milliseconds + start) * 1000, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def steering(world: World, sessions: Sessions, rollouts: Rollouts) -> list[str]:
    """Members of a JSON object with the steering attributes of each trace; empty where arms are not randomised."""
    arms = world.arms
    session = rollouts.session
    vectors: dict[tuple[int, bool], str] = {}
    texts = []
    columns = zip(
        sessions.greedy[session].tolist(),
        world.people.opted_out[rollouts.context.user].tolist(),
        session.tolist(),
        rollouts.outcomes.arm.tolist(),
        rollouts.outcomes.explored.tolist(),
        strict=True,
    )
    for greedy, opted_out, of, arm, explored in columns:
        if greedy < 0:
            texts.append("")
            continue
        if (greedy, opted_out) not in vectors:
            row = sessions.propensities[of]
            listed = ", ".join(f'"{arms.name[a]}": {row[a]:.6g}' for a in np.flatnonzero(row).tolist())
            vectors[greedy, opted_out] = f'"steer.propensities": {{{listed}}}'
        texts.append(
            f'"steer.decision_id": "{sessions.decision_id[of]}", "steer.policy.version": "{POLICY_VERSION}", '
            f'"steer.arm": "{arms.name[arm]}", "steer.propensity": {sessions.propensity[of]:.6g}, '
            f'"steer.explore": {"true" if explored else "false"}, {vectors[greedy, opted_out]}'
        )
    return texts


def write_spans(
    world: World,
    sessions: Sessions,
    rollouts: Rollouts,
    scripts: Sequence[Script],
    times: Sequence[StepTimes],
    trace_start_ms: Ints,
    rng: np.random.Generator,
) -> Spans:
    """Turn the agents' scripts into one frame of spans."""
    flat = _flatten(scripts, times, trace_start_ms)
    total = len(flat.trace)
    ids = np.array(hex_ids(rng, total, 16), dtype=np.object_)
    root, llm = flat.parent < 0, flat.kind == "llm"
    arm = rollouts.outcomes.arm[flat.trace]
    model = world.arms.model[arm]
    lengths = np.array([[len(text or "") for text in column] for column in (flat.input, flat.output)])
    tokens = np.where(llm, -(-lengths // CHARACTERS_PER_TOKEN), 0)
    prices = np.array([(m.input_usd, m.output_usd) for m in MODELS])[model].T / 1e6
    cost = np.round((tokens * prices).sum(axis=0), 9)
    names = text_where(llm, flat.name + " " + np.array([m.name for m in MODELS], dtype=np.object_)[model], flat.name)
    attributes = _attributes(world, flat, arm, steering(world, sessions, rollouts))
    frame = pl.DataFrame(
        {
            "trace_id": _texts(np.array(rollouts.trace_id, dtype=np.object_)[flat.trace]),
            "span_id": _texts(ids),
            "parent_span_id": _texts(text_where(root, None, ids[flat.parent])),
            "ordinal": flat.ordinal,
            "kind": _texts(flat.kind),
            "name": _texts(names),
            "started_at": moments(world, flat.start_ms),
            "ended_at": moments(world, flat.end_ms),
            "status": _texts(text_where(flat.errored, "error", "ok")),
            "status_message": _texts(_status_messages(flat)),
            "input": _texts(flat.input),
            "output": _texts(flat.output),
            "model": _texts(text_where(llm, np.array([m.name for m in MODELS], dtype=np.object_)[model], None)),
            "input_tokens": pl.Series(tokens[0]).set(pl.Series(~llm), None),
            "output_tokens": pl.Series(tokens[1]).set(pl.Series(~llm), None),
            "cost_usd": pl.Series(cost).set(pl.Series(~llm), None),
            "attributes": _texts(attributes),
            "agent": _texts(text_where(root, flat.name, None)),
            "agent_version": _texts(text_where(root, _versions(world)[arm], None)),
            "user_id": _texts(_of_root(root, world.people.user_id, rollouts.context.user[flat.trace])),
            "session_id": _texts(_of_root(root, sessions.session_id, rollouts.session[flat.trace])),
            "arm": _texts(_of_root(root, world.arms.name, arm)),
            "model_fingerprint": _texts(text_where(llm, np.array([m.fingerprint for m in MODELS])[model], None)),
        }
    )
    mistake_span = np.full(len(rollouts), None, dtype=np.object_)
    mistake_span[flat.trace[flat.mistaken]] = ids[flat.mistaken]
    by_trace = [np.bincount(flat.trace, weights=column, minlength=len(rollouts)) for column in (*tokens, cost)]
    return Spans(
        frame, by_trace[0].astype(np.int64), by_trace[1].astype(np.int64), np.round(by_trace[2], 9), mistake_span
    )


def _flatten(scripts: Sequence[Script], times: Sequence[StepTimes], trace_start_ms: Ints) -> _Flat:
    parts = [_flatten_one(script, time, trace_start_ms) for script, time in zip(scripts, times, strict=True)]
    before = np.cumsum([0] + [len(part.trace) for part in parts])
    parents = [
        np.where(part.parent < 0, -1, part.parent + shift) for part, shift in zip(parts, before[:-1], strict=True)
    ]

    def column(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    order = np.lexsort((column("ordinal"), column("trace")))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = np.concatenate(parents)
    columns = {name: column(name)[order] for name in _Flat.__dataclass_fields__ if name != "parent"}
    return _Flat(**columns, parent=np.where(parent < 0, -1, place[parent])[order])


def _flatten_one(script: Script, time: StepTimes, trace_start_ms: Ints) -> _Flat:
    present = script.present
    at, slot = np.nonzero(present)
    ordinal = np.cumsum(present, axis=1) - 1
    first = np.concatenate([[0], np.cumsum(present.sum(axis=1))[:-1]])
    parent_slot = np.array([s.parent for s in script.slots])[slot]
    trace = script.rows[at]
    return _Flat(
        trace=trace,
        ordinal=ordinal[present],
        parent=np.where(slot == 0, -1, first[at] + ordinal[at, parent_slot]),
        kind=np.array([s.kind for s in script.slots], dtype=np.object_)[slot],
        name=np.array([s.name for s in script.slots], dtype=np.object_)[slot],
        start_ms=trace_start_ms[trace] + time.start[present],
        end_ms=trace_start_ms[trace] + time.end[present],
        errored=script.errored[present],
        mistaken=slot == script.mistake[at],
        input=script.inputs[present],
        output=script.outputs[present],
    )


def _attributes(world: World, flat: _Flat, arm: Ints, steer: list[str]) -> Texts:
    versions = _versions(world)
    chats = [
        f'{{"gen_ai.operation.name": "chat", "gen_ai.request.model": "{MODELS[m].name}", '
        f'"prompt.version": "{version}"}}'
        for m, version in zip(world.arms.model.tolist(), versions, strict=True)
    ]
    tools = {
        name: f'{{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "{name}"}}'
        for name in set(flat.name[flat.kind == "tool"].tolist())
    }
    attributes = np.full(len(flat.trace), None, dtype=np.object_)
    kinds = zip(
        flat.kind.tolist(), flat.name.tolist(), flat.parent.tolist(), flat.trace.tolist(), arm.tolist(), strict=True
    )
    for at, (kind, name, parent, trace, of) in enumerate(kinds):
        if kind == "llm":
            attributes[at] = chats[of]
        elif kind == "tool":
            attributes[at] = tools[name]
        elif parent < 0 and steer[trace]:
            attributes[at] = f"{{{steer[trace]}}}"
    return attributes


def _status_messages(flat: _Flat) -> Texts:
    """The result of a failed call, and what the agent reports when there is no answer."""
    return text_where(
        flat.errored, text_where(flat.parent < 0, "no answer: the platform failed twice", flat.output), None
    )


def _versions(world: World) -> Texts:
    pairs = zip(world.arms.agent.tolist(), world.arms.prompt.tolist(), strict=True)
    return np.array([AGENTS[agent].prompts[prompt].version for agent, prompt in pairs], dtype=np.object_)


def _of_root(root: Bools, names: list[str], index: Ints) -> Texts:
    return text_where(root, np.array(names, dtype=np.object_)[index], None)


def _texts(values: Texts) -> pl.Series:
    return pl.Series(values.tolist(), dtype=pl.String)
