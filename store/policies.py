"""Policies: every version of every agent's policy, whole, so that a decision can be replayed from the version it names.

A version's row holds all but the users; of its users only those that differ from the version before are written.
Their numbers are by `columns`, every arm the agent ever had, of which a policy shows those that it has: an arm that is
switched off, or on again, changes no user's row.

Rows of users are written in slices, and are invisible until the version is listed; what an interrupted publish left is
removed by the next one.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

import duckdb
import numpy as np
import polars as pl

from store import lesson_sets, meta, policy_users, result_rows
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, Reader, declare
from store.lesson_sets import LessonSet
from store.policy import Arm, Policy, Users
from store.policy_content import decode, encode, limits, numbers, table
from store.version import code_version

__all__ = [
    "VERSIONS",
    "announce",
    "at",
    "described",
    "follow",
    "newest",
    "publish",
    "publishing",
    "unfollow",
    "versions",
]

VERSIONS = declare(
    {
        "agent": pl.String, "version": pl.Int32, "built_at": UTC_TIME, "reward_model_id": pl.Int64, "cause": pl.String,
        "code_version": pl.String,
    }
)  # fmt: skip

_LOG = logging.getLogger(__name__)

_POLICIES: Final = declare(
    {
        "agent": pl.String, "version": pl.Int32, "built_at": UTC_TIME, "reward_model_id": pl.Int64,
        "content": pl.String,
    }
)  # fmt: skip
_NEWEST = "QUALIFY row_number() OVER (PARTITION BY agent ORDER BY version DESC) = 1"

# Told of an agent after each new version of its policy was committed.
Listener = Callable[[str], None]


@dataclass
class _Publishing:
    lock: threading.RLock = field(default_factory=threading.RLock)
    told: list[Listener] = field(default_factory=list)


_publishing: WeakKeyDictionary[Store, _Publishing] = WeakKeyDictionary()
_publishing_lock = threading.Lock()


@contextmanager
def publishing(store: Store) -> Iterator[None]:
    """Nobody else publishes meanwhile: hold it from reading what a policy is built from until `publish` returns."""
    with _of(store).lock:
        yield


def publish(store: Store, policy: Policy, *, cause: str) -> int | None:
    """Make a policy the newest version of its agent's; returns its number, None when it says what the newest says.

    Its own `version` is not looked at, nor does `built_at` make it differ. Followers are told before this returns.
    `cause` is one of schedule, arms, rates, guardrail, operator.
    """
    followers = _of(store)
    with followers.lock:
        result_rows.remove(
            store,
            "policy_users",
            "agent = $agent AND version > coalesce((SELECT max(version) FROM policies WHERE agent = $agent), 0)",
            {"agent": policy.agent},
        )
        with store.read() as reader:
            before = _listed(reader, policy.agent, None)
            number = int(before["version"]) if before else 0
            held = decode(before)["columns"] if before else []
            rows = policy_users.read(reader, policy.agent, number, len(held))
        names = [arm.name for arm in policy.arms]
        columns = [*held, *sorted(set(names) - set(held))]
        delta = policy_users.delta(
            rows, policy_users.rows_of(policy), [columns.index(name) for name in names], len(columns)
        )
        content = encode(policy, columns)
        same_model = before is not None and before["reward_model_id"] == policy.reward_model_id
        if before is not None and before["content"] == content and same_model and delta.is_empty():
            return None
        version = number + 1
        result_rows.insert_slices(store, "policy_users", delta, key={"agent": policy.agent, "version": version})
        store.write(lambda connection: _list(connection, policy, version, cause, content))
        _tell(followers, policy.agent, f"version {version} of {policy.agent}")
    return version


def newest(store: Store, agent: str | None = None) -> list[Policy]:
    """The newest policy of every agent, or of one (an empty list when it has none), by agent; users in order of id."""
    with store.read() as reader:
        listed = reader.frame(
            f"""SELECT {", ".join(_POLICIES)} FROM policies WHERE $agent IS NULL OR agent = $agent
            {_NEWEST} ORDER BY agent""",
            _POLICIES,
            {"agent": agent},
        )
        return [_policy(reader, row) for row in listed.to_dicts()]


def at(store: Store, agent: str, version: int) -> Policy:
    """One version as it was published; users in order of id. Raises: `NotFound`."""
    with store.read() as reader:
        row = _listed(reader, agent, version)
        if row is None:
            raise NotFound("policy version", f"{agent} {version}")
        return _policy(reader, row)


def described(store: Store, agent: str, version: int) -> dict[str, Any]:
    """What was written of a version besides its users, under the names of `encode`: quick. Raises: `NotFound`."""
    with store.read() as reader:
        row = _listed(reader, agent, version)
    if row is None:
        raise NotFound("policy version", f"{agent} {version}")
    return decode(row)


def versions(store: Store, agent: str, limit: int = 200) -> pl.DataFrame:
    """The versions of an agent's policy, newest first (columns `VERSIONS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(VERSIONS)} FROM policies WHERE agent = $agent
            ORDER BY version DESC LIMIT $limit""",
            VERSIONS,
            {"agent": agent, "limit": limit},
        )


def follow(store: Store, listener: Listener) -> None:
    """Tell `listener` the agent of every version published from now on. It is called in the publishing thread."""
    followers = _of(store)
    with followers.lock:
        followers.told.append(listener)


def unfollow(store: Store, listener: Listener) -> None:
    """Tell `listener` no more. Safe to call twice."""
    followers = _of(store)
    with followers.lock:
        followers.told = [other for other in followers.told if other != listener]


def announce(store: Store, agents: Iterable[str]) -> None:
    """Have everyone who follows read the newest policy of these agents again: rows of it were deleted."""
    followers = _of(store)
    with followers.lock:
        for agent in agents:
            _tell(followers, agent, f"the newest version of {agent}")


def _tell(followers: _Publishing, agent: str, what: str) -> None:
    for listener in list(followers.told):
        try:
            listener(agent)
        except Exception:
            # What was published holds whatever becomes of those who follow; the others still have to hear of it.
            _LOG.exception("a follower of policies failed at %s", what)


def _of(store: Store) -> _Publishing:
    with _publishing_lock:
        return _publishing.setdefault(store, _Publishing())


def _listed(reader: Reader, agent: str, version: int | None) -> dict[str, Any] | None:
    """The row of a version, of the newest one for None; None when there is none."""
    frame = reader.frame(
        f"""SELECT {", ".join(_POLICIES)} FROM policies
        WHERE agent = $agent AND ($version IS NULL OR version = $version) {_NEWEST}""",
        _POLICIES,
        {"agent": agent, "version": version},
    )
    return frame.row(0, named=True) if frame.height else None


def _list(connection: duckdb.DuckDBPyConnection, policy: Policy, version: int, cause: str, content: str) -> None:
    connection.execute(
        "INSERT INTO policies VALUES ($agent, $version, $built_at, $model, $cause, $content, $code_version)",
        {
            "agent": policy.agent, "version": version, "built_at": policy.built_at, "model": policy.reward_model_id,
            "cause": cause, "content": content, "code_version": code_version(),
        },
    )  # fmt: skip
    meta.bump(connection)


def _policy(reader: Reader, row: dict[str, Any]) -> Policy:
    """The policy of a listed version."""
    content = decode(row)
    arms = tuple(Arm(**arm) for arm in content["arms"])
    columns: list[str] = content["columns"]
    rows = policy_users.read(reader, row["agent"], row["version"], len(columns))
    shown = [columns.index(arm.name) for arm in arms]
    segments = tuple(content["segments"])
    code = rows.segment.replace_strict(
        list(segments), list(range(len(segments))), default=-1, return_dtype=pl.Int32
    ) if segments else pl.repeat(-1, len(rows.segment), dtype=pl.Int32, eager=True)  # fmt: skip
    users = Users(
        index=dict(zip(rows.user_id.to_list(), range(len(rows.user_id)), strict=True)),
        segment=code.fill_null(-1).to_numpy(),
        mean=np.ascontiguousarray(rows.mean[:, shown]), sd=np.ascontiguousarray(rows.sd[:, shown]), rate=rows.rate,
        opted_out=rows.opted_out,
    )  # fmt: skip
    width = len(arms)
    lessons, block = _lessons(reader, row["agent"], content)
    return Policy(
        agent=row["agent"], version=row["version"], built_at=row["built_at"], reward_model_id=row["reward_model_id"],
        salt=content["salt"], arms=arms, mean=numbers(content["mean"], width), sd=numbers(content["sd"], width),
        n=np.array(content["n"], dtype=np.int64), rate=content["rate"],
        propensity_floor=content["propensity_floor"], segments=segments,
        segment_mean=table(content["segment_mean"], width), segment_sd=table(content["segment_sd"], width),
        segment_rate=numbers(content["segment_rate"], len(segments)), users=users,
        never_segments=frozenset(content["never_segments"]), never_tasks=frozenset(content["never_tasks"]),
        daily_regret_budget=content["daily_regret_budget"], solicit_rate=content["solicit_rate"],
        limits=limits(content["limits"]),
        arm_limits={name: limits(held) for name, held in content["arm_limits"].items()},
        instructions=block[0], lesson_ids=block[1], lessons=lessons,
        ttl_seconds=content["ttl_seconds"], basis=tuple(content["basis"]),
        solicit_segments=content.get("solicit_segments", {}), solicit_users=content.get("solicit_users", {}),
    )  # fmt: skip


def _lessons(
    reader: Reader, agent: str, content: dict[str, Any]
) -> tuple[LessonSet | None, tuple[str, tuple[str, ...]]]:
    """What lessons are chosen from, None for a version that serves one block to all; the block and the ids in it."""
    version = content.get("playbook_version")
    if version is None:
        return None, (content["instructions"], tuple(content["lesson_ids"]))
    book = reader.frame(
        "SELECT body, lesson_ids FROM playbooks WHERE agent = $agent AND version = $version",
        pl.Schema({"body": pl.String(), "lesson_ids": pl.String()}),
        {"agent": agent, "version": version},
    )
    lessons = lesson_sets.read(reader, agent, version)
    return lessons, (book["body"][0], tuple(json.loads(book["lesson_ids"][0])))
