"""Off-policy estimates as one query: what another policy would have earned, from decisions with known propensities.

With w = π(a|x)/p(a|x) of the arm that was drawn, reward r, and a model q(x, a) of it, whose value under the policy
asked about is d = Σ_a π(a|x) q(x, a):

    IPS     mean(w r)                       Horvitz & Thompson 1952
    SNIPS   Σ w r / Σ w                     Swaminathan & Joachims 2015
    DM      mean(d)
    DR      mean(d + w (r - q))             Dudik, Langford & Li 2011
    SWITCH  mean(d + w 1{w <= τ} (r - q))   Wang, Agarwal & Dudik 2017 (the doubly robust form)
    DRos    mean(d + λw/(w²+λ) (r - q))     Su, Dimakopoulou, Krishnamurthy & Dudik 2020

`pipelines.off_policy.tuning` chooses τ and λ. With clusters the unit of every variance is a cluster: values are
linearised, (Σ_c ψ - θ m_c)/m̄ for one of m_c decisions.
The engine is used as a calculator in memory: no store is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import duckdb
import polars as pl

from store.errors import StoreError
from store.frames import fetched

__all__ = ["ESTIMATORS", "LAMBDA", "ROUNDS", "TAU", "Moments", "Summary", "points", "summary"]

ROUNDS = pl.Schema(
    {
        "propensity": pl.Float64(),  # p(a|x) of the arm drawn, above 0
        "target": pl.Float64(),  # π(a|x) of it
        "reward": pl.Float64(),
        "fitted": pl.Float64(),  # q(x, a) of it
        "direct": pl.Float64(),  # d
    }
)
"""One row a decision; beside these there may be `cluster` (any type): decisions that may not be independent."""

ESTIMATORS: Final = ("IPS", "SNIPS", "DM", "DR", "SWITCH", "DRos")
TAU: Final = 10.0
LAMBDA: Final = 100.0
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Moments:
    """Of one estimator: its value, and the variance of the linearised values of units (0 below two units)."""

    value: float
    variance: float


@dataclass(frozen=True)
class Summary:
    """What one query gives.

    `decisions`; `units` (clusters, or decisions without them); `estimators` by ESTIMATORS; `weight`, the moments of w,
    whose mean should be 1; `logged`, of the rewards as they were; `gain`, of DR minus those on the same rows;
    `ess` (Σw)²/Σw² over units; `largest_weight` of a decision; `largest_unit` in decisions of mean size, and its share
    `largest_share` of all weight; `tau` and `lam` as given.
    """

    decisions: int
    units: int
    estimators: Mapping[str, Moments]
    weight: Moments
    logged: Moments
    gain: Moments
    ess: float
    largest_weight: float
    largest_unit: float
    largest_share: float
    tau: float
    lam: float


def points(rounds: pl.DataFrame, *, tau: float = TAU, lam: float = LAMBDA) -> dict[str, float]:
    """The six estimates only, by ESTIMATORS, of `rounds` (ROUNDS). Raises: `StoreError`, as without rows."""
    expressions = {
        "IPS": "avg(w * reward)", "SNIPS": "sum(w * reward) / sum(w)", "DM": "avg(direct)",
        "DR": "avg(direct + w * left_over)", "SWITCH": f"avg(direct + {_switched(tau)})",
        "DRos": f"avg(direct + {_shrunk(lam)})",
    }  # fmt: skip
    row = _one_row(f"SELECT {_listed(expressions)} FROM {_WEIGHTED}", rounds)
    return {name: row[name] for name in ESTIMATORS}


def summary(rounds: pl.DataFrame, *, tau: float = TAU, lam: float = LAMBDA) -> Summary:
    """All estimates with their variances and the diagnostics of the weights, of `rounds` (ROUNDS, perhaps `cluster`).

    Raises: `StoreError`, as without rows.
    """
    values = {
        "ips": "w * reward", "weight": "w", "logged": "reward", "dm": "direct", "dr": "direct + w * left_over",
        "switch": f"direct + {_switched(tau)}", "dros": f"direct + {_shrunk(lam)}",
    }  # fmt: skip
    clustered = "cluster" in rounds.columns
    if clustered:
        sums = {**{name: f"sum({value})" for name, value in values.items()}, "size": "count(*)", "largest": "max(w)"}
        units = f"(SELECT {_listed(sums)} FROM {_WEIGHTED} GROUP BY cluster)"
    else:
        units = f"(SELECT {_listed(values)}, 1 AS size, w AS largest FROM {_WEIGHTED})"
    # Sums of squares, not var_pop: the engine multiplies a column at once, but divides row by row.
    moments = {"units": "count(*)", "decisions": "sum(size)", "largest": "max(largest)", "unit": "max(weight)",
               "cross": "avg(ips * weight)", "change": "avg(dr * logged)"}  # fmt: skip
    for name in values:
        moments |= {f"{name}_mean": f"avg({name})", f"{name}_square": f"avg({name} * {name})"}
        if clustered:
            moments[f"{name}_size"] = f"avg({name} * size)"
    if clustered:
        moments["size_square"] = "avg(size * size)"
    row = _one_row(f"SELECT {_listed(moments)} FROM {units}", rounds)
    return _summary(row, tau, lam)


def _summary(row: Mapping[str, float], tau: float, lam: float) -> Summary:
    decisions, units = row["decisions"], row["units"]
    size = decisions / units

    def moments(name: str) -> Moments:
        value, square = row[f"{name}_mean"] / size, row[f"{name}_square"]
        if "size_square" not in row:
            return Moments(value, _rounded(square, value**2))
        spread = _rounded(square + value**2 * row["size_square"], 2.0 * value * row[f"{name}_size"])
        return Moments(value, spread / size**2)

    # DR minus the reward on the same rows, from the two and their product.
    row = dict(row)
    row["gain_mean"] = row["dr_mean"] - row["logged_mean"]
    row["gain_square"] = row["dr_square"] - 2.0 * row["change"] + row["logged_square"]
    if "size_square" in row:
        row["gain_size"] = row["dr_size"] - row["logged_size"]
    ips, weight = moments("ips"), moments("weight")
    total = weight.value * decisions
    snips = ips.value / weight.value if total else float("nan")
    ratio = _rounded(row["ips_square"] + snips**2 * row["weight_square"], 2.0 * snips * row["cross"])
    return Summary(
        decisions=int(decisions),
        units=int(units),
        estimators={
            "IPS": ips, "SNIPS": Moments(snips, ratio / (size * weight.value) ** 2 if total else 0.0),
            "DM": moments("dm"), "DR": moments("dr"), "SWITCH": moments("switch"), "DRos": moments("dros"),
        },
        weight=weight,
        logged=moments("logged"),
        gain=moments("gain"),
        ess=total**2 / (row["weight_square"] * units) if total else 0.0,
        largest_weight=row["largest"],
        largest_unit=row["unit"] / size,
        largest_share=row["unit"] / total if total else 1.0,
        tau=tau,
        lam=lam,
    )  # fmt: skip


def _rounded(squares: float, products: float) -> float:
    """Their difference; 0 where it is no more than rounding of the two."""
    spread = squares - products
    return spread if spread > _ROUNDING * squares else 0.0


_WEIGHTED = "(SELECT *, target / propensity AS w, reward - fitted AS left_over FROM rounds)"


def _switched(tau: float) -> str:
    return f"CASE WHEN w <= {_number(tau)} THEN w * left_over ELSE 0 END"


def _shrunk(lam: float) -> str:
    return f"{_number(lam)} * w / (w * w + {_number(lam)}) * left_over"


def _number(value: float) -> str:
    return f"{float(value)!r}::DOUBLE"


def _listed(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """The calculator of this process; every question has a cursor of its own."""
    return duckdb.connect(":memory:", config={"python_enable_replacements": False})


def _one_row(sql: str, rounds: pl.DataFrame) -> dict[str, float]:
    try:
        with _engine().cursor() as cursor:
            cursor.register("rounds", rounds)
            row = fetched(cursor.sql(sql)).row(0, named=True)
    except duckdb.Error as error:
        raise StoreError(str(error)) from error
    if any(value is None for value in row.values()):
        raise StoreError("Off-policy estimates need at least one decision; there is none.")
    return {name: float(value) for name, value in row.items()}
