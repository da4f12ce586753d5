"""Systems that are asked for their data on a schedule: how each is set up, and how far its pulls are.

A source holds the names of environment variables, never a secret. What a source is may change; when it comes to be
another place (kind, address, project), its state starts anew, since watermarks and cursors of one place mean nothing
in another. What was pulled stays, whatever becomes of the source.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import urlsplit

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

Kind = Literal["langfuse", "phoenix", "mlflow"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_HOW_OFTEN: Final = (60, 7 * 86_400)
_LONGEST_WINDOW: Final = 365 * 86_400
PAGE_SIZES: Final[Mapping[Kind, int]] = {"langfuse": 1000, "phoenix": 1000, "mlflow": 100}

_TYPES: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "name": pl.String, "kind": pl.String, "base_url": pl.String, "project": pl.String, "user_variable": pl.String,
    "secret_variable": pl.String, "every_seconds": pl.Int64, "overlap_seconds": pl.Int64, "reread_seconds": pl.Int64,
    "page_size": pl.Int32, "requests_per_run": pl.Int32, "requests_per_second": pl.Float64, "since": UTC_TIME,
    "paused": pl.Boolean,
}  # fmt: skip
_STATE_TYPES: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "watermark": UTC_TIME, "watermarks": pl.String, "reread_at": UTC_TIME, "progress": pl.String,
    "started_at": UTC_TIME, "finished_at": UTC_TIME, "completed_at": UTC_TIME, "fetched": pl.Int64, "rows": pl.Int64,
    "last_rows": pl.Int64, "failures": pl.Int32, "not_before": UTC_TIME, "error": pl.String,
}  # fmt: skip
LISTED = declare({**_TYPES, **_STATE_TYPES})

_COLUMNS: Final = ", ".join(_TYPES)
_STATE_COLUMNS: Final = ", ".join(_STATE_TYPES)


@dataclass(frozen=True)
class PullSource:
    """How one system is asked for its data.

    `project` is Phoenix's project or MLflow's experiment id; Langfuse's keys belong to a project. `user_variable` and
    `secret_variable` name environment variables. A pull begins `overlap_seconds` before the watermark, and every few
    hours `reread_seconds` before it. `page_size` is capped at what the system allows.
    """

    name: str
    kind: Kind
    base_url: str
    since: datetime
    project: str | None = None
    user_variable: str | None = None
    secret_variable: str | None = None
    every_seconds: int = 300
    overlap_seconds: int = 600
    reread_seconds: int = 86_400
    page_size: int = 100
    requests_per_run: int = 1_000
    requests_per_second: float = 2.0
    paused: bool = False


@dataclass(frozen=True)
class PullState:
    """How far the pulls of a source are; see the columns of `pull_states`."""

    watermark: datetime | None = None
    watermarks: str | None = None
    reread_at: datetime | None = None
    progress: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    completed_at: datetime | None = None
    fetched: int = 0
    rows: int = 0
    last_rows: int | None = None
    failures: int = 0
    not_before: datetime | None = None
    error: str | None = None


def checked(source: PullSource) -> PullSource:
    """The source in its final form. Raises: `ActionRefused` naming the first value that cannot be used."""
    _require(_NAME.fullmatch(source.name) is not None, f"the name is {source.name[:100]!r}",
             "Use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first.")  # fmt: skip
    _require(source.kind in KINDS, f"the kind is {source.kind!r}", f"Expected one of {', '.join(KINDS)}.")
    base_url = checked_url(source.base_url)
    project = (source.project or "").strip() or None
    if source.kind == "langfuse":
        _require(project is None, "a project is given", "Langfuse's keys belong to one project; leave it empty.")
    else:
        what = "project" if source.kind == "phoenix" else "experiment id"
        _require(project is not None, f"no {what} is given", f"Name the {what} to pull.")
        _require(not set(project or "") & set("/?#\\"), f"the {what} is {project!r}", "It may not contain / ? # or \\.")
    for what, variable in (("user", source.user_variable), ("secret", source.secret_variable)):
        _require(
            variable is None or _VARIABLE.fullmatch(variable) is not None,
            f"the {what} variable is not the name of an environment variable",
            "Give the name of the variable (such as LANGFUSE_SECRET_KEY), never the secret itself.",
        )
        _require(not (variable or "").startswith("TRIMTAB_"), f"the {what} variable is {variable}",
                 "TRIMTAB_ variables are Trimtab's own settings; use another name.")  # fmt: skip
    if source.kind == "langfuse":
        _require(bool(source.user_variable and source.secret_variable), "a key is missing",
                 "Langfuse needs the variables of its public key and of its secret key.")  # fmt: skip
    _require(not (source.user_variable and not source.secret_variable), "a user is given without a secret",
             "Name the variable of the password or token too.")  # fmt: skip
    low, high = _HOW_OFTEN
    _within("every_seconds", source.every_seconds, low, high)
    _within("overlap_seconds", source.overlap_seconds, 0, _LONGEST_WINDOW)
    _within("reread_seconds", source.reread_seconds, 0, _LONGEST_WINDOW)
    _within("page_size", source.page_size, 1, 1_000)
    _within("requests_per_run", source.requests_per_run, 1, 100_000)
    _within("requests_per_second", source.requests_per_second, 0.01, 1_000)
    return replace(source, base_url=base_url, project=project, page_size=min(source.page_size, PAGE_SIZES[source.kind]))


def checked_url(url: str) -> str:
    """An address without trailing slash. Raises: `ActionRefused` for anything but plain http and https."""
    text = url.strip()
    remedy = "Expected an address such as https://cloud.langfuse.com, without user, password, query or fragment."
    # The address itself is not repeated where it may hold a password.
    _require(not re.search(r"[\s\x00-\x1f\\@]", text), "the address has a user, blanks or control characters", remedy)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ActionRefused("Saving the source", "the address cannot be read.", remedy) from None
    plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    _require(bool(plain) and port != 0, f"the address is {text[:200]!r}", remedy)
    return text.rstrip("/")


def add(store: Store, source: PullSource, *, operator: str) -> PullSource:
    """Keep a new source; returns it as it is kept. Raises: `ActionRefused`."""
    source = checked(source)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute("SELECT 1 FROM pull_sources WHERE name = $name", {"name": source.name}).fetchall()
        _require(not held, f"there is a source {source.name!r} already", "Edit it, or choose another name.")
        now = store.clock.now()
        values = ", ".join(f"${column}" for column in _TYPES)
        connection.execute(
            f"INSERT INTO pull_sources ({_COLUMNS}, created_at, updated_at) VALUES ({values}, $now, $now)",
            {**asdict(source), "now": now},
        )
        connection.execute("INSERT INTO pull_states (name) VALUES ($name)", {"name": source.name})
        audit.append(connection, now, operator, "source add", f"source {source.name}", _detail(source))

    store.write(work)
    return source


def change(store: Store, source: PullSource, *, operator: str) -> PullSource:
    """Set a source up differently; its state starts anew when it is another place. Raises: as `add`; `NotFound`."""
    source = checked(source)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            f"SELECT kind, base_url, project, {_COLUMNS} FROM pull_sources WHERE name = $name", {"name": source.name}
        ).fetchall()
        if not rows:
            raise NotFound("pull source", source.name)
        before = PullSource(**dict(zip(_TYPES, rows[0][3:], strict=True)))
        now = store.clock.now()
        columns = ", ".join(f"{column} = ${column}" for column in _TYPES if column != "name")
        connection.execute(
            f"UPDATE pull_sources SET {columns}, updated_at = $now WHERE name = $name", {**asdict(source), "now": now}
        )
        if rows[0][:3] != (source.kind, source.base_url, source.project):
            _save(connection, source.name, PullState())
        detail = {"before": _detail(before), "after": _detail(source)}
        audit.append(connection, now, operator, "source change", f"source {source.name}", detail)

    store.write(work)
    return source


def pause(store: Store, name: str, *, paused: bool, operator: str) -> None:
    """Stop or resume the pulls of a source; resuming forgets earlier failures. Raises: `NotFound`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        if not connection.execute("SELECT 1 FROM pull_sources WHERE name = $name", {"name": name}).fetchall():
            raise NotFound("pull source", name)
        # Not with RETURNING: see `publications.begin`.
        connection.execute(
            "UPDATE pull_sources SET paused = $paused, updated_at = $now WHERE name = $name",
            {"paused": paused, "now": now, "name": name},
        )
        if not paused:
            connection.execute(
                "UPDATE pull_states SET failures = 0, not_before = NULL WHERE name = $name", {"name": name}
            )
        states = ("pulled", "paused") if paused else ("paused", "pulled")
        detail = dict(zip(("before", "after"), states, strict=True))
        audit.append(connection, now, operator, "source pause" if paused else "source resume", f"source {name}", detail)

    store.write(work)


def remove(store: Store, name: str, *, operator: str) -> None:
    """Forget a source; what it brought stays. Raises: `NotFound`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM pull_sources WHERE name = $name", {"name": name}).fetchall()
        if not rows:
            raise NotFound("pull source", name)
        connection.execute("DELETE FROM pull_sources WHERE name = $name", {"name": name})
        connection.execute("DELETE FROM pull_states WHERE name = $name", {"name": name})
        before = _detail(PullSource(**dict(zip(_TYPES, rows[0], strict=True))))
        detail = {"before": before, "after": None}
        audit.append(connection, store.clock.now(), operator, "source remove", f"source {name}", detail)

    store.write(work)


def listed(store: Store) -> pl.DataFrame:
    """Every source with its state, by name (columns `LISTED`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS}, {_STATE_COLUMNS} FROM pull_sources JOIN pull_states USING (name) ORDER BY name",
            LISTED,
        )


def every(store: Store) -> list[tuple[PullSource, PullState]]:
    """Every source with its state, by name."""
    return [_split(row) for row in listed(store).to_dicts()]


def one(store: Store, name: str) -> tuple[PullSource, PullState]:
    """A source and its state. Raises: `NotFound`."""
    rows = listed(store).filter(pl.col("name") == name).to_dicts()
    if not rows:
        raise NotFound("pull source", name)
    return _split(rows[0])


def save_state(store: Store, source: PullSource, state: PullState) -> None:
    """Keep how far a source is; on disk when this returns.

    Nothing happens when the source was removed meanwhile or has become another place, whose state this is not.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "SELECT kind, base_url, project FROM pull_sources WHERE name = $name", {"name": source.name}
        ).fetchall()
        if rows == [(source.kind, source.base_url, source.project)]:
            _save(connection, source.name, state)

    store.write(work)


def due_at(source: PullSource, state: PullState) -> datetime:
    """When a source may be pulled next; in the past: now. A pull under way goes on as soon as it may."""
    due = source.since
    if state.progress is None and state.started_at is not None:
        due = max(due, state.started_at + timedelta(seconds=source.every_seconds))
    return due if state.not_before is None else max(due, state.not_before)


def _split(row: dict[str, Any]) -> tuple[PullSource, PullState]:
    source = PullSource(**{column: row[column] for column in _TYPES})
    return replace(source, kind=cast(Kind, row["kind"])), PullState(**{column: row[column] for column in _STATE_TYPES})


def _save(connection: duckdb.DuckDBPyConnection, name: str, state: PullState) -> None:
    columns = ", ".join(f"{column} = ${column}" for column in _STATE_TYPES)
    connection.execute(f"UPDATE pull_states SET {columns} WHERE name = $name", {**asdict(state), "name": name})


def _detail(source: PullSource) -> dict[str, object]:
    return {**asdict(source), "since": source.since.isoformat()}


def _require(condition: bool, why: str, remedy: str) -> None:
    if not condition:
        raise ActionRefused("Saving the source", f"{why}.", remedy)


def _within(name: str, value: float, low: float, high: float) -> None:
    _require(low <= value <= high, f"{name} is {value:g}", f"Expected a number from {low:g} to {high:g}.")
