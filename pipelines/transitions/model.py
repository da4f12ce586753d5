"""The transition model of one agent: its states, probabilities, novelty, learning progress, order and reliability."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaincinv

from pipelines.transitions import dirichlet, history, novelty
from pipelines.transitions.absorbing import Band, ReliabilityConfig, reliability
from pipelines.transitions.abstraction import AbstractionConfig, Folded, fold
from pipelines.transitions.dirichlet import DirichletConfig
from pipelines.transitions.episodes import Transitions, encode, expected_counts, folded_counts, user_cells
from store.transition_models import FOLDS, MOVES, RELIABILITY, STATES
from store.transitions import ENDS

__all__ = ["AgentModel", "ModelConfig", "fit_agent", "refused"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_MEASURES = {"end_0": "success", "end_1": "failure", "end_2": "ended", "first_of_two": "success_of_judged",
             "steps": "steps", "cost": "cost_usd"}  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Minimums and shares of a fit.

    `min_traces` for a model at all and for the reliability of an arm; `held_share` of the users (of the traces where
    fewer than 20 users are known) are held out for the learning curve and the order test; a tool is new or gone when
    it was first or last seen within `schema_days` of the end of the data; the `most_arms` most used arms get bands;
    the order test looks at the newest `most_tested` transitions.
    """

    min_traces: int = 30
    held_share: float = 0.2
    schema_days: int = 7
    most_arms: int = 20
    most_tested: int = 2_000_000
    abstraction: AbstractionConfig = field(default_factory=AbstractionConfig)
    dirichlet: DirichletConfig = field(default_factory=DirichletConfig)
    order: history.OrderConfig = field(default_factory=history.OrderConfig)
    reliability: ReliabilityConfig = field(default_factory=ReliabilityConfig)


@dataclass(frozen=True)
class AgentModel:
    """What was fitted: the row of `transition_models`, the frames of its tables, and what scoring needs."""

    entry: dict[str, Any]
    states: pl.DataFrame
    folds: pl.DataFrame
    moves: pl.DataFrame
    reliability: pl.DataFrame
    folded: Folded
    transitions: Transitions
    counts: Array
    surprise: dirichlet.Surprise


def refused(agent: str, episodes: pl.DataFrame, why: str) -> dict[str, Any]:
    """The row of an agent without a model: `why` stands among its notes."""
    return _entry(agent, episodes, steps=int(episodes["states"].list.len().sum()), states=0, notes=[why])


def fit_agent(
    agent: str,
    episodes: pl.DataFrame,
    counts: pl.DataFrame,
    user_counts: pl.DataFrame,
    labelled: pl.DataFrame,
    random: np.random.Generator,
    config: ModelConfig | None = None,
) -> AgentModel:
    """Fit the model of one agent.

    Args: `episodes` (`store.transitions.EPISODES`, by time), `counts` and `user_counts` of the same agent made in SQL,
    `labelled` from `abstraction.labels`. Raises ValueError when counts and episodes are not of the same snapshot.
    """
    config = config or ModelConfig()
    seen = (
        episodes.lazy().select("seen_at", state="states").explode("state").drop_nulls("state").group_by("state")
        .agg(n=pl.len().cast(pl.Int64), first=pl.col("seen_at").min(), last=pl.col("seen_at").max()).collect()
    )  # fmt: skip
    folded = fold(seen, labelled, config.abstraction)
    size = folded.states.height
    matrix = folded_counts(counts, folded.of, size)
    moves = encode(episodes, folded.of, size)
    if matrix.sum() != moves.source.size:
        raise ValueError(f"{int(matrix.sum())} transitions were counted and {moves.source.size} are in the episodes")
    base = dirichlet.pooled(matrix)
    kappa = dirichlet.concentration(matrix, base, config.dirichlet)
    found = dirichlet.path_surprise(matrix, base, kappa.value, len(ENDS), config=config.dirichlet)
    notes = _kappa_notes(kappa)
    own = _user_kappa(user_counts, folded.of, matrix, base, kappa.value, config.dirichlet)
    held = _held_out(episodes, moves, random, config.held_share)
    late = moves.newest(config.most_tested)
    tested = held[held.size - late.source.size :]
    order = history.order_test(late.source, late.target, late.trace, tested, late.shape, config.order)
    progress = _progress(moves, held, base, kappa.value)
    costs, cost_se, known = _costs(moves)
    if known < 1.0 and size:
        notes.append(f"The cost is stated for {known * 100:.0f} % of the steps; others count as their state's mean.")
    bands = _reliability(agent, episodes, moves, kappa.value, (costs, cost_se), known, random, config)
    entry = _entry(
        agent, episodes, steps=int(episodes["states"].list.len().sum()), states=size, notes=notes,
        concentration=kappa.value, user_concentration=own.value if own.reason != "too_few_states" else None,
        order=vars(order), cost_known=known,
        curve=novelty.learning_curve(moves.source, moves.target, held, base, kappa.value, moves.shape[0]).to_dicts(),
        schema=_schema(seen, labelled, episodes, config.schema_days),
    )  # fmt: skip
    states = _states(agent, folded.states, matrix, base, found, progress)
    folds = folded.of.select(agent=pl.lit(agent), state="state", place="place").select(list(FOLDS))
    return AgentModel(entry, states, folds, _moves(agent, matrix), bands, folded, moves, matrix, found)


def _entry(
    agent: str, episodes: pl.DataFrame, *, steps: int, states: int, notes: list[str],
    concentration: float | None = None, user_concentration: float | None = None, **parameters: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "agent": agent,
        "window_since": episodes["seen_at"].min(),
        "window_until": episodes["seen_at"].max(),
        "traces": episodes.height,
        "steps": steps,
        "states": states,
        "concentration": concentration,
        "user_concentration": user_concentration,
        "parameters": {**parameters, "notes": notes},
    }


def _kappa_notes(kappa: dirichlet.Concentration) -> list[str]:
    texts = {
        "too_few_states": "Too few states to tell how alike they are: the default prior weight is used.",
        "lowest": "States differ as much as can be: the prior weight is at its lower limit.",
        "highest": "States do not differ: the prior weight is at its upper limit.",
    }
    return [texts[kappa.reason]] if kappa.reason else []


def _user_kappa(
    counts: pl.DataFrame, folds: pl.DataFrame, matrix: Array, base: Array, kappa: float, config: DirichletConfig
) -> dirichlet.Concentration:
    n, source, target, group = user_cells(counts, folds, matrix.shape[0] - 1)
    population = dirichlet.predictive(matrix, base, kappa)
    return dirichlet.user_concentration(n, population[source, target], group, config)


def _held_out(
    episodes: pl.DataFrame, moves: Transitions, random: np.random.Generator, share: float
) -> NDArray[np.bool_]:
    """Transitions of held-out users, or of held-out traces where fewer than 20 users are known."""
    users = episodes["user_id"].drop_nulls().n_unique()
    unit = pl.col("user_id") if users >= 20 else pl.lit(None, dtype=pl.String())
    own = pl.concat_str(pl.lit("trace "), "trace_id")
    code = episodes.select(pl.coalesce(unit, own).rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    chosen = random.random(int(code.max(initial=-1)) + 1) < share
    return np.asarray(chosen[code][moves.trace], dtype=bool)


def _progress(moves: Transitions, held: NDArray[np.bool_], base: Array, kappa: float) -> novelty.Progress:
    older = np.zeros(moves.source.size, dtype=bool)
    training = np.flatnonzero(~held)
    older[training[: training.size // 2]] = True
    return novelty.learning_progress(moves.source, moves.target, older, held, base, kappa, moves.shape[0])


def _costs(moves: Transitions) -> tuple[Array, Array, float]:
    """Mean cost of a visit to each from-state with its standard error, and the share of steps whose cost is known."""
    known = ~np.isnan(moves.cost)
    size = moves.shape[0]
    n = np.bincount(moves.source[known], minlength=size)
    mean = np.bincount(moves.source[known], weights=moves.cost[known], minlength=size) / np.maximum(n, 1)
    spread = np.bincount(
        moves.source[known], weights=(moves.cost[known] - mean[moves.source[known]]) ** 2, minlength=size
    )
    se = np.where(n > 1, np.sqrt(spread / np.maximum(n - 1, 1) / np.maximum(n, 1)), 0.0)
    steps = int((moves.source > 0).sum())
    return mean, se, float(known.sum() / steps) if steps else 0.0


def _reliability(
    agent: str, episodes: pl.DataFrame, moves: Transitions, kappa: float, costs: tuple[Array, Array], known: float,
    random: np.random.Generator, config: ModelConfig,
) -> pl.DataFrame:  # fmt: skip
    """Bands of the agent and, with the agent's probabilities as prior, of each of its arms with enough traces."""
    size = moves.states
    whole = expected_counts(moves, episodes["success"])
    base = dirichlet.pooled(whole)
    groups = [(None, whole[:, size:].sum(axis=0), whole + kappa * base)]
    arms = episodes.group_by("arm").len().filter(pl.col("arm").is_not_null() & (pl.col("len") >= config.min_traces))
    arms = arms.sort(["len", "arm"], descending=[True, False]).head(config.most_arms)
    if arms.height > 1:
        prior = dirichlet.predictive(whole, base, kappa)
        for arm in arms["arm"].sort().to_list():
            of_arm = (episodes["arm"] == arm).fill_null(value=False).to_numpy()
            own = expected_counts(moves, episodes["success"], of_arm)
            groups.append((arm, own[:, size:].sum(axis=0), own + kappa * prior))
    lines = []
    for arm, ended, posterior in groups:
        bands = reliability(posterior, len(ENDS), *costs, random, config.reliability)
        for name, band in {**bands, **_extremes(ended, config.reliability.level)}.items():
            if band is not None and (known or name != "cost"):
                lines.append(
                    (agent, arm, _MEASURES[name], band.estimate, band.lower, band.upper, round(float(ended.sum())))
                )
    return pl.DataFrame(lines, schema=RELIABILITY, orient="row")


def _extremes(ended: Array, level: float) -> dict[str, Band | None]:
    """Bands of ends that no trace or every trace reached, by Jeffreys' interval (Brown, Cai & DasGupta 2001).

    What never happened has next to no weight in the chain, however few traces there are. No trace without a verdict:
    no statement on that (None).
    """

    def band(hits: float, n: float) -> Band | None:
        limit = float(betaincinv(0.5, n + 0.5, 0.5 + level / 2.0))
        return Band(0.0, 0.0, limit) if hits == 0 else Band(1.0, 1.0 - limit, 1.0) if hits == n else None

    total, judged = float(ended.sum()), float(ended[:2].sum())
    found: dict[str, Band | None] = {}
    for place in range(2):
        if ended[place] in (0.0, total):
            found[f"end_{place}"] = band(float(ended[place]), total)
    if ended[2] == 0.0:
        found["end_2"] = None
    if ended[0] in (0.0, judged):
        found["first_of_two"] = band(float(ended[0]), judged) if judged else None
    return found


def _schema(seen: pl.DataFrame, labelled: pl.DataFrame, episodes: pl.DataFrame, days: int) -> dict[str, list[str]]:
    """Tools first seen, and tools last seen, near the end of a window that is at least twice as long."""
    since, until = episodes["seen_at"].min(), episodes["seen_at"].max()
    tools = (
        seen.join(labelled, on="state").filter(kind="tool").group_by("action")
        .agg(pl.col("first").min(), pl.col("last").max()).sort("action")
    )  # fmt: skip
    if not isinstance(since, datetime) or not isinstance(until, datetime) or until - since < timedelta(days=2 * days):
        return {"new": [], "gone": []}
    border = until - timedelta(days=days)
    return {
        "new": tools.filter(pl.col("first") >= border)["action"].head(50).to_list(),
        "gone": tools.filter(pl.col("last") < border)["action"].head(50).to_list(),
    }


def _states(
    agent: str, states: pl.DataFrame, matrix: Array, base: Array, found: dirichlet.Surprise, progress: novelty.Progress
) -> pl.DataFrame:
    size = states.height
    visits = np.concatenate([matrix.sum(axis=1), matrix[:, size:].sum(axis=0)]).astype(np.int64)
    nothing = [None] * len(ENDS)
    left = {
        "entropy": found.entropy, "surprise_sd": found.sd, "unseen": novelty.good_turing(matrix),
        "progress": progress.drop, "progress_se": progress.se,
    }  # fmt: skip
    return pl.DataFrame(
        {
            "agent": [agent] * (size + 1 + len(ENDS)),
            "place": np.arange(size + 1 + len(ENDS)),
            "label": ["START", *states["label"].to_list(), "SUCCESS", "FAILURE", "ENDED"],
            "role": ["start", *["step"] * size, *ENDS],
            "visits": visits,
            "base": [None, *base.tolist()],
            "novelty": novelty.novelty(visits.astype(np.float64)),
            "progress_n": [*progress.n.tolist(), *nothing],
            **{
                name: [*(None if np.isnan(v) else v for v in values.tolist()), *nothing]
                for name, values in left.items()
            },
        },
        strict=False,
    ).select(pl.col(name).cast(dtype) for name, dtype in STATES.items())


def _moves(agent: str, matrix: Array) -> pl.DataFrame:
    rows, columns = np.nonzero(matrix)
    return pl.DataFrame(
        {
            "agent": [agent] * rows.size,
            "from_place": rows,
            "to_place": columns + 1,
            "n": matrix[rows, columns],
        }
    ).select(pl.col(name).cast(dtype) for name, dtype in MOVES.items())
