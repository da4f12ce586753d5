"""Likelihood of all that is seen of a person, given their effects on quality (q) and on what they say (c)."""

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from pipelines.rewards.grid import GRID, compress, normal_weights
from pipelines.rewards.latent import LatentFit
from pipelines.rewards.response_models import Array, IntArray

__all__ = ["PersonTables", "satisfied_at"]


class PersonTables:
    """Log-likelihoods of the patterns that do not change with σ and τ."""

    def __init__(self, fit: LatentFit) -> None:
        self.fit = fit
        quality = np.zeros((len(fit.patterns.count), len(GRID)))
        report = []
        for index, item in enumerate(fit.items):
            if item.on == "quality":
                table = item.family.table(fit.own(index)[0], GRID)
                quality += np.concatenate([table, np.zeros((1, len(GRID)))])[fit.patterns.states[:, index]]
            else:
                report.append(index)
        self.report = report
        said = compress([fit.patterns.states[:, i] for i in report], len(fit.patterns.count))
        self.said, self.said_states = said.of_trace, said.states
        self.top = quality.max(axis=1, keepdims=True)
        self.quality = np.exp(quality - self.top)

    def by_person(self, counts: sp.csr_matrix, used: IntArray, sigma: float, tastes: Array, shifts: Array) -> Array:
        """log P(all that is seen of a person | q, c), (people, nodes of q `tastes`, nodes of c `shifts`)."""
        fit = self.fit
        within = _sd_of_traces(fit, sigma)
        density = np.stack([normal_weights(fit.mean + taste, within) for taste in tastes], axis=1)
        total = np.empty((counts.shape[0], len(tastes), len(shifts)))
        for node, shift in enumerate(shifts):
            said = np.zeros((len(self.said_states), len(GRID)))
            for column, index in enumerate(self.report):
                table = fit.items[index].family.table(fit.own(index)[0], GRID + shift)
                said += np.concatenate([table, np.zeros((1, len(GRID)))])[self.said_states[:, column]]
            chance = (self.quality[used] * np.exp(said)[self.said[used]]) @ density
            total[:, :, node] = counts @ np.log(np.maximum(chance, 1e-300))
        return total


def _sd_of_traces(fit: LatentFit, sigma: float) -> float:
    """Standard deviation of the quality of one person's traces."""
    return float(np.sqrt(max(fit.sd**2 - sigma**2, 0.05 * fit.sd**2)))


def satisfied_at(fit: LatentFit, sigma: float, tastes: Array, shifts: Array) -> Array:
    """P(satisfied) of somebody at each node, (nodes of q, nodes of c)."""
    within = _sd_of_traces(fit, sigma)
    return np.array([[normal_weights(fit.mean + q, within) @ expit(GRID + c) for c in shifts] for q in tastes])
