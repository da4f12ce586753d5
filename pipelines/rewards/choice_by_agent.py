"""Which arm for which request, for every agent whose log holds the propensities of its arms."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards import choice_of_arm
from pipelines.rewards.features import metadata_name
from pipelines.stats.contract import ContractError
from store.reward_features import Material

__all__ = ["lifts"]

_PROPENSITIES = ("steer.propensity", "propensity", "arm_propensity")
_MOST_REQUESTS = 20_000
_MOST_LEVELS = 12


def lifts(material: Material, rewards: pl.DataFrame) -> list[dict[str, Any]]:
    """The lift of choosing the arm by request over the best single arm, per agent with two or more arms.

    Features are what is known before the choice: the request's words, and metadata of few values about the person. An
    agent for which no honest answer is possible gets the reason as its `text`, without numbers.
    """
    selection = material.selection
    logged = next((path for path in selection.numbers if metadata_name(path) in _PROPENSITIES), None)
    frame = material.facts.join(rewards.select("trace_id", "mean"), on="trace_id", maintain_order="left")
    rows = []
    for own in frame.filter(pl.col("arm").is_not_null()).partition_by("agent", maintain_order=True):
        if own["arm"].n_unique() < 2:
            continue
        agent = own["agent"][0]
        randomised = own if logged is None else own.filter(pl.col(logged).is_not_null())
        if logged is None or randomised.is_empty():
            text = "No claim: the propensities of its arms are not in the log, so arms cannot be compared by request."
            rows.append({"agent": agent, "text": text, "claim": None})
            continue
        randomised = randomised.gather_every(randomised.height // _MOST_REQUESTS + 1)
        try:
            lift = choice_of_arm.logged(
                _request_features(randomised, selection.categories),
                randomised["arm"].to_list(),
                np.clip(randomised["mean"].to_numpy(), 0.0, 1.0),
                randomised[logged].to_numpy(),
                randomised["user_id"].fill_null(randomised["trace_id"]).to_list(),
            )
        except ContractError as refused:
            rows.append({"agent": agent, "text": f"No claim: {refused}", "claim": None})
            continue
        rows.append({"agent": agent, **lift.row()})
    return rows


def _request_features(frame: pl.DataFrame, categories: tuple[str, ...]) -> NDArray[np.float64]:
    """Words of the request and one column a value of the person's metadata; nothing that the answer brought."""
    blocks = [choice_of_arm.text_matrix(texts := frame["input"].fill_null("").to_list(), texts[:1])[0]]
    for path in categories:
        name = metadata_name(path)
        levels = frame[path].drop_nulls().unique().sort()
        if name.startswith(("steer.", "answer")) or not 2 <= levels.len() <= _MOST_LEVELS:
            continue
        blocks.append((frame[path].to_numpy()[:, None] == levels.to_numpy()[None, :]).astype(np.float64))
    return np.concatenate(blocks, axis=1)
