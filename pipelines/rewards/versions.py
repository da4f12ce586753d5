"""Whether a new version of the reward model takes over by itself, and when one is fitted anew.

The first version takes over, and so does the first model of single traces after the fallback, which is in use for want
of data only; the fallback's own refits do too, as it has no rewards for traces that it has not seen. A refit of a model
takes over when it is not worse on held-out people and tasks: neither its Brier score nor its log loss may be above the
present one's by more than `TOLERANCE` and by more than chance (one-sided 95 % of the difference, from the stored
intervals). Anything else waits for an operator, and so does every refit while the version in use is one that an
operator chose over a newer one; the version in use goes on scoring what is new (`job`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

__all__ = ["REFIT_AFTER", "TOLERANCE", "Decision", "decide", "due"]

TOLERANCE = {"brier": 0.005, "log_loss": 0.015}
REFIT_AFTER = timedelta(hours=20)  # nightly, with room for the hour at which the night's run begins
_GROWTH = 0.1  # of traces or signals, after which a version is fitted anew before the night
_HELD_OUT = "users and tasks"
_Z90 = 1.6448536269514722
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Decision:
    """Whether a version takes over, and the reason in words."""

    activate: bool
    reason: str


def decide(
    method: str, fresh: pl.DataFrame, active: dict[str, Any] | None, metrics: pl.DataFrame, *, newest: int | None = None
) -> Decision:
    """What becomes of a fresh fit.

    Args: `fresh` its held-out metrics (`reward_versions.METRICS`); `active` the version in use (`VERSIONS`) with its
    `metrics`; `newest` the id of the newest version.
    """
    if active is None:
        return Decision(True, "the first version")
    version = active["reward_model_id"]
    if active["decided_by"] is not None and newest is not None and newest > version:
        return Decision(False, f"{active['decided_by']} put version {version} in use in place of a newer one")
    if active["method"] == method == "empirical_bayes":
        return Decision(True, f"the means of version {version}, of all that is known now")
    if active["method"] != method:
        if active["method"] == "empirical_bayes" and active["decided_by"] is None:
            return Decision(True, f"version {version} was in use only while there was too little data for this method")
        return Decision(False, f"another method ({method}) than that of version {version}: an operator decides")
    compared = []
    for metric, tolerance in TOLERANCE.items():
        new, old = _one(fresh, metric), _one(metrics, metric)
        if new is None or old is None or new["basis"] != old["basis"]:
            continue
        worse = new["value"] - old["value"]
        noise = _Z90 * (_sd(new) ** 2 + _sd(old) ** 2) ** 0.5
        if worse > tolerance and worse > noise:
            return Decision(
                False,
                f"its {_words(metric)} on held-out people and tasks is {new['value']:.4f} against {old['value']:.4f} "
                f"of version {version}: worse than chance and the tolerance of {tolerance} allow",
            )
        compared.append(f"{_words(metric)} {new['value']:.4f} against {old['value']:.4f}")
    if not compared:
        return Decision(True, f"a refit of version {version}; neither has held-out labels to compare")
    return Decision(True, f"not worse than version {version} on held-out people and tasks: {', '.join(compared)}")


def due(
    active: dict[str, Any] | None, now: datetime, *, traces: int, signals: int, newest: dict[str, Any] | None = None
) -> str | None:
    """Why a version is to be fitted anew now; None when new traces can be scored with the present one.

    `traces` and `signals` are what the store holds now, against what the `newest` version was fitted on (None: that in
    use): one that waits for an operator is not fitted again on every run.
    """
    if active is None:
        return "there is no version yet"
    if active["method"] == "empirical_bayes":
        return "the present method only ever fits anew"
    latest = newest or active
    if now - latest["fitted_at"] >= REFIT_AFTER:
        return "the nightly fit"
    for noun, have, had in (("traces", traces, latest["traces"]), ("signals", signals, latest["signals"])):
        if abs(have - had) > _GROWTH * max(had, 1):
            return f"{have:,} {noun} against {had:,} when it was fitted"
    return None


def _one(metrics: pl.DataFrame, metric: str) -> dict[str, Any] | None:
    rows = metrics.filter((pl.col("held_out") == _HELD_OUT) & (pl.col("metric") == metric))
    return rows.row(0, named=True) if rows.height else None


def _sd(row: dict[str, Any]) -> float:
    return 0.0 if row["upper"] is None or row["lower"] is None else float(row["upper"] - row["lower"]) / (2 * _Z95)


def _words(metric: str) -> str:
    return {"brier": "Brier score", "log_loss": "log loss"}[metric]
