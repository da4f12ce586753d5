"""Answers of one run of probes beside those of the baseline: whether the model behind them is still the same."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import combine_pvalues

from pipelines.model_watch.looks import looked_at, penalty
from pipelines.model_watch.measures import PROBE_LOGPROBS, PROBE_TEXTS, PROBES_TOGETHER
from pipelines.stats import log_probability_shift, text_discrepancy
from pipelines.stats.log_probability_shift import Shift
from pipelines.stats.text_discrepancy import TextComparison
from store.model_figures import FOUND

__all__ = ["Compared", "compare"]

_ERROR: Final = 0.05
_LEAST_DRAWS: Final = 9_999
_MOST_DRAWS: Final = 99_999
_Z: Final = 1.959963984540054

Row = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """What a comparison said: `results` of its tests for the run's row, `found` of columns `model_figures.FOUND`."""

    results: Row
    found: pl.DataFrame


def compare(
    model: str, before: pl.DataFrame, after: pl.DataFrame, *, look: int, began: datetime,
    flagged_since: Mapping[str, datetime], random: np.random.Generator,
) -> Compared:  # fmt: skip
    """Compare the answers of a run with those of the baseline (both of columns `store.model_probe_runs.SAMPLES`).

    Texts and log-probabilities come from calls of their own, so their tests are independent and are taken together by
    Fisher's method (METHODS §7, item 8); each by itself counts only where both together do (closed testing). `look` is
    the number of the comparison since the baseline; `flagged_since` when each metric's present change was first seen.
    """
    most = min(max(_LEAST_DRAWS, math.ceil(100 * penalty(look))), _MOST_DRAWS)
    texts = text_discrepancy.compare(_texts(before), _texts(after), random, most=most)
    shift = log_probability_shift.compare(_listed(before), _listed(after), random, most=most)
    made: dict[str, TextComparison | Shift] = {}
    if texts is not None:
        made[PROBE_TEXTS] = texts
    if shift is not None:
        made[PROBE_LOGPROBS] = shift
    p_values = [test.p_value for test in made.values()]
    names = {"fingerprints": _names(before, after, "fingerprint"), "served_by": _names(before, after, "served_by")}
    if not p_values:
        return Compared({"look": look, **names}, pl.DataFrame(schema=FOUND))
    together = float(combine_pvalues(p_values, method="fisher").pvalue) if len(p_values) > 1 else p_values[0]
    believed = looked_at(together, look) <= _ERROR
    rows = [_text_row(texts)] if texts is not None else []
    rows += [_shift_row(shift)] if shift is not None else []
    results: Row = {"look": look, "penalty": penalty(look), PROBES_TOGETHER: {"p": together}, **names}
    for row in rows:
        results[row["metric"]] = asdict(made[row["metric"]])
        row["p_value"] = looked_at(row["p_value"], look)
        row["flagged"] = believed and row["p_value"] <= _ERROR
    if len(rows) > 1:
        rows.append(_together_row(rows, looked_at(together, look), believed))
    for row in rows:
        row["detail"] = json.dumps(row["detail"] | {"look": look, **names})
        row["status"] = "change" if row["flagged"] else "no change seen"
        row |= {"model": model, "changed_at": flagged_since.get(row["metric"], began), "q_value": None, "e_value": None}
    return Compared(results, pl.DataFrame(rows, schema=FOUND))


def _texts(samples: pl.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in samples.filter(pl.col("kind") == "text").to_dicts():
        found.setdefault(row["probe_id"], []).append(row["answer"] or "")
    return found


def _listed(samples: pl.DataFrame) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for row in samples.filter((pl.col("kind") == "logprob") & pl.col("log_probabilities").is_not_null()).to_dicts():
        found.setdefault(row["probe_id"], []).append(json.loads(row["log_probabilities"]))
    return found


def _names(before: pl.DataFrame, after: pl.DataFrame, column: str) -> Row:
    """What the server called itself, and its fingerprints, before and after."""
    return {
        side: sorted(frame[column].drop_nulls().unique().to_list())[:10]
        for side, frame in (("before", before), ("after", after))
    }


def _text_row(test: TextComparison) -> Row:
    return {
        "metric": PROBE_TEXTS, "before": test.alike_before, "after": test.alike_after, "before_n": test.before_n,
        "after_n": test.after_n, "n": test.before_n + test.after_n, "effect": test.effect,
        "effect_lower": test.effect - _Z * test.effect_sd, "effect_upper": test.effect + _Z * test.effect_sd,
        "statistic": test.mmd, "p_value": test.p_value,
        "detail": {
            "title": "Answers to probes", "unit": "share of equal characters with an answer of the baseline",
            "effect_is": "difference", "prompts": test.prompts, "draws": test.draws, "p_of_this_run": test.p_value,
        },
    }  # fmt: skip


def _shift_row(test: Shift) -> Row:
    return {
        "metric": PROBE_LOGPROBS, "before": test.likeliest_before, "after": test.likeliest_after,
        "before_n": test.before_n, "after_n": test.after_n, "n": test.before_n + test.after_n, "effect": test.effect,
        "effect_lower": test.effect - _Z * test.effect_sd, "effect_upper": test.effect + _Z * test.effect_sd,
        "statistic": test.statistic, "p_value": test.p_value,
        "detail": {
            "title": "Log-probabilities of probes", "unit": "nats, of the first token that was the likeliest",
            "effect_is": "difference", "prompts": test.prompts, "tokens": test.tokens, "draws": test.draws,
            "p_of_this_run": test.p_value,
        },
    }  # fmt: skip


def _together_row(rows: list[Row], p: float, believed: bool) -> Row:
    return {
        "metric": PROBES_TOGETHER, "before": None, "after": None, "before_n": sum(row["before_n"] for row in rows),
        "after_n": sum(row["after_n"] for row in rows), "n": sum(row["n"] for row in rows), "effect": None,
        "effect_lower": None, "effect_upper": None, "statistic": None, "p_value": p, "flagged": believed,
        "detail": {"title": "Probes together", "measures": [row["metric"] for row in rows]},
    }  # fmt: skip
