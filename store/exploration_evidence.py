"""What exploration rates rest on beside the policy: traffic, outcomes of decisions, drift, and what is learnt where.

Everything is of the newest `HORIZON_DAYS` days of an agent, counted from its newest trace: a store filled from files is
not empty of evidence because the files are old.
"""

import polars as pl

from store.connection import Store
from store.drift_events import OF_AGENT
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS
from store.trace_paths import ABSTRACTION

__all__ = [
    "ASKED", "DRIFTED", "HORIZON_DAYS", "NOISE", "TASKS", "TRAFFIC", "USER_TASKS", "asked", "drifted", "noise", "tasks",
    "traffic", "user_tasks",
]  # fmt: skip

HORIZON_DAYS = 30

TRAFFIC = pl.Schema({"agent": pl.String(), "user_id": pl.String(), "traces": pl.Int64()})
NOISE = pl.Schema({"agent": pl.String(), "variance": pl.Float64(), "traces": pl.Int64()})
DRIFTED = declare({"user_id": pl.String, "metric": pl.String, "changed_at": UTC_TIME, "found_at": UTC_TIME})
TASKS = pl.Schema(
    {
        "agent": pl.String(), "task": pl.String(), "traces": pl.Int64(), "users": pl.Int64(), "rewarded": pl.Int64(),
        "novelty": pl.Float64(), "unseen": pl.Float64(), "progress": pl.Float64(), "progress_se": pl.Float64(),
    }
)  # fmt: skip
USER_TASKS = pl.Schema({"agent": pl.String(), "user_id": pl.String(), "task": pl.String(), "traces": pl.Int64()})
ASKED = pl.Schema({"user_id": pl.String(), "answers": pl.Int64()})

_RECENT = f"""(
    SELECT t.* FROM traces AS t
    JOIN (SELECT agent, max(seen_at) AS newest FROM traces GROUP BY agent) AS n USING (agent)
    WHERE t.seen_at > n.newest - to_days({HORIZON_DAYS}))"""
_NEWEST = "(SELECT max(model_id) FROM transition_models)"


def traffic(store: Store) -> pl.DataFrame:
    """Traces that ran an arm, by agent and user (columns `TRAFFIC`; user_id null: of nobody known)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT agent, user_id, count(*) AS traces FROM {_RECENT} WHERE arm IS NOT NULL
            GROUP BY ALL ORDER BY agent, user_id NULLS LAST""",
            TRAFFIC,
        )


def noise(store: Store) -> pl.DataFrame:
    """How far the rewards of one user by one arm differ from each other, with what is not known of each (`NOISE`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT agent, (sum(spread) / nullif(sum(n - 1), 0) + sum(unknown) / sum(n))::DOUBLE AS variance,
                sum(n)::BIGINT AS traces
            FROM (SELECT t.agent, var_pop(r.mean) * count(*) AS spread, sum(r.sd * r.sd) AS unknown, count(*) AS n
                FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
                WHERE r.signals > 0 AND t.agent IS NOT NULL AND t.arm IS NOT NULL
                GROUP BY t.agent, t.arm, coalesce(t.user_id, '?'))
            GROUP BY agent ORDER BY agent""",
            NOISE,
        )


def drifted(store: Store) -> pl.DataFrame:
    """The newest change of each user that any run of the drift job flagged (columns `DRIFTED`).

    By metrics of what users want, say and do: not of what the agent does, such as its latency.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT user_id, metric, coalesce(changed_at, found_at) AS changed_at, found_at
            FROM drift_findings WHERE flagged AND level = 'user' AND NOT list_contains($of_agent, metric)
            QUALIFY row_number() OVER (
                PARTITION BY user_id ORDER BY coalesce(changed_at, found_at) DESC, run_id DESC, metric) = 1
            ORDER BY user_id""",
            DRIFTED,
            {"of_agent": list(OF_AGENT)},
        )


def tasks(store: Store) -> pl.DataFrame:
    """Each task with the novelty and learning progress of the steps its traces take (columns `TASKS`).

    Means over steps, by the transition model in use: `novelty` 1 / sqrt(visits + 1), `unseen` the probability that the
    next step is a new one, `progress` the drop of held-out loss in nats a step with its standard error. Null without a
    transition model. `rewarded` counts traces whose reward has signals of its own.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH recent AS (SELECT * FROM {_RECENT} WHERE task IS NOT NULL AND arm IS NOT NULL),
            places AS (
                SELECT f.agent, f.state, s.place, s.novelty, s.unseen, s.progress, s.progress_se
                FROM transition_folds AS f JOIN transition_states AS s USING (model_id, agent, place)
                WHERE f.model_id = {_NEWEST}
            ), steps AS (
                SELECT t.agent, t.task, unnest(p.states) AS state
                FROM trace_paths AS p JOIN recent AS t USING (trace_id) WHERE p.abstraction = {ABSTRACTION}
            ), visits AS (
                SELECT s.agent, s.task, p.place, any_value(p.novelty) AS novelty, any_value(p.unseen) AS unseen,
                    any_value(p.progress) AS progress, any_value(p.progress_se) AS progress_se, count(*) AS n
                FROM steps AS s JOIN places AS p USING (agent, state) GROUP BY ALL
            ), learnt AS (
                SELECT agent, task, sum(n * novelty) / sum(n) AS novelty, sum(n * unseen) / sum(n) AS unseen,
                    sum(n * progress) / sum(n) FILTER (progress IS NOT NULL) AS progress,
                    sqrt(sum(n * n * progress_se * progress_se)) / sum(n) FILTER (progress IS NOT NULL) AS progress_se
                FROM visits GROUP BY agent, task
            )
            SELECT c.agent, c.task, c.traces, c.users, c.rewarded, l.novelty, l.unseen, l.progress, l.progress_se
            FROM (SELECT t.agent, t.task, count(*) AS traces, count(DISTINCT t.user_id) AS users,
                    count(*) FILTER (r.signals > 0) AS rewarded
                FROM recent AS t LEFT JOIN {ACTIVE_REWARDS} AS r USING (trace_id) GROUP BY ALL) AS c
            LEFT JOIN learnt AS l USING (agent, task) ORDER BY c.agent, c.task""",
            TASKS,
        )


def user_tasks(store: Store) -> pl.DataFrame:
    """Which tasks each user brings, by agent (columns `USER_TASKS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT agent, user_id, task, count(*) AS traces FROM {_RECENT}
            WHERE user_id IS NOT NULL AND task IS NOT NULL AND arm IS NOT NULL
            GROUP BY ALL ORDER BY agent, user_id, task""",
            USER_TASKS,
        )


def asked(store: Store, agent: str) -> pl.DataFrame:
    """How many solicited answers each of an agent's users gave (columns `ASKED`; 0 for most)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT t.user_id, count(s.signal_id) AS answers
            FROM traces AS t LEFT JOIN signals AS s ON s.trace_id = t.trace_id AND s.solicited
                AND s.kind IN ('thumb', 'rating', 'comment')
            WHERE t.agent = $agent AND t.user_id IS NOT NULL GROUP BY t.user_id ORDER BY t.user_id""",
            ASKED,
            {"agent": agent},
        )
