"""Which likelihood fits a metric, by the shape of its values, and why, in words for the page.

A Gaussian scan of yes/no values or of skewed costs sees changes where there are none (METHODS §7: 16 % false alarms on
raw lognormal costs, .2 % on their logarithms), so the shape decides, not the name.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew

from pipelines.drift.metrics import Likelihood, Metric

__all__ = ["LEAST_SKEW", "SAMPLE", "choose"]

LEAST_SKEW = 1.0  # from here on, logarithms are looked at
SAMPLE = 200_000  # values that the shape is read from


def choose(values: NDArray[np.float64], expected: Metric) -> tuple[Likelihood, str]:
    """The likelihood of finite `values`, shape (n,), and the reason; that of the metric itself where nothing is known.

    Categories and texts have no numbers and keep theirs.
    """
    if expected.likelihood == "categorical":
        return "categorical", "The values are categories: a G-test compares their shares."
    if expected.likelihood == "embedding":
        return "embedding", "The values are texts: their embeddings are compared."
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return expected.likelihood, "There are no values yet; this is what such values usually need."
    low, high = float(values.min()), float(values.max())
    if low == high:
        likelihood: Likelihood = "gaussian"
        if low in (0.0, 1.0) and expected.likelihood == "bernoulli":
            likelihood = "bernoulli"
        return likelihood, "All values are equal: nothing can have changed."
    if np.all((values == 0.0) | (values == 1.0)):
        return "bernoulli", "The values are yes or no."
    if low >= 0.0 and high <= 1.0:
        return "gaussian", "The values lie from 0 to 1: their normal scores are compared."
    if low > 0.0:
        raw, logged = float(skew(values)), float(skew(np.log(values)))
        if raw > LEAST_SKEW and abs(logged) < raw:
            return "log", f"The values are positive and skewed (skewness {raw:.1f}, of logarithms {logged:.1f})."
    return "gaussian", "The values are numbers without strong skew, or of both signs: their normal scores are compared."
