"""What choosing a tool is worth: mean decision credit per tool, per tool and state, and per way of calling it.

For a choice a of an agent, with residuals r = Y - V(h) (V from other users), n visits that chose a, and π(a|h) the
share of a among the choices in the state:

    credit(a) = 1/n Σ (1{a} - π(a|h)) r                over all visits

which estimates the mean of Q(h, a) - V(h) over the visits that chose a. It is Neyman-orthogonal (Robinson 1988,
Econometrica 56:931-954): an error in V or in π alone does not move it, and where nothing else is ever chosen it is 0
with no claim. Its standard deviation is that of a bootstrap over users (B = 300, Poisson weights), to each replicate
of which comes the variance that rewards themselves have, so that uncertain rewards widen the interval. Intervals and
p-values are of Student's t with as many degrees of freedom as users but one; simulated on a known decision process
with 80 users, 95 % intervals cover .94 (tools) and .95 (tools by state). Benjamini-Hochberg per agent and scope.
Nobody assigned the choices at random: these numbers are predictive. Randomised ones: `pipelines.credit.randomised`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtr, stdtrit

from pipelines.credit.credits import Credited
from pipelines.credit.shrinkage import dense
from pipelines.credit.states import COARSE
from pipelines.credit.steps import MOST_SHAPES, RUNNING, START
from pipelines.stats.false_discovery import adjust
from store.credit import TOOL_CREDITS

__all__ = ["TOOL_CREDITS", "ToolConfig", "adjusted", "bootstrap", "resamples", "tested", "tool_credits"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToolConfig:
    """Replicates of the bootstrap, and how many visits, other visits and clusters a number needs."""

    replicates: int = 300
    min_steps: int = 30
    min_clusters: int = 10
    most_units: int = 300  # per agent and scope, by number of steps
    level: float = 0.95


def tool_credits(credited: Credited, random: np.random.Generator, config: ToolConfig | None = None) -> pl.DataFrame:
    """Mean decision credit of every choice (columns TOOL_CREDITS), of the traces with signals of their own."""
    config = config or ToolConfig()
    frames = [pl.DataFrame(schema=TOOL_CREDITS)]
    rows = credited.kept & credited.outcomes.informative[credited.prefixes.trace]
    if rows.any():
        # The same resampled users serve all scopes: drawing them takes longest.
        clusters = len(np.unique(credited.cluster[credited.prefixes.trace[rows]]))
        draws = resamples(clusters, random, config)
        frames += [_scope(credited, rows, scope, draws, random, config) for scope in ("tool", "variant", "state")]
    return pl.concat(frames)


def resamples(clusters: int, random: np.random.Generator, config: ToolConfig) -> Floats:
    """How often each cluster is drawn in each replicate: shape (clusters, replicates)."""
    return np.asarray(random.poisson(1.0, size=(clusters, config.replicates)), dtype=np.float64)


def bootstrap(
    influence: sparse.csr_matrix,
    weight: sparse.csr_matrix,
    noise: Floats,
    draws: Floats,
    random: np.random.Generator,
    config: ToolConfig,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Estimate, standard deviation and limits of Σ influence / Σ weight per unit, resampling clusters.

    Args: `influence` and `weight`, the denominators (clusters, units); `noise` (units,) the variance of the estimates
    that no resampling shows; `draws` of `resamples`. Returns arrays of shape (units,).
    """
    total = np.asarray(influence.sum(axis=0)).ravel()
    n = np.asarray(weight.sum(axis=0)).ravel()
    estimate = total / n
    top = np.asarray(influence.T @ draws)
    bottom = np.asarray(weight.T @ draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(bottom > 0, top / bottom, estimate[:, None])
    replicates = replicates + random.normal(size=replicates.shape) * np.sqrt(noise)[:, None]
    clusters = np.maximum(weight.getnnz(axis=0), 2).astype(np.float64)
    sd = replicates.std(axis=1, ddof=1) * np.sqrt(clusters / (clusters - 1.0))
    margin = stdtrit(clusters - 1.0, 0.5 + config.level / 2.0) * sd
    return estimate, sd, estimate - margin, estimate + margin


def tested(frame: pl.DataFrame) -> pl.DataFrame:
    """With p-values from estimate and sd, and q-values within agent, scope and basis. Null estimates are no tests."""
    t = (frame["estimate"] / frame["sd"]).to_numpy()
    freedom = np.maximum(frame["clusters"].to_numpy() - 1.0, 1.0)
    p = np.where(np.isfinite(t), 2.0 * stdtr(freedom, -np.abs(t)), np.nan)
    return adjusted(frame.with_columns(p_value=pl.Series(p)))


def adjusted(frame: pl.DataFrame) -> pl.DataFrame:
    """With q-values within agent, scope and basis, of the p-values that are there."""
    frame = frame.with_columns(row=pl.int_range(pl.len()))
    parts = []
    for part in frame.partition_by("agent", "scope", "basis", maintain_order=True):
        parts.append(part.with_columns(q_value=pl.Series(adjust(part["p_value"].to_numpy()))))
    joined = pl.concat(parts) if parts else frame.with_columns(q_value=pl.lit(None, dtype=pl.Float64))
    return joined.sort("row").with_columns(pl.col("p_value", "q_value").fill_nan(None)).select(list(TOOL_CREDITS))


def _scope(
    credited: Credited,
    rows: NDArray[np.bool_],
    scope: str,
    draws: Floats,
    random: np.random.Generator,
    config: ToolConfig,
) -> pl.DataFrame:
    before, found = credited.prefixes, credited.states
    chosen = np.flatnonzero(rows)
    action, cell = found.action[chosen], credited.choices.cell[chosen]
    tool, state = before.what[chosen], found.codes[COARSE][chosen]
    if scope == "tool":
        unit = tool
    elif scope == "variant":
        unit = action
    else:
        unit = dense(state, tool)[0]
    units = _units(unit, chosen, credited, scope, config)
    if units.is_empty():
        return pl.DataFrame(schema=TOOL_CREDITS)
    if scope == "variant":
        # A way of calling a tool is compared with the other ways, not with other tools.
        cell = dense(cell, tool)[0]
    column = np.full(int(unit.max()) + 1, -1, dtype=np.int64)
    column[units["unit"].to_numpy()] = np.arange(units.height)
    at = column[unit]
    trace = before.trace[chosen]
    left = credited.outcomes.mean[trace] - credited.values.value[chosen]
    cluster = _codes(credited.cluster[trace])
    shares = _shares(cell, at, units.height)
    coefficients = _coefficients(trace, cell, at, shares, units.height)
    influence = _gather(cluster, cell, at, left, shares, units.height)
    weight = sparse.csr_matrix(
        (np.ones(int((at >= 0).sum())), (cluster[at >= 0], at[at >= 0])), shape=(int(cluster.max()) + 1, units.height)
    )
    n = units["steps"].to_numpy().astype(np.float64)
    variance = credited.outcomes.sd[np.unique(trace)] ** 2
    noise = np.asarray(coefficients.power(2).T @ variance).ravel() / n**2
    estimate, sd, lower, upper = bootstrap(influence, weight, noise, draws, random, config)
    contrast = _alternatives(cell, at, shares, units.height)
    frame = units.with_columns(
        estimate=pl.Series(estimate), sd=pl.Series(sd), lower=pl.Series(lower), upper=pl.Series(upper),
        contrast=pl.Series(contrast),
    ).with_columns(reason=_reason(config))  # fmt: skip
    hidden = [
        pl.when(pl.col("reason").is_null()).then(pl.col(name)).alias(name)
        for name in ("estimate", "sd", "lower", "upper")
    ]
    return tested(
        frame.with_columns(hidden)
        .with_columns(
            scope=pl.lit(scope),
            basis=pl.lit("predictive"),
            p_value=pl.lit(None, dtype=pl.Float64),
            q_value=pl.lit(None, dtype=pl.Float64),
        )
        .select(list(TOOL_CREDITS))
        .cast(TOOL_CREDITS)
    )


def _reason(config: ToolConfig) -> pl.Expr:
    return (
        pl.when(pl.col("contrast") == 0)
        .then(pl.lit("no_choice"))
        .when((pl.col("steps") < config.min_steps) | (pl.col("contrast") < config.min_steps))
        .then(pl.lit("too_few_steps"))
        .when(pl.col("clusters") < config.min_clusters)
        .then(pl.lit("too_few_users"))
    )


def _units(unit: Ints, chosen: Ints, credited: Credited, scope: str, config: ToolConfig) -> pl.DataFrame:
    """The choices to speak of: the most frequent ones of each agent, with how often they were made and their words."""
    before = credited.prefixes
    trace = before.trace[chosen]
    frame = pl.DataFrame(
        {
            "unit": unit, "trace": trace, "cluster": credited.cluster[trace], "what": before.what[chosen],
            "variant": before.variant[chosen], "last": before.last[chosen], "last_failed": before.last_failed[chosen],
        }
    )  # fmt: skip
    counted = frame.group_by("unit").agg(
        steps=pl.len().cast(pl.Int64),
        traces=pl.col("trace").n_unique().cast(pl.Int64),
        clusters=pl.col("cluster").n_unique().cast(pl.Int64),
        what=pl.col("what").first(),
        variant=pl.col("variant").first(),
        last=pl.col("last").first(),
        last_failed=pl.col("last_failed").first(),
    )
    if scope == "variant":
        counted = counted.filter(pl.len().over("what") > 1)
    names = before.names.select(pl.col("what").cast(pl.Int64), "agent", "name")
    named = (
        counted.join(names, on="what", how="left")
        .join(names.select(last="what", last_name="name"), on="last", how="left")
        .rename({"name": "tool"})
    )
    if scope == "state":
        result = (
            pl.when(pl.col("last_failed") == RUNNING)
            .then(pl.lit(" began"))
            .when(pl.col("last_failed") == 1)
            .then(pl.lit(" failed"))
            .otherwise(pl.lit(""))
        )
        text = pl.format("after {}{}", pl.col("last_name"), result)
        named = named.with_columns(state=pl.when(pl.col("last") == START).then(pl.lit("first step")).otherwise(text))
    elif scope == "variant":
        named = _variant_words(named, before.shapes)
    else:
        named = named.with_columns(state=pl.lit(None, dtype=pl.String))
    ranked = named.sort(["agent", "steps", "tool", "state"], descending=[False, True, False, False], nulls_last=True)
    return ranked.filter(pl.int_range(pl.len()).over("agent") < config.most_units)


def _variant_words(named: pl.DataFrame, shapes: pl.DataFrame) -> pl.DataFrame:
    named = named.with_columns(shape_no=pl.col("variant") // 2)
    known = shapes.filter(pl.col("shape_no") < MOST_SHAPES).select(
        pl.col("what").cast(pl.Int64), pl.col("shape_no").cast(pl.Int64), "shape"
    )
    joined = named.join(known, on=["what", "shape_no"], how="left")
    shape = (
        pl.when(pl.col("shape_no") == MOST_SHAPES)
        .then(pl.lit("rare arguments"))
        .when(pl.col("shape").is_null())
        .then(pl.lit("arguments that are no JSON object"))
        .otherwise(pl.format("arguments {}", pl.col("shape").str.slice(0, 300)))
    )
    again = (
        pl.when(pl.col("variant") % 2 == 1).then(pl.lit("the same call again, ")).otherwise(pl.lit("first such call, "))
    )
    return joined.with_columns(state=pl.concat_str(again, shape)).drop("shape")


def _shares(cell: Ints, at: Ints, units: int) -> sparse.csr_matrix:
    """π(unit | cell): shape (cells, units)."""
    cells = int(cell.max()) + 1
    n = np.bincount(cell, minlength=cells)
    known = at >= 0
    made = sparse.csr_matrix((np.ones(int(known.sum())), (cell[known], at[known])), shape=(cells, units))
    return (sparse.diags(1.0 / np.maximum(n, 1)) @ made).tocsr()


def _gather(row: Ints, cell: Ints, at: Ints, value: Floats, shares: sparse.csr_matrix, units: int) -> sparse.csr_matrix:
    """Σ (1{unit} - π(unit | cell)) value by `row`: shape (rows, units)."""
    rows = int(row.max()) + 1
    known = at >= 0
    own = sparse.csr_matrix((value[known], (row[known], at[known])), shape=(rows, units))
    visited = sparse.csr_matrix((value, (row, cell)), shape=(rows, shares.shape[0]))
    return (own - visited @ shares).tocsr()


def _coefficients(trace: Ints, cell: Ints, at: Ints, shares: sparse.csr_matrix, units: int) -> sparse.csr_matrix:
    """How much each trace's reward counts for each unit: shape (traces in order, units)."""
    return _gather(_codes(trace), cell, at, np.ones(len(trace)), shares, units)


def _alternatives(cell: Ints, at: Ints, shares: sparse.csr_matrix, units: int) -> Ints:
    """For each unit, visits in the cells where it was chosen that chose something else."""
    n = np.bincount(cell, minlength=shares.shape[0]).astype(np.float64)
    other = shares.copy()
    other.data = np.where(other.data < 1.0, 1.0 - other.data, 0.0)
    return np.asarray(np.rint(np.asarray(other.T @ n).ravel()), dtype=np.int64)


def _codes(values: Ints) -> Ints:
    """Codes 0, 1, ... of the values, in their order."""
    return dense(np.zeros_like(values), values)[0]
