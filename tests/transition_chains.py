"""Known chains for tests: drawing traces from them, and the frames that a fit reads."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from store.transitions import COUNTS, ENDS, EPISODES, USER_COUNTS

START = datetime(2026, 9, 1, tzinfo=UTC)


def draw(chain, traces, random, *, ends=3, longest=400):
    """Paths of `traces` traces as lists of places 1.., and their ends (0..): `chain` is (from, states then ends)."""
    size = chain.shape[0] - 1
    assert chain.shape[1] == size + ends
    place = np.zeros(traces, dtype=np.int64)
    over = np.full(traces, -1)
    walked = []
    cumulative = np.cumsum(chain, axis=1)
    for _ in range(longest):
        running = over < 0
        if not running.any():
            break
        chosen = (random.random(traces)[:, None] > cumulative[place]).sum(axis=1)
        chosen = np.minimum(chosen, chain.shape[1] - 1)
        over = np.where(running & (chosen >= size), chosen - size, over)
        place = np.where(running, np.where(chosen >= size, 0, chosen + 1), place)
        walked.append(np.where(running & (chosen < size), chosen + 1, 0))
    assert (over >= 0).all()
    matrix = np.stack(walked, axis=1)
    return [row[row > 0].tolist() for row in matrix], over


def frames(paths, over, *, agent="a", users=40, task=None, arms=None):
    """Episodes, counts, counts by user and labels of paths; abstract state number k is the tool `tool k`."""
    n = len(paths)
    episodes = pl.DataFrame(
        {
            "trace_id": [f"t{i:06}" for i in range(n)],
            "agent": [agent] * n,
            "user_id": [f"u{i % users}" for i in range(n)],
            "task": [task] * n,
            "arm": arms or [None] * n,
            "seen_at": [START + timedelta(minutes=i) for i in range(n)],
            "verdict": [ENDS[end] for end in over],
            "success": [(1.0, 0.0, None)[end] for end in over],
            "states": paths,
            "costs": [[0.5] * len(path) for path in paths],
        },
        schema=EPISODES,
    )
    rows = []
    for user, path, end in zip(episodes["user_id"], paths, over, strict=True):
        line = [None, *path]
        rows += [(user, agent, a, b, None) for a, b in pairwise(line)]
        rows.append((user, agent, line[-1], None, ENDS[end]))
    moves = pl.DataFrame(
        rows,
        schema={k: v for k, v in USER_COUNTS.items() if k != "n"},
        orient="row",
    )
    by_user = moves.group_by(moves.columns).len("n").select(list(USER_COUNTS)).cast(USER_COUNTS)
    total = moves.drop("user_id").group_by(moves.columns[1:]).len("n").select(list(COUNTS)).cast(COUNTS)
    seen = sorted({place for path in paths for place in path})
    labelled = pl.DataFrame(
        {
            "state": pl.Series(seen, dtype=pl.UInt64),
            **{f"level{level}": [f"tool {k}" if level < 3 else "any other" for k in seen] for level in range(5)},
            "action": [f"tool {k}" for k in seen],
            "kind": ["tool"] * len(seen),
            "failed": [False] * len(seen),
            "again": [False] * len(seen),
        }
    )
    return episodes, total, by_user, labelled
