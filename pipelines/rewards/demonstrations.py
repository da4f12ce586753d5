"""What people do differently: their demonstrations and corrections against the agent's own work on the same task.

A logistic model with a ridge tells the two apart from readable features (the discriminator of generative adversarial
imitation, Ho & Ermon 2016, here linear so that it can be read). Every feature is taken as the difference from its
task's mean, so a task's difficulty explains nothing. Weights are per standard deviation within tasks; their intervals
come from a bootstrap over tasks. Whether a feature differs at all is a test of its own, stratified by task (see
`pipelines.stats.stratified`), with Benjamini-Hochberg over the features.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from pipelines.stats import false_discovery, stratified
from pipelines.stats.contract import ContractError

__all__ = ["WEIGHTS", "DemonstrationConfig", "Discriminator", "fit", "text_features"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

WEIGHTS = pl.Schema(
    {
        "feature": pl.String(),
        "weight": pl.Float64(),  # log-odds of being a person's, per standard deviation within tasks
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "difference": pl.Float64(),  # people minus agent, in the feature's own unit, within task
        "difference_lower": pl.Float64(),
        "difference_upper": pl.Float64(),
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
    }
)
_KEYS = ("task", "human")


@dataclass(frozen=True)
class DemonstrationConfig:
    """Ridge on the weights, bootstrap replicates, level, and the least number of people's examples on shared tasks."""

    ridge: float = 1.0
    replicates: int = 200
    level: float = 0.95
    min_human: int = 10


@dataclass(frozen=True)
class Discriminator:
    """Weights (columns `WEIGHTS`, largest first), examples used on either side, tasks shared, and remarks."""

    weights: pl.DataFrame
    human: int
    agent: int
    tasks: int
    notes: tuple[str, ...]


def text_features(texts: pl.Series) -> pl.DataFrame:
    """Readable features of texts, one row each; null counts as empty."""
    text = pl.col("text").fill_null("")
    words = text.str.count_matches(r"\S+")
    return pl.DataFrame({"text": texts.cast(pl.String)}).select(
        words=(words + 1).log(),
        sentences=(text.str.count_matches(r"[.!?](\s|$)") + 1).log(),
        numbers=(text.str.count_matches(r"\d+") + 1).log(),
        questions=text.str.count_matches(r"\?").cast(pl.Float64),
        list_items=text.str.count_matches(r"(?m)^\s*([-*•]|\d+[.)])\s").cast(pl.Float64),
        links=text.str.count_matches(r"https?://").cast(pl.Float64),
        apologies=text.str.to_lowercase().str.count_matches(r"\b(sorry|apolog\w+)").cast(pl.Float64),
        hedges=text.str.to_lowercase().str.count_matches(r"\b(might|maybe|perhaps|possibly|could)\b").cast(pl.Float64),
        exclamations=text.str.count_matches("!").cast(pl.Float64),
    )


def fit(
    examples: pl.DataFrame, random: np.random.Generator, config: DemonstrationConfig | None = None
) -> Discriminator:
    """Tell people's examples from the agent's.

    `examples` has task (String), human (Boolean) and numeric columns, the features. Tasks that hold only one side are
    left out. Raises ContractError for a missing column, a feature that is not numeric or not finite, or a null.
    """
    config = config or DemonstrationConfig()
    features = _checked(examples)
    shared = examples.filter(pl.col("human").any().over("task") & ~pl.col("human").all().over("task"))
    human = int(shared["human"].sum())
    tasks = shared["task"].n_unique()
    counts = (human, shared.height - human, tasks)
    if human < config.min_human:
        why = f"{human} of at least {config.min_human} examples by people are on tasks that the agent also ran."
        return Discriminator(pl.DataFrame(schema=WEIGHTS), *counts, (why,))
    codes = shared["task"].rank("dense").to_numpy().astype(np.int64) - 1
    label = shared["human"].to_numpy().astype(np.float64)
    values = shared.select(features).cast(pl.Float64).to_numpy()
    centred = _centre(values, codes)
    spread = centred.std(axis=0)
    varies = spread > 1e-9
    notes = [f"{name} is the same for all and left out." for name, ok in zip(features, varies, strict=True) if not ok]
    names = [name for name, ok in zip(features, varies, strict=True) if ok]
    if not names:
        return Discriminator(pl.DataFrame(schema=WEIGHTS), *counts, tuple(notes))
    x = centred[:, varies] / spread[varies]
    weight = _ridge(x, label, codes, config.ridge)
    if np.all((x @ weight > 0) == (label > 0.5)):
        notes.append("The two sides are told apart without error: weights are held finite by the ridge only.")
    lower, upper = _bootstrap(x, label, codes, weight, random, config)
    if tasks < 5:
        notes.append(f"Only {tasks} shared tasks: intervals over tasks are rough.")
    tests = [stratified.compare(label > 0.5, values[:, at], codes) for at in np.flatnonzero(varies)]
    p = np.array([test.p_value for test in tests])
    table = pl.DataFrame(
        {
            "feature": names, "weight": weight, "lower": lower, "upper": upper,
            "difference": [test.effect for test in tests], "difference_lower": [test.lower for test in tests],
            "difference_upper": [test.upper for test in tests], "p_value": p, "q_value": false_discovery.adjust(p),
        },
        schema=WEIGHTS,
    )  # fmt: skip
    return Discriminator(table.sort(pl.col("weight").abs(), descending=True).fill_nan(None), *counts, tuple(notes))


def _checked(examples: pl.DataFrame) -> list[str]:
    missing = [name for name in _KEYS if name not in examples.columns]
    if missing:
        raise ContractError("demonstrations", f"expected the columns task and human; missing: {', '.join(missing)}.")
    features = [name for name in examples.columns if name not in _KEYS]
    if not features:
        raise ContractError("demonstrations", "expected at least one feature beside task and human.")
    for name in features:
        dtype = examples.schema[name]
        if not (dtype.is_numeric() or dtype == pl.Boolean):
            raise ContractError("demonstrations", f"feature {name} must be numeric, came as {dtype}.")
        column = examples[name].cast(pl.Float64)
        if column.null_count() or not bool(column.is_finite().all()):
            raise ContractError("demonstrations", f"feature {name} must be finite and known in every example.")
    for name in _KEYS:
        if examples[name].null_count():
            raise ContractError("demonstrations", f"column {name} may not be null.")
    return features


def _centre(values: Array, codes: Ints) -> Array:
    n = np.bincount(codes).astype(np.float64)
    means = np.stack([np.bincount(codes, weights=column) / n for column in values.T], axis=1)
    return np.asarray(values - means[codes], dtype=np.float64)


def _ridge(x: Array, label: Array, codes: Ints, ridge: float, row_weight: Array | None = None) -> Array:
    """Weights at the maximum of the ridged likelihood, by Newton steps.

    The share of people's examples in each task is its offset.
    """
    row_weight = np.ones(label.size) if row_weight is None else row_weight
    share = np.bincount(codes, weights=label) / np.bincount(codes)
    offset = logit(share[codes])

    weight = np.zeros(x.shape[1])
    for _ in range(100):
        p = expit(offset + x @ weight)
        gradient = x.T @ (row_weight * (label - p)) - ridge * weight
        curvature = (x.T * (row_weight * p * (1.0 - p))) @ x + ridge * np.eye(weight.size)
        step = np.linalg.solve(curvature, gradient)
        # Newton may overshoot while classes are far from separated; a bounded step keeps it on course.
        weight = weight + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(weight, dtype=np.float64)


def _bootstrap(
    x: Array, label: Array, codes: Ints, weight: Array, random: np.random.Generator, config: DemonstrationConfig
) -> tuple[Array, Array]:
    """Percentile limits over tasks (over examples within the task where only one is shared)."""
    tasks = int(codes.max()) + 1
    draws = np.empty((config.replicates, weight.size))
    for replicate in range(config.replicates):
        if tasks > 1:
            times = random.multinomial(tasks, np.full(tasks, 1.0 / tasks))[codes].astype(np.float64)
        else:
            times = random.multinomial(label.size, np.full(label.size, 1.0 / label.size)).astype(np.float64)
        draws[replicate] = _ridge(x, label, codes, config.ridge, times)
    tail = 100.0 * (1.0 - config.level) / 2.0
    lower, upper = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return lower, upper
