"""Proposing, estimating and approving fine-tuning jobs, and what of an export may be sent."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from pipelines.lessons.graduate.export import METHODS, file_name, trainable
from pipelines.llm_setup import setup
from store import fine_tunings, graduation
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.fine_tunings import Method
from store.settings import Settings

__all__ = ["EPOCHS", "approve", "content", "propose", "withdrawn"]

EPOCHS: Final = 3
_MOST_EPOCHS: Final = 50


def propose(
    store: Store,
    export_id: int,
    *,
    method: Method,
    model: str,
    usd_per_million: float,
    by: str,
    epochs: int = EPOCHS,
) -> int:
    """Propose to train a model on an export; returns the proposal's number. Nothing is sent.

    Args: `usd_per_million` what the server takes for a million trained tokens (its prices of training are not among
    those of TRIMTAB_MODEL_PRICES), 0 for a server of one's own.
    Raises: `NotFound`; `ActionRefused` when there is too little to train on, or the same is proposed already.
    """
    export = graduation.export(store, export_id)
    if method not in METHODS:
        raise ActionRefused("Propose", f"there is no method {method!r}.", f"Use {' or '.join(METHODS)}.")
    if not model.strip():
        raise ActionRefused("Propose", "no model was named.", "Name the model that is to be trained further.")
    if not (math.isfinite(usd_per_million) and usd_per_million >= 0):
        raise ActionRefused("Propose", f"{usd_per_million} is no price.", "Give US dollars per million tokens, or 0.")
    if not 1 <= epochs <= _MOST_EPOCHS:
        raise ActionRefused("Propose", f"{epochs} epochs are not possible.", f"Use 1 to {_MOST_EPOCHS}.")
    missing = trainable(_manifest(store, export_id), method)
    if missing is not None:
        raise ActionRefused("Propose", f"export {export_id} has {missing}.", "Wait for more traces, export again.")
    train = next(each for each in graduation.files(store, export_id).to_dicts() if each["name"] == _train(method))
    return fine_tunings.propose(
        store, export_id, export["agent"], method=method, model=model.strip(), epochs=epochs,
        tokens=train["tokens"] * epochs, usd_per_million=usd_per_million, by=by,
    )  # fmt: skip


def approve(store: Store, settings: Settings, tuning_id: int, *, operator: str) -> None:
    """Allow a proposed job to be sent, within what is left of the model's daily budget of money.

    Raises: `NotFound`; `ActionRefused`, also without a model server and when a user has withdrawn; `SettingsError`;
    `BudgetExceeded`.
    """
    chosen = setup(settings)
    if chosen is None:
        raise ActionRefused("Approve", "no model server is configured.", "Set TRIMTAB_MODEL and its address and price.")
    why = withdrawn(store, fine_tunings.one(store, tuning_id))
    if why is not None:
        raise ActionRefused("Approve", why, "Decline this one and make another export.")
    fine_tunings.approve(store, tuning_id, operator=operator, budget=chosen.budget, address=chosen.base_url)


def content(store: Store, row: Mapping[str, Any], split: str) -> str | None:
    """The text of a job's file; None where its export has none of this name."""
    try:
        return graduation.content(store, row["export_id"], file_name(row["method"], split))
    except NotFound:
        return None


def withdrawn(store: Store, row: Mapping[str, Any]) -> str | None:
    """Why an export may not be sent any more: a user in it is not learnt from by now. None while it may."""
    settings = json.loads(graduation.export(store, row["export_id"])["manifest"])["settings"]
    used = graduation.sources(store, row["export_id"]).filter(
        pl.col("method") == row["method"], pl.col("split").is_not_null()
    )
    traces = {*used["trace_id"], *used["other_id"].drop_nulls()}
    users, gone = graduation.users_of(store, sorted(traces)), graduation.unwilling(store, row["agent"])
    if settings["stated"]:
        gone |= users - graduation.agreed(store)
    number = len(users & gone)
    if not number:
        return None
    return f"{number} of the users whose traces are in export {row['export_id']} are not learnt from any more."


def _manifest(store: Store, export_id: int) -> dict[str, Any]:
    return {"files": graduation.files(store, export_id).to_dicts()}


def _train(method: str) -> str:
    return file_name(method, "train")
