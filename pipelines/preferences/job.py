"""The job `preferences`: what people value from choices, goals and comparisons, and the rows of the Users page."""

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.jobs import JobResult
from pipelines.preferences import agreement, comparisons, features, population, rated, stated_revealed, weights
from pipelines.preferences.choices import Lists, reconstruct
from pipelines.stats.contract import FitRefused
from store import meta, preferences, users
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Fit, compare and count; `rows` counts users and rankings written."""
    store = context.store
    version = meta.data_version(store)
    context.progress(0.0, "fitting what was shown and chosen")
    found = context.compute(_from_choices, store, context.random)
    context.progress(0.7, "comparing arms and models")
    ranked = context.compute(_ranked, store, context.random)
    run_id = preferences.publish(
        store,
        preferences.Preferences(**found, rankings=ranked),
        data_version=version,
        code_version=code_version(),
    )
    context.progress(0.85, "counting users")
    counted = users.count(store)
    reason = found["parameters"].get("refused")
    fitted = f"weights of {found['users']:,} people from {found['lists']:,} lists" if reason is None else reason["text"]
    return JobResult(
        counted + ranked.height, f"Run {run_id}: {fitted}; {ranked.height} things ranked; {counted:,} users counted."
    )


def _from_choices(store: Store, random: np.random.Generator) -> dict[str, Any]:
    """Everything inferred from choices; where nothing can be, empty frames and the reason in the parameters."""
    candidates, dropped = features.candidates(preferences.feature_names(store))
    shown = preferences.shown_sets(store, list(candidates))
    left_out = preferences.impressions_left_out(store).to_dicts()
    segments = preferences.segments(store)
    try:
        lists = reconstruct(shown, candidates, segments, dropped=dropped)
        del shown
        pooled = weights.fit(lists.choices)
    except FitRefused as refused:
        return {
            "lists": 0, "items": 0, "chosen": 0, "users": 0,
            "parameters": {
                "refused": {"reason": refused.reason, "text": refused.detail},
                "dropped": [vars(one) for one in dropped], "left_out": left_out,
            },
            "weights": pl.DataFrame(schema=population.WEIGHTS),
            "user_weights": pl.DataFrame(schema=population.USER_WEIGHTS),
            "agreement": pl.DataFrame(schema=agreement.AGREEMENT),
        }  # fmt: skip
    return _tables(store, random, lists, pooled, segments, left_out)


def _tables(
    store: Store,
    random: np.random.Generator,
    lists: Lists,
    pooled: weights.Pooled,
    segments: pl.DataFrame,
    left_out: list[dict[str, Any]],
) -> dict[str, Any]:
    statements = preferences.statements(store)
    known = set(statements["feature"].unique().to_list())
    codes = {name: code for code, name in enumerate(lists.segments) if name is not None}
    segment_of = {user: codes[name] for user, name in segments.iter_rows() if name in codes}
    stated = stated_revealed.shrink(
        statements,
        [name for name in lists.features if name in known],
        segment_of,
        others=len(codes),
    )
    revealed = population.means(lists, pooled)
    anchored = population.anchor(revealed)
    said = None if stated is None else population.stated_means(stated, agreement.stated_segments(stated, lists))
    by_rating = rated.regress(preferences.opinions(store), lists.mean_features)
    return {
        "lists": int(lists.lists.sum()),
        "items": len(lists.choices.user),
        "chosen": int(lists.picked.sum()),
        "users": len(lists.user_ids),
        "parameters": {
            "features": lists.features,
            "anchor": anchored,
            "agents": lists.agents,
            "dropped": [vars(one) for one in lists.dropped],
            "notes": lists.notes,
            "left_out": left_out,
            "rounds": pooled.rounds,
            "converged": pooled.converged,
            "segments": [name for name in lists.segments if name is not None],
            "statement_error": None
            if stated is None
            else dict(zip(stated.features, stated.error.tolist(), strict=True)),
            "statement_error_assumed": stated is not None and stated.assumed,
            "minimum": {"lists": stated_revealed.LEAST_LISTS, "statements": stated_revealed.LEAST_STATEMENTS},
        },
        "weights": population.weights(revealed, said, by_rating, anchored),
        "user_weights": population.user_weights(lists, pooled, stated),
        "agreement": agreement.agreement(lists, pooled, revealed, stated, random),
    }


def _ranked(store: Store, random: np.random.Generator) -> pl.DataFrame:
    """The strength of whatever was compared."""
    return comparisons.rank(_pairs(store, random), random)


def _pairs(store: Store, random: np.random.Generator) -> pl.DataFrame:
    """Comparisons that people made, and pairs of rewards of arms and of models."""
    stated = preferences.comparisons(store).select(
        "agent", "axis", pl.lit("stated").alias("basis"), "winner", "loser", "tie", "user_id"
    )
    rewarded = preferences.rewarded(store)
    by_arm = comparisons.pairs_of_rewards(rewarded, "arm", random)
    by_model = comparisons.pairs_of_rewards(rewarded, "model", random)
    return pl.concat([part.cast(comparisons.PAIRS) for part in (stated, by_arm, by_model)])
