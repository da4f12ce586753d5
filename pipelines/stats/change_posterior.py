"""How large a change is, given that the scan looked everywhere for the largest: an empirical-Bayes posterior.

The likeliest split exaggerates its change. So the posterior averages over all splits (each as likely before), over
"no change" (a spike at 0) and a change of normal size N(0, tau²) (a slab); the share of sequences that changed and
tau² are estimated from all sequences together (Efron 2010, Large-Scale Inference, ch. 2 and 5). A split's evidence is
its likelihood ratio G shrunk by the slab: BF_s = sqrt(v/(v+tau²)) exp(G_s tau²/(v+tau²)), v the variance of the
difference of means at s.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pipelines.stats.likelihood_ratio import Bernoulli, Categories, NormalScores, Scan, blocks

__all__ = ["Change", "changes"]

_NEARLY_AS_LIKELY = 2.0
_PRIOR_SHARE = 0.05
_PRIOR_SEQUENCES = 20.0
_PRIOR_CHANGED = 5.0
_STEPS = 30

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Change:
    """Per sequence, shape (sequences,): means as seen, the effect and its posterior, and where the change may be.

    `earliest` and `latest` bound the events before the change among {s: G - G_s < 2}. `practical` is the probability
    that the change is larger than the practical threshold. Sequences without a scan have NaN and 0.
    """

    effect: Floats
    effect_sd: Floats
    practical: Floats
    changed: Floats
    earliest: Ints
    latest: Ints


def changes(
    scanned: NDArray[Any],
    measured: Floats,
    lengths: Ints,
    found: Scan,
    p_value: Floats,
    thresholds: Floats,
    gains: Bernoulli | Categories | NormalScores,
) -> Change:
    """The posterior of each sequence's change in the mean of `measured`, which lies like `scanned` (see `scan`).

    `found` and `p_value` are of the scan, `thresholds` the least change that matters per sequence (0: any change).
    """
    count = lengths.size
    slab = _slab(measured, lengths, found, p_value, thresholds)
    log_evidence, mean, second, beyond = (np.full(count, np.nan) for _ in range(4))
    earliest, latest = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    shortest = 2 * gains.min_segment
    both = zip(blocks(scanned, lengths, shortest=shortest), blocks(measured, lengths, shortest=shortest), strict=True)
    for (rows, sequences), (_, numbers) in both:
        gain = gains(sequences)
        difference, variance = _differences(numbers, gains.min_segment)
        near = gain > gain.max(axis=1, keepdims=True) - _NEARLY_AS_LIKELY
        earliest[rows] = near.argmax(axis=1) + gains.min_segment
        latest[rows] = near.shape[1] - 1 - near[:, ::-1].argmax(axis=1) + gains.min_segment
        kept = slab / (slab + variance)
        log_factor = 0.5 * np.log(variance / (slab + variance)) + gain * kept
        top = log_factor.max(axis=1, keepdims=True)
        weight = np.exp(log_factor - top)
        whole = weight.sum(axis=1)
        log_evidence[rows] = top[:, 0] + np.log(whole / weight.shape[1])
        weight /= whole[:, None]
        centre, spread = difference * kept, np.sqrt(variance * kept)
        mean[rows] = np.einsum("ij,ij->i", weight, centre)
        second[rows] = np.einsum("ij,ij->i", weight, centre**2 + spread**2)
        least = thresholds[rows][:, None]
        outside = ndtr((-least - centre) / spread) + ndtr((centre - least) / spread)
        beyond[rows] = np.einsum("ij,ij->i", weight, outside)
    changed = _changed(log_evidence)
    effect = changed * mean
    spread = np.sqrt(np.maximum(changed * second - effect**2, 0.0))
    return Change(effect, spread, np.minimum(changed * beyond, 1.0), changed, earliest, latest)


def _differences(numbers: Floats, min_segment: int) -> tuple[Floats, Floats]:
    """After minus before, and its variance, at every split: shape (sequences, splits)."""
    events = numbers.shape[1]
    sizes = np.arange(min_segment, events - min_segment + 1)
    whole_mean = numbers.mean(axis=1, keepdims=True)
    centred = numbers - whole_mean
    total = np.einsum("ij,ij->i", centred, centred)[:, None]
    before = np.cumsum(centred, axis=1)[:, sizes - 1]
    difference = -before * (events / (sizes * (events - sizes)))
    within = np.maximum(total - difference**2 * (sizes * (events - sizes) / events), 0.0)
    # One imagined event at the variance of the whole: two constant sides are not known for certain.
    variance = (within + total / events) / (events - 1)
    return difference, np.maximum(variance * (events / (sizes * (events - sizes))), 1e-18)


def _slab(measured: Floats, lengths: Ints, found: Scan, p_value: Floats, thresholds: Floats) -> float:
    """tau²: the mean square of the changes that are significant by themselves, beside a vague prior guess."""
    made = np.flatnonzero(~np.isnan(found.statistic))
    if made.size == 0:
        return 1.0
    starts = np.cumsum(lengths) - lengths
    running = np.concatenate(([0.0], np.cumsum(measured)))
    squares = np.concatenate(([0.0], np.cumsum(measured**2)))
    begin, middle, end = starts[made], (starts + found.before)[made], (starts + lengths)[made]
    before, after = found.before[made], (lengths - found.before)[made]
    mean_before, mean_after = (running[middle] - running[begin]) / before, (running[end] - running[middle]) / after
    within = squares[end] - squares[begin] - before * mean_before**2 - after * mean_after**2
    variance = np.maximum(within, 0.0) / np.maximum(before + after - 2, 1)
    guess = float(np.median(thresholds[made])) * 2.0
    if guess <= 0.0:
        guess = 0.5 * float(np.sqrt(np.mean(variance)))
    strong = p_value[made] <= 0.01
    excess = (mean_after - mean_before) ** 2 - variance * (1.0 / before + 1.0 / after)
    slab = (float(excess[strong].sum()) + _PRIOR_CHANGED * guess**2) / (int(strong.sum()) + _PRIOR_CHANGED)
    return max(slab, 0.1 * guess**2, 1e-12)


def _changed(log_evidence: Floats) -> Floats:
    """Posterior probability of a change; the share of changed sequences by EM from a prior worth 20 sequences."""
    made = ~np.isnan(log_evidence)
    odds = np.exp(np.clip(log_evidence[made], -50.0, 50.0))
    share, posterior = _PRIOR_SHARE, odds
    for _ in range(_STEPS):
        posterior = share * odds / (1.0 - share + share * odds)
        share = (posterior.sum() + _PRIOR_SHARE * _PRIOR_SEQUENCES) / (odds.size + _PRIOR_SEQUENCES)
        share = min(float(share), 0.95)
    changed = np.full(log_evidence.shape, np.nan)
    changed[made] = posterior
    return changed
