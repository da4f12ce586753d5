"""Which arm for this request: a reward for every (request, arm), and whether choosing by request beats one arm for all.

The reward of an arm for a request is the arm's mean plus what the request's features say of the arm's advantage over
the others, by ridge regression. Choosing by it is compared with the single arm that is best on the training side, on
requests that neither has seen: cross-validation grouped by question, so that a question that was asked twice is never
on both sides. The lift comes with an interval over groups, and is a claim only when the whole interval is above zero.

Two kinds of data. `full`: every request was answered by every arm (an experiment offline), so a choice is scored by
what it got. `logged`: one arm per request with its logged propensity, so it is scored doubly robustly (Dudik et al.
2011):

    value(pi) = mean[ q(x, pi(x)) + 1{a = pi(x)} / p (y - q(x, a)) ]

A missing or impossible propensity is refused: without it the arm that was chosen for easy requests looks best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from pipelines.rewards.crossfit import fold_of
from pipelines.rewards.leakage import check_split
from pipelines.stats.contract import ContractError

__all__ = ["ArmRewards", "Lift", "full", "logged", "released_split", "text_matrix"]

Floats = NDArray[np.float64]

FOLDS = 5
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_COMPONENTS = 60
_LEAST_GROUPS = 50
_LEAST_PER_ARM = 30
_LOWEST_PROPENSITY = 1e-3


@dataclass(frozen=True)
class Lift:
    """What choosing by request adds to the best single arm, per request, with its 95 % interval over groups.

    `claim` is None where the interval does not allow one; `text` says so in words. `n` requests in `groups` questions.
    """

    arms: tuple[str, ...]
    best: str
    best_value: float
    chosen_value: float
    lift: float
    lower: float
    upper: float
    n: int
    groups: int
    switched: float  # share of requests for which another arm than the best single one is chosen
    claim: str | None
    text: str

    def row(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**vars(self), "arms": list(self.arms)}


@dataclass(frozen=True)
class ArmRewards:
    """The reward of every arm for a request: `mean` of each arm plus its advantage from the features."""

    arms: tuple[str, ...]
    mean: Floats
    models: tuple[Ridge | None, ...]

    def predict(self, features: Floats) -> Floats:
        """Expected reward, (requests, arms)."""
        columns = [
            np.full(features.shape[0], mean) if model is None else mean + np.asarray(model.predict(features)).ravel()
            for mean, model in zip(self.mean.tolist(), self.models, strict=True)
        ]
        return np.stack(columns, axis=1)


def full(texts: Sequence[str], outcomes: Floats, arms: Sequence[str], *, groups: Sequence[str] | None = None) -> Lift:
    """The lift where every request has an outcome for every arm.

    Args: `texts` of the requests, `outcomes` (requests, arms) 0 to 1, `groups` that stay on one side (the text itself
    by default). Raises: `ContractError` for other shapes, missing outcomes or too few groups or arms.
    """
    groups = list(groups if groups is not None else map(_normal, texts))
    _check(outcomes, len(texts), arms, groups)
    fold = _folds(groups)
    gain, best_got, chosen_got = np.empty(len(texts)), np.empty(len(texts)), np.empty(len(texts))
    switched = np.zeros(len(texts), bool)
    for number in range(FOLDS):
        test = fold == number
        if not test.any():
            continue
        train = ~test
        one = _one_fold(
            [texts[i] for i in np.flatnonzero(train).tolist()],
            outcomes[train],
            [texts[i] for i in np.flatnonzero(test).tolist()],
        )
        best, chosen = one
        rows = np.flatnonzero(test)
        best_got[test] = outcomes[rows, best]
        chosen_got[test] = outcomes[rows, chosen]
        switched[test] = chosen != best
    gain = chosen_got - best_got
    best_arm = arms[int(outcomes.mean(axis=0).argmax())]
    return _lift(tuple(arms), best_arm, float(best_got.mean()), float(chosen_got.mean()), gain, groups, switched)


def released_split(
    train_texts: Sequence[str], train: Floats, test_texts: Sequence[str], test: Floats, arms: Sequence[str]
) -> Lift:
    """As `full` with a split that somebody else made. Raises: `LeakedSplit` when a question is on both sides."""
    check_split([_normal(text) for text in train_texts], [_normal(text) for text in test_texts])
    best, chosen = _one_fold(list(train_texts), train, list(test_texts))
    rows = np.arange(len(test_texts))
    best_got, chosen_got = test[rows, best], test[rows, chosen]
    groups = [_normal(text) for text in test_texts]
    return _lift(
        tuple(arms), arms[best], float(best_got.mean()), float(chosen_got.mean()), chosen_got - best_got, groups,
        chosen != best,
    )  # fmt: skip


def logged(features: Floats, arm: Sequence[str], reward: Floats, propensity: Floats, groups: Sequence[str]) -> Lift:
    """The lift from a log with one arm per request, doubly robust, cross-fitted by group.

    Args: `features` (requests, k) known before the choice; `arm`, `reward` 0 to 1 and `propensity` of what was run.
    Raises: `ContractError` naming the column for propensities that are missing, not above 0 or above 1, rewards outside
    0 to 1, or too few groups, arms or requests per arm.
    """
    _check_log(arm, reward, propensity, groups)
    names = sorted(set(arm))
    code = np.searchsorted(names, np.asarray(arm))
    fold = _folds(groups)
    n = len(arm)
    values = np.empty((n, len(names)))
    pick, best = np.empty(n, np.int64), np.empty(n, np.int64)
    for number in range(FOLDS):
        test = fold == number
        if not test.any():
            continue
        train = ~test
        model = _fit_arms(features[np.flatnonzero(train)], code[train], reward[train], names, propensity[train])
        q = model.predict(features[np.flatnonzero(test)])
        own = np.arange(q.shape[0])
        correction = (reward[test] - q[own, code[test]]) / propensity[test]
        robust = q.copy()
        robust[own, code[test]] += correction
        values[test] = robust
        pick[test] = np.argmax(q, axis=1)
        best[test] = int(np.argmax(model.mean))
    rows = np.arange(n)
    got, single = values[rows, pick], values[rows, best]
    arms = tuple(names)
    return _lift(
        arms, arms[int(np.bincount(best, minlength=len(arms)).argmax())], float(single.mean()), float(got.mean()),
        got - single, list(groups), pick != best,
    )  # fmt: skip


def text_matrix(train: Sequence[str], test: Sequence[str]) -> tuple[Floats, Floats]:
    """Simple features of texts, learned on `train` alone: TF-IDF of words and pairs of words on its leading components,
    and a few lengths.
    """
    vectoriser = TfidfVectorizer(min_df=3, max_features=3_000, ngram_range=(1, 2), sublinear_tf=True)
    try:
        words = vectoriser.fit_transform(train)
    except ValueError:  # no word is in three texts: lengths are all there is
        words = None
    lengths, asked = _lengths(train), _lengths(test)
    mean, sd = lengths.mean(axis=0), np.maximum(lengths.std(axis=0), 1e-6)
    known, new = [0.3 * (lengths - mean) / sd], [0.3 * (asked - mean) / sd]
    if words is not None and words.shape[1] > _COMPONENTS:
        topics = TruncatedSVD(_COMPONENTS, random_state=0).fit(words)
        known.append(topics.transform(words))
        new.append(topics.transform(vectoriser.transform(test)))
    elif words is not None:
        known.append(words.toarray())
        new.append(vectoriser.transform(test).toarray())
    return np.concatenate(known, axis=1), np.concatenate(new, axis=1)


def _one_fold(train_texts: list[str], train: Floats, test_texts: list[str]) -> tuple[int, NDArray[np.int64]]:
    """The best single arm of the training side, and the arm chosen for each test request."""
    known, asked = text_matrix(train_texts, test_texts)
    means = train.mean(axis=0)
    advantage = train - train.mean(axis=1, keepdims=True) - (means - means.mean())
    penalty = _penalty(known, advantage, _folds([_normal(text) for text in train_texts]))
    if penalty is None:
        return int(np.argmax(means)), np.full(len(test_texts), int(np.argmax(means)))
    predicted = np.asarray(Ridge(alpha=penalty).fit(known, advantage).predict(asked)) + means
    return int(np.argmax(means)), np.argmax(predicted, axis=1).astype(np.int64)


def _penalty(features: Floats, target: Floats, fold: NDArray[np.int64]) -> float | None:
    """The penalty with the least squared error on inner folds; None when no penalty beats predicting nothing."""
    errors = dict.fromkeys(_PENALTIES, 0.0)
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(test) or not len(train):
            continue
        for penalty in _PENALTIES:
            predicted = np.asarray(Ridge(alpha=penalty).fit(features[train], target[train]).predict(features[test]))
            errors[penalty] += float(((predicted.reshape(target[test].shape) - target[test]) ** 2).sum())
    best = min(errors, key=lambda penalty: errors[penalty])
    return best if errors[best] < float((target**2).sum()) else None


def _fit_arms(
    features: Floats, code: NDArray[np.int64], reward: Floats, names: Sequence[str], propensity: Floats
) -> ArmRewards:
    """A mean, by inverse propensity, and a ridge on the deviations from it for every arm."""
    means, models = [], []
    for number in range(len(names)):
        rows = np.flatnonzero(code == number)
        weight = 1.0 / propensity[rows]
        mean = float((weight * reward[rows]).sum() / weight.sum()) if len(rows) else float(reward.mean())
        means.append(mean)
        usable = len(rows) >= _LEAST_PER_ARM
        models.append(Ridge(alpha=10.0).fit(features[rows], reward[rows] - mean) if usable else None)
    return ArmRewards(tuple(names), np.array(means), tuple(models))


def _lift(
    arms: tuple[str, ...], best: str, best_value: float, chosen_value: float, gain: Floats, groups: list[str],
    switched: NDArray[np.bool_],
) -> Lift:  # fmt: skip
    """The mean gain with a t interval over the groups' sums (a ratio estimate: groups differ in size)."""
    _, index = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(index, gain), np.bincount(index)
    count, mean = len(sums), float(gain.mean())
    deviation = sums - mean * sizes
    se = float(np.sqrt((deviation**2).sum() * count / max(count - 1, 1)) / len(gain))
    margin = float(student.ppf(0.975, max(count - 1, 1))) * se
    lower, upper = mean - margin, mean + margin
    values = f"{best_value:.3f} with {best} alone, {chosen_value:.3f} chosen by request"
    if lower > 0:
        claim: str | None = f"Choosing the arm by request adds {mean:.3f} ({lower:.3f} to {upper:.3f})."
        text = f"{claim} {values}, {count} questions."
    else:
        claim = None
        text = (
            f"No claim: choosing by request changes the mean by {mean:+.3f} ({lower:+.3f} to {upper:+.3f}); {values}, "
            f"{count} questions. The best single arm is as good as can be told."
        )
    return Lift(
        arms, best, best_value, chosen_value, mean, lower, upper, len(gain), count, float(switched.mean()), claim, text
    )


def _check(outcomes: Floats, texts: int, arms: Sequence[str], groups: Sequence[str]) -> None:
    if outcomes.shape != (texts, len(arms)) or len(groups) != texts:
        raise ContractError("choice of arm", f"expected outcomes ({texts}, {len(arms)}), came {outcomes.shape}.")
    if len(arms) < 2:
        raise ContractError("choice of arm", "there is only one arm: nothing can be chosen.")
    if not np.all(np.isfinite(outcomes)) or outcomes.min() < 0 or outcomes.max() > 1:
        raise ContractError("choice of arm", "column outcome must lie from 0 to 1 for every request and arm.")
    if len(set(groups)) < _LEAST_GROUPS:
        raise ContractError("choice of arm", f"{len(set(groups))} questions; {_LEAST_GROUPS} are needed.")


def _check_log(arm: Sequence[str], reward: Floats, propensity: Floats, groups: Sequence[str]) -> None:
    name = "choice of arm"
    missing = int(np.sum(~np.isfinite(propensity)))
    if missing:
        raise ContractError(name, f"column propensity is missing in {missing} of {len(arm)} rows; it must be logged.")
    wrong = int(np.sum((propensity < _LOWEST_PROPENSITY) | (propensity > 1.0)))
    if wrong:
        raise ContractError(name, f"column propensity must be from {_LOWEST_PROPENSITY} to 1; {wrong} rows are not.")
    if not np.all(np.isfinite(reward)) or reward.min() < 0 or reward.max() > 1:
        raise ContractError(name, "column reward must lie from 0 to 1 in every row.")
    if len(set(groups)) < _LEAST_GROUPS:
        raise ContractError(name, f"{len(set(groups))} groups; {_LEAST_GROUPS} are needed.")
    names, counts = np.unique(np.asarray(arm), return_counts=True)
    if len(names) < 2:
        raise ContractError(name, "there is only one arm: nothing can be chosen.")
    if counts.min() < _LEAST_PER_ARM:
        few = names[int(np.argmin(counts))]
        raise ContractError(name, f"arm {str(few)!r} has {counts.min()} requests; {_LEAST_PER_ARM} are needed.")


def _folds(groups: Sequence[str]) -> NDArray[np.int64]:
    names = pl.Series(list(groups), dtype=pl.String)
    return fold_of(names, names, FOLDS)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _lengths(texts: Sequence[str]) -> Floats:
    """Characters and words (logarithms), numbers, and sentences of each text."""
    rows = [
        (
            np.log1p(len(text)),
            np.log1p(len(text.split())),
            min(sum(word.strip(".,?!$").isdigit() for word in text.split()), 12),
            min(text.count(".") + text.count("?"), 12),
        )
        for text in texts
    ]
    return np.array(rows, dtype=np.float64).reshape(len(texts), 4)
