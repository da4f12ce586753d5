"""Changes of numbers, of yes/no events and of categories."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.drift.looks import DetectionConfig, newest
from pipelines.drift.sequences import Group
from pipelines.stats.change_posterior import changes
from pipelines.stats.likelihood_ratio import scan
from pipelines.stats.population_stability import stability
from pipelines.stats.sequential_calibration import CATEGORIES, p_value

__all__ = ["of_numbers"]

OTHER = "other"


def of_numbers(group: Group, config: DetectionConfig) -> pl.DataFrame:
    """Findings of a group of any likelihood but embedding: its own columns of `detection.FINDINGS`.

    Raises NotCalibrated.
    """
    codes, names = _codes(group.rows) if group.likelihood == "categorical" else (None, [])
    schedule = config.schedule(group.likelihood, group.level, max(len(names), 2))
    totals = group.totals()
    lengths, at = newest(totals, schedule)
    scanned = group.rows["scanned"].to_numpy()[at] if codes is None else codes[at]
    if group.likelihood == "bernoulli":
        scanned = scanned.astype(np.uint8)
    found = scan(scanned, lengths, schedule.gains)
    share = _means(scanned, lengths) if group.likelihood == "bernoulli" else None
    p = p_value(found.statistic, totals, schedule, config.calibrated, share=share)
    after = lengths - found.before
    measured = scanned.astype(np.float64)
    extra: dict[str, pl.Series] = {}
    seen = group.rows["value"].to_numpy()[at] if codes is None else measured
    if codes is not None:
        measured, extra = _shares(scanned, lengths, found.before, names)
        seen = measured
    thresholds = group.subjects["practical"].to_numpy()
    change = changes(scanned, measured, lengths, found, p, thresholds, schedule.gains)
    starts = np.cumsum(lengths) - lengths
    running = np.concatenate(([0.0], np.cumsum(seen)))
    times = group.rows["occurred_at"].gather(at)
    made = ~np.isnan(p)

    def only_made(values: NDArray[Any]) -> pl.Series:
        return pl.Series(np.where(made, values, np.nan)).fill_nan(None)

    def when(events: NDArray[np.int64]) -> pl.Series:
        return times.gather(pl.Series(starts + events).set(pl.Series(~made), None))

    with np.errstate(divide="ignore", invalid="ignore"):
        before_mean = (running[starts + found.before] - running[starts]) / found.before
        after_mean = (running[starts + lengths] - running[starts + found.before]) / after
    needed = -(-2 * schedule.min_segment // schedule.look_every) * schedule.look_every
    return group.subjects.with_columns(
        events=pl.Series(lengths),
        events_total=pl.Series(totals),
        missing=pl.Series(np.where(made, 0, needed - totals)),
        statistic=only_made(found.statistic),
        p_value=only_made(p),
        changed_at=when(found.before),
        changed_from=when(change.earliest),
        changed_to=when(change.latest),
        before_mean=only_made(before_mean),
        before_n=only_made(found.before).cast(pl.Int64),
        after_mean=only_made(after_mean),
        after_n=only_made(after).cast(pl.Int64),
        effect=only_made(change.effect),
        effect_sd=only_made(change.effect_sd),
        practical=only_made(change.practical),
        **extra,
    )


def _means(values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each sequence, shape (sequences,); 0 of an empty one."""
    ends = np.cumsum(lengths)
    running = np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
    return np.asarray((running[ends] - running[ends - lengths]) / np.maximum(lengths, 1), dtype=np.float64)


def _codes(rows: pl.DataFrame) -> tuple[NDArray[np.uint8], list[str]]:
    """Categories as codes, by how common they are; the rarest share one code."""
    common = rows["category"].value_counts(sort=True).sort("count", "category", descending=[True, False])["category"]
    names = common.to_list()
    if len(names) > CATEGORIES[-1]:
        names = [*names[: CATEGORIES[-1] - 1], OTHER]
    code = pl.col("category").replace_strict(
        names, list(range(len(names))), default=len(names) - 1, return_dtype=pl.UInt8
    )
    return rows.select(code).to_series().to_numpy(), names


def _shares(
    codes: NDArray[np.uint8], lengths: NDArray[np.int64], before: NDArray[np.int64], names: list[str]
) -> tuple[NDArray[np.float64], dict[str, pl.Series]]:
    """Whether each event is of the category whose share changed most; that category, and the index of stability."""
    sequence = np.repeat(np.arange(lengths.size), lengths)
    place = np.arange(codes.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    later = place >= before[sequence]
    sides = np.zeros((2, lengths.size, max(len(names), 1)), dtype=np.int64)
    np.add.at(sides, (later.astype(np.int64), sequence, codes), 1)
    share = sides / np.maximum(sides.sum(axis=2, keepdims=True), 1)
    most = np.abs(share[1] - share[0]).argmax(axis=1)
    scanned = before > 0
    psi = stability(sides[0], sides[1]).corrected
    named = pl.Series(
        [names[code] if made else None for code, made in zip(most, scanned, strict=True)], dtype=pl.String
    )
    index = pl.Series(np.where(scanned, psi, np.nan)).fill_nan(None)
    return (codes == most[sequence]).astype(np.float64), {"category": named, "psi": index}
