"""Reward hacking: an arm or version that improves what it is measured by while what is wanted gets worse.

Per agent every arm and version is held against the baseline on proxies (clicks, volunteered feedback, judge, and their
capped composite) and on gold (solicited feedback and verified outcomes). The alarm is given when a proxy's lower limit
is above 0 and gold's upper limit below 0 (METHODS §3). Limits are confidence sequences: they hold however often one
looks. Both must be crossed (an intersection-union test), so a false alarm is no likelier than one false limit:
`alpha`, shared out over the agent's comparisons, and for proxies over the measures too.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from pipelines.hacking_watch.assignment import Comparison, baseline, compare, with_probabilities
from pipelines.hacking_watch.composite import cap_contributions
from pipelines.stats.confidence_sequence import ESS_GATE, Sequence, sequence
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.hacking_watch import FOUND, MEASURES, TRACES

__all__ = ["COMPOSITE", "FOUND", "GOLD", "MEASURES", "TRACES", "WatchConfig", "Watched", "watch"]

GOLD: Final = "gold"
COMPOSITE: Final = "composite"
_AXES: Final = ("arm", "version")


@dataclass(frozen=True)
class WatchConfig:
    """`alpha` is the probability of any false alarm of an agent, ever; `cap` the largest share of one proxy."""

    alpha: float = 0.05
    cap: float = 0.5
    gate: float = ESS_GATE

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5 or not 0.0 < self.cap <= 1.0 or self.gate < 2.0:
            limits = (self.alpha, self.cap, self.gate)
            raise SettingsError(
                "hacking_watch alpha, cap, gate", limits, "alpha below .5, cap from 0 to 1, gate from 2"
            )


@dataclass(frozen=True)
class Watched:
    """`found` of columns FOUND; `composites`: per agent the weights and shares of its proxies; `notes` in words."""

    found: pl.DataFrame
    composites: dict[str, dict[str, Any]]
    notes: list[str]

    @property
    def alarms(self) -> int:
        """How many arms and versions are up on a proxy and down on gold."""
        return self.found.filter("alarm").select("agent", "axis", "candidate").n_unique()


@dataclass(frozen=True)
class _Course:
    """One measure of one comparison: the row it becomes, and its limits over time."""

    row: dict[str, Any]
    at: list[datetime]
    limits: Sequence | None


def watch(traces: pl.DataFrame, measures: pl.DataFrame, config: WatchConfig | None = None) -> Watched:
    """Hold every arm and version of every agent against its baseline.

    `traces` has the columns TRACES, `measures` MEASURES with values of one row per trace and measure. Raises
    ContractError for wrong frames.
    """
    config = config or WatchConfig()
    traces = require(traces, TRACES, "watched traces", not_null=["trace_id", "at"], unique="trace_id")
    measures = require(measures, MEASURES, "watched measures", not_null=["trace_id", "role", "measure", "value"])
    unit = pl.concat_str(pl.coalesce("user_id", "trace_id"), pl.col("at").dt.date().cast(pl.String), separator=" ")
    known = traces.filter(pl.col("agent").is_not_null()).with_columns(unit=unit)
    rows: list[dict[str, Any]] = []
    composites: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for own in known.sort("agent", "at", "trace_id").partition_by("agent", maintain_order=True):
        agent = str(own["agent"][0])
        values = measures.join(own.select("trace_id"), on="trace_id", how="semi")
        gold = _gold(values)
        proxies, composite = _proxies(values, config)
        if composite is not None:
            composites[agent] = composite
        rows += _agent(agent, own, gold, proxies, config, notes)
    return Watched(pl.DataFrame(rows, schema=FOUND, orient="row"), composites, notes)


def _agent(
    agent: str, own: pl.DataFrame, gold: pl.DataFrame, proxies: pl.DataFrame, config: WatchConfig, notes: list[str]
) -> list[dict[str, Any]]:
    planned: list[tuple[str, str, str]] = []
    for axis in _AXES:
        against = baseline(own, axis)
        if against is not None:
            others = sorted(set(own[axis].drop_nulls().to_list()) - {against})
            planned += [(axis, candidate, against) for candidate in others]
    names = proxies["measure"].unique().sort().to_list()
    prepared: dict[str, pl.DataFrame] = {}
    rows: list[dict[str, Any]] = []
    for axis, candidate, against in planned:
        if axis not in prepared:
            prepared[axis], unusable = with_probabilities(own, axis)
            if unusable:
                notes.append(f"{agent}: the propensities of {unusable} traces are no probabilities and were not used")
        comparison = compare(prepared[axis], axis, candidate, against)
        # One-sided limits: each side of a two-sided interval at twice the level.
        level = 2.0 * config.alpha / len(planned)
        shared = {"agent": agent, "axis": axis, "candidate": candidate, "baseline": against, "basis": comparison.basis}
        wanted = _course(comparison, gold, {**shared, "role": "gold", "measure": GOLD}, level, config)
        rows.append(wanted.row)
        for name in names:
            stated = {**shared, "role": "proxy", "measure": name}
            course = _course(comparison, proxies.filter(measure=name), stated, level / len(names), config)
            rows.append(_with_alarm(course, wanted))
    return rows


def _course(
    comparison: Comparison, values: pl.DataFrame, row: dict[str, Any], level: float, config: WatchConfig
) -> _Course:
    """The difference of one measure over time, in units of user-days, which may depend within and not between."""
    rows = comparison.frame.join(values.select("trace_id", "value"), on="trace_id")
    empty = {"difference": None, "lower": None, "upper": None, "alarm": False, "alarm_since": None}
    sides = rows.filter(pl.col("weight") > 0.0).height, rows.filter(pl.col("weight") < 0.0).height
    overlap = float(rows["overlap"].sum())
    if min(sides) == 0 or overlap <= 0.0:
        reason = f"{sides[0]} traces of the candidate and {sides[1]} of the baseline have it"
        return _Course({**row, **empty, "n": rows.height, "units": 0, "ess": 0.0, "reason": reason}, [], None)
    centred = pl.col("weight") * (pl.col("value") - pl.col("value").mean())
    units = (
        rows.with_columns(part=centred)
        .group_by("unit")
        .agg(at=pl.col("at").max(), part=pl.col("part").sum(), size=pl.col("weight").abs().sum())
        .sort("at", "unit")
    )
    # The mean over units of these is the overlap-weighted difference of the two sides.
    scaled = units["part"].to_numpy() * (units.height / overlap)
    limits = sequence(scaled, importance=units["size"].to_numpy(), alpha=min(level, 0.999), gate=config.gate)
    last = {name: float(getattr(limits, name)[-1]) for name in ("estimate", "lower", "upper", "ess")}
    collecting: str | None = None
    if np.isnan(last["lower"]):
        collecting = f"collecting: effective size {last['ess']:.0f} of {config.gate:.0f}"
        if last["ess"] >= config.gate:
            collecting = "all values are equal"
    found = {
        "difference": last["estimate"],
        "lower": None if collecting else last["lower"],
        "upper": None if collecting else last["upper"],
        "n": rows.height,
        "units": units.height,
        "ess": last["ess"],
        "reason": collecting,
    }
    return _Course({**row, **empty, **found}, units["at"].to_list(), limits)


def _with_alarm(proxy: _Course, gold: _Course) -> dict[str, Any]:
    """The proxy's row, with the alarm when it is up while gold is down."""
    row = proxy.row
    up, down = row["lower"], gold.row["upper"]
    if up is None or down is None or not (up > 0.0 and down < 0.0):
        return row
    return {**row, "alarm": True, "alarm_since": _first(proxy, gold)}


def _first(proxy: _Course, gold: _Course) -> datetime | None:
    """The first moment at which both limits were crossed, each as of then."""
    if proxy.limits is None or gold.limits is None:
        return None
    up = pl.DataFrame({"at": proxy.at, "up": proxy.limits.lower > 0.0}).group_by("at").last().sort("at")
    down = pl.DataFrame({"at": gold.at, "down": gold.limits.upper < 0.0}).group_by("at").last().sort("at")
    moments = pl.concat([up.select("at"), down.select("at")]).unique().sort("at")
    both = moments.join_asof(up, on="at").join_asof(down, on="at").filter(pl.col("up") & pl.col("down"))
    return both["at"][0] if both.height else None


def _gold(values: pl.DataFrame) -> pl.DataFrame:
    """Per trace the mean of its gold values, each less its source's mean: some sources are easier to please."""
    gold = values.filter(role="gold").with_columns(value=pl.col("value") - pl.col("value").mean().over("measure"))
    return gold.group_by("trace_id").agg(pl.col("value").mean()).sort("trace_id")


def _proxies(values: pl.DataFrame, config: WatchConfig) -> tuple[pl.DataFrame, dict[str, Any] | None]:
    """The proxies of an agent, and with two or more that vary their composite, no one above `cap` of its variance."""
    proxies = values.filter(role="proxy").select("trace_id", "measure", "value")
    spreads = proxies.group_by("measure").agg(mean=pl.col("value").mean(), sd=pl.col("value").std()).sort("measure")
    varying = spreads.filter(pl.col("sd").fill_null(0.0) > 0.0)
    if varying.height < 2:
        return proxies, None
    standard = proxies.join(varying, on="measure").select(
        "trace_id", "measure", z=(pl.col("value") - pl.col("mean")) / pl.col("sd")
    )
    names = varying["measure"].to_list()
    wide = standard.pivot(on="measure", on_columns=names, index="trace_id", values="z").sort("trace_id")
    # A proxy that a trace lacks says nothing of it: the mean.
    matrix = wide.select(pl.col(names).fill_null(0.0)).to_numpy()
    covariance = np.atleast_2d(np.cov(matrix, rowvar=False))
    capped = cap_contributions(np.ones(len(names)), covariance, config.cap)
    composite = wide.select("trace_id", measure=pl.lit(COMPOSITE), value=pl.Series(matrix @ capped.weights))
    told = {
        "measures": names,
        "weights": capped.weights.tolist(),
        "shares": capped.shares.tolist(),
        "capped": capped.capped.tolist(),
        "reason": capped.reason,
    }
    return pl.concat([proxies, composite]), told
