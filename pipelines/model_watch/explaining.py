"""Changes that follow what operators did: an approved lesson changes answers too, and is no silent change."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import polars as pl

from pipelines.model_watch.measures import FINGERPRINT

__all__ = ["explain"]

_KINDS: Final = ("lesson", "playbook", "arm", "guardrail", "campaign", "version")
_SLACK: Final = timedelta(days=1)
_SHARE: Final = 1 / 3
"""An intervention at one agent explains a change of a model that gives at least this share of its answers there."""

_MOST_NAMED: Final = 5


def explain(rows: Sequence[dict[str, Any]], answers: pl.DataFrame, known: pl.DataFrame) -> None:
    """Take the flag from changes that follow a known intervention in scope, and say which in their details.

    `rows` as `passive` makes them, `known` of columns `store.interventions.INTERVENTIONS`. What operators noted counts
    whatever its kind; a new fingerprint is explained only by a change of model that they noted.
    """
    noted = pl.col("origin") == "noted"
    candidates = known.filter(noted | pl.col("kind").is_in(_KINDS)).to_dicts()
    shares = answers.group_by("model", "agent").len().with_columns(pl.col("len") / pl.col("len").sum().over("model"))
    at = {(model, agent): share for model, agent, share in shares.iter_rows()}
    for row in rows:
        if not row["flagged"]:
            continue
        since, until = _range(row)
        causes = [
            each
            for each in candidates
            if since <= each["happened_at"] <= until
            and (each["agent"] is None or at.get((row["model"], each["agent"]), 0.0) >= _SHARE)
            and (row["metric"] != FINGERPRINT or each["kind"] == "model")
        ]
        if causes:
            row["flagged"], row["status"] = False, "explained"
            row["detail"]["explained_by"] = [each["intervention_id"] for each in causes[:_MOST_NAMED]]
            row["detail"]["explained"] = [each["title"] for each in causes[:_MOST_NAMED]]


def _range(row: dict[str, Any]) -> tuple[datetime, datetime]:
    """The times of a cause: the days that are nearly as likely, and one on either side."""
    detail, moment = row["detail"], row["changed_at"]
    if "changed_from" not in detail:
        return moment - _SLACK, moment + _SLACK
    first, last = (date.fromisoformat(detail[name]) for name in ("changed_from", "changed_to"))
    return datetime.combine(first, time(), UTC) - _SLACK, datetime.combine(last, time(), UTC) + _SLACK
