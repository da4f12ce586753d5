"""What people value: the lists they chose from, what they said, and what the job `preferences` made of both.

The newest run is the one pages read; the rows of single people are kept for it alone, everything else for good.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from store import result_rows
from store import segments as user_segments
from store.connection import Store
from store.frames import UTC_TIME, Reader, declare
from store.learning import learnt_from
from store.scope import ACTIVE_REWARDS

STATED_GOAL = "stated_goal"
_SAMPLED = 50_000  # impressions that the names of features are looked for in
_LONGEST_NAME = 64
_LARGEST = "1e100"  # number that an item can state: its square is still one

NAMES = pl.Schema(
    {"agent": pl.String(), "name": pl.String(), "items": pl.Int64(), "numeric": pl.Int64(), "sampled": pl.Int64()}
)
_SHOWN = {
    "trace_id": pl.String, "user_id": pl.String, "agent": pl.String, "arm": pl.String, "item": pl.String,
    "position": pl.Int32, "propensity": pl.Float64, "chosen": pl.Boolean,
}  # fmt: skip
LEFT_OUT = pl.Schema({"reason": pl.String(), "items": pl.Int64()})
STATEMENTS = declare({"user_id": pl.String, "feature": pl.String, "value": pl.Float64, "occurred_at": UTC_TIME})
OPINIONS = pl.Schema(
    {"trace_id": pl.String(), "user_id": pl.String(), "agent": pl.String(), "kind": pl.String(), "value": pl.Float64()}
)
USER_SEGMENTS = pl.Schema({"user_id": pl.String(), "segment": pl.String()})
COMPARISONS = pl.Schema(
    {
        "agent": pl.String(), "axis": pl.String(), "winner": pl.String(), "loser": pl.String(), "tie": pl.Boolean(),
        "user_id": pl.String(),
    }
)  # fmt: skip
REWARDED = pl.Schema(
    {
        "agent": pl.String(), "task": pl.String(), "user_id": pl.String(), "trace_id": pl.String(),
        "arm": pl.String(), "model": pl.String(), "mean": pl.Float64(),
    }
)  # fmt: skip

RUNS = declare(
    {
        "preference_run_id": pl.Int64, "fitted_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "lists": pl.Int64, "items": pl.Int64, "chosen": pl.Int64, "users": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip
WEIGHTS = pl.Schema(
    {
        "scope": pl.String(), "segment": pl.String(), "basis": pl.String(), "feature": pl.String(),
        "weight": pl.Float64(), "sd": pl.Float64(), "spread": pl.Float64(), "ratio": pl.Float64(),
        "ratio_lower": pl.Float64(), "ratio_upper": pl.Float64(), "users": pl.Int64(), "n": pl.Int64(),
    }
)  # fmt: skip
USER_WEIGHTS = pl.Schema(
    {
        "user_id": pl.String(), "feature": pl.String(), "weight": pl.Float64(), "sd": pl.Float64(),
        "leaning": pl.Float64(), "stated": pl.Float64(), "stated_sd": pl.Float64(),
    }
)  # fmt: skip
AGREEMENT = pl.Schema(
    {
        "scope": pl.String(), "segment": pl.String(), "user_id": pl.String(), "features": pl.Int64(),
        "lists": pl.Int64(), "statements": pl.Int64(), "users": pl.Int64(), "angle": pl.Float64(),
        "angle_lower": pl.Float64(), "angle_upper": pl.Float64(), "statistic": pl.Float64(), "p_value": pl.Float64(),
        "q_value": pl.Float64(), "contradicts": pl.Boolean(), "reason": pl.String(),
    }
)  # fmt: skip
RANKINGS = pl.Schema(
    {
        "agent": pl.String(), "axis": pl.String(), "basis": pl.String(), "item": pl.String(), "component": pl.Int32(),
        "comparisons": pl.Int64(), "users": pl.Int64(), "strength": pl.Float64(),
        "rank_lower": pl.Int32(), "rank_upper": pl.Int32(), "best": pl.Float64(), "reference": pl.String(),
        "difference": pl.Float64(), "difference_lower": pl.Float64(), "difference_upper": pl.Float64(),
        "verdict": pl.String(), "reason": pl.String(),
    }
)  # fmt: skip

# Impressions and clicks with the trace they are about: the one they name, else the one they were linked to.
_LOCATED = """(
    SELECT s.signal_id, s.kind, coalesce(s.trace_id, l.trace_id) AS about, s.user_id, s.item, s.position,
        s.propensity, s.value, s.metadata
    FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
    WHERE s.kind IN ('impression', 'click'))"""

# From when on counts what a person chose and said, where an operator had it begin anew (`store.drift_responses`).
_RESTARTS = """(
    SELECT user_id, max((parameters ->> '$.since')::TIMESTAMPTZ) AS since FROM drift_responses
    WHERE action = 'restart preferences' AND ended_at IS NULL GROUP BY user_id)"""

_NEWEST = "(SELECT max(preference_run_id) FROM preference_runs)"


@dataclass(frozen=True)
class Preferences:
    """What a run found, as frames of the columns that their names say, with the size of the fit."""

    lists: int
    items: int
    chosen: int
    users: int
    parameters: Mapping[str, Any]
    weights: pl.DataFrame
    user_weights: pl.DataFrame
    agreement: pl.DataFrame
    rankings: pl.DataFrame


def feature_names(store: Store) -> pl.DataFrame:
    """Which keys the metadata of shown items has, per agent, and how often a number stands there (NAMES).

    Looks at up to about 50,000 impressions, the same ones each time. Keys that cannot be addressed are left out.
    """
    with store.read() as reader:
        total = reader.value("SELECT count(*) FROM signals WHERE kind = 'impression'")
        return reader.frame(
            f"""WITH looked AS MATERIALIZED (
                SELECT t.agent, s.metadata FROM {_LOCATED} AS s JOIN traces AS t ON t.trace_id = s.about
                WHERE s.kind = 'impression' AND hash(s.signal_id) % $step = 0
            ), entries AS (
                SELECT agent, unnest(map_entries(CAST(metadata::JSON AS MAP(VARCHAR, JSON))), recursive := true)
                FROM looked WHERE json_valid(metadata) AND json_type(metadata) = 'OBJECT'
            ), totals AS (SELECT agent, count(*) AS sampled FROM looked GROUP BY agent)
            SELECT e.agent, e.key AS name, count(*) AS items,
                count(*) FILTER (abs(TRY_CAST(e.value->>'$' AS DOUBLE)) <= {_LARGEST}) AS numeric,
                any_value(n.sampled) AS sampled
            FROM entries AS e JOIN totals AS n ON n.agent IS NOT DISTINCT FROM e.agent
            WHERE e.key <> '' AND length(e.key) <= {_LONGEST_NAME} AND NOT regexp_matches(e.key, '["\\\\\\x00-\\x1f]')
            GROUP BY ALL ORDER BY ALL""",
            NAMES,
            {"step": max(1, int(str(total)) // _SAMPLED)},
        )


def shown_sets(store: Store, features: Sequence[str]) -> pl.DataFrame:
    """Every item shown to a known person with a trace: where, and whether it was chosen, in order of users and lists.

    Columns trace_id, user_id, agent, arm, item, position, propensity, chosen and one `feature_<i>` for each of
    `features`, null where the item does not state a number. An item shown twice with one trace counts once. A click
    chooses the item that it names, or, where it names none, the one at its position. Lists from before a person's
    restart are left out.
    """
    names = [f"feature_{i}" for i in range(len(features))]
    # One reading of the JSON for all features.
    params = {"paths": [f'$."{name}"' for name in features]} if features else {}
    stated = ", json_extract_string(s.metadata, $paths) AS stated" if features else ""
    read = "".join(f", min(TRY_CAST(stated[{i}] AS DOUBLE)) AS {name}" for i, name in enumerate(names, start=1))
    finite = "".join(f", CASE WHEN abs({name}) <= {_LARGEST} THEN {name} END AS {name}" for name in names)
    with store.read() as reader:
        return reader.frame(
            f"""WITH located AS NOT MATERIALIZED (FROM {_LOCATED} WHERE about IS NOT NULL),
            shown AS (
                SELECT about, item, position, min(user_id) AS user_id, min(propensity) AS propensity {read}
                FROM (SELECT s.about, s.item, s.position, s.user_id, s.propensity {stated} FROM located AS s
                    WHERE s.kind = 'impression' AND (s.item IS NOT NULL OR s.position IS NOT NULL)
                        AND (s.metadata IS NULL OR json_valid(s.metadata)))
                GROUP BY about, item, position
            ), clicks AS (
                SELECT DISTINCT about, item, position FROM located WHERE kind = 'click' AND coalesce(value, 1) > 0
            ), by_item AS (SELECT DISTINCT about, item FROM clicks WHERE item IS NOT NULL),
            by_position AS (SELECT DISTINCT about, position FROM clicks WHERE item IS NULL AND position IS NOT NULL)
            SELECT s.about AS trace_id, coalesce(t.user_id, s.user_id) AS user_id, t.agent, t.arm, s.item, s.position,
                s.propensity, i.about IS NOT NULL OR p.about IS NOT NULL AS chosen {finite}
            FROM shown AS s JOIN traces AS t ON t.trace_id = s.about
                LEFT JOIN by_item AS i ON i.about = s.about AND i.item = s.item
                LEFT JOIN by_position AS p ON p.about = s.about AND p.position = s.position
                LEFT JOIN {_RESTARTS} AS r ON r.user_id = coalesce(t.user_id, s.user_id)
            WHERE coalesce(t.user_id, s.user_id) IS NOT NULL AND (r.since IS NULL OR t.seen_at >= r.since)
                AND {learnt_from("coalesce(t.user_id, s.user_id)")}
            ORDER BY user_id, s.about, s.position NULLS LAST, s.item""",
            declare({**_SHOWN, **dict.fromkeys(names, pl.Float64)}),
            params,
        )


def impressions_left_out(store: Store) -> pl.DataFrame:
    """Impressions that no list can be made of, by reason, and propensities nobody can use (LEFT_OUT)."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH judged AS (
                SELECT CASE
                    WHEN s.about IS NULL THEN 'no trace is known'
                    WHEN t.trace_id IS NULL THEN 'the trace is not in the store'
                    WHEN coalesce(t.user_id, s.user_id) IS NULL THEN 'no user is known'
                    WHEN s.item IS NULL AND s.position IS NULL THEN 'neither item nor position'
                    END AS reason
                FROM {_LOCATED} AS s LEFT JOIN traces AS t ON t.trace_id = s.about WHERE s.kind = 'impression')
            SELECT reason, count(*) AS items FROM judged WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason""",
            LEFT_OUT,
        )


def statements(store: Store) -> pl.DataFrame:
    """Goals that people stated: signals of kind preference, name stated_goal, one a user and feature (STATEMENTS)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT s.user_id, s.item AS feature, s.value, s.occurred_at
            FROM signals AS s LEFT JOIN {_RESTARTS} AS r USING (user_id)
            WHERE s.kind = 'preference' AND s.name = $name AND s.user_id IS NOT NULL AND s.item IS NOT NULL
                AND isfinite(s.value) AND (r.since IS NULL OR s.occurred_at >= r.since)
                AND {learnt_from("s.user_id")}
            ORDER BY s.user_id, s.item, s.occurred_at NULLS FIRST, s.signal_id""",
            STATEMENTS,
            {"name": STATED_GOAL},
        )


def opinions(store: Store) -> pl.DataFrame:
    """Thumbs and ratings that people gave to traces, from 0 to 1 (OPINIONS)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.trace_id, coalesce(t.user_id, s.user_id) AS user_id, t.agent, s.kind, s.value
            FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id)
            WHERE s.kind IN ('thumb', 'rating') AND s.value BETWEEN 0 AND 1
                AND coalesce(s.annotator_kind, 'user') = 'user' AND coalesce(t.user_id, s.user_id) IS NOT NULL
                AND {learnt_from("coalesce(t.user_id, s.user_id)")}
            ORDER BY t.trace_id, s.signal_id""",
            OPINIONS,
        )


def segments(store: Store) -> pl.DataFrame:
    """The segment of each user who has one, by rule or metadata (USER_SEGMENTS)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT user_id, segment FROM {user_segments.expression()} ORDER BY user_id", USER_SEGMENTS
        )


def comparisons(store: Store) -> pl.DataFrame:
    """Preferences between two things: signals whose metadata names a `winner` and a `loser` (COMPARISONS).

    `chosen` and `rejected` are read the same way. `axis` in the metadata says what they are: arm (when absent), model,
    prompt. A value of .5, or `tie` in the metadata, is a tie.
    """
    with store.read() as reader:
        return reader.frame(
            f"""WITH stated AS (
                SELECT coalesce(s.trace_id, l.trace_id) AS about, s.user_id, s.value, s.signal_id,
                    coalesce(json_extract_string(s.metadata, '$.axis'), 'arm') AS axis,
                    coalesce(json_extract_string(s.metadata, '$.winner'), json_extract_string(s.metadata, '$.chosen'))
                        AS winner,
                    coalesce(json_extract_string(s.metadata, '$.loser'), json_extract_string(s.metadata, '$.rejected'))
                        AS loser,
                    json_extract_string(s.metadata, '$.tie') = 'true' AS tied
                FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
                WHERE s.kind = 'preference' AND s.name IS DISTINCT FROM $goal AND json_valid(s.metadata))
            SELECT t.agent, left(s.axis, 40) AS axis, s.winner, s.loser,
                coalesce(s.tied, false) OR coalesce(s.value = 0.5, false) AS tie,
                coalesce(s.user_id, t.user_id) AS user_id
            FROM stated AS s LEFT JOIN traces AS t ON t.trace_id = s.about
            WHERE s.winner <> '' AND s.loser <> '' AND s.winner <> s.loser
                AND {learnt_from("coalesce(s.user_id, t.user_id)")}
            ORDER BY t.agent, axis, s.signal_id""",
            COMPARISONS,
            {"goal": STATED_GOAL},
        )


def rewarded(store: Store) -> pl.DataFrame:
    """Traces with signals of their own, of tasks that ran on two or more arms or models (REWARDED)."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH known AS (
                SELECT t.agent, t.task, t.user_id, t.trace_id, t.arm, t.model, r.mean
                FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
                WHERE r.signals > 0 AND t.task IS NOT NULL AND {learnt_from("t.user_id")})
            SELECT k.* FROM known AS k SEMI JOIN (
                SELECT agent, task FROM known GROUP BY ALL
                HAVING count(DISTINCT arm) > 1 OR count(DISTINCT model) > 1
            ) AS several ON several.agent IS NOT DISTINCT FROM k.agent AND several.task = k.task
            ORDER BY k.agent, k.task, k.trace_id""",
            REWARDED,
        )


def publish(store: Store, found: Preferences, *, data_version: int, code_version: str) -> int:
    """Keep what a run found; returns the run's number."""
    parameters = json.dumps(found.parameters, sort_keys=True, allow_nan=False)
    tables = {
        "preference_weights": found.weights.select(list(WEIGHTS)),
        "user_preferences": found.user_weights.select(list(USER_WEIGHTS)),
        "stated_revealed": found.agreement.select(list(AGREEMENT)),
        "preference_rankings": found.rankings.select(list(RANKINGS)),
    }

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            """INSERT INTO preference_runs VALUES
            ($run, $now, $data_version, $code_version, $lists, $items, $chosen, $users, $parameters)""",
            {
                "run": run, "now": store.clock.now(), "data_version": data_version, "code_version": code_version,
                "lists": found.lists, "items": found.items, "chosen": found.chosen, "users": found.users,
                "parameters": parameters,
            },
        )  # fmt: skip

    run = result_rows.publish(store, "preference_runs", tables, add, number="preference_run_id")
    earlier = f"preference_run_id < {_NEWEST}"
    result_rows.remove(store, "user_preferences", earlier)
    result_rows.remove(store, "stated_revealed", f"scope = 'user' AND {earlier}")
    return run


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, its parameters read; None before the first."""
    return result_rows.newest(store, "preference_runs", RUNS, number="preference_run_id")


def weights(store: Store) -> pl.DataFrame:
    """Weights of everyone and of each segment in the newest run (WEIGHTS)."""
    return _rows(store, "preference_weights", WEIGHTS, "", "scope, segment, basis, feature", {})


def user_weights(store: Store, user_id: str) -> pl.DataFrame:
    """One user's weights in the newest run; no rows for someone who was never shown a list (USER_WEIGHTS)."""
    return _rows(store, "user_preferences", USER_WEIGHTS, "AND user_id = $user", "feature", {"user": user_id})


def agreement(store: Store) -> pl.DataFrame:
    """Stated against revealed of everyone and of each segment in the newest run (AGREEMENT)."""
    return _rows(store, "stated_revealed", AGREEMENT, "AND scope <> 'user'", "scope, segment", {})


def user_agreement(store: Store, user_id: str) -> dict[str, Any] | None:
    """Stated against revealed of one user in the newest run, as a dictionary of AGREEMENT columns."""
    frame = _rows(
        store, "stated_revealed", AGREEMENT, "AND scope = 'user' AND user_id = $user", "user_id", {"user": user_id}
    )
    return frame.row(0, named=True) if frame.height else None


def contradicting(store: Store, *, limit: int = 200) -> pl.DataFrame:
    """Users whose behaviour contradicts what they say, surest first (AGREEMENT)."""
    return _rows(
        store, "stated_revealed", AGREEMENT, "AND scope = 'user' AND contradicts",
        "q_value, angle DESC, user_id LIMIT $limit", {"limit": limit},
    )  # fmt: skip


def compared_users(store: Store) -> tuple[int, int]:
    """How many users could be compared with what they said, and how many contradict it."""
    with store.read() as reader:
        row = reader.frame(
            f"""SELECT count(contradicts) AS compared, count(*) FILTER (contradicts) AS contradicting
            FROM stated_revealed WHERE scope = 'user' AND preference_run_id = {_NEWEST}""",
            pl.Schema({"compared": pl.Int64(), "contradicting": pl.Int64()}),
        ).row(0)
    return int(row[0]), int(row[1])


def rankings(store: Store) -> pl.DataFrame:
    """Arms, models and what else was compared, strongest first, of the newest run (RANKINGS)."""
    return _rows(
        store, "preference_rankings", RANKINGS, "", "agent, axis, basis, component, strength DESC NULLS LAST, item", {}
    )


def _rows(
    store: Store, table: str, schema: pl.Schema, condition: str, order: str, params: Mapping[str, object]
) -> pl.DataFrame:
    with store.read() as reader:
        return _read(reader, table, schema, condition, order, params)


def _read(
    reader: Reader, table: str, schema: pl.Schema, condition: str, order: str, params: Mapping[str, object]
) -> pl.DataFrame:
    return reader.frame(
        f"""SELECT {", ".join(schema)} FROM {table} WHERE preference_run_id = {_NEWEST} {condition}
        ORDER BY {order}""",
        schema,
        params,
    )
