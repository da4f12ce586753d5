"""What follows what in the paths of traces: episodes, and their transitions counted.

Where a trace ends is read from its status and the active reward model: a failed trace is a failure; a trace with
signals of its own is a success when its mean reward reaches `SUCCESS_AT` and a failure below; everything else ended
without a verdict. Reliability does not use that threshold: there each trace is a success with its mean reward. Counts
are made in SQL with a LEAD window, for all users together and for each.
"""

from dataclasses import dataclass

import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.scope import ACTIVE_REWARDS
from store.trace_paths import ABSTRACTION

SUCCESS_AT = 0.5
ENDS = ("success", "failure", "ended")

EPISODES = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "user_id": pl.String, "task": pl.String, "arm": pl.String,
        "seen_at": UTC_TIME, "verdict": pl.String, "success": pl.Float64,
        "states": pl.List(pl.UInt64()), "costs": pl.List(pl.Float32()),
    }
)  # fmt: skip
COUNTS = declare({"agent": pl.String, "state": pl.UInt64, "next_state": pl.UInt64, "verdict": pl.String, "n": pl.Int64})
USER_COUNTS = declare({"user_id": pl.String, **COUNTS})
HUMAN = declare(
    {
        "trace_id": pl.String, "agent": pl.String, "task": pl.String, "kind": pl.String, "text": pl.String,
        "output": pl.String,
    }
)  # fmt: skip

_EPISODES = f"""
SELECT t.trace_id, coalesce(t.agent, '') AS agent, t.user_id, t.task, t.arm, t.seen_at,
    CASE WHEN t.status = 'error' THEN 'failure' WHEN coalesce(r.signals, 0) = 0 THEN 'ended'
        WHEN r.mean >= {SUCCESS_AT} THEN 'success' ELSE 'failure' END AS verdict,
    CASE WHEN t.status = 'error' THEN 0 WHEN r.signals > 0 THEN r.mean END::DOUBLE AS success,
    p.states, p.costs, p.rowid AS path_no
FROM trace_paths AS p JOIN traces AS t USING (trace_id) LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id)
WHERE p.abstraction = {ABSTRACTION}"""

# The first state follows START (state null); after the last one comes the verdict (next_state null).
_MOVES_OF = """
episodes AS ({episodes}), steps AS (
    SELECT path_no, agent, user_id, verdict, unnest(states) AS state, generate_subscripts(states, 1) AS step
    FROM episodes
), moves AS (
    SELECT agent, user_id, state, lead(state) OVER (PARTITION BY path_no ORDER BY step) AS next_state, verdict
    FROM steps
    UNION ALL
    SELECT agent, user_id, NULL, states[1], verdict FROM episodes
), plain AS (
    SELECT agent, user_id, state, next_state, CASE WHEN next_state IS NULL THEN verdict END AS verdict FROM moves
)"""
_MOVES = _MOVES_OF.format(episodes=_EPISODES)
_SAMPLED_MOVES = _MOVES_OF.format(
    episodes=f"{_EPISODES} AND t.user_id IS NOT NULL AND hash(t.user_id) % $every::UBIGINT = 0"
)
_USER_MOVES = _MOVES_OF.format(episodes=f"{_EPISODES} AND t.user_id = $user")


@dataclass(frozen=True)
class Observed:
    """What a fit reads, of one snapshot: `episodes` (EPISODES, by agent and time) and `counts` (COUNTS) of them."""

    episodes: pl.DataFrame
    counts: pl.DataFrame
    user_counts: pl.DataFrame
    data_version: int
    reward_model_id: int | None


def observed(store: Store, *, user_counts: int = 500_000) -> Observed:
    """All paths with where they ended, and their transitions counted, by user as in the function `user_counts`."""
    with store.read() as reader:
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        rewards = reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active")
        return Observed(
            reader.frame(
                f"SELECT {', '.join(EPISODES)} FROM ({_EPISODES})", EPISODES, order=("agent", "seen_at", "trace_id")
            ),
            _counts(reader),
            _counts_by_user(reader, user_counts),
            int(version) if isinstance(version, int) else 0,
            int(rewards) if isinstance(rewards, int) else None,
        )


def counts(store: Store) -> pl.DataFrame:
    """How often what followed what, per agent (columns `COUNTS`; state null: the start, next_state null: the end)."""
    with store.read() as reader:
        return _counts(reader)


def user_counts(store: Store, *, limit: int = 500_000) -> pl.DataFrame:
    """As `counts`, per user (columns `USER_COUNTS`).

    Where there are more than `limit` transitions, those of a sample of whole users, chosen by a hash of their id.
    """
    with store.read() as reader:
        return _counts_by_user(reader, limit)


def one_users_counts(store: Store, user_id: str) -> pl.DataFrame:
    """As `counts`, of one user."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH {_USER_MOVES}
            SELECT agent, state, next_state, verdict, count(*) AS n FROM plain GROUP BY ALL ORDER BY ALL""",
            COUNTS,
            {"user": user_id},
        )


def episode(store: Store, trace_id: str) -> pl.DataFrame:
    """The stored path of one trace and where it ended, as a frame of one row or none (columns `EPISODES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(EPISODES)} FROM ({_EPISODES} AND t.trace_id = $trace_id)",
            EPISODES,
            {"trace_id": trace_id},
        )


def active_rewards(store: Store) -> int | None:
    """The reward model whose rewards say where traces end; None before the first."""
    with store.read() as reader:
        value = reader.value("SELECT max(reward_model_id) FROM reward_models WHERE active")
    return int(value) if isinstance(value, int) else None


def human(store: Store) -> pl.DataFrame:
    """Demonstrations and corrections by people (columns `HUMAN`), with the task of the trace they are about."""
    with store.read() as reader:
        return reader.frame(
            """SELECT t.trace_id, coalesce(t.agent, '') AS agent, t.task, s.kind, s.text, t.output
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
            JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id)
            WHERE s.kind IN ('demonstration', 'correction') AND s.annotator_kind IS DISTINCT FROM 'llm'
            ORDER BY t.trace_id, s.signal_id""",
            HUMAN,
        )


def _counts(reader: Reader) -> pl.DataFrame:
    return reader.frame(
        f"""WITH {_MOVES}
        SELECT agent, state, next_state, verdict, count(*) AS n FROM plain GROUP BY ALL ORDER BY ALL""",
        COUNTS,
    )


def _counts_by_user(reader: Reader, limit: int) -> pl.DataFrame:
    total = reader.value("SELECT coalesce(sum(len(states) + 1), 0)::BIGINT FROM trace_paths")
    every = -(-total // max(limit, 1)) if isinstance(total, int) else 1
    return reader.frame(
        f"""WITH {_SAMPLED_MOVES}
        SELECT user_id, agent, state, next_state, verdict, count(*) AS n FROM plain GROUP BY ALL ORDER BY ALL""",
        USER_COUNTS,
        {"every": max(every, 1)},
    )
