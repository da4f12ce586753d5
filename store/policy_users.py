"""The users of policies as rows: those of a version, and by which rows one version differs from the one before."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.frames import Reader, declare
from store.policy import Policy

__all__ = ["UserRows", "delta", "read", "rows_of"]

Floats32 = NDArray[np.float32]

_HELD: Final = declare(
    {
        "user_id": pl.String, "segment": pl.String, "mean": pl.List(pl.Float32), "sd": pl.List(pl.Float32),
        "rate": pl.Float32, "opted_out": pl.Boolean,
    }
)  # fmt: skip


@dataclass(frozen=True)
class UserRows:
    """Users as stored, by user_id; arrays (users, columns)."""

    user_id: pl.Series
    segment: pl.Series  # names
    mean: Floats32
    sd: Floats32
    rate: Floats32
    opted_out: NDArray[np.bool_]


def read(reader: Reader, agent: str, version: int, width: int) -> UserRows:
    """The users of a version, as stored."""
    frame = reader.frame(
        """SELECT user_id, segment, mean, sd, rate, opted_out FROM policy_users WHERE NOT removed AND rowid IN (
            SELECT arg_max(rowid, version) FROM policy_users
            WHERE agent = $agent AND version <= $version GROUP BY user_id)""",
        _HELD,
        {"agent": agent, "version": version},
    ).sort("user_id")
    return UserRows(
        frame["user_id"], frame["segment"], _matrix(frame["mean"], width), _matrix(frame["sd"], width),
        frame["rate"].fill_null(np.nan).to_numpy().astype(np.float32), frame["opted_out"].to_numpy().astype(np.bool_),
    )  # fmt: skip


def _matrix(lists: pl.Series, width: int) -> Floats32:
    """Lists of at most `width` numbers as rows; NaN where there is none."""
    matrix = np.full((len(lists), width), np.nan, dtype=np.float32)
    lengths = lists.list.len().fill_null(0).to_numpy()
    # A row has as many numbers as there were columns when it was written.
    for length in np.unique(lengths[lengths > 0]):
        rows = lengths == length
        matrix[rows, :length] = lists.filter(pl.Series(rows)).explode().to_numpy().reshape(-1, length)
    return matrix


def rows_of(policy: Policy) -> UserRows:
    """The users of a policy in order of id, their numbers by its arms."""
    users = policy.users
    ids = pl.Series("user_id", list(users.index), dtype=pl.String)
    order = ids.arg_sort().to_numpy()
    rows = np.fromiter(users.index.values(), dtype=np.int64, count=len(users.index))[order]
    code = users.segment[rows]
    names = pl.Series("segment", [*policy.segments, None], dtype=pl.String)
    return UserRows(
        ids[order], names.gather(np.where(code < 0, len(policy.segments), code)),
        np.asarray(users.mean[rows], dtype=np.float32), np.asarray(users.sd[rows], dtype=np.float32),
        np.asarray(users.rate[rows], dtype=np.float32), np.asarray(users.opted_out[rows], dtype=np.bool_),
    )  # fmt: skip


def delta(before: UserRows, after: UserRows, positions: list[int], width: int) -> pl.DataFrame:
    """The rows by which `after`, whose arms stand at `positions` of `width` columns, differs from `before`."""
    known = pl.DataFrame({"user_id": before.user_id, "old": np.arange(len(before.user_id), dtype=np.int64)})
    place = (
        pl.DataFrame({"user_id": after.user_id})
        .join(known, on="user_id", how="left", maintain_order="left")["old"]
        .fill_null(-1)
        .to_numpy()
    )
    there = place >= 0
    mean, sd = (_widened(numbers, place, width) for numbers in (before.mean, before.sd))
    differs = ~there
    old = place[there]
    for numbers, fresh in ((mean, after.mean), (sd, after.sd)):
        differs |= ~_same(numbers[:, positions], fresh).all(axis=1)
        numbers[:, positions] = fresh
    differs[there] |= ~_same(before.rate[old], after.rate[there]) | (before.opted_out[old] != after.opted_out[there])
    differs[there] |= before.segment.gather(old).ne_missing(after.segment.filter(pl.Series(there))).to_numpy()
    changed = np.flatnonzero(differs)
    rate = after.rate[changed]
    fresh_rows = pl.DataFrame(
        {
            "user_id": after.user_id[changed],
            "segment": after.segment[changed],
            "mean": _lists(mean[changed]),
            "sd": _lists(sd[changed]),
            "rate": pl.Series(rate).fill_nan(None),
            "opted_out": after.opted_out[changed],
            "removed": np.zeros(changed.size, dtype=np.bool_),
        }
    )
    gone = before.user_id.filter(~before.user_id.is_in(after.user_id.implode()))
    removed = pl.DataFrame({"user_id": gone}).with_columns(
        segment=pl.lit(None, pl.String), mean=pl.lit(None, fresh_rows.schema["mean"]),
        sd=pl.lit(None, fresh_rows.schema["sd"]), rate=pl.lit(None, pl.Float32), opted_out=pl.lit(False),
        removed=pl.lit(True),
    )  # fmt: skip
    return pl.concat([fresh_rows, removed])


def _widened(numbers: Floats32, place: NDArray[np.int64], width: int) -> Floats32:
    """The rows at `place`, in `width` columns; NaN in those that are new, and in rows at -1."""
    wide = np.full((place.size, width), np.nan, dtype=np.float32)
    there = place >= 0
    wide[there, : numbers.shape[1]] = numbers[place[there]]
    return wide


def _same(one: Floats32, other: Floats32) -> NDArray[np.bool_]:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _lists(numbers: Floats32) -> pl.Series:
    """Rows as lists, null where a row has no number."""
    if not numbers.shape[1]:
        return pl.repeat(None, numbers.shape[0], dtype=pl.List(pl.Float32), eager=True)
    lists = pl.Series("lists", np.ascontiguousarray(numbers)).cast(pl.List(pl.Float32))
    empty = pl.Series("empty", np.isnan(numbers).all(axis=1))
    return pl.select(pl.when(~empty).then(lists)).to_series()
