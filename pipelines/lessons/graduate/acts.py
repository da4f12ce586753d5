"""What the command line asks of graduation, in words that JSON can hold: done where the store is open."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from pipelines.lessons.graduate import export, lasting, trial, tuning
from pipelines.lessons.graduate.config import ExportConfig, LastingConfig
from store import fine_tunings, graduation, graduation_trials, lessons
from store.connection import Store
from store.errors import ActionRefused
from store.settings import Settings

__all__ = ["ACTIONS", "act"]

Told = Mapping[str, Any]
_Config = TypeVar("_Config", ExportConfig, LastingConfig)


def act(store: Store, settings: Settings, action: str, told: Told) -> dict[str, Any]:
    """Do an action of ACTIONS. Raises: `ActionRefused`, `NotFound`, `SettingsError`, `BudgetExceeded`."""
    work = ACTIONS.get(action)
    if work is None:
        raise ActionRefused("graduate", f"there is no action {action!r}.", f"Use one of {', '.join(ACTIONS)}.")
    try:
        done = work(store, settings, told)
    except (KeyError, TypeError) as error:
        raise ActionRefused(
            f"graduate {action}", f"it was told too little or amiss ({error}).", "See --help."
        ) from None
    except OSError as error:
        raise ActionRefused(f"graduate {action}", f"{error}.", "Check the folder and its permissions.") from None
    return {key: _plain(value) for key, value in done.items()}


def _eligible(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    agents = [told["agent"]] if told.get("agent") else []
    return {"lessons": [asdict(one) for one in lasting.standings(store, agents, _config(LastingConfig, told))]}


def _export(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    number = export.make(
        store, told["agent"], list(told.get("lessons") or ()), by=told["operator"],
        lasting=_config(LastingConfig, told), config=_config(ExportConfig, told),
    )  # fmt: skip
    return {"export_id": number, "manifest": json.loads(graduation.export(store, number)["manifest"])}


def _write(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    return {"paths": [str(path) for path in export.write(store, told["export"], Path(told["out"]))]}


def _propose(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    number = tuning.propose(
        store, told["export"], method=told["method"], model=told["model"], usd_per_million=told["usd_per_million"],
        by=told["operator"], epochs=told.get("epochs") or tuning.EPOCHS,
    )  # fmt: skip
    return fine_tunings.one(store, number)


def _approve(store: Store, settings: Settings, told: Told) -> dict[str, Any]:
    tuning.approve(store, settings, told["tuning"], operator=told["operator"])
    return fine_tunings.one(store, told["tuning"])


def _decline(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    fine_tunings.decline(store, told["tuning"], operator=told["operator"], reason=told["reason"])
    return fine_tunings.one(store, told["tuning"])


def _trial(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    number = trial.begin(
        store, told["agent"], told["lesson"], version=lessons.one(store, told["lesson"])["version"],
        basis=told["basis"], name=told["name"], operator=told["operator"], tuning_id=told.get("tuning"),
    )  # fmt: skip
    return graduation_trials.one(store, number)


def _confirm(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    done = trial.graduate(store, told["trial"], operator=told["operator"])
    return {"lesson_id": done.lesson_id, "state": done.state, "playbooks": dict(done.playbooks)}


def _end(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    trial.end(store, told["trial"], operator=told["operator"])
    return graduation_trials.one(store, told["trial"])


def _status(store: Store, _: Settings, told: Told) -> dict[str, Any]:
    return {
        "exports": [_shown(row) for row in graduation.exports(store).drop("manifest").to_dicts()],
        "tunings": [_shown(row) for row in fine_tunings.listed(store).to_dicts()],
        "trials": [_shown(row) for row in graduation_trials.listed(store).to_dicts()],
    }


ACTIONS: Final[dict[str, Callable[[Store, Settings, Told], dict[str, Any]]]] = {
    "eligible": _eligible, "export": _export, "write": _write, "propose": _propose, "approve": _approve,
    "decline": _decline, "trial": _trial, "confirm": _confirm, "end": _end, "status": _status,
}  # fmt: skip


def _config(kind: type[_Config], told: Told) -> _Config:
    """The settings that were told; the others as they are."""
    given = {each.name: told[each.name] for each in fields(kind) if told.get(each.name) is not None}
    return kind(**given)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
