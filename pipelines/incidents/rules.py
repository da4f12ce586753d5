"""Responding by the rules that operators set: which findings and incidents a rule answers, and how often a day.

A rule answers a change once: what was taken back, or is over, is not done again until the user changes again. An order
holds as long as who gave it may give it: rules of operators who were removed, or may only look, do nothing.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import polars as pl

from pipelines.incidents import responses
from pipelines.incidents.explained import worse
from store import drift_responses, drift_rules, incidents, operators
from store.connection import Store
from store.drift_responses import Response
from store.errors import ActionRefused, NotFound

__all__ = ["answers", "apply_all"]

_DAY: Final = timedelta(days=1)
_LOG = logging.getLogger(__name__)


def apply_all(store: Store, lone: pl.DataFrame) -> int:
    """Apply every rule that is on to the `lone` findings (columns `store.drift.FINDINGS`) and the open incidents.

    Returns how many responses were applied.
    """
    rules = drift_rules.listed(store, state="on").to_dicts()
    no_more = _no_more_allowed(store) if rules else frozenset()
    rules = [rule for rule in rules if rule["set_by"] not in no_more]
    if not rules:
        return 0
    held = [incidents.one(store, key) for key in incidents.listed(store, state="open")["incident_id"]]
    moved = {one["incident_id"]: incidents.moved(store, one["incident_id"]) for one in held}
    applied = 0
    for rule in rules:
        answered = drift_responses.answered(store).filter(rule_id=rule["rule_id"])
        today = answered.filter(pl.col("applied_at") > store.clock.now() - _DAY).height
        subjects = (
            _incidents(rule, held, moved, answered) if rule["level"] == "incident" else answers(rule, lone, answered)
        )
        left = rule["daily_limit"] - today
        for subject in subjects:
            if left <= 0:
                break
            done = _respond(store, rule, subject)
            applied, left = applied + done, left - done
    return applied


def _no_more_allowed(store: Store) -> frozenset[str]:
    """Operators who may not respond themselves any more: removed, or with a role that changes nothing."""
    return frozenset(
        row["email"]
        for row in operators.listed(store).iter_rows(named=True)
        if row["state"] == "removed" or not operators.allows(row["role"], "reviewer")
    )


def answers(rule: Mapping[str, Any], lone: pl.DataFrame, answered: pl.DataFrame) -> list[dict[str, Any]]:
    """The findings on users that a rule answers, those that changed the most first, one a user.

    Args: `answered` what this rule answered (columns `store.drift_responses.ANSWERED`).
    """
    wanted = lone.filter(pl.col("level") == "user", pl.col("effect").abs() >= rule["least_effect"])
    for column in ("metric", "agent", "segment"):
        if rule[column] is not None:
            wanted = wanted.filter(pl.col(column) == rule[column])
    newest = answered.group_by("user_id", "metric").agg(pl.col("applied_at").max())
    fresh = wanted.join(newest, on=["user_id", "metric"], how="left").filter(
        pl.col("applied_at").is_null() | (pl.col("changed_at") > pl.col("applied_at"))
    )
    ordered = fresh.sort(
        (pl.col("effect").abs() / pl.col("effect_sd")).fill_nan(None), descending=True, nulls_last=True
    )
    return [
        row
        for row in ordered.unique("user_id", keep="first", maintain_order=True).drop("applied_at").to_dicts()
        if not rule["only_worse"] or worse(row["metric"], "up" if row["effect"] > 0.0 else "down")
    ]


def _incidents(
    rule: Mapping[str, Any],
    held: Sequence[Mapping[str, Any]],
    moved: Mapping[str, pl.DataFrame],
    answered: pl.DataFrame,
) -> list[Mapping[str, Any]]:
    """The open incidents that a rule answers, each once."""
    done = set(answered["incident_id"].drop_nulls())
    found = []
    for one in held:
        told = moved[one["incident_id"]]
        if rule["metric"] is not None:
            told = told.filter(metric=rule["metric"])
        matching = [
            row
            for row in told.iter_rows(named=True)
            if abs(row["effect"] or 0.0) >= rule["least_effect"]
            and (not rule["only_worse"] or worse(row["metric"], row["direction"]))
        ]
        scope = all(rule[name] is None or rule[name] == one[name] for name in ("agent", "segment"))
        if matching and scope and one["incident_id"] not in done:
            found.append(one)
    return found


def _respond(store: Store, rule: Mapping[str, Any], subject: Mapping[str, Any]) -> int:
    """Do what a rule says about a finding or an incident; 1 if it was done."""
    suggested = (
        responses.for_incident(store, subject) if rule["level"] == "incident" else responses.for_finding(store, subject)
    )
    wanted = next((one for one in suggested if one.action == rule["action"]), None)
    if wanted is None:
        return 0
    parameters = json.loads(rule["parameters"])
    response = Response(
        **{
            **vars(wanted),
            "rate": parameters["rate"] or wanted.rate,
            "days": parameters["days"] if wanted.days is not None else None,
            "reason": f"By rule {rule['rule_id']} of {rule['set_by']}: {wanted.reason}",
        }
    )
    try:
        responses.apply(store, response, operator=rule["set_by"], rule_id=rule["rule_id"])
    except (ActionRefused, NotFound) as refused:
        # Somebody was quicker, or what it was about is gone.
        _LOG.info("rule %s did nothing: %s", rule["rule_id"], refused)
        return 0
    return 1
