"""How lenient each person is, and how satisfied: partial pooling of people, all at once.

    quality of a trace of person u   θ ~ N(μ + q_u, s² - σ²),   q_u ~ N(0, σ²)
    what u reports of it             θ + c_u,                   c_u ~ N(0, τ²)

q_u shows in everything, leniency c_u in what u says only: comparing the two tells them apart. σ and τ maximise the
likelihood of all people, integrated over (q_u, c_u) by Gauss-Hermite quadrature given the fitted items; every person's
posterior is on the same nodes. Somebody with three events keeps most of the population's variance: `leans_on` is the
share kept, posterior over prior variance of the person's satisfaction. Posteriors are averaged over what is not known
of τ (three Gauss-Hermite nodes of ln τ): taken as certain, intervals of leniency cover .92 instead of .95.

People of a segment of at least 20 lean on what that segment has in common, itself shrunk to the agent
(`segment_priors`), everybody else on the agent. What is not known of a segment's mean is averaged over in each of its
people's posteriors (third-degree cubature, Stroud 1971).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import logsumexp

from pipelines.rewards.grid import gaussian_nodes
from pipelines.rewards.latent import LatentFit
from pipelines.rewards.measured import LENIENCY
from pipelines.rewards.person_tables import PersonTables, satisfied_at
from pipelines.rewards.response_models import Array, IntArray
from pipelines.rewards.segment_people import Segment, SegmentPeople, segment_codes

__all__ = ["AGENT", "ASSUMED_TAU", "People", "Spread", "combine", "fit_people", "spread_of_people"]

ASSUMED_TAU = 0.3  # where too few people said two things to tell
_ASSUMED_SIGMA, _ASSUMED_LOG_SD = 0.3, 0.5
_NODES = 9
_MOST_PEOPLE = 4_000  # to estimate two standard deviations; posteriors are of everybody
_FEWER_PEOPLE = 500
_LEAST_PEOPLE = 30
_STEP = 0.1  # of ln σ and ln τ in differences
_LOWEST, _HIGHEST = 0.02, 2.5
AGENT = "agent"  # what people lean on that are of no segment of enough people
_PRIOR_SD = 1.0  # of ln σ and ln τ around ln .3: for what the data cannot tell apart


@dataclass(frozen=True)
class Spread:
    """σ, τ, the standard deviation of ln τ, and how many people tell; `reason` few_people, not_separable or None."""

    sigma: float
    tau: float
    log_tau_sd: float
    people: int
    reason: str | None

    @property
    def limits(self) -> tuple[float, float]:
        """95 % limits of τ."""
        margin = float(np.exp(1.96 * self.log_tau_sd))
        return self.tau / margin, self.tau * margin


@dataclass(frozen=True)
class People:
    """Posteriors of one agent's people: arrays over `user` codes (people,).

    `segment` (people,) is the index in `segments` of what a person leans on, -1 for the agent; `prior_mean` and
    `prior_sd` (people,) are of the leniency of somebody without events.
    """

    user: IntArray
    traces: IntArray
    events: IntArray
    leniency: Array
    leniency_sd: Array
    satisfaction: Array
    satisfaction_sd: Array
    leans_on: Array
    spread: Spread
    segment: IntArray
    prior_mean: Array
    prior_sd: Array
    segments: tuple[Segment, ...] = ()


def spread_of_people(fit: LatentFit, users: IntArray, events: IntArray, near: Spread | None = None) -> Spread:
    """σ and τ of an agent's people; `users` (traces,) codes, `events` (traces,) statements on each trace.

    `near` is where an earlier estimate was. The uncertainty of τ is left to `fit_people`.
    """
    likelihood = _SpreadLikelihood(fit, users, events)
    if likelihood.telling < _LEAST_PEOPLE:
        sigma = _ASSUMED_SIGMA if likelihood.separable else 0.0
        return Spread(sigma, ASSUMED_TAU, _ASSUMED_LOG_SD, likelihood.telling, "few_people")
    size = 2 if likelihood.separable else 1
    start = np.full(size, np.log(ASSUMED_TAU)) if near is None else np.log([near.sigma, near.tau][-size:])
    simplex = np.vstack([start, start + (0.7 if near is None else 0.15) * np.eye(size)])
    found = minimize(
        likelihood, start, method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 0.02, "maxfev": 45},
    )  # fmt: skip
    sigma, tau = likelihood.limited(np.asarray(found.x, dtype=np.float64))
    return Spread(sigma, tau, 0.0, likelihood.telling, None if likelihood.separable else "not_separable")


def fit_people(
    fit: LatentFit, users: IntArray, events: IntArray, spread: Spread, stated: pl.DataFrame | None = None
) -> People:
    """Posteriors of all of an agent's people, given how much people differ; arguments as `spread_of_people`.

    `stated` (columns `user`, `segment`) names the segment of those people who have one.
    """
    if spread.reason != "few_people":
        at = np.log([spread.sigma, spread.tau] if spread.reason is None else [spread.tau])
        spread = replace(spread, log_tau_sd=_log_tau_sd(fit, users, events, np.asarray(at)))
    user, inverse = np.unique(users, return_inverse=True)
    said = np.bincount(inverse, weights=events).astype(np.int64)
    traces = np.bincount(inverse).astype(np.int64)
    tables, counts = PersonTables(fit), _counts(fit, inverse)
    sums = np.zeros((5, len(user)))
    mixed, weights = gaussian_nodes(spread.log_tau_sd, 3)
    taus = (spread.tau * np.exp(mixed), weights)
    for tau, weight in zip(*taus, strict=True):
        sums += weight * _moments(tables, counts, spread.sigma, float(tau))
    prior_mean, prior_sd = np.zeros(len(user)), np.full(len(user), spread.tau)
    segment, names = segment_codes(user, stated)
    segments: tuple[Segment, ...] = ()
    found = SegmentPeople(tables, counts, segment, spread.sigma, taus) if names else None
    if found is not None and found.told:
        led, own = found.led, found.moments()
        sums[:, led] = own[:5]
        prior_mean[led], prior_sd[led] = own[5], np.sqrt(np.maximum(own[6] - own[5] ** 2, 1e-12))
        segments = found.summary(names)
    else:
        segment = np.full(len(user), -1)
    leniency, mean = sums[0], sums[2]
    variance = np.maximum(sums[3] - mean**2, 1e-12)
    return People(
        user,
        traces,
        said,
        leniency,
        np.sqrt(np.maximum(sums[1] - leniency**2, 1e-12)),
        mean,
        np.sqrt(variance),
        np.clip(variance / np.maximum(sums[4], 1e-12), 0.0, 1.0),
        spread,
        segment,
        prior_mean,
        prior_sd,
        segments,
    )


def _counts(fit: LatentFit, people: IntArray) -> sp.csr_matrix:
    """How often each person has each pattern, (people, patterns)."""
    shape = (int(people.max()) + 1, len(fit.patterns.count))
    return sp.csr_matrix((np.ones(len(people)), (people, fit.patterns.of_trace)), shape=shape)


def _moments(tables: PersonTables, counts: sp.csr_matrix, sigma: float, tau: float) -> Array:
    """First two posterior moments of everybody's leniency and satisfaction, and the latter's prior variance, (5, n)."""
    fit = tables.fit
    tastes, taste_weights = gaussian_nodes(sigma, _NODES)
    shifts, shift_weights = gaussian_nodes(tau, _NODES)
    log_person = tables.by_person(counts, np.arange(counts.shape[1]), sigma, tastes, shifts)
    prior = taste_weights[:, None] * shift_weights[None, :]
    log_posterior = log_person + np.log(prior)[None]
    posterior = np.exp(log_posterior - logsumexp(log_posterior, axis=(1, 2), keepdims=True))
    satisfied = satisfied_at(fit, sigma, tastes, shifts)
    spread = float((prior * satisfied**2).sum() - (prior * satisfied).sum() ** 2)
    return np.stack(
        [
            np.einsum("uqc,c->u", posterior, shifts),
            np.einsum("uqc,c->u", posterior, shifts**2),
            np.einsum("uqc,qc->u", posterior, satisfied),
            np.einsum("uqc,qc->u", posterior, satisfied**2),
            np.full(len(posterior), spread),
        ]
    )


class _SpreadLikelihood:
    """Minus the penalised log-likelihood of ln σ and ln τ, or of ln τ alone where quality shows in nothing done."""

    def __init__(self, fit: LatentFit, users: IntArray, events: IntArray, most: int = _MOST_PEOPLE) -> None:
        _, inverse = np.unique(users, return_inverse=True)
        self.telling = int((np.bincount(inverse, weights=events) >= 2).sum())
        self.separable = any(item.on == "quality" for item in fit.items)
        self.tables, self.most = PersonTables(fit), 0.9 * fit.sd
        counts = _counts(fit, inverse)
        # Chosen by an even step over people, not by what they said: silent ones belong to the likelihood as well.
        if counts.shape[0] > most:
            counts = counts[np.linspace(0, counts.shape[0] - 1, most).astype(np.int64)]
        self.people = int(counts.shape[0])
        self.used = np.unique(counts.indices)
        self.counts = counts[:, self.used]

    def limited(self, log_sds: Array) -> tuple[float, float]:
        """σ and τ within what makes sense."""
        sigma = float(np.clip(np.exp(log_sds[0]), _LOWEST, self.most)) if self.separable else 0.0
        return sigma, float(np.clip(np.exp(log_sds[-1]), _LOWEST, _HIGHEST))

    def __call__(self, log_sds: Array) -> float:
        sigma, tau = self.limited(log_sds)
        (tastes, own), (shifts, said) = gaussian_nodes(sigma, _NODES), gaussian_nodes(tau, _NODES)
        weights = own[:, None] * said[None, :]
        log_person = self.tables.by_person(self.counts, self.used, sigma, tastes, shifts) + np.log(weights)[None]
        penalty = 0.5 * float((((log_sds - np.log(ASSUMED_TAU)) / _PRIOR_SD) ** 2).sum())
        return penalty - float(logsumexp(log_person, axis=(1, 2)).sum())


def _log_tau_sd(fit: LatentFit, users: IntArray, events: IntArray, at: Array) -> float:
    """Standard deviation of ln τ, σ free and the items estimated: the two-step formula of Murphy & Topel (1985).

    var = H⁻¹ + H⁻¹ C V C' H⁻¹ with H the curvature in (ln σ, ln τ), C the change of its gradient with each parameter of
    the items and V their covariance.
    """
    likelihood = _SpreadLikelihood(fit, users, events)
    curvature = np.array([_gradient(likelihood, at + _STEP * e) - _gradient(likelihood, at - _STEP * e)
                          for e in np.eye(len(at))]) / (2.0 * _STEP)  # fmt: skip
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    inverse = (vectors / np.maximum(values, 1.0 / _PRIOR_SD**2)) @ vectors.T
    # The change of the gradient is per person, so that fewer people will do.
    sample = _SpreadLikelihood(fit, users, events, _FEWER_PEOPLE)
    base, change = _gradient(sample, at), np.zeros((len(at), len(fit.free)))
    for index, step in enumerate(np.sqrt(np.diag(fit.covariance))):
        moved = replace(fit, free=fit.free + step * np.eye(len(fit.free))[index])
        shifted = _gradient(_SpreadLikelihood(moved, users, events, _FEWER_PEOPLE), at)
        change[:, index] = (shifted - base) / step * likelihood.people / sample.people
    carried = inverse @ change
    return float(np.sqrt(inverse[-1, -1] + (carried @ fit.covariance @ carried.T)[-1, -1]))


def _gradient(objective: _SpreadLikelihood, at: Array) -> Array:
    return np.array([(objective(at + _STEP * e) - objective(at - _STEP * e)) / (2.0 * _STEP) for e in np.eye(len(at))])


def combine(people: Sequence[People], names: Array | Sequence[str | None]) -> pl.DataFrame:
    """One row per named person over all agents (columns LENIENCY); `names` by user code, None for unknown people.

    Each agent adds what it knows beyond the prior: precisions add, the prior counts once. Satisfaction is weighted by
    the traces a person has with each agent, and what they lean on is said of the agent with the most of them.
    """
    if not people:
        return pl.DataFrame(schema=LENIENCY)
    frames = []
    for one in people:
        prior, own = 1.0 / one.prior_sd**2, 1.0 / one.leniency_sd**2
        labels = pl.Series([part.name for part in one.segments], dtype=pl.String)
        frames.append(
            pl.DataFrame(
                {
                    "user": one.user,
                    "prior": prior,
                    "prior_pull": one.prior_mean * prior,
                    "gained": own - prior,
                    "pull": one.leniency * own - one.prior_mean * prior,
                    "traces": one.traces.astype(np.float64),
                    "events": one.events,
                    "leans_on": one.leans_on,
                    "satisfaction": one.satisfaction,
                    "variance": one.satisfaction_sd**2,
                    "segment": labels.gather(pl.Series(one.segment).replace(-1, None)),
                }
            )
        )
    share = pl.col("traces") / pl.col("traces").sum()
    merged = (
        pl.concat(frames)
        .group_by("user")
        .agg(
            precision=pl.max_horizontal(pl.col("prior").mean() + pl.col("gained").sum(), pl.col("prior").mean() / 4.0),
            pull=pl.col("prior_pull").mean() + pl.col("pull").sum(),
            events=pl.col("events").sum(),
            leans_on=(share * pl.col("leans_on")).sum(),
            satisfaction=(share * pl.col("satisfaction")).sum(),
            satisfaction_sd=(share**2 * pl.col("variance")).sum().sqrt(),
            segment=pl.col("segment").sort_by("traces", descending=True, maintain_order=True).first(),
        )
        .sort("user")
    )
    named = pl.Series("user_id", list(names), dtype=pl.String)
    known = merged.filter(pl.col("user") < len(named))
    return (
        known.with_columns(
            user_id=named.gather(known["user"]),
            leniency=pl.col("pull") / pl.col("precision"),
            sd=1.0 / pl.col("precision").sqrt(),
            leans_on_what=pl.col("segment").fill_null(AGENT),
        )
        .filter(pl.col("user_id").is_not_null())
        .select(list(LENIENCY))
        .cast(LENIENCY)
    )
