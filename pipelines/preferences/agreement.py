"""Who contradicts what they say: everyone, each segment and each person, with the reason where nothing is said."""

from typing import Any, Final

import numpy as np
import polars as pl

from pipelines.preferences import stated_revealed
from pipelines.preferences.choices import Lists
from pipelines.preferences.population import Means, stated_means
from pipelines.preferences.stated_revealed import Stated
from pipelines.preferences.weights import Pooled
from store.preferences import AGREEMENT

__all__ = ["AGREEMENT", "CHANGED", "agreement", "stated_segments"]

CHANGED: Final = "what they state changed over time, so that one direction does not stand for it"


def agreement(
    lists: Lists, pooled: Pooled, revealed: Means, stated: Stated | None, random: np.random.Generator
) -> pl.DataFrame:
    """The rows of AGREEMENT: everyone and segments first, then every person with lists and goals."""
    if stated is None:
        return pl.DataFrame(
            [_unknown("everyone", None, revealed, 0, "nobody stated goals for the features of shown items")],
            schema=AGREEMENT, orient="row",
        )  # fmt: skip
    common = stated.features
    if len(common) < 2:
        reason = f"{len(common)} of at least 2 features of shown items have stated goals"
        return pl.DataFrame([_unknown("everyone", None, revealed, 0, reason)], schema=AGREEMENT, orient="row")
    columns = [lists.features.index(name) for name in common]
    groups = _groups(revealed, stated_means(stated, stated_segments(stated, lists)), columns, random)
    people = _people(lists, pooled, stated, columns, random)
    return pl.concat([groups, people])


def stated_segments(stated: Stated, lists: Lists) -> list[str | None]:
    """The names of the segment codes of `stated`; its codes are those of the lists that people who stated belong to."""
    return [lists.segments[code] if code < len(lists.segments) else None for code in stated.codes]


def _groups(revealed: Means, stated: Means, columns: list[int], random: np.random.Generator) -> pl.DataFrame:
    """Everyone, and the segments that both sides have."""
    shared = [segment for segment in revealed.segments if segment in stated.segments]
    left = [revealed.segments.index(segment) for segment in shared]
    right = [stated.segments.index(segment) for segment in shared]
    tested = stated_revealed.test(
        revealed.mean[left][:, columns], revealed.covariance[left][:, columns][:, :, columns], stated.mean[right],
        stated.covariance[right], random,
    )  # fmt: skip
    q, contradicts = stated_revealed.decide(tested)
    rows = [
        {
            "scope": "everyone" if segment is None else "segment", "segment": segment, "features": len(columns),
            "lists": revealed.n[left[place]], "statements": stated.n[right[place]],
            "users": min(revealed.users[left[place]], stated.users[right[place]]),
            "angle": float(tested.angle[place]), "angle_lower": float(tested.lower[place]),
            "angle_upper": float(tested.upper[place]), "statistic": float(tested.statistic[place]),
            "p_value": float(tested.p_value[place]), "q_value": float(q[place]),
            "contradicts": bool(contradicts[place]),
        }
        for place, segment in enumerate(shared)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=AGREEMENT, orient="row")


def _people(
    lists: Lists, pooled: Pooled, stated: Stated, columns: list[int], random: np.random.Generator
) -> pl.DataFrame:
    """Everybody who both saw lists and stated goals; those with too little of either get the reason instead."""
    place = {user: row for row, user in enumerate(lists.user_ids)}
    both = [(place[user], row) for row, user in enumerate(stated.user_ids) if user in place]
    if not both:
        return pl.DataFrame(schema=AGREEMENT)
    left, right = (np.array(side, dtype=np.int64) for side in zip(*both, strict=True))
    seen, said = lists.lists[left], stated.statements[right]
    changed = stated.changed[right]
    enough = (seen >= stated_revealed.LEAST_LISTS) & (said >= stated_revealed.LEAST_STATEMENTS) & ~changed
    scale = lists.scale[columns]
    covariance = pooled.covariance[left[enough]][:, columns][:, :, columns] / np.outer(scale, scale)
    tested = stated_revealed.test(
        pooled.weights[left[enough]][:, columns] / scale, covariance, stated.weights[right[enough]],
        stated.covariance[right[enough]], random,
    )  # fmt: skip
    q, contradicts = stated_revealed.decide(tested)
    frame = pl.DataFrame(
        {
            "scope": pl.repeat("user", len(left), eager=True),
            "user_id": pl.Series(lists.user_ids, dtype=pl.String).gather(left),
            "features": pl.repeat(len(columns), len(left), eager=True, dtype=pl.Int64),
            "lists": seen,
            "statements": said,
            "users": pl.repeat(1, len(left), eager=True, dtype=pl.Int64),
            "changed": changed,
            "place": np.where(enough, np.cumsum(enough) - 1, -1),
        }
    )
    results = pl.DataFrame(
        {
            "place": np.arange(int(enough.sum())), "angle": tested.angle, "angle_lower": tested.lower,
            "angle_upper": tested.upper, "statistic": tested.statistic, "p_value": tested.p_value, "q_value": q,
            "contradicts": contradicts,
        }
    )  # fmt: skip
    least_lists, least_said = stated_revealed.LEAST_LISTS, stated_revealed.LEAST_STATEMENTS
    return (
        frame.join(results, on="place", how="left", maintain_order="left")
        .with_columns(
            segment=pl.lit(None, dtype=pl.String),
            reason=pl.when(pl.col("lists") < least_lists)
            .then(pl.format(f"{{}} of {least_lists} lists", "lists"))
            .when(pl.col("statements") < least_said)
            .then(pl.format(f"{{}} of {least_said} stated goals", "statements"))
            .when("changed")
            .then(pl.lit(CHANGED)),
        )
        .select(list(AGREEMENT))
    )


def _unknown(scope: str, segment: str | None, revealed: Means, statements: int, reason: str) -> dict[str, Any]:
    return {
        "scope": scope, "segment": segment, "features": 0, "lists": revealed.n[0], "statements": statements,
        "users": revealed.users[0], "reason": reason,
    }  # fmt: skip
