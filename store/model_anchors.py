"""Known changes of models: an operator says since when a model is another one, and watching starts anew from there."""

from datetime import datetime, timedelta

import duckdb
import polars as pl

from store import audit, meta, notices
from store.connection import Store
from store.errors import ActionRefused
from store.frames import UTC_TIME, declare

__all__ = ["ANCHORS", "anchor", "anchors", "latest", "notice_key"]

ANCHORS = declare(
    {"model": pl.String, "anchored_at": UTC_TIME, "reason": pl.String, "noted_by": pl.String, "noted_at": UTC_TIME}
)

_ACTION = "Re-anchor the model"
_SKEW = timedelta(minutes=5)


def anchor(store: Store, model: str, *, anchored_at: datetime, reason: str, operator: str) -> None:
    """Compare a model from `anchored_at` on only with itself since then; its open changes are settled by this.

    Raises: `ActionRefused` for a model without a name, a time to come, no reason, or an operator who is no person.
    """
    name, why = model.strip(), " ".join(reason.split())
    audit.person(_ACTION, operator)
    now = store.clock.now()
    if not name:
        raise ActionRefused(_ACTION, "the model has no name.", "Say which model changed.")
    if not 1 <= len(why) <= 1_000:
        raise ActionRefused(_ACTION, f"the reason has {len(why):,} characters.", "Write in 1 to 1,000 what changed.")
    if anchored_at.tzinfo is None or anchored_at > now + _SKEW:
        raise ActionRefused(_ACTION, f"{anchored_at} is not a time that has passed.", "Say when it changed, in UTC.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            "INSERT INTO model_anchors VALUES ($model, $at, $reason, $by, $now)",
            {"model": name, "at": anchored_at, "reason": why, "by": operator, "now": now},
        )
        detail = {"anchored_at": anchored_at.isoformat(), "reason": why}
        audit.append(connection, now, operator, "model anchor", f"model {name}", detail)
        notices.close(connection, now, notice_key(name))
        meta.bump(connection)

    store.write(work)


def notice_key(model: str) -> str:
    """The key of the notice that a model changed, which an anchor closes."""
    return f"model change {model}"


def anchors(store: Store) -> pl.DataFrame:
    """Every known change, newest first (columns `ANCHORS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(ANCHORS)} FROM model_anchors ORDER BY noted_at DESC, anchored_at DESC, model", ANCHORS
        )


def latest(store: Store) -> dict[str, datetime]:
    """The latest anchor of each model that has one."""
    frame = anchors(store).group_by("model").agg(pl.col("anchored_at").max())
    return dict(frame.iter_rows())
