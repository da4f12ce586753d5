"""What is left of each value when what everybody has in common is taken away: only that can be a user's own drift.

A new model, a lesson, a busy Monday hit many users on one day; scanned as they are, their values would make thousands
of findings of one change. So each value is compared with what is expected of its task, of the model and the agent's
version in the period between two known interventions, of the weekday, the week and the day. Each of these effects is
the mean of what the effects before it leave, shrunk towards none by as much as such means differ by chance alone, and
taken without the user's own values: what only the user does is not explained away, also where the user is the only one.

Numbers lose the effects by subtraction. Yes/no values and categories have to stay such for their likelihoods: the
expected shares of an event, tilted to the user's own, are coupled with the user's shares over all events, and a value
is redrawn only as far as the two differ (`pipelines.drift.coupling`).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.drift.coupling import coupled, positive
from pipelines.drift.metrics import Likelihood

__all__ = [
    "CELLS", "EFFECTS", "OTHER", "Cells", "Effect", "Expectation", "Pilot", "Spells", "fit", "pilot", "prepare",
    "prior_weight", "residual", "settle",
]  # fmt: skip

Floats = NDArray[np.float64]

# Effects in the order in which they are taken away.
EFFECTS: Final = {
    "task": ("agent", "task"),
    "model and version": ("agent", "model", "agent_version", "period"),
    "weekday": ("agent", "weekday"),
    "week": ("agent", "model", "week"),
    "day": ("agent", "model", "day"),
}
CELLS: Final = ("agent", "segment", "task", "model", "agent_version", "period", "day")
OTHER: Final = "(other)"
_SPELL: Final = ["agent", "model", "agent_version", "period"]
_ROUNDS: Final = 50
_MOST_CATEGORIES: Final = 8
_MOST_TASKS: Final = 200


@dataclass(frozen=True)
class Pilot:
    """What has to be known before values are compared, from the first slice of users.

    `categories` names the columns of outcomes (one for numbers); `tasks` are told apart; `centre` is the mean of each
    agent, (agents, columns), in the order of `agents`; `kappa` is the number of a user's values at which half of the
    distance of their mean is their own. `spells` has the effects of models, versions and periods (`e0`..) that are
    estimated together with the means of users (`settle`): people who change their model half-way would otherwise
    carry half of what it does in their own mean.
    """

    likelihood: Likelihood
    categories: tuple[str, ...]
    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    centre: Floats
    kappa: float
    spells: pl.DataFrame | None = None

    @property
    def columns(self) -> list[str]:
        """The names of the columns of outcomes in a prepared frame."""
        return [f"y{i}" for i in range(max(1, len(self.categories)))]


@dataclass
class Cells:
    """Sums of centred values by everything that effects are of; add the slices of users one by one."""

    columns: list[str]
    _parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, events: pl.DataFrame) -> None:
        """Add the events of a slice, as `prepare` gives them."""
        sums = [pl.col(f"c{i}").sum().alias(f"s{i}") for i in range(len(self.columns))]
        squares = pl.sum_horizontal(pl.col(f"c{i}") ** 2 for i in range(len(self.columns))).sum().alias("squares")
        raw = [pl.col(name).sum() for name in self.columns]
        self._parts.append(events.group_by(CELLS).agg(pl.len().alias("n"), *sums, *raw, squares))
        if len(self._parts) > 8:
            self._parts = [self.frame()]

    def frame(self) -> pl.DataFrame:
        """One row a cell: n, the sums of centred (`s0`..) and of raw values (`y0`..), and of their squares."""
        return pl.concat(self._parts).group_by(CELLS).agg(pl.exclude(CELLS).sum()).sort(CELLS, nulls_last=True)


@dataclass
class Spells:
    """Sums of values by user and by what they used; add the slices of users one by one."""

    columns: list[str]
    _parts: list[pl.DataFrame] = field(default_factory=list)
    _users: int = 0

    def add(self, events: pl.DataFrame) -> None:
        """Add the events of a slice of whole users, as `prepare` gives them."""
        own = events.select(pl.struct("user_id", "agent").rank("dense").alias("user"), *_SPELL, *_net(self.columns))
        parts = own.group_by("user", *_SPELL).agg(pl.len().alias("n"), pl.exclude("user", *_SPELL).sum())
        self._parts.append(parts.with_columns(pl.col("user").cast(pl.Int64) + self._users))
        self._users += int(own["user"].max()) + 1  # type: ignore[arg-type]

    def frame(self) -> pl.DataFrame:
        """One row a user and spell: n and the sums of values less the mean of the agent (`s0`..)."""
        return pl.concat(self._parts)


@dataclass(frozen=True)
class Effect:
    """One effect: the columns it is of, and for each of their values n, the sums left over, and the shrinkage kappa."""

    name: str
    keys: tuple[str, ...]
    sums: pl.DataFrame
    kappa: float


@dataclass(frozen=True)
class Expectation:
    """The effects in order, and which share of the variance within users they explain together."""

    effects: tuple[Effect, ...]
    explained: float


def pilot(events: pl.DataFrame, likelihood: Likelihood, *, by_task: bool = True) -> Pilot:
    """Read from a slice of users (columns `store.drift_events.SCANNED`) what `prepare` needs.

    Without `by_task` nothing is expected of a task: so of the tasks themselves.
    """
    named = events.with_columns(pl.col("agent").fill_null(""))
    categories: tuple[str, ...] = ()
    if likelihood == "categorical":
        found = (
            named["category"].drop_nulls().value_counts(sort=True).sort("count", "category", descending=[True, False])
        )
        categories = tuple(found["category"].head(_MOST_CATEGORIES).to_list())
        categories += (OTHER,) if found.height > len(categories) else ()
    tasks = named["task"].drop_nulls().value_counts().sort("count", "task", descending=[True, False])
    agents = tuple(sorted(named["agent"].unique().to_list()))
    outcomes = _outcomes(named, likelihood, categories)
    codes = named["agent"].cast(pl.Enum(agents)).to_physical().to_numpy() if agents else np.zeros(0, np.int64)
    counted = np.maximum(np.bincount(codes, minlength=len(agents)), 1)
    centre = np.stack([np.bincount(codes, column, minlength=len(agents)) / counted for column in outcomes.T], axis=1)
    users = named.select(pl.struct("user_id", "agent").rank("dense").alias("g"))["g"].to_numpy().astype(np.int64)
    left = outcomes - centre[codes]
    n = np.bincount(users)
    sums = np.stack([np.bincount(users, column) for column in left.T], axis=1).astype(np.float64)
    kappa = prior_weight(n[n > 0], sums[n > 0], float((left**2).sum()))
    told_apart = tuple(tasks["task"].head(_MOST_TASKS).to_list()) if by_task else ()
    return Pilot(likelihood, categories, told_apart, agents, centre, kappa)


def prepare(events: pl.DataFrame, pilot: Pilot, known: pl.DataFrame) -> pl.DataFrame:
    """Events with what effects are of, outcomes (`y0`..), means of agents (`m0`..), and outcomes centred (`c0`..).

    They are centred at the user's mean at the agent, as far as its distance from the agent's is the user's own.
    `known` (columns `store.interventions.INTERVENTIONS`) are known change points; `period` counts those before.
    """
    named = _described(events, pilot, known)
    outcomes = _outcomes(named, pilot.likelihood, pilot.categories)
    places = range(len(pilot.columns))
    frame = named.with_columns(pl.Series(name, column) for name, column in zip(pilot.columns, outcomes.T, strict=True))
    centres = pl.DataFrame(
        {"agent": list(pilot.agents), **{f"m{i}": pilot.centre[:, i] for i in places}},
        schema={"agent": pl.String, **{f"m{i}": pl.Float64 for i in places}},
    )
    placed = frame.join(centres, on="agent", how="left", maintain_order="left").with_columns(
        pl.col(f"m{i}").fill_null(pl.col(name).mean().over("agent")) for i, name in enumerate(pilot.columns)
    )
    own = ["user_id", "agent"]
    weight = pl.len().over(own) / (pl.len().over(own) + pilot.kappa)
    if pilot.spells is None:
        placed = placed.with_columns(pl.lit(0.0).alias(f"e{i}") for i in places)
    else:
        placed = placed.join(pilot.spells, on=_SPELL, how="left", nulls_equal=True, maintain_order="left")
    net = [pl.col(name) - pl.col(f"m{i}") - pl.col(f"e{i}").fill_null(0.0) for i, name in enumerate(pilot.columns)]
    return placed.with_columns(
        (pl.col(name) - pl.col(f"m{i}") - net[i].mean().over(own) * weight).alias(f"c{i}")
        for i, name in enumerate(pilot.columns)
    ).drop(f"e{i}" for i in places)


def settle(pilot: Pilot, spells: Spells) -> Pilot:
    """The pilot with the effects of models, versions and periods, told apart from the means of users.

    Both are fitted in turn (Gauss-Seidel on the two-way layout), the effects with one value's weight on none.
    """
    frame = spells.frame()
    places = range(len(pilot.columns))
    cells = frame.select(_SPELL).unique(maintain_order=True).with_row_index("cell")
    if cells.height < 2:
        return pilot
    cell = frame.select(_SPELL).join(cells, on=_SPELL, nulls_equal=True, how="left", maintain_order="left")["cell"]
    of_cell, of_user = cell.to_numpy().astype(np.int64), frame["user"].to_numpy()
    n, sums = frame["n"].to_numpy().astype(np.float64), frame.select(f"s{i}" for i in places).to_numpy()
    per_user = np.bincount(of_user, n)
    per_cell = np.bincount(of_cell, n)
    effects = np.zeros((cells.height, len(pilot.columns)))
    for _ in range(_ROUNDS):
        left = sums - n[:, None] * effects[of_cell]
        means = (
            np.stack([np.bincount(of_user, column) for column in left.T], axis=1) / (per_user + pilot.kappa)[:, None]
        )
        left = sums - n[:, None] * means[of_user]
        effects = np.stack([np.bincount(of_cell, column) for column in left.T], axis=1) / (per_cell + 1.0)[:, None]
    found = cells.drop("cell").with_columns(pl.Series(f"e{i}", effects[:, i]) for i in places)
    return replace(pilot, spells=found)


def fit(cells: Cells) -> Expectation:
    """The effects on what the cells hold, each on what those before it leave."""
    frame = cells.frame().with_columns(_calendar())
    left = [f"s{i}" for i in range(len(cells.columns))]
    squares, total = float(frame["squares"].sum()), int(frame["n"].sum())
    first = squares
    effects: list[Effect] = []
    for name, keys in EFFECTS.items():
        sums = frame.group_by(keys).agg(pl.col("n").sum(), *(pl.col(column).sum() for column in left))
        n, s = sums["n"].to_numpy(), sums.select(left).to_numpy()
        kappa = prior_weight(n, s, squares)
        effects.append(Effect(name, keys, sums.rename({"n": "n_all", **{c: f"{c}_all" for c in left}}), kappa))
        if not np.isfinite(kappa):
            continue
        shrunk = s / (n + kappa)[:, None]
        squares = max(squares - float((2 * shrunk * s - shrunk**2 * n[:, None]).sum()), 0.0)
        means = sums.select(keys).with_columns(pl.Series(f"e{i}", shrunk[:, i]) for i in range(len(left)))
        frame = frame.join(means, on=keys, how="left", nulls_equal=True).with_columns(
            (pl.col(column) - pl.col("n") * pl.col(f"e{i}")).alias(column) for i, column in enumerate(left)
        ).drop(f"e{i}" for i in range(len(left)))  # fmt: skip
    return Expectation(tuple(effects), 1.0 - squares / first if first > 0 and total else 0.0)


def residual(events: pl.DataFrame, pilot: Pilot, expectation: Expectation) -> pl.DataFrame:
    """Prepared events of whole users with `residual`; of categories with `coupled`, the category to be scanned."""
    places = range(len(pilot.columns))
    frame = events.with_columns(_calendar()).with_columns(pl.col(f"c{i}").alias(f"r{i}") for i in places)
    for effect in expectation.effects:
        if np.isfinite(effect.kappa):
            frame = _without(frame, effect, len(pilot.columns))
    if pilot.likelihood not in ("bernoulli", "categorical"):
        return frame.with_columns(pl.col("r0").alias("residual"))
    expected = np.stack([(frame[f"c{i}"] - frame[f"r{i}"]).to_numpy() for i in places], axis=1)
    outcome = frame.select(pilot.columns).to_numpy()
    shares = frame.select(f"m{i}" for i in places).to_numpy()
    if pilot.likelihood == "bernoulli":
        expected, outcome = _two_sided(expected, -expected), _two_sided(outcome, 1.0 - outcome)
        shares = _two_sided(shares, 1.0 - shares)
    users = frame["user_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    scanned = coupled(outcome, positive(shares + expected), users, frame["draw"].to_numpy())
    if pilot.likelihood == "bernoulli":
        return frame.with_columns(residual=pl.Series((scanned == 0).astype(np.float64)))
    return frame.with_columns(
        residual=pl.Series(scanned.astype(np.float64)),
        coupled=pl.Series(np.array(pilot.categories, dtype=object)[scanned], dtype=pl.String),
    )


def _net(columns: list[str]) -> list[pl.Expr]:
    return [(pl.col(name) - pl.col(f"m{i}")).alias(f"s{i}") for i, name in enumerate(columns)]


def _two_sided(yes: Floats, no: Floats) -> Floats:
    return np.concatenate([yes, no], axis=1)


def _described(events: pl.DataFrame, pilot: Pilot, known: pl.DataFrame) -> pl.DataFrame:
    frame = events.with_columns(
        pl.col("agent").fill_null(""),
        task=pl.when(pl.col("task").is_in(pilot.tasks)).then("task").otherwise(pl.lit(OTHER)),
        day=pl.col("occurred_at").dt.date(),
    )
    moments = known.select("agent", "segment", "happened_at").filter(pl.col("happened_at").is_not_null())
    period = np.zeros(frame.height, dtype=np.int32)
    times = frame["occurred_at"].dt.epoch("us").to_numpy()
    for agent, segment, happened in moments.unique().iter_rows():
        concerned = times >= int(happened.timestamp() * 1e6)
        if agent is not None:
            concerned &= (frame["agent"] == agent).to_numpy()
        if segment is not None:
            concerned &= (frame["segment"] == segment).fill_null(False).to_numpy()
        period += concerned
    return frame.with_columns(period=pl.Series(period))


def _calendar() -> list[pl.Expr]:
    return [pl.col("day").dt.weekday().alias("weekday"), pl.col("day").dt.truncate("1w").alias("week")]


def _outcomes(events: pl.DataFrame, likelihood: Likelihood, categories: tuple[str, ...]) -> Floats:
    """What effects are estimated on, (n, columns): the value, its logarithm, or one column of 0 and 1 a category."""
    if likelihood == "categorical":
        named = np.array(events["category"].fill_null("").to_list(), dtype=object)
        columns = [named == name for name in categories if name != OTHER]
        if OTHER in categories:
            columns.append(~np.logical_or.reduce(columns))
        return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((events.height, 1))
    values = events["value"].to_numpy().astype(np.float64)
    return (np.log(values) if likelihood == "log" else values)[:, None]


def prior_weight(n: NDArray[Any], sums: Floats, squares: float) -> float:
    """How many values weigh as much as what is known beforehand: the variance within groups by that between them.

    Moments of the one-way random effects model, unbalanced (Searle, Casella & McCulloch 1992, 3.6), columns of
    outcomes added up: `n` (groups,), `sums` (groups, columns), `squares` the sum of all squares. Infinite where groups
    differ by no more than chance.
    """
    total, groups = float(n.sum()), len(n)
    if groups < 2 or total <= groups:
        return np.inf
    between = float((sums**2 / n[:, None]).sum())
    within = max(squares - between, 0.0) / (total - groups)
    spread = (between - float((sums.sum(axis=0) ** 2).sum()) / total - (groups - 1) * within) / (
        total - float((n.astype(np.float64) ** 2).sum()) / total
    )
    return within / spread if spread > 1e-12 else np.inf


def _without(frame: pl.DataFrame, effect: Effect, columns: int) -> pl.DataFrame:
    """The frame less one effect, each user's taken from the values of the others."""
    own = ["user_id", *effect.keys]
    joined = frame.join(effect.sums, on=effect.keys, how="left", nulls_equal=True, maintain_order="left")
    others = (pl.col("n_all") - pl.len().over(own)).clip(0)
    taken = [
        pl.when(others > 0)
        .then((pl.col(f"s{i}_all") - pl.col(f"r{i}").sum().over(own)) / (others + effect.kappa))
        .otherwise(0.0)
        .fill_null(0.0)
        for i in range(columns)
    ]
    return joined.with_columns((pl.col(f"r{i}") - taken[i]).alias(f"r{i}") for i in range(columns)).drop(
        "n_all", *(f"s{i}_all" for i in range(columns))
    )
