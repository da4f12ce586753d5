"""Rubrics: what operators want traces and comments to be judged by, in every version there was.

A version is never changed: verdicts and what is known of their quality belong to it. Editing makes a new version, and
retiring one in which the rubric is not active.
"""

import math
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, cast, get_args

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

Subject = Literal["trace", "comment"]
Scale = Literal["pass_fail", "five_points", "percent"]
SUBJECTS: Final[tuple[Subject, ...]] = get_args(Subject)
SCALES: Final[tuple[Scale, ...]] = get_args(Scale)

MAX_TEXT: Final = 8_000
_MIN_TEXT: Final = 20
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

RUBRICS = declare(
    {
        "rubric": pl.String, "version": pl.Int32, "subject": pl.String, "text": pl.String, "scale": pl.String,
        "agent": pl.String, "judged_share": pl.Float64, "labelled_share": pl.Float64, "active": pl.Boolean,
        "author": pl.String, "created_at": UTC_TIME,
    }
)  # fmt: skip

_COLUMNS: Final = ", ".join(RUBRICS.names())
_NEWEST: Final = "QUALIFY row_number() OVER (PARTITION BY rubric ORDER BY version DESC) = 1"


@dataclass(frozen=True)
class Rubric:
    """One version of a rubric; see the columns of `judge_rubrics`."""

    rubric: str
    text: str
    subject: Subject = "trace"
    scale: Scale = "pass_fail"
    agent: str | None = None
    judged_share: float = 0.1
    labelled_share: float = 0.2
    version: int = 1
    active: bool = True
    created_at: datetime | None = field(default=None, compare=False)  # of this version; None before it is kept


def checked(rubric: Rubric, action: str = "Saving the rubric") -> Rubric:
    """The rubric in its final form. Raises: `ActionRefused` naming the first value that cannot be used."""

    def require(condition: bool, why: str, remedy: str) -> None:
        if not condition:
            raise ActionRefused(action, f"{why}.", remedy)

    name, text, agent = rubric.rubric.strip(), rubric.text.strip(), (rubric.agent or "").strip() or None
    require(_NAME.fullmatch(name) is not None, f"the key is {name[:100]!r}",
            "Use up to 64 lower-case letters, digits, dots, dashes and underscores, no dot or dash first.")  # fmt: skip
    require(_MIN_TEXT <= len(text) <= MAX_TEXT, f"the text has {len(text):,} characters",
            f"Say in {_MIN_TEXT} to {MAX_TEXT:,} characters what is good and what is not.")  # fmt: skip
    require(rubric.subject in SUBJECTS, f"it judges {rubric.subject!r}", f"Expected one of {', '.join(SUBJECTS)}.")
    require(rubric.scale in SCALES, f"the scale is {rubric.scale!r}", f"Expected one of {', '.join(SCALES)}.")
    for what, share in (("to judge", rubric.judged_share), ("to label", rubric.labelled_share)):
        require(math.isfinite(share) and 0 < share <= 1, f"the share {what} is {share:g}",
                "Expected more than 0 and at most 1.")  # fmt: skip
    return replace(rubric, rubric=name, text=text, agent=agent)


def create(store: Store, rubric: Rubric, *, operator: str) -> Rubric:
    """Keep a new rubric; returns it as it is kept. Raises: `ActionRefused`."""
    rubric = replace(checked(rubric), version=1, active=True)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        if _newest(connection, rubric.rubric) is not None:
            raise ActionRefused(
                "Saving the rubric", f"there is a rubric {rubric.rubric!r} already.", "Edit it, or choose another key."
            )
        _insert(connection, store, rubric, operator, "rubric create")

    store.write(work)
    return rubric


def edit(store: Store, rubric: Rubric, *, operator: str) -> Rubric:
    """Add a version of a rubric, active; `rubric.version` is the one that was looked at. Returns the new version.

    Raises: `NotFound`; `ActionRefused` when someone else changed it meanwhile, or a value cannot be used.
    """
    stated = checked(rubric)

    def work(connection: duckdb.DuckDBPyConnection) -> Rubric:
        held = _present(connection, stated)
        added = replace(stated, version=held.version + 1, active=True)
        if added == replace(held, version=added.version):
            raise ActionRefused("Saving the rubric", "nothing was changed.", "Change it, or leave it as it is.")
        if added.subject != held.subject:
            raise ActionRefused("Saving the rubric", "it judges something else now.", "Make a rubric of its own.")
        _insert(connection, store, added, operator, "rubric edit")
        return added

    return store.write(work)


def retire(store: Store, rubric: str, *, version: int, operator: str) -> Rubric:
    """Put a rubric out of use: nothing more is judged by it, what was judged stays. Editing it brings it back.

    Raises: `NotFound`; `ActionRefused` when someone else changed it meanwhile, or it is retired already.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Rubric:
        held = _present(connection, Rubric(rubric, "", version=version))
        if not held.active:
            raise ActionRefused("Retiring the rubric", f"{rubric!r} is retired already.", "Nothing is to be done.")
        added = replace(held, version=held.version + 1, active=False)
        _insert(connection, store, added, operator, "rubric retire")
        return added

    return store.write(work)


def newest(store: Store) -> list[Rubric]:
    """The newest version of every rubric, by key, retired ones included."""
    with store.read() as reader:
        frame = reader.frame(f"SELECT {_COLUMNS} FROM judge_rubrics {_NEWEST} ORDER BY rubric", RUBRICS)
    return [_rubric(row) for row in frame.to_dicts()]


def active(store: Store) -> list[Rubric]:
    """The rubrics in use, by key."""
    return [rubric for rubric in newest(store) if rubric.active]


def history(store: Store, rubric: str) -> pl.DataFrame:
    """Every version of a rubric, newest first (columns `RUBRICS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM judge_rubrics WHERE rubric = $rubric ORDER BY version DESC",
            RUBRICS,
            {"rubric": rubric},
        )


def _newest(connection: duckdb.DuckDBPyConnection, rubric: str) -> Rubric | None:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM judge_rubrics WHERE rubric = $rubric ORDER BY version DESC LIMIT 1",
        {"rubric": rubric},
    ).fetchall()
    return _rubric(dict(zip(RUBRICS.names(), rows[0], strict=True))) if rows else None


def _present(connection: duckdb.DuckDBPyConnection, looked_at: Rubric) -> Rubric:
    """The newest version, when it is the one that was looked at. Raises: `NotFound`, `ActionRefused`."""
    held = _newest(connection, looked_at.rubric)
    if held is None:
        raise NotFound("rubric", looked_at.rubric)
    if held.version != looked_at.version:
        raise ActionRefused(
            "Changing the rubric", f"it is at version {held.version} now, not {looked_at.version}.", "Look again."
        )
    return held


def _insert(connection: duckdb.DuckDBPyConnection, store: Store, rubric: Rubric, operator: str, action: str) -> None:
    now = store.clock.now()
    values = {**asdict(rubric), "author": operator, "created_at": now}
    connection.execute(
        f"INSERT INTO judge_rubrics ({_COLUMNS}) VALUES ({', '.join(f'${name}' for name in RUBRICS.names())})",
        {name: values[name] for name in RUBRICS.names()},
    )
    detail = {name: value for name, value in asdict(rubric).items() if name != "created_at"}
    audit.append(connection, now, operator, action, f"rubric {rubric.rubric}", detail)
    meta.bump(connection)


def _rubric(row: dict[str, object]) -> Rubric:
    return Rubric(
        rubric=str(row["rubric"]), version=int(str(row["version"])), text=str(row["text"]),
        subject=cast(Subject, row["subject"]), scale=cast(Scale, row["scale"]),
        agent=None if row["agent"] is None else str(row["agent"]), judged_share=float(str(row["judged_share"])),
        labelled_share=float(str(row["labelled_share"])), active=bool(row["active"]),
        created_at=cast("datetime | None", row["created_at"]),
    )  # fmt: skip
