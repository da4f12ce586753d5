"""Readable weights from behaviour: MaxEnt inverse RL of each agent, and people's work against the agent's."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards import demonstrations, maxent
from pipelines.transitions.decisions import ANCHOR, MOST_STATES, decision_process
from pipelines.transitions.model import AgentModel
from store.transition_models import WEIGHTS

__all__ = ["acted_values", "corrections", "demonstrated"]

_MOST_FEATURES = 12
_MOST_TRANSITIONS = 2_000_000


def acted_values(agent: str, model: AgentModel, episodes: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """What the agent acts as if it valued (columns `WEIGHTS`, method maxent); empty when it never had a choice."""
    moves = model.transitions.newest(_MOST_TRANSITIONS)
    known = pl.coalesce("user_id", pl.concat_str(pl.lit("trace "), "trace_id"))
    users = episodes.select(known.rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    process = decision_process(moves, model.folded, users)
    if process is None:
        return pl.DataFrame(schema=WEIGHTS)
    try:
        found = maxent.fit(process, ANCHOR, random)
    except maxent.MaxentError:
        # Without finite soft values there is no statement to make; the panel says that there is none.
        return pl.DataFrame(schema=WEIGHTS)
    notes = list(found.notes)
    if model.folded.states.height > MOST_STATES:
        notes.append(f"Of {model.folded.states.height} states the {MOST_STATES} most visited are looked at.")
    note = " ".join(notes) or None
    columns = (found.weight, found.lower, found.upper, found.ratio, found.ratio_lower, found.ratio_upper)
    return _rows(
        [
            (agent, "maxent", name, *(float(column[at]) for column in columns), None, round(found.choices), note)
            for at, name in enumerate(found.names)
            if found.identified[at]
        ]
    )


def demonstrated(
    agent: str, model: AgentModel, episodes: pl.DataFrame, human: set[str], random: np.random.Generator
) -> pl.DataFrame:
    """How traces that people demonstrated differ from the agent's on the same task (method demonstration)."""
    task_known = episodes["task"].is_not_null()
    is_human = episodes["trace_id"].is_in(list(human))
    if not (is_human & task_known).any():
        return pl.DataFrame(schema=WEIGHTS)
    frame = _path_features(model, episodes).with_columns(task=episodes["task"], human=is_human).filter(task_known)
    return _discriminated(agent, "demonstration", frame, random)


def corrections(agent: str, texts: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """How corrections differ from the answers that they correct (`texts` with trace_id, text, output)."""
    known = texts.filter(pl.col("text").is_not_null() & pl.col("output").is_not_null())
    sides = [
        demonstrations.text_features(known[column]).with_columns(
            task=known["trace_id"], human=pl.lit(value, dtype=pl.Boolean)
        )
        for column, value in (("text", True), ("output", False))
    ]
    return _discriminated(agent, "correction", pl.concat(sides), random)


def _discriminated(agent: str, method: str, frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    found = demonstrations.fit(frame, random)
    note = " ".join(found.notes) or None
    return _rows(
        [
            (agent, method, name, weight, lower, upper, None, None, None, q, found.human, note)
            for name, weight, lower, upper, q in found.weights.select(
                "feature", "weight", "lower", "upper", "q_value"
            ).iter_rows()
        ]
    )


def _path_features(model: AgentModel, episodes: pl.DataFrame) -> pl.DataFrame:
    """Per trace: how many steps, failed steps, repeated calls, and calls of each of the most used tools (log1p)."""
    moves, states = model.transitions, model.folded.states
    step = moves.source > 0
    place, trace = moves.source[step] - 1, moves.trace[step]
    size = episodes.height

    def count(flag: NDArray[Any]) -> NDArray[np.float64]:
        return np.log1p(np.bincount(trace, weights=flag[place].astype(np.float64), minlength=size))

    features = {
        "steps": count(np.ones(states.height)),
        "failed steps": count(states["failed"].to_numpy()),
        "the same call again": count(states["again"].to_numpy()),
    }
    tools = states.filter(kind="tool").group_by("action").agg(pl.col("visits").sum())
    ranked = tools.sort(["visits", "action"], descending=[True, False])["action"].head(_MOST_FEATURES).sort()
    for tool in ranked.to_list():
        features[f"calls of {tool}"] = count((states["action"] == tool).to_numpy())
    return pl.DataFrame(features)


def _rows(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=WEIGHTS, orient="row", strict=False).fill_nan(None)
