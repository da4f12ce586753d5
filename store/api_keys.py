"""API keys: made, listed, revoked, and told to whoever checks requests against them.

The text of a key is `tt_<key_id>_<secret>`. The id is public: it names the key in lists, logs and the audit log. The
secret is shown once, when the key is made; the store holds its SHA-256 only. A slow hash (scrypt, argon2) protects
secrets that can be guessed; this one is 256 random bits, which nobody can enumerate, and a fast hash keeps the check of
a request at microseconds.

One process holds the store, so every change of a key passes through `create` and `revoke` here. Both tell the followers
of that store after the commit and before they return: a revoked key is refused from that moment, and checking a
request needs no query.
"""

import hashlib
import math
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

# What a key may be used for. A key has exactly the scopes it was made with; none includes another.
SCOPES: dict[str, str] = {
    "ingest": "send traces, signals and files",
    "steer": "ask which arm and lessons to use",
    "propose": "propose lessons",
    "admin": "read metrics and manage the server",
}

DEFAULT_RATE_PER_SECOND = 200.0
MAX_RATE_PER_SECOND = 1_000_000.0
MAX_NAME = 100

KEYS = declare(
    {
        "key_id": pl.String, "name": pl.String, "scopes": pl.List(pl.String), "rate_per_second": pl.Float64,
        "burst": pl.Int32, "created_at": UTC_TIME, "created_by": pl.String, "last_used_at": UTC_TIME,
        "revoked_at": UTC_TIME, "revoked_by": pl.String,
    }
)  # fmt: skip

_COLUMNS = ", ".join(KEYS.names())
_TEXT = re.compile(r"tt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"(?:tt_)?([0-9a-f]{12})")


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret; `secret_hash` is the SHA-256 of the secret in hexadecimal."""

    key_id: str
    name: str
    secret_hash: str = field(repr=False)
    scopes: frozenset[str]
    rate_per_second: float
    burst: int
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its text, which is to be shown once and kept nowhere."""

    key: ApiKey
    text: str = field(repr=False)


# Told of each key that was made or revoked, as it is now. Must be quick, and must not change keys itself.
Follower = Callable[[ApiKey], None]


@dataclass
class _Followers:
    # Held over the change and the telling: followers hear of changes in the order in which they were committed.
    lock: threading.Lock = field(default_factory=threading.Lock)
    told: list[Follower] = field(default_factory=list)


_followers: WeakKeyDictionary[Store, _Followers] = WeakKeyDictionary()
_followers_lock = threading.Lock()


def split(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key's text; None when it is not of that form."""
    parts = _TEXT.fullmatch(text)
    return (parts[1], parts[2]) if parts else None


def secret_hash(secret: str) -> str:
    """The hash under which a secret is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    store: Store,
    *,
    scopes: Sequence[str],
    name: str | None = None,
    rate_per_second: float | None = None,
    burst: int | None = None,
    operator: str,
) -> CreatedKey:
    """Make a key.

    Args: `scopes` of `SCOPES`, at least one; `name` for people, by default the scopes; `rate_per_second` requests in
    the long run; `burst` requests at once, by default what two seconds allow; `operator` who makes it.
    Raises: `ActionRefused` when one of these cannot be used; `StoreError`.
    """
    granted = _checked_scopes(scopes)
    rate = DEFAULT_RATE_PER_SECOND if rate_per_second is None else rate_per_second
    if not (math.isfinite(rate) and 0 < rate <= MAX_RATE_PER_SECOND):
        raise _refused(
            f"the rate is {rate:g} requests a second.", f"Give more than 0, at most {MAX_RATE_PER_SECOND:,g}."
        )
    at_once = max(1, math.ceil(2 * rate)) if burst is None else burst
    if not 1 <= at_once <= 2 * MAX_RATE_PER_SECOND:
        raise _refused(f"the burst is {at_once} requests.", f"Give 1 to {2 * MAX_RATE_PER_SECOND:,g}.")
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        key_id=secrets.token_hex(6), name=_checked_name(name, granted), secret_hash=secret_hash(secret),
        scopes=frozenset(granted), rate_per_second=float(rate), burst=at_once,
    )  # fmt: skip

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute(
            """INSERT INTO api_keys (key_id, name, secret_hash, scopes, rate_per_second, burst, created_at, created_by)
            VALUES ($key_id, $name, $secret_hash, $scopes, $rate_per_second, $burst, $now, $operator)""",
            {
                "key_id": key.key_id, "name": key.name, "secret_hash": key.secret_hash, "scopes": granted,
                "rate_per_second": key.rate_per_second, "burst": key.burst, "now": now, "operator": operator,
            },
        )  # fmt: skip
        detail = {"name": key.name, "scopes": granted, "rate_per_second": key.rate_per_second, "burst": key.burst}
        audit.append(connection, now, operator, "key create", f"key {key.key_id}", detail)

    followers = _of(store)
    with followers.lock:
        store.write(work)
        _tell(followers, key)
    return CreatedKey(key, f"tt_{key.key_id}_{secret}")


def revoke(store: Store, key_id: str, *, operator: str) -> ApiKey:
    """Put a key out of force for good; revoking it again changes nothing.

    Args: `key_id`, also with its `tt_` or as the whole text of the key.
    Raises: `NotFound`; `StoreError`.
    """
    parts, named = split(key_id), _ID.fullmatch(key_id)
    identity = parts[0] if parts else named[1] if named else None
    if identity is None:
        # What was given may be a damaged key: no more of it is repeated than an id is long.
        raise NotFound("API key", key_id[:15])

    def work(connection: duckdb.DuckDBPyConnection) -> ApiKey:
        held = _rows(connection, "key_id = $key_id", {"key_id": identity})
        if not held:
            raise NotFound("API key", identity)
        if held[0].revoked_at is not None:
            return held[0]
        now = store.clock.now()
        connection.execute(
            "UPDATE api_keys SET revoked_at = $now, revoked_by = $operator WHERE key_id = $key_id",
            {"now": now, "operator": operator, "key_id": identity},
        )
        detail = {"name": held[0].name, "before": "in force", "after": "revoked"}
        audit.append(connection, now, operator, "key revoke", f"key {identity}", detail)
        return replace(held[0], revoked_at=now)

    followers = _of(store)
    with followers.lock:
        revoked = store.write(work)
        _tell(followers, revoked)
    return revoked


def listed(store: Store) -> pl.DataFrame:
    """All keys, newest first, those revoked included (columns `KEYS`)."""
    with store.read() as reader:
        return reader.frame(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at DESC, key_id", KEYS)


def count_in_force(store: Store) -> int:
    """How many keys are not revoked."""
    with store.read() as reader:
        count = reader.value("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL")
    return count if isinstance(count, int) else 0


def follow(store: Store, follower: Follower) -> None:
    """Tell `follower` of the keys in force, before this returns, and of every change after that. See `unfollow`."""
    followers = _of(store)
    with followers.lock:
        for key in store.write(lambda connection: _rows(connection, "revoked_at IS NULL", {})):
            follower(key)
        followers.told.append(follower)


def unfollow(store: Store, follower: Follower) -> None:
    """Tell `follower` no more. Safe to call twice."""
    followers = _of(store)
    with followers.lock:
        followers.told = [other for other in followers.told if other != follower]


def record_use(connection: duckdb.DuckDBPyConnection, used_at: Mapping[str, datetime]) -> None:
    """Note when keys (by id) were used last; never moves a time backwards. Call inside a transaction."""
    for key_id, moment in used_at.items():
        connection.execute(
            """UPDATE api_keys SET last_used_at = $moment
            WHERE key_id = $key_id AND (last_used_at IS NULL OR last_used_at < $moment)""",
            {"key_id": key_id, "moment": moment},
        )


def _of(store: Store) -> _Followers:
    with _followers_lock:
        return _followers.setdefault(store, _Followers())


def _tell(followers: _Followers, key: ApiKey) -> None:
    for follower in followers.told:
        follower(key)


def _rows(connection: duckdb.DuckDBPyConnection, condition: str, params: dict[str, Any]) -> list[ApiKey]:
    """The keys that meet a condition of our own."""
    rows = connection.execute(
        f"""SELECT key_id, name, secret_hash, scopes, rate_per_second, burst, last_used_at, revoked_at
        FROM api_keys WHERE {condition} ORDER BY key_id""",
        params,
    ).fetchall()
    return [ApiKey(row[0], row[1], row[2], frozenset(row[3]), *row[4:]) for row in rows]


def _checked_scopes(scopes: Sequence[str]) -> list[str]:
    """The scopes in the order of `SCOPES`, each once. Raises: `ActionRefused`."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        why = f"there is no scope {unknown[0]!r}." if unknown else "it has no scope."
        raise _refused(why, f"Scopes: {', '.join(SCOPES)}.")
    return [scope for scope in SCOPES if scope in scopes]


def _checked_name(name: str | None, scopes: Sequence[str]) -> str:
    """The name without outer spaces. Raises: `ActionRefused`."""
    text = ", ".join(scopes) if name is None else name.strip()
    if not text or len(text) > MAX_NAME or not text.isprintable():
        raise _refused("its name cannot be used.", f"Give 1 to {MAX_NAME} printable characters.")
    return text


def _refused(why: str, remedy: str) -> ActionRefused:
    return ActionRefused("Creating an API key", why, remedy)
