"""Values of simulated users as the drift job reads them, for tests."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.drift_events import SCANNED
from store.interventions import INTERVENTIONS

START = datetime(2026, 6, 1, tzinfo=UTC)
NOTHING_KNOWN = pl.DataFrame(schema=INTERVENTIONS)

Floats = NDArray[np.float64]


def population(
    users: int,
    events: int,
    values: Callable[[NDArray[np.int64], Floats, np.random.Generator], Floats | list[str]],
    *,
    days: int = 60,
    seed: int = 1,
    **columns: object,
) -> pl.DataFrame:
    """`events` of each user at random times in `days` days; `values(user, day, random)` gives numbers or categories."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), events)
    day = np.sort(random.uniform(0, days, (users, events)), axis=1).ravel()
    drawn = values(user, day, random)
    named = isinstance(drawn, list)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{number:04d}" for number in user],
            "occurred_at": [START + timedelta(days=float(moment)) for moment in day],
            "block": [f"s{number}" for number in range(user.size)],
            "value": None if named else drawn,
            "category": drawn if named else None,
            "draw": random.random(user.size),
        }
    )
    defaults: dict[str, object] = {"segment": None, "agent": "shop", "task": "t", "model": "m", "agent_version": "1"}
    added = {
        name: value if isinstance(value, pl.Series) else pl.lit(value)
        for name, value in {**defaults, **columns}.items()
    }
    return frame.with_columns(**added).select(list(SCANNED)).cast(SCANNED)  # type: ignore[arg-type]
