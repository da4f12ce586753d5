"""Logged decisions as arrays: what estimates of any target need of them, made once for all questions about them."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.off_policy import outcome_model
from pipelines.off_policy.targets import Choices
from pipelines.stats.contract import FitRefused, require

__all__ = ["DECISIONS", "Prepared", "prepare"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DECISIONS = pl.Schema(
    {
        "user_id": pl.String(),
        "segment": pl.String(),
        "task": pl.String(),
        "arm": pl.String(),
        "greedy_arm": pl.String(),
        "propensity": pl.Float64(),
        "arms": pl.List(pl.String()),
        "propensities": pl.List(pl.Float64()),
        "reward": pl.Float64(),
        "cluster": pl.UInt64(),
    }
)
"""Of each decision, as `store.logged_decisions` gives them: the arm that ran, the propensity of each of its eligible
`arms`, the reward, and the `cluster` within which decisions may not be independent."""

MODEL = "off-policy estimate"
_ROUNDING = 1e-4  # logged with six digits by those who write them as text


@dataclass(frozen=True)
class Prepared:
    """Decisions as arrays, (decisions,) or (decisions, arms); `drawn` indexes `choices.arms`.

    `fitted` is the outcome model; `cluster` None where every decision stands for itself.
    """

    choices: Choices
    drawn: Ints
    propensity: Floats
    reward: Floats
    fitted: Floats
    cluster: NDArray[np.uint64] | None

    def __len__(self) -> int:
        return len(self.drawn)

    def only(self, rows: NDArray[np.bool_]) -> "Prepared":
        """These decisions of them; the outcome model stays as fitted on all."""
        choices = self.choices
        return Prepared(
            Choices(choices.arms, choices.logged[rows], choices.greedy[rows], choices.segments, choices.segment[rows]),
            self.drawn[rows],
            self.propensity[rows],
            self.reward[rows],
            self.fitted[rows],
            None if self.cluster is None else self.cluster[rows],
        )


def prepare(logged: pl.DataFrame) -> Prepared:
    """Check decisions (columns DECISIONS among others) and fit the outcome model.

    Rewards are outcomes, unbiased and so not bound to 0 to 1. Raises ContractError for other columns, and FitRefused:
    no_rows, missing_propensities
    (null or not a number), impossible_propensities (outside 0 to 1, zero for the arm that ran, not summing to 1, two
    different ones for the arm that ran, or an arm that is not among the eligible ones).
    """
    logged = require(
        logged, DECISIONS, "logged decisions", not_null=["arm", "greedy_arm", "reward", "cluster"]
    )  # fmt: skip
    if logged.is_empty():
        raise FitRefused(MODEL, "no_rows", "there is no decision with a logged propensity and an outcome.")
    _require_known(logged)
    flat_arm = logged["arms"].explode(empty_as_null=False)
    arms = flat_arm.unique().sort()
    names = pl.Enum(arms)
    code = flat_arm.cast(names).to_physical().to_numpy().astype(np.int64)
    vector = np.zeros((logged.height, len(arms)))
    flat = logged["propensities"].explode(empty_as_null=False).to_numpy()
    rows = np.repeat(np.arange(logged.height), logged["arms"].list.len().to_numpy())
    vector[rows, code] = flat
    drawn, greedy = (
        logged[column].cast(names, strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        for column in ("arm", "greedy_arm")
    )
    propensity = logged["propensity"].to_numpy()
    _require_possible(propensity, vector, drawn, greedy)
    # Exactly 1 in sum, so that the policy as it ran weighs every decision 1.
    vector /= vector.sum(axis=1, keepdims=True)
    reward = logged["reward"].to_numpy()
    fold = _folds(logged["user_id"], logged["cluster"])
    segments, segment = _coded(logged["segment"])
    _, task = _coded(logged["task"])
    contexts = outcome_model.Contexts(segment, task, fold)
    cluster = logged["cluster"]
    return Prepared(
        choices=Choices(tuple(arms), vector, greedy, segments[1:], segment - 1),
        drawn=drawn,
        propensity=vector[np.arange(len(drawn)), drawn],
        reward=reward,
        fitted=outcome_model.predict(contexts, drawn, reward, len(arms)),
        cluster=None if cluster.n_unique() == len(cluster) else cluster.to_numpy(),
    )


def _folds(user: pl.Series, cluster: pl.Series) -> Ints:
    """Everything of a person in one fold; where there is no person, of a cluster. The same in every process."""
    people = user.unique().drop_nulls()
    numbers = [crc32(person.encode()) % outcome_model.FOLDS for person in people.to_list()]
    of_person = user.replace_strict(people, pl.Series(numbers, dtype=pl.Int64), default=None, return_dtype=pl.Int64)
    folds = of_person.fill_null((cluster % outcome_model.FOLDS).cast(pl.Int64)).to_numpy()
    return np.asarray(folds, dtype=np.int64)


def _coded(values: pl.Series) -> tuple[tuple[str, ...], Ints]:
    """Names with "" first, and each value's place among them; 0 for null."""
    named = values.fill_null("")
    names = ["", *sorted(name for name in named.unique().to_list() if name)]
    return tuple(names), named.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)


def _require_known(logged: pl.DataFrame) -> None:
    p, vector = pl.col("propensity"), pl.col("propensities")
    unknown = p.is_null() | p.is_nan() | vector.is_null() | pl.col("arms").is_null() | (vector.list.len() == 0)
    missing = logged.filter(unknown).height
    flat = logged["propensities"].explode(empty_as_null=False)
    if missing or flat.null_count() or flat.is_nan().any():
        raise FitRefused(
            MODEL,
            "missing_propensities",
            f"{missing or 'some'} of {logged.height} decisions do not state the probability of every arm. "
            "It cannot be made up afterwards: log it with each decision.",
        )
    unequal = logged.filter(vector.list.len() != pl.col("arms").list.len()).height
    if unequal:
        raise _impossible(unequal, logged.height, "state more or fewer probabilities than arms")


def _require_possible(propensity: Floats, vector: Floats, drawn: Ints, greedy: Ints) -> None:
    rows = np.arange(len(drawn))
    stated = vector[rows, np.maximum(drawn, 0)]
    for wrong, what in (
        ((drawn < 0) | (greedy < 0), "ran an arm, or had a greedy arm, that was not eligible"),
        (~((propensity > 0.0) & (propensity <= 1.0)), "have a propensity that is not above 0 and at most 1"),
        ((vector < 0.0).any(axis=1) | (vector > 1.0).any(axis=1), "state a probability outside 0 to 1"),
        (np.abs(vector.sum(axis=1) - 1.0) > _ROUNDING, "state probabilities that do not sum to 1"),
        (np.abs(stated - propensity) > _ROUNDING, "state two different probabilities of the arm that ran"),
    ):
        if wrong.any():
            raise _impossible(int(wrong.sum()), len(drawn), what)


def _impossible(count: int, total: int, what: str) -> FitRefused:
    return FitRefused(MODEL, "impossible_propensities", f"{count:,} of {total:,} decisions {what}.")
