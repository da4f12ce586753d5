"""Surprise of each step of one trace, computed when it is looked at from the model in use."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.transitions.dirichlet import path_surprise, predictive
from pipelines.transitions.episodes import folded_counts
from store import trace_paths, transition_models, transitions
from store.connection import Store

__all__ = ["STEP_SURPRISE", "step_surprise"]

STEP_SURPRISE = pl.Schema(
    {
        "step": pl.Int64(),  # null for the end of the trace
        "span_id": pl.String(),
        "state": pl.String(),
        "previous": pl.String(),
        "seen": pl.Int64(),  # this transition in the data of the model
        "visits": pl.Int64(),  # the previous state in the data of the model
        "probability": pl.Float64(),
        "user_probability": pl.Float64(),  # of this user, with the population's as prior; null without a user
        "information": pl.Float64(),  # nats, this very transition left out of the counts
        "z": pl.Float64(),
        "bayesian": pl.Float64(),
    }
)


def step_surprise(store: Store, trace_id: str) -> pl.DataFrame:
    """One row per step and one for the end (columns `STEP_SURPRISE`); empty without a model of the trace's agent.

    A step of a kind that the model has never seen, and the one after it, have no numbers. The end is given for traces
    that were there when paths were last computed.
    """
    nothing = pl.DataFrame(schema=STEP_SURPRISE)
    episode = transitions.episode(store, trace_id)
    known = transition_models.surprise_of_trace(store, trace_id)
    agent = str(episode["agent"][0]) if episode.height else None
    model = transition_models.models(store, agent=agent) if agent is not None else pl.DataFrame()
    if model.is_empty() or model["concentration"][0] is None:
        return nothing
    states = transition_models.states(store, agent=agent)
    size = states.filter(role="step").height
    folds = transition_models.folds(store, agent=agent).select("state", "place")
    steps = trace_paths.of_trace(store, trace_id).join(folds, on="state", how="left", maintain_order="left")
    moves = transition_models.moves(store, agent=agent)
    counts = np.zeros((size + 1, states.height - 1))
    counts[moves["from_place"].to_numpy(), moves["to_place"].to_numpy() - 1] = moves["n"].to_numpy()
    base = states["base"].drop_nulls().to_numpy()
    kappa = float(model["concentration"][0])
    found = path_surprise(counts, base, kappa, len(transitions.ENDS), included=known.height > 0)
    p = predictive(counts, base, kappa)
    own = _of_user(store, episode, folds, p, model["user_concentration"][0])
    verdict = states.filter(role=episode["verdict"][0])["place"][0]
    # Places along the way: START, the steps (-1 where unknown), and the end.
    places = np.concatenate([[0], steps["place"].fill_null(-1).to_numpy().astype(np.int64), [verdict]])
    source, target = places[:-1], places[1:] - 1
    usable = (source >= 0) & (target >= 0)
    s, t = np.where(usable, source, 0), np.where(usable, target, 0)
    merged = pl.when(pl.col("role").is_in(transitions.ENDS)).then(pl.lit("END")).otherwise("label")
    label = np.array([*states.select(merged).to_series().to_list(), None], dtype=object)
    # That a trace ended is one event, however it ended.
    ending = t >= size

    def numbers(values: NDArray[Any]) -> list[float | int | None]:
        return [value if ok else None for value, ok in zip(values.tolist(), usable.tolist(), strict=True)]

    def reached(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(ending, matrix[s, size:].sum(axis=1), matrix[s, t])

    return pl.DataFrame(
        {
            "step": [*steps["step"].to_list(), None],
            "span_id": [*steps["span_id"].to_list(), None],
            "state": label[places[1:]].tolist(),
            "previous": label[source].tolist(),
            "seen": numbers(reached(counts).astype(np.int64)),
            "visits": numbers(counts.sum(axis=1)[s].astype(np.int64)),
            "probability": numbers(reached(p)),
            "user_probability": numbers(reached(own)) if own is not None else [None] * s.size,
            "information": numbers(found.information[s, t]),
            "z": numbers(found.z[s, t]),
            "bayesian": numbers(found.bayesian[s, t]),
        },
        schema=STEP_SURPRISE,
    )


def _of_user(
    store: Store, episode: pl.DataFrame, folds: pl.DataFrame, population: NDArray[np.float64], kappa: float | None
) -> NDArray[np.float64] | None:
    """The transition probabilities of the trace's user; None where there is no user or users cannot be told apart."""
    user, agent = episode["user_id"][0], episode["agent"][0]
    if user is None or kappa is None:
        return None
    counts = transitions.one_users_counts(store, str(user)).filter(agent=agent)
    for column in ("state", "next_state"):
        placed = pl.col(column).is_null() | pl.col(column).is_in(folds["state"].to_list())
        counts = counts.filter(placed)
    return predictive(folded_counts(counts, folds, population.shape[0] - 1), population, kappa)
