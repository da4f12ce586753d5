"""Per-user weights of item features from logged choices: a softmax choice model pooled over people.

One-step inverse RL (METHODS §3): person u gives the item with features x the utility x'w_u + c, c a constant of where
it was shown, and "ignore" the utility 0. Two kinds of lists:

- choose one: P(i) = e^{u_i} / (1 + Σ_j e^{u_j}), McFadden (1974), c including a constant of the position;
- pick any (a list of which several items are clicked): each item by itself, P(i) = e_i · s(u_i) with e_i the
  probability that its position is looked at (position-based model, Richardson et al. 2007).

w_u ~ N(mu_g, Sigma_g) with g the person's segment. mu and Sigma come by EM from normal approximations of everybody's
likelihood: first at its mode, by Newton's method for all people at once (Laplace empirical Bayes, Breslow & Clayton
1993; METHODS §3, fit (c)), then by its integral (`integration`), which removes the bias that few choices leave.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.preferences import choice_likelihood
from pipelines.preferences.choice_likelihood import Choices
from pipelines.preferences.integration import likelihood_sites, standard_draws, weighted_moments

__all__ = ["Choices", "Pooled", "fit", "modes", "posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ROUNDS = 40
_EM_STEPS = 15  # of mu and Sigma in each round
_FURTHER = 1.7  # times the EM step (over-relaxation, below 2)
_PRIOR_PEOPLE = 50.0  # that the Sigma of a segment leans on the others by
_NEWTON_ROUNDS = 25
_INTEGRAL_ROUNDS = 3
_TOLERANCE = 1e-3  # of mu and the sds of Sigma between two rounds, in prior sds
_LONGEST_STEP = 2.0
_CONSTANT_SD = 3.0  # weak prior of the constants, in logits: one that nothing speaks of stays finite
_SMALLEST_VARIANCE = 1e-4


@dataclass(frozen=True)
class Pooled:
    """What people value; p columns of weights, those of `Choices.features`.

    mean, spread    (segments, p) and (segments, p, p): mu and Sigma
    weights, covariance   (users, p) and (users, p, p): posterior mode and covariance of each person
    constants       (places,) logits;  rounds of EM until it converged, or all of them;  converged
    """

    mean: Floats
    spread: Floats
    weights: Floats
    covariance: Floats
    constants: Floats
    rounds: int
    converged: bool


def fit(choices: Choices, *, most_users: int = 10_000) -> Pooled:
    """Fit mu, Sigma, the constants and every person's weights.

    With more than `most_users` people mu, Sigma and the constants are fitted on an evenly spaced sample of so many.
    Raises ValueError where no item was chosen or every item was.
    """
    if not choices.chosen.any() or choices.chosen.all():
        raise ValueError("weights need items that were chosen and items that were not")
    width, segments = choices.features.shape[1], int(choices.segment.max()) + 1
    sample = choices if choices.users <= most_users else choice_likelihood.sample(choices, most_users)
    start = Pooled(
        mean=np.zeros((segments, width)),
        spread=np.tile(np.eye(width), (segments, 1, 1)),
        weights=np.zeros((sample.users, width)),
        covariance=np.tile(np.eye(width), (sample.users, 1, 1)),
        constants=choice_likelihood.first_constants(sample),
        rounds=0,
        converged=False,
    )
    pooled = _integrate(sample, _maximise(sample, start))
    everyone = replace(pooled, weights=pooled.mean[choices.segment], covariance=pooled.spread[choices.segment])
    return posterior(choices, everyone)


def posterior(choices: Choices, pooled: Pooled) -> Pooled:
    """Every person's posterior mean and covariance, given mu, Sigma and the constants of `pooled`."""
    at_mode = modes(choices, pooled)
    precision = _inverse(pooled.spread)[choices.segment]
    prior = pooled.mean[choices.segment]
    weights, covariance = np.empty_like(at_mode.weights), np.empty_like(at_mode.covariance)
    draws = standard_draws(weights.shape[1])
    for users, part in choice_likelihood.parts(choices):
        weights[users], covariance[users] = _moments(
            part, prior[users], precision[users], at_mode.weights[users], at_mode.covariance[users],
            pooled.constants, draws,
        )  # fmt: skip
    return replace(pooled, weights=weights, covariance=covariance)


def modes(choices: Choices, pooled: Pooled) -> Pooled:
    """Every person's posterior mode and the inverse information there; the search starts at the weights of `pooled`."""
    precision = _inverse(pooled.spread)[choices.segment]
    prior = pooled.mean[choices.segment]
    weights = pooled.weights.copy()
    covariance = np.empty((choices.users, *pooled.spread.shape[1:]))
    for users, part in choice_likelihood.parts(choices):
        weights[users], covariance[users] = _modes(
            part, prior[users], precision[users], weights[users], pooled.constants, _NEWTON_ROUNDS
        )
    return replace(pooled, weights=weights, covariance=covariance)


def _integrate(choices: Choices, pooled: Pooled) -> Pooled:
    """mu and Sigma again, from integrals of everybody's likelihood instead of its mode and curvature."""
    for _ in range(_INTEGRAL_ROUNDS):
        fitted = posterior(choices, pooled)
        pull, information = likelihood_sites(
            fitted.weights, fitted.covariance, pooled.mean[choices.segment],
            _inverse(pooled.spread)[choices.segment],
        )  # fmt: skip
        mean, spread, _ = _normal_model(pull, information, choices.segment, pooled.mean, pooled.spread, 4 * _EM_STEPS)
        # The mean readiness to choose stays with the constants.
        shared = float(fitted.weights[:, -1].mean())
        mean[:, -1] -= shared
        pooled = replace(
            pooled,
            mean=mean,
            spread=spread,
            constants=pooled.constants + shared * choice_likelihood.is_list_constant(choices),
        )
    return pooled


def _maximise(choices: Choices, pooled: Pooled) -> Pooled:
    """Rounds of: summarise each person's likelihood at their mode, EM on the summaries, then the constants."""
    parts = list(choice_likelihood.parts(choices))
    mean, spread, constants = pooled.mean, pooled.spread, pooled.constants
    weights = pooled.weights.copy()
    width = weights.shape[1]
    gradient, information = np.empty((choices.users, width)), np.empty((choices.users, width, width))
    for done in range(1, _ROUNDS + 1):
        for users, part in parts:
            gradient[users], information[users] = choice_likelihood.scores(part, weights[users], constants)
        pull = gradient + np.einsum("uij,uj->ui", information, weights)
        fresh_mean, fresh_spread, found = _normal_model(pull, information, choices.segment, mean, spread)
        step = found - weights
        longest = np.abs(step).max(axis=1, keepdims=True)
        weights = weights + step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-12))
        # The constants hold the mean readiness to choose: what people share of it belongs to them.
        shared = float(weights[:, -1].mean())
        fresh_mean[:, -1] -= shared
        weights[:, -1] -= shared
        fresh_constants = constants + shared * choice_likelihood.is_list_constant(choices)
        fresh_constants += _constant_step(parts, weights, fresh_constants)
        sds = np.sqrt(np.einsum("gii->gi", fresh_spread))
        moved = max(
            float(np.abs((fresh_mean - mean) / sds).max()),
            float(np.abs(np.sqrt(np.einsum("gii->gi", spread)) / sds - 1.0).max()),
            float(np.abs(fresh_constants - constants).max(initial=0.0)),
        )
        mean, spread, constants = fresh_mean, fresh_spread, fresh_constants
        if moved < _TOLERANCE and done > 3:
            break
    return Pooled(mean, spread, weights, pooled.covariance, constants, rounds=done, converged=moved < _TOLERANCE)


def _normal_model(
    pull: Floats, information: Floats, segment: Ints, mean: Floats, spread: Floats, steps: int = _EM_STEPS
) -> tuple[Floats, Floats, Floats]:
    """EM of mu and Sigma given each person's normal likelihood exp(pull'w - w'information w / 2); and the modes."""
    counts = np.bincount(segment, minlength=len(mean)).astype(np.float64)
    width = mean.shape[1]
    for _ in range(steps):
        precision = np.linalg.inv(spread)
        covariance = np.linalg.inv(information + precision[segment])
        own = pull + np.einsum("gij,gj->gi", precision, mean)[segment]
        found = np.einsum("uij,uj->ui", covariance, own)
        mean = _by_segment(segment, found, counts)
        centred = found - mean[segment]
        before, spread = spread, _by_segment(segment, centred[:, :, None] * centred[:, None, :] + covariance, counts)
        spread = _towards_each_other(spread, covariance, segment, counts)
        # EM creeps along its own direction: going further that way is still a covariance, and arrives sooner.
        spread = _positive(before + _FURTHER * (spread - before)) + _SMALLEST_VARIANCE * np.eye(width)
    return mean, spread, found


def _inverse(matrices: Floats) -> Floats:
    """The inverses of symmetric matrices (n, p, p)."""
    return np.asarray(np.linalg.inv(matrices), dtype=np.float64)


def _towards_each_other(spread: Floats, covariance: Floats, segment: Ints, counts: Floats) -> Floats:
    """Sigma of each segment shrunk towards the mean over people (inverse-Wishart prior).

    A person counts as the square of the share of variance that their choices explain: that is how much of an
    observation of Sigma they are. The prior is worth `_PRIOR_PEOPLE` people.
    """
    if len(counts) == 1:
        return spread
    variance = np.einsum("gii->gi", spread)
    explained = np.clip(1.0 - np.einsum("uii->ui", covariance) / variance[segment], 0.0, 1.0).mean(axis=1)
    worth = np.bincount(segment, weights=explained**2, minlength=len(counts))[:, None, None]
    shared = np.einsum("g,gij->ij", counts / counts.sum(), spread)
    return np.asarray((worth * spread + _PRIOR_PEOPLE * shared) / (worth + _PRIOR_PEOPLE))


def _positive(matrices: Floats) -> Floats:
    """The matrices (n, p, p), their eigenvalues at least `_SMALLEST_VARIANCE`."""
    values, vectors = np.linalg.eigh(matrices)
    return np.asarray((vectors * np.maximum(values, _SMALLEST_VARIANCE)[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def _constant_step(parts: "list[tuple[slice, Choices]]", weights: Floats, constants: Floats) -> Floats:
    """One bounded Newton step of the constants, given everybody's weights."""
    gradient, curvature = -constants / _CONSTANT_SD**2, np.full(len(constants), 1.0 / _CONSTANT_SD**2)
    for users, part in parts:
        step = choice_likelihood.constant_scores(part, weights[users], constants)
        gradient += step[0]
        curvature += step[1]
    return np.asarray(np.clip(gradient / curvature, -1.0, 1.0))


def _modes(
    part: Choices, prior: Floats, precision: Floats, weights: Floats, constants: Floats, rounds: int
) -> tuple[Floats, Floats]:
    """Newton's method for the posterior modes of all people of a part; the covariance is the inverse information.

    The information is that before the last step: near the mode, which `posterior` makes sure of, they are the same.
    """
    covariance = np.empty_like(precision)
    for _ in range(rounds):
        gradient, information = choice_likelihood.scores(part, weights, constants)
        gradient -= np.einsum("uij,uj->ui", precision, weights - prior)
        covariance = _inverse(information + precision)
        step = np.einsum("uij,uj->ui", covariance, gradient)
        longest = np.abs(step).max(axis=1, keepdims=True)
        weights = weights + step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-12))
        if longest.max() < 1e-6:
            break
    return weights, covariance


def _moments(
    part: Choices, prior: Floats, precision: Floats, mode: Floats, covariance: Floats, constants: Floats, draws: Floats
) -> tuple[Floats, Floats]:
    """Posterior mean and covariance of each person of a part, from weighted draws around the mode."""
    root = np.linalg.cholesky(covariance)
    drawn = mode[:, None, :] + np.einsum("kj,uij->uki", draws, root)
    gap = drawn - prior[:, None, :]
    log_weight = 0.5 * (draws**2).sum(axis=1) - 0.5 * np.einsum("uki,uij,ukj->uk", gap, precision, gap, optimize=True)
    fixed = choice_likelihood.constant_of(part, constants)
    for place in range(len(draws)):
        log_weight[:, place] += choice_likelihood.log_likelihood(part, drawn[:, place, :], fixed)
    return weighted_moments(drawn, log_weight, mode, covariance)


def _by_segment(segment: Ints, values: Floats, counts: Floats) -> Floats:
    """The mean of `values` (users, ...) of each segment."""
    order = np.argsort(segment, kind="stable")
    sums = np.add.reduceat(values[order], choice_likelihood.starts(segment[order]), axis=0)
    shape = (len(counts),) + (1,) * (values.ndim - 1)
    means: Floats = sums / counts.reshape(shape)
    return means
