"""Telling operators that a model changed: one notice a model, posted when something is flagged that was not before."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import polars as pl

from store import model_anchors, notices
from store.model_figures import Announce, Connection

__all__ = ["announce", "sentence"]

_SHOWN: Final = 5


def announce(clock: Callable[[], datetime]) -> Announce:
    """What posts the notices of the rows that were flagged for the first time, in their transaction."""

    def post(connection: Connection, fresh: pl.DataFrame) -> None:
        for (model,), rows in fresh.sort("p_value", nulls_last=True).group_by("model", maintain_order=True):
            said = [sentence(row) for row in rows.head(_SHOWN).to_dicts()]
            if rows.height > _SHOWN:
                said.append(f"And {rows.height - _SHOWN} more.")
            notices.post(
                connection, clock(), kind="model change", key=model_anchors.notice_key(str(model)), severity="warning",
                title=f"The model {model} seems to have changed", text=" ".join(said), page="drift",
                query={"tab": "Models", "watched_model": str(model)},
            )  # fmt: skip

    return post


def sentence(row: Mapping[str, Any]) -> str:
    """What one finding says, in words; of hostile names only, which are shown as plain text."""
    since = f" since {row['changed_at']:%d %B %Y}" if row["changed_at"] is not None else ""
    sure = f"p {row['p_value']:.2g}" if row["p_value"] is not None else f"e-value {row['e_value'] or 0.0:,.0f}"
    figures = ""
    if row["before"] is not None and row["after"] is not None:
        figures = f" from {row['before']:.3g} to {row['after']:.3g}"
    return f"{str(row['metric']).capitalize()}{figures}{since} (n {row['n']:,}, {sure})."
