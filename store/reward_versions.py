"""Versions of the reward model: what each says of itself, which one is in use, and what operators decide about them.

A version is `active` (in use), a `candidate` (waits for an operator) or `retired` (was in use). Its report is written
in the transaction that adds it (`write_report`, called by `store.rewards.publish`) and never changes afterwards, except
for the last publication that was scored with it.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime

import duckdb
import polars as pl

from store import audit, meta, result_rows
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

VERSIONS = declare(
    {
        "reward_model_id": pl.Int64, "method": pl.String, "fitted_at": UTC_TIME, "state": pl.String,
        "reason": pl.String, "decided_by": pl.String, "decided_at": UTC_TIME, "window_start": UTC_TIME,
        "window_end": UTC_TIME, "traces": pl.Int64, "signals": pl.Int64, "users": pl.Int64, "tasks": pl.Int64,
        "data_version": pl.Int64, "publication": pl.Int64, "code_version": pl.String, "readable": pl.Boolean,
    }
)  # fmt: skip
METRICS = pl.Schema(
    {
        "held_out": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "n": pl.Int64(),
        "clusters": pl.Int64(),
        "basis": pl.String(),
    }
)
BINS = pl.Schema(
    {
        "held_out": pl.String(),
        "bin": pl.Int32(),
        "predicted": pl.Float64(),
        "observed": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "n": pl.Int64(),
        "basis": pl.String(),
    }
)
WEIGHTS = pl.Schema(
    {
        "agent": pl.String(),
        "feature": pl.String(),
        "kind": pl.String(),
        "weight": pl.Float64(),
        "sd": pl.Float64(),
        "traces": pl.Int64(),
        "share": pl.Float64(),
    }
)
LOADINGS = pl.Schema(
    {
        "agent": pl.String(),
        "kind": pl.String(),
        "name": pl.String(),
        "signals": pl.Int64(),
        "users": pl.Int64(),
        "loading": pl.Float64(),
        "loading_sd": pl.Float64(),
        "loading_lower": pl.Float64(),  # limits of 95 % intervals; null in versions that were fitted without
        "loading_upper": pl.Float64(),
        "intercept": pl.Float64(),
        "intercept_sd": pl.Float64(),
        "intercept_lower": pl.Float64(),
        "intercept_upper": pl.Float64(),
        "weight": pl.Float64(),
        "anchor": pl.Boolean(),
        "basis": pl.String(),
        "note": pl.String(),
    }
)
SEGMENT_MEANS = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "segment": pl.String(),
        "mean": pl.Float64(),
        "sd": pl.Float64(),
        "n": pl.Int64(),
        "traces": pl.Int64(),
        "users": pl.Int64(),
    }
)
PEOPLE = pl.Schema(
    {
        "user_id": pl.String(),
        "events": pl.Int64(),
        "satisfaction": pl.Float64(),
        "satisfaction_sd": pl.Float64(),
        "leniency": pl.Float64(),
        "leniency_sd": pl.Float64(),
        "leans_on": pl.Float64(),
        "segment": pl.String(),
    }
)
STATED_WEIGHTS = declare(
    {
        "agent": pl.String, "segment": pl.String, "weight": pl.Float64, "reason": pl.String, "set_by": pl.String,
        "set_at": UTC_TIME,
    }
)  # fmt: skip

_TABLES = {
    "metrics": ("reward_metrics", METRICS),
    "calibration": ("reward_calibration", BINS),
    "weights": ("reward_feature_weights", WEIGHTS),
    "loadings": ("reward_loadings", LOADINGS),
    "segment_means": ("reward_segment_means", SEGMENT_MEANS),
    "people": ("reward_people", PEOPLE),
}
# People are many: those of older versions are let go.
_KEEP_PEOPLE = 3


@dataclass(frozen=True)
class Report:
    """What a version says of itself; `activate` and `reason` are the decision on whether it takes over.

    `publication` is the last one whose facts the fit has read. `state` is JSON: what scoring new traces needs; None for
    a method that only ever fits anew.
    """

    window_start: datetime | None = None
    window_end: datetime | None = None
    users: int = 0
    tasks: int = 0
    publication: int = 0
    activate: bool = True
    reason: str = "the first version"
    metrics: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=METRICS))
    calibration: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BINS))
    weights: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=WEIGHTS))
    loadings: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LOADINGS))
    segment_means: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SEGMENT_MEANS))
    people: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PEOPLE))
    state: str | None = None


def write_report(connection: duckdb.DuckDBPyConnection, model: int, report: Report, now: datetime) -> None:
    """Write the report of a version; retire the one before if it takes over. Call in the transaction that adds it."""
    if report.activate:
        _retire_active(connection, f"version {model} took over", now)
    connection.execute(
        """INSERT INTO reward_versions VALUES ($model, $window_start, $window_end, $users, $tasks, $publication, $state,
            $reason, NULL, $now)""",
        {
            "model": model, "window_start": report.window_start, "window_end": report.window_end,
            "users": report.users, "tasks": report.tasks, "publication": report.publication,
            "state": "active" if report.activate else "candidate", "reason": report.reason, "now": now,
        },
    )  # fmt: skip
    for name in (one.name for one in fields(report) if one.name in _TABLES):
        table, schema = _TABLES[name]
        write_frame(connection, table, model, getattr(report, name).select(list(schema)))
    connection.execute(
        """DELETE FROM reward_people WHERE reward_model_id <= $oldest
        AND reward_model_id NOT IN (SELECT reward_model_id FROM reward_versions WHERE state = 'active')""",
        {"oldest": model - _KEEP_PEOPLE},
    )
    if report.state is not None:
        connection.execute(
            "INSERT INTO reward_model_state VALUES ($model, $state)", {"model": model, "state": report.state}
        )


def write_frame(connection: duckdb.DuckDBPyConnection, table: str, model: int, frame: pl.DataFrame) -> None:
    """Insert a frame's rows as those of a version. Call in a transaction."""
    result_rows.insert(connection, table, frame, key={"reward_model_id": model})


def activate(store: Store, reward_model_id: int, *, operator: str, reason: str) -> None:
    """Put a version in use in place of the present one, by an operator's decision.

    Raises: `NotFound`; `ActionRefused` without a reason, when it is in use already or its rewards are no longer kept.
    """
    if not reason.strip():
        raise ActionRefused("Activate", "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        state, before = _states(connection, reward_model_id)
        if state == "active":
            raise ActionRefused("Activate", f"version {reward_model_id} is in use already.", "Reload the page.")
        kept = connection.execute(
            "SELECT count(*) FROM rewards WHERE reward_model_id = $model", {"model": reward_model_id}
        ).fetchall()
        if not kept[0][0]:
            raise ActionRefused(
                "Activate",
                f"the rewards of version {reward_model_id} are no longer kept.",
                "Run the job to fit a new one.",
            )
        _retire_active(connection, f"{operator} activated version {reward_model_id}", now)
        connection.execute("UPDATE reward_models SET active = false WHERE active")
        connection.execute(
            "UPDATE reward_models SET active = true WHERE reward_model_id = $model", {"model": reward_model_id}
        )
        connection.execute(
            """UPDATE reward_versions SET state = 'active', reason = $reason, decided_by = $operator, decided_at = $now
            WHERE reward_model_id = $model""",
            {"reason": reason.strip(), "operator": operator, "now": now, "model": reward_model_id},
        )
        detail = {"before": before, "reason": reason.strip()}
        audit.append(connection, now, operator, "reward model activate", f"reward model {reward_model_id}", detail)
        meta.bump(connection)

    store.write(work)


def set_stated_weight(
    store: Store, weight: float, *, agent: str | None, segment: str | None, operator: str, reason: str
) -> None:
    """Set how much what people state counts (1) against what they do (0), for an agent and a segment; None means all.

    It takes effect with the next fit. Raises: `ActionRefused` for a weight outside 0 to 1 or without a reason.
    """
    if not 0.0 <= weight <= 1.0:
        raise ActionRefused("Set the weight", f"{weight!r} is not from 0 to 1.", "Give a number from 0 to 1.")
    if not reason.strip():
        raise ActionRefused("Set the weight", "no reason was given.", "Write why, so that nobody has to ask again.")
    scope = {"agent": agent, "segment": segment}
    same = "agent IS NOT DISTINCT FROM $agent AND segment IS NOT DISTINCT FROM $segment"

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        before = connection.execute(f"SELECT weight FROM stated_weights WHERE {same}", scope).fetchall()
        connection.execute(f"DELETE FROM stated_weights WHERE {same}", scope)
        connection.execute(
            "INSERT INTO stated_weights VALUES ($agent, $segment, $weight, $reason, $operator, $now)",
            {**scope, "weight": weight, "reason": reason.strip(), "operator": operator, "now": now},
        )
        detail = {**scope, "weight": weight, "before": before[0][0] if before else None, "reason": reason.strip()}
        subject = f"stated weight of {agent or 'all agents'}, {segment or 'all segments'}"
        audit.append(connection, now, operator, "stated weight set", subject, detail)
        meta.bump(connection)

    store.write(work)


def versions(store: Store, limit: int = 50) -> pl.DataFrame:
    """Every version, newest first (columns `VERSIONS`); `readable`: its rewards of single traces are still kept."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH kept AS (SELECT DISTINCT reward_model_id FROM rewards)
            SELECT {", ".join(VERSIONS.names()[:-1])}, kept.reward_model_id IS NOT NULL AS readable
            FROM reward_models JOIN reward_versions USING (reward_model_id) LEFT JOIN kept USING (reward_model_id)
            ORDER BY reward_model_id DESC LIMIT $limit""",
            VERSIONS,
            {"limit": limit},
        )


def active(store: Store) -> dict[str, object] | None:
    """The version in use as a dictionary of `VERSIONS` columns; None before the first."""
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT {", ".join(VERSIONS.names()[:-1])}, true AS readable
            FROM reward_models JOIN reward_versions USING (reward_model_id)
            WHERE active ORDER BY reward_model_id DESC LIMIT 1""",
            VERSIONS,
        )
    return frame.row(0, named=True) if len(frame) else None


def metrics(store: Store) -> pl.DataFrame:
    """Held-out metrics of all versions (`reward_model_id` and the columns `METRICS`), newest first."""
    return _all(store, "reward_metrics", METRICS, "reward_model_id DESC, held_out, metric")


def calibration(store: Store, reward_model_id: int) -> pl.DataFrame:
    """The reliability diagram of one version (columns `BINS`)."""
    return _of(store, "reward_calibration", BINS, reward_model_id, "held_out, bin")


def feature_weights(store: Store, reward_model_id: int, *, limit: int = 2_000) -> pl.DataFrame:
    """What the features of one version are worth, those surest of their sign first (columns `WEIGHTS`)."""
    return _of(store, "reward_feature_weights", WEIGHTS, reward_model_id, "abs(weight) / sd DESC, feature", limit)


def loadings(store: Store, reward_model_id: int) -> pl.DataFrame:
    """The measurement model of one version (columns `LOADINGS`)."""
    return _of(store, "reward_loadings", LOADINGS, reward_model_id, "agent, signals DESC, kind, name")


def segment_means(store: Store, reward_model_id: int, *, limit: int = 2_000) -> pl.DataFrame:
    """Mean reward of every arm in every segment by one version (columns `SEGMENT_MEANS`)."""
    return _of(store, "reward_segment_means", SEGMENT_MEANS, reward_model_id, "agent, segment, arm", limit)


def person(store: Store, user_id: str) -> pl.DataFrame:
    """What the version in use says of one person (columns `PEOPLE`); no row where it says nothing."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(PEOPLE.names())} FROM reward_people WHERE user_id = $user
                AND reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)""",
            PEOPLE,
            {"user": user_id},
        )


def model_state(store: Store, reward_model_id: int) -> str | None:
    """The JSON that scoring new traces with a version needs; None when the version has none."""
    with store.read() as reader:
        value = reader.value(
            "SELECT state FROM reward_model_state WHERE reward_model_id = $model", {"model": reward_model_id}
        )
    return value if isinstance(value, str) else None


def stated_weights(store: Store) -> pl.DataFrame:
    """The weights that operators have set (columns `STATED_WEIGHTS`); where there is none, .5 holds."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(STATED_WEIGHTS.names())} FROM stated_weights ORDER BY agent, segment", STATED_WEIGHTS
        )


def _all(store: Store, table: str, schema: pl.Schema, order: str) -> pl.DataFrame:
    whole = declare({"reward_model_id": pl.Int64, **schema})
    with store.read() as reader:
        return reader.frame(f"SELECT {', '.join(whole.names())} FROM {table} ORDER BY {order}", whole)


def _of(store: Store, table: str, schema: pl.Schema, model: int, order: str, limit: int = 10_000) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(schema.names())} FROM {table} WHERE reward_model_id = $model
            ORDER BY {order} LIMIT $limit""",
            schema,
            {"model": model, "limit": limit},
        )


def _states(connection: duckdb.DuckDBPyConnection, model: int) -> tuple[str, int | None]:
    """The state of a version and the id of the one in use."""
    rows = connection.execute(
        """SELECT v.state, (SELECT max(reward_model_id) FROM reward_models WHERE active)
        FROM reward_versions AS v WHERE v.reward_model_id = $model""",
        {"model": model},
    ).fetchall()
    if not rows:
        raise NotFound("reward model", str(model))
    return str(rows[0][0]), rows[0][1]


def _retire_active(connection: duckdb.DuckDBPyConnection, reason: str, now: datetime) -> None:
    connection.execute(
        "UPDATE reward_versions SET state = 'retired', reason = $reason, decided_at = $now WHERE state = 'active'",
        {"reason": reason, "now": now},
    )
