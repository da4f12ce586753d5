"""Payoffs of an agent's lessons and of its playbook, as rows of `store.payoffs`.

What is controlled: each lesson's interval, and with it its verdict, is wrong with probability .05 at most over all
looks. Those of a lesson's segments hold together at .05 (each at .05 / segments). Nothing is controlled over lessons:
of a hundred useless ones up to five may at some time be called better, and as many worse.

An effect is that of adding one version of a lesson to what else is served at the present rates: lessons are drawn
independently given the unit, so the presence of the others is balanced. Versions are not pooled, a new text starts
anew. What a lesson leaves behind in a person goes into that person's other sessions, so people are what is independent;
if it is learnt, withheld sessions profit too, and the effect is understated.

Verdicts are those of `pipelines.exploration.stopping`: the interval against 0 and the region of practical equivalence.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration.stopping import OPEN, StoppingConfig, further_decisions, verdict
from pipelines.lessons.payoff import effects, repeated
from pipelines.lessons.payoff.draws import Draws, faults, numbered, rates_changed
from pipelines.lessons.payoff.effects import Effects
from pipelines.lessons.payoff.exposed import MEASURES, Exposed, exposed
from pipelines.lessons.payoff.power import minimum_detectable
from pipelines.lessons.payoff.reasons import CHANGED, Grounds, refused, said
from pipelines.lessons.payoff.shrink import posterior
from pipelines.stats.confidence_sequence import ESS_GATE, TUNE_AT
from store.errors import SettingsError
from store.payoffs import PAYOFFS

__all__ = ["DIFFERENCE", "DOUBLY_ROBUST", "HARM", "PayoffConfig", "Payoffs", "measure", "per_gain"]

Floats = NDArray[np.float64]

DOUBLY_ROBUST: Final = "doubly robust"
DIFFERENCE: Final = "difference"

HARM = pl.Schema(
    {
        "agent": pl.String(),
        "lesson_id": pl.String(),
        "version": pl.Int32(),
        "served": pl.Int64(),
        "withheld": pl.Int64(),
        "effect": pl.Float64(),
        "lower": pl.Float64(),  # at level 1 - `PayoffConfig.kill`
        "upper": pl.Float64(),
    }
)

_MONEY = ("cost_usd", "tokens")
_NEGLIGIBLE = 0.02  # of what a decision costs without the lesson
_FEW = 20.0  # units on a side, below which a standard error is not one


@dataclass(frozen=True)
class PayoffConfig:
    """`alpha` of an interval over all looks; `margin` of no worse in reward points; effective units below which
    nothing is said; the number of units about which intervals are narrowest; `kill` the level of automatic demotion.
    """

    alpha: float = 0.05
    margin: float = StoppingConfig.margin
    gate: float = ESS_GATE
    tune_at: float = TUNE_AT
    kill: float = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.kill < 1 and self.margin >= 0 and self.gate >= 2 and self.tune_at > 0):
            raise SettingsError(
                "payoff alpha, kill, margin, gate, tune_at", self, "0 < alpha < 1, margin ≥ 0, gate ≥ 2"
            )


@dataclass(frozen=True)
class Payoffs:
    """`rows` (columns `store.payoffs.PAYOFFS`) and `harm` (columns HARM): lessons whose whole interval is below 0."""

    rows: pl.DataFrame
    harm: pl.DataFrame


def measure(agent: str, rows: pl.DataFrame, config: PayoffConfig | None = None) -> Payoffs:
    """What the lessons of one agent pay.

    `rows` are its exposures (columns `pipelines.lessons.payoff.exposed.EXPOSED`). Raises: ContractError.
    """
    config = config or PayoffConfig()
    seen = exposed(rows)
    parts = [_unusable(seen)]
    harm = pl.DataFrame(schema=HARM)
    if seen.lessons.height:
        everyone, segments = numbered(seen.lessons)
        whole, harm = _lessons(everyone, seen, config)
        parts += [whole, repeated.lessons(seen.lessons, config.alpha, config.margin)]
        if segments.keys.height:
            together = segments.keys.select(pl.len().over("lesson_id", "version")).to_series().to_numpy()
            own = _Comparison(segments, seen, config, faults(segments), config.alpha / together)
            parts.append(own.rows(segments.estimate(segments.units["left_outcome"]), "outcome", DOUBLY_ROBUST))
    if seen.playbook.height:
        draws, _ = numbered(seen.playbook)
        playbook = pl.concat(_measured(draws, seen, config)[0], how="diagonal")
        nothing = [pl.lit(None, PAYOFFS[name]).alias(name) for name in ("lesson_id", "version")]
        parts.append(playbook.with_columns(*nothing, kind=pl.lit("playbook")))
    parts.append(repeated.retries(seen.attempts, config.alpha, config.margin))
    found = pl.concat([_shaped(part, agent) for part in parts if part.height] or [pl.DataFrame(schema=PAYOFFS)])
    return Payoffs(found, harm.with_columns(agent=pl.lit(agent)).select(list(HARM)).cast(HARM))


def per_gain(rows: pl.DataFrame) -> pl.DataFrame:
    """Payoff rows with the columns tokens_per_gain and usd_per_gain: what one whole reward point costs.

    Null unless the lesson is better: what does not gain has no price of a gain.
    """
    gains = (pl.col("verdict") == "better") & (pl.col("effect") > 0.0)
    return rows.with_columns(
        pl.when(gains).then(pl.col(f"{unit}_per_decision") / pl.col("effect")).alias(f"{unit}_per_gain")
        for unit in ("tokens", "usd")
    )


def _lessons(draws: Draws, seen: Exposed, config: PayoffConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of each lesson over all segments by each measure, and the harmful ones."""
    frames, found, trusted = _measured(draws, seen, config)
    for place, name in enumerate(MEASURES[:2]):
        each = found[name]
        enough = (np.minimum(each.served, each.units - each.served) >= _FEW) & (each.clusters >= effects.CLUSTERS)
        known = np.where(enough & trusted & (each.spread > 0.0), each.effect, np.nan)
        mean, sd = posterior(known, each.sd)
        frames[place] = frames[place].with_columns(posterior=pl.Series(mean), posterior_sd=pl.Series(sd))
    out = found["outcome"]
    low, high = effects.limits(out, alpha=config.kill, tune_at=config.tune_at, gate=config.gate)
    harm = frames[0].select("lesson_id", "version", "served", "withheld", "effect").with_columns(
        lower=pl.Series(low), upper=pl.Series(high)
    )  # fmt: skip
    return pl.concat(frames, how="diagonal"), harm.filter(pl.Series(trusted & (high < 0.0)))


def _measured(
    draws: Draws, seen: Exposed, config: PayoffConfig
) -> tuple[list[pl.DataFrame], dict[str, Effects], NDArray[np.bool_]]:
    """Frames in the order of MEASURES, the plain difference last; effects by measure; which draws are sound."""
    broken = faults(draws)
    own = _Comparison(draws, seen, config, broken, np.full(draws.keys.height, config.alpha))
    found = {name: draws.estimate(draws.units[f"left_{name}"]) for name in MEASURES}
    frames = [own.rows(found[name], name, DOUBLY_ROBUST) for name in MEASURES]
    plain = draws.estimate(draws.units["outcome"], plain=True)
    changed = [fault or (CHANGED if moved else None) for fault, moved in zip(broken, rates_changed(draws), strict=True)]
    frames.append(replace(own, broken=changed).rows(plain, "outcome", DIFFERENCE))
    usd = frames[MEASURES.index("cost_usd")]["effect"].alias("usd_per_decision")
    frames[0], frames[-1] = frames[0].with_columns(usd), frames[-1].with_columns(usd)
    return frames, found, np.array([fault is None for fault in broken])


@dataclass(frozen=True)
class _Comparison:
    """What the rows of one set of comparisons have in common; `broken` and `alphas` one a comparison."""

    draws: Draws
    seen: Exposed
    config: PayoffConfig
    broken: list[str | None]
    alphas: Floats

    def rows(self, found: Effects, name: str, estimator: str) -> pl.DataFrame:
        """One row a comparison, without what only the whole lesson has."""
        config, draws = self.config, self.draws
        low, high = effects.limits(found, alpha=self.alphas, tune_at=config.tune_at, gate=config.gate)
        known = draws.units.select(
            served=pl.col("served") & pl.col(name).is_not_null(), other=~pl.col("served") & pl.col(name).is_not_null()
        )
        decisions = [draws.total(known[side] * draws.units[f"decisions_{name}"]) for side in ("served", "other")]
        size = draws.total(known["served"])
        tokens = draws.total(known["served"] * draws.units["lesson_tokens"]) / np.where(size > 0.0, size, np.nan)
        base = draws.total(known["other"] * draws.units[name].fill_null(0.0)) / np.maximum(found.units - size, 1.0)
        left_out = _left_out(self.seen)
        listed = []
        for place, key in enumerate(draws.keys.iter_rows(named=True)):
            margin = _NEGLIGIBLE * abs(float(base[place])) if name in _MONEY else config.margin
            one = _One(found, place, float(low[place]), float(high[place]), float(self.alphas[place]), margin)
            dropped = {} if key["segment"] else left_out.get((key["lesson_id"], key["version"]), {})
            grounds = one.grounds(name, config.gate, self.broken[place], dropped)
            count = float(decisions[0][place] + decisions[1][place])
            listed.append(
                key | {"kind": "lesson", "measure": name, "estimator": estimator,
                       "served": int(decisions[0][place]), "withheld": int(decisions[1][place]),
                       "units": int(found.clusters[place]), "tokens_per_decision": _number(tokens[place])}
                | one.answer(grounds, config, count, cheaper=name in _MONEY)
            )  # fmt: skip
        return pl.DataFrame(listed, schema=_OWN)


@dataclass(frozen=True)
class _One:
    """One comparison of many."""

    found: Effects
    place: int
    low: float
    high: float
    alpha: float
    margin: float

    def grounds(self, name: str, gate: float, fault: str | None, dropped: dict[str, int]) -> Grounds:
        found, at = self.found, self.place
        return Grounds(
            measure=name, served=int(found.served[at]), withheld=int(found.units[at] - found.served[at]),
            people=int(found.clusters[at]), ess=float(found.ess[at]), gate=gate, needed=float(found.needed[at]),
            varies=bool(found.spread[at] > 0.0), fault=fault, dropped=dropped,
        )  # fmt: skip

    def answer(self, of: Grounds, config: PayoffConfig, decisions: float, *, cheaper: bool) -> dict[str, object]:
        """Numbers, verdict and reason; less is better where `cheaper`."""
        effect, variance, units = (
            float(each[self.place]) for each in (self.found.effect, self.found.variance, self.found.units)
        )
        soft: dict[str, object] = {}
        more = None
        if of.served and of.withheld and of.people >= effects.CLUSTERS and of.varies and not of.fault:
            sign = -1.0 if cheaper else 1.0
            limits = (-self.high, -self.low) if cheaper else (self.low, self.high)
            word = verdict(*limits, self.margin)
            rule = StoppingConfig(self.alpha, self.margin, config.gate, config.tune_at)
            gated = max(units * config.gate / max(of.ess, 1.0), of.needed, units * effects.CLUSTERS / of.people)
            left = further_decisions(sign * effect, variance, units, gated, word, self.alpha, rule)
            more = None if left is None else int(np.ceil(left * decisions / units))
            detectable = minimum_detectable(units, variance, alpha=self.alpha, tune_at=config.tune_at)
            soft = {"minimum_detectable": detectable, "more_decisions": more or None}
        why = refused(of)
        if why is not None:
            return soft | {"verdict": OPEN, "reason": why}
        return soft | {
            "effect": effect, "lower": self.low, "upper": self.high, "sd": float(self.found.sd[self.place]),
            "verdict": word, "reason": said(word, of, self.margin, more),
        }  # fmt: skip


_OWN = pl.Schema({name: PAYOFFS[name] for name in PAYOFFS if name not in (
    "agent", "posterior", "posterior_sd", "fixed", "broke", "usd_per_decision"
)})  # fmt: skip


def _unusable(seen: Exposed) -> pl.DataFrame:
    """A row for each lesson version of which no draw can be used, with the reasons."""
    nothing: dict[str, object] = {"kind": "lesson", "measure": "outcome", "estimator": DOUBLY_ROBUST, "verdict": OPEN}
    measured = set(seen.lessons.select("lesson_id", "version").unique().iter_rows())
    listed = [
        nothing
        | {"lesson_id": lesson, "version": version, "served": 0, "withheld": 0, "units": 0}
        | {"reason": refused(Grounds("outcome", dropped=reasons))}
        for (lesson, version), reasons in _left_out(seen).items()
        if (lesson, version) not in measured
    ]
    return pl.DataFrame(listed, schema=_OWN)


def _left_out(seen: Exposed) -> dict[tuple[str, int], dict[str, int]]:
    """Decisions that say nothing by reason, of each lesson version."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for lesson, version, key, decisions in seen.dropped.select(
        "lesson_id", "version", "reason", "decisions"
    ).iter_rows():
        found.setdefault((lesson, version), {})[key] = decisions
    return found


def _shaped(part: pl.DataFrame, agent: str) -> pl.DataFrame:
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in PAYOFFS.items() if name not in part.columns]
    return part.with_columns(missing).with_columns(agent=pl.lit(agent)).select(list(PAYOFFS)).cast(PAYOFFS)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
