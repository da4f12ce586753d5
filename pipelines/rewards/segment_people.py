"""People of segments: their posteriors with the segment's prior, its uncertainty averaged over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp
from scipy.special import logsumexp

from pipelines.rewards.grid import GRID, gaussian_nodes, normal_weights
from pipelines.rewards.loadings import loading_slope
from pipelines.rewards.person_tables import PersonTables, satisfied_at
from pipelines.rewards.response_models import Array, IntArray
from pipelines.rewards.segment_priors import LEAST_PEOPLE, SegmentPriors, Sites, segment_priors, sites_of

__all__ = ["Segment", "SegmentPeople", "segment_codes"]

_NODES = 9
_LEAST_LOADING = 1e-3
_REACH, _MOST_NODES = 4.0, 41  # of the even grid that holds all segments' priors, in sds and nodes


@dataclass(frozen=True)
class Segment:
    """A segment that people lean on: how many, and the mean and sd of its leniency and quality effect (logits)."""

    name: str
    people: int
    leniency: float
    leniency_sd: float
    quality: float
    quality_sd: float


def segment_codes(user: IntArray, stated: pl.DataFrame | None) -> tuple[IntArray, list[str]]:
    """Index of each person's segment, -1 where it has too few people or none is stated, and the segments' names."""
    if stated is None or stated.is_empty():
        return np.full(len(user), -1), []
    own = pl.DataFrame({"user": user}).join(stated, on="user", how="left", maintain_order="left")
    names = own.drop_nulls("segment").group_by("segment").len().filter(pl.col("len") >= LEAST_PEOPLE)["segment"].sort()
    index = pl.DataFrame({"segment": names, "index": np.arange(len(names))})
    codes = own.join(index, on="segment", how="left", maintain_order="left")["index"].fill_null(-1)
    return codes.to_numpy().astype(np.int64), names.to_list()


class SegmentPeople:
    """The people of segments, `led` (rows), among all of the agent's people: `counts` (people, patterns) and `segment`
    (people,) indices, -1 for those of none.

    `taus` are possible sds of leniency and their weights; `told` is false where segments cannot be told from the agent.

    One table of log-likelihoods on an even grid serves all priors; each is a set of weights on its nodes.
    """

    def __init__(
        self, tables: PersonTables, counts: sp.csr_matrix, segment: IntArray, sigma: float, taus: tuple[Array, Array]
    ) -> None:
        self.fit, self.sigma, self.tables = tables.fit, sigma, tables
        self.led = np.flatnonzero(segment >= 0)
        self.segment = segment[self.led]
        self.people = np.bincount(self.segment)
        possible, self.weights = taus
        shares = self.people / len(segment)
        self.priors: list[SegmentPriors] = []
        if float(shares.sum() - (shares**2).sum()) > 0.0:
            sites = self._sites(counts, float(possible[np.argmax(self.weights)]))
            found = [segment_priors(sites, segment, shares, np.array([sigma, tau])) for tau in possible]
            self.priors = [one for one in found if one is not None]
        self.told = bool(self.priors)
        self.used = np.unique(counts[self.led].indices)
        self.counts = counts[self.led][:, self.used]

    def _sites(self, counts: sp.csr_matrix, tau: float) -> Sites:
        """What everybody's events say, from the posterior with the agent as prior."""
        tastes, taste_weights = gaussian_nodes(self.sigma, _NODES)
        shifts, shift_weights = gaussian_nodes(tau, _NODES)
        log_person = self.tables.by_person(counts, np.arange(counts.shape[1]), self.sigma, tastes, shifts)
        log_person += np.log(taste_weights[:, None] * shift_weights[None, :])
        posterior = np.exp(log_person - logsumexp(log_person, axis=(1, 2), keepdims=True)).reshape(len(log_person), -1)
        nodes = np.stack([one.ravel() for one in np.meshgrid(tastes, shifts, indexing="ij")], axis=1)
        mean = posterior @ nodes
        second = (posterior @ (nodes[:, :, None] * nodes[:, None, :]).reshape(len(nodes), 4)).reshape(-1, 2, 2)
        covariance = second - mean[:, :, None] * mean[:, None, :]
        return sites_of(mean, covariance, np.array([self.sigma, tau]))

    def _nodes(self, dimension: int) -> Array:
        """Even nodes that hold every segment's prior in one dimension, as far apart as people of a segment differ."""
        within = np.array([one.within[dimension] for one in self.priors])
        if within.max() <= 0.0:
            return np.zeros(1)
        means = np.array([one.mean[:, dimension] for one in self.priors])
        unsure = np.sqrt(max(one.covariance[:, dimension, dimension].max() for one in self.priors))
        reach = _REACH * within.max() + 2.0 * unsure
        low, high = means.min() - reach, means.max() + reach
        return np.linspace(low, high, int(np.clip(np.ceil((high - low) / within.min()) + 1, 9, _MOST_NODES)))

    def moments(self) -> Array:
        """First two moments of leniency and satisfaction, prior variance of satisfaction, and the first two prior
        moments of leniency, of every person, (7, people).
        """
        tastes, shifts = self._nodes(0), self._nodes(1)
        seen = self.tables.by_person(self.counts, self.used, self.sigma, tastes, shifts).reshape(len(self.segment), -1)
        seen = np.exp(seen - seen.max(axis=1, keepdims=True))
        satisfied = satisfied_at(self.fit, self.sigma, tastes, shifts).ravel()
        leniency = np.tile(shifts, len(tastes))
        about = np.stack([np.ones(len(leniency)), leniency, leniency**2, satisfied, satisfied**2], axis=1)
        result = np.empty((7, len(self.segment)))
        order = np.argsort(self.segment, kind="stable")
        for index, rows in enumerate(np.split(order, np.cumsum(self.people)[:-1])):
            weights, share = self._weights(index, tastes, shifts)  # (points, nodes), (points,)
            sums = np.einsum("un,pn,nm->upm", seen[rows], weights, about, optimize=True)
            result[:4, rows] = np.einsum("p,upm->mu", share, sums[:, :, 1:] / np.maximum(sums[:, :, :1], 1e-300))
            prior = share @ (weights @ about)
            result[4:, rows] = np.array([prior[4] - prior[3] ** 2, prior[1], prior[2]])[:, None]
        return result

    def _weights(self, index: int, tastes: Array, shifts: Array) -> tuple[Array, Array]:
        """A segment's prior at each point of what is not known of τ and of its mean, and each point's weight."""
        priors, shares = [], []
        for one, weight in zip(self.priors, self.weights, strict=True):
            values, vectors = np.linalg.eigh(one.covariance[index])
            axes = (vectors * np.sqrt(2.0 * np.maximum(values, 0.0))).T
            for step in (*axes, *-axes):
                taste, shift = one.mean[index] + step
                priors.append(np.outer(_even(tastes, taste, one.within[0]), _even(shifts, shift, one.within[1])))
                shares.append(weight / 4.0)
        return np.array(priors).reshape(len(priors), -1), np.array(shares)

    def summary(self, names: Sequence[str]) -> tuple[Segment, ...]:
        """The segments' means, averaged over τ, with sds that hold what is not known of the unit of quality.

        By the delta method: a quality q is known up to its unit s, dq = q d ln s. A leniency c is what people report
        less the quality, and the report is read through loadings that are estimated: dc = -q d ln s - c d ln λ.
        """
        means = np.array([one.mean for one in self.priors])
        mean = np.einsum("k,kgi->gi", self.weights, means)
        variances = np.array([np.einsum("gii->gi", one.covariance) for one in self.priors]) + (means - mean) ** 2
        variance = np.einsum("k,kgi->gi", self.weights, variances)
        scale = np.zeros(len(self.fit.free))
        scale[1] = 1.0
        slopes = np.stack([mean[:, :1] * scale, -mean[:, :1] * scale - mean[:, 1:] * self._report_scale()], axis=1)
        variance += np.einsum("gip,pr,gir->gi", slopes, self.fit.covariance, slopes)
        sd = np.sqrt(variance)
        return tuple(
            Segment(name, int(self.people[i]), float(mean[i, 1]), float(sd[i, 1]), float(mean[i, 0]), float(sd[i, 0]))
            for i, name in enumerate(names)
        )

    def _report_scale(self) -> Array:
        """Derivative in all parameters of the mean ln λ of what is said, weighted by the information of each item."""
        fit = self.fit
        density = normal_weights(fit.mean, fit.sd)
        total, result = 0.0, np.zeros(len(fit.free))
        for index, item in enumerate(fit.items):
            if item.on != "report":
                continue
            own, _ = fit.own(index)
            seen = float(fit.patterns.count @ (fit.patterns.states[:, index] >= 0))
            worth = seen * float(density @ item.family.information(own, GRID))
            total += worth
            loading, slope = loading_slope(item.family, own)
            if abs(loading) > _LEAST_LOADING:
                result[fit.slices[index]] += worth * slope / loading
        return result / max(total, 1e-12)


def _even(nodes: Array, mean: float, sd: float) -> Array:
    """The density of N(mean, sd²) on even nodes, summing to 1."""
    if len(nodes) == 1:
        return np.ones(1)
    weights = np.exp(-0.5 * ((nodes - mean) / sd) ** 2)
    return np.asarray(weights / weights.sum())
