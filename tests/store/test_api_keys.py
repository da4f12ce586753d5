"""API keys: what is stored of them, what is told and logged, and what is refused."""

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import adhoc, api_keys, audit, migrate
from store.api_keys import ApiKey, CreatedKey
from store.backup import backup
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound, StoreClosed

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def make(store: Store, **changed: object) -> CreatedKey:
    arguments: dict[str, object] = {"scopes": ["ingest"], "operator": "Ada"} | changed
    return api_keys.create(store, **arguments)


def test_the_text_is_an_id_and_a_random_secret_of_which_only_the_hash_is_stored(store: Store, tmp_path: Path) -> None:
    made = make(store, name="shop")
    parts = api_keys.split(made.text)
    assert parts is not None
    key_id, secret = parts
    assert (key_id, len(secret)) == (made.key.key_id, 43)
    (row,) = adhoc.query(store, "SELECT * FROM api_keys").to_dicts()
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    backup(store, tmp_path / "copy.duckdb")
    store.close()
    for file in (tmp_path / "trimtab.duckdb", tmp_path / "copy.duckdb"):
        assert secret.encode() not in file.read_bytes()
    assert secret not in repr(made) + repr(made.key)
    assert row["secret_hash"] not in repr(made)


def test_keys_are_all_different(store: Store) -> None:
    texts = {make(store).text for _ in range(20)}
    assert len(texts) == 20
    assert len({text[:15] for text in texts}) == 20


def test_a_key_is_listed_with_its_settings_and_without_its_hash(store: Store, clock: FixedClock) -> None:
    made = make(store, scopes=["admin", "ingest", "ingest"], name="  shop ", rate_per_second=2.5)
    clock.moment += timedelta(minutes=1)
    second = make(store, scopes=["steer"], burst=7)
    newest, oldest = api_keys.listed(store).to_dicts()
    assert oldest == {
        "key_id": made.key.key_id, "name": "shop", "scopes": ["ingest", "admin"], "rate_per_second": 2.5, "burst": 5,
        "created_at": START, "created_by": "Ada", "last_used_at": None, "revoked_at": None, "revoked_by": None,
    }  # fmt: skip
    assert (newest["key_id"], newest["name"], newest["burst"]) == (second.key.key_id, "steer", 7)
    assert newest["rate_per_second"] == api_keys.DEFAULT_RATE_PER_SECOND


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scopes": []}, "no scope"),
        ({"scopes": ["ingest", "root"]}, "'root'"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"rate_per_second": 0}, "rate is 0"),
        ({"rate_per_second": -1}, "rate is -1"),
        ({"rate_per_second": float("nan")}, "rate is nan"),
        ({"rate_per_second": float("inf")}, "rate is inf"),
        ({"rate_per_second": 1e9}, "rate is 1e"),
        ({"burst": 0}, "burst is 0"),
        ({"burst": 10**12}, "burst is"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(store: Store, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ActionRefused, match=said):
        make(store, **changed)
    assert api_keys.listed(store).is_empty()
    assert audit.recent(store).is_empty()


def test_a_revoked_key_stays_listed_and_is_not_in_force(store: Store, clock: FixedClock) -> None:
    kept, gone = make(store), make(store)
    clock.moment += timedelta(hours=1)
    revoked = api_keys.revoke(store, gone.key.key_id, operator="Bob")
    assert revoked.revoked_at == START + timedelta(hours=1)
    assert api_keys.count_in_force(store) == 1
    rows = {row["key_id"]: row for row in api_keys.listed(store).to_dicts()}
    assert rows[gone.key.key_id]["revoked_by"] == "Bob"
    assert rows[kept.key.key_id]["revoked_at"] is None


def test_revoking_again_changes_nothing(store: Store, clock: FixedClock) -> None:
    made = make(store)
    first = api_keys.revoke(store, made.key.key_id, operator="Ada")
    clock.moment += timedelta(hours=1)
    assert api_keys.revoke(store, made.key.key_id, operator="Bob").revoked_at == first.revoked_at
    assert audit.recent(store)["action"].to_list() == ["key revoke", "key create"]


def test_a_key_can_be_revoked_by_its_id_its_prefix_or_its_whole_text(store: Store) -> None:
    for given_as in (lambda made: made.key.key_id, lambda made: made.text[:15], lambda made: made.text):
        made = make(store)
        assert api_keys.revoke(store, given_as(made), operator="Ada").key_id == made.key.key_id
    assert api_keys.count_in_force(store) == 0


@pytest.mark.parametrize("key_id", ["", "0" * 12, "tt_" + "0" * 12, "x' OR 1=1 --", "\0", "é" * 50])
def test_revoking_what_there_is_not(store: Store, key_id: str) -> None:
    make(store)
    with pytest.raises(NotFound):
        api_keys.revoke(store, key_id, operator="Ada")
    assert api_keys.count_in_force(store) == 1


def test_a_damaged_key_is_not_repeated_in_the_message(store: Store) -> None:
    made = make(store)
    with pytest.raises(NotFound) as caught:
        api_keys.revoke(store, made.text + "=", operator="Ada")
    assert made.text[16:] not in str(caught.value)


def test_the_audit_log_tells_who_did_what_and_no_secret(store: Store) -> None:
    made = make(store, name="shop", scopes=["ingest", "steer"], rate_per_second=5)
    api_keys.revoke(store, made.key.key_id, operator="Bob")
    revoked, created = audit.recent(store, subject=f"key {made.key.key_id}").to_dicts()
    assert (created["actor"], created["action"], revoked["actor"], revoked["action"]) == (
        "Ada", "key create", "Bob", "key revoke",
    )  # fmt: skip
    assert json.loads(created["detail"]) == {
        "name": "shop", "scopes": ["ingest", "steer"], "rate_per_second": 5, "burst": 10,
    }  # fmt: skip
    for row in (created, revoked):
        assert made.text[16:] not in row["detail"]
        assert made.key.secret_hash not in row["detail"]
    assert audit.verify(store) is None


def test_followers_hear_of_keys_in_force_and_of_changes_once_they_are_committed(store: Store) -> None:
    before, gone = make(store), make(store)
    api_keys.revoke(store, gone.key.key_id, operator="Ada")
    heard: list[tuple[str, bool, int]] = []

    def hear(key: ApiKey) -> None:
        heard.append((key.key_id, key.revoked_at is not None, api_keys.count_in_force(store)))

    api_keys.follow(store, hear)
    made = make(store)
    api_keys.revoke(store, before.key.key_id, operator="Ada")
    assert heard == [(before.key.key_id, False, 1), (made.key.key_id, False, 2), (before.key.key_id, True, 1)]
    api_keys.unfollow(store, hear)
    api_keys.unfollow(store, hear)
    make(store)
    assert len(heard) == 3


def test_followers_of_another_store_hear_nothing(store: Store) -> None:
    other = Store.open(None, threads=1)
    heard: list[ApiKey] = []
    try:
        api_keys.follow(other, heard.append)
        make(store)
    finally:
        other.close()
    assert heard == []


def test_what_was_not_committed_is_not_told(store: Store) -> None:
    heard: list[ApiKey] = []
    api_keys.follow(store, heard.append)
    made = make(store)
    store.close()
    with pytest.raises(StoreClosed):
        make(store)
    with pytest.raises(StoreClosed):
        api_keys.revoke(store, made.key.key_id, operator="Ada")
    assert [key.revoked_at for key in heard] == [None]


def test_changes_from_many_threads_are_told_in_the_order_of_their_commits(store: Store) -> None:
    last: dict[str, bool] = {}
    api_keys.follow(store, lambda key: last.__setitem__(key.key_id, key.revoked_at is not None))
    errors: list[Exception] = []

    def work() -> None:
        try:
            for number in range(5):
                made = make(store)
                if number % 2:
                    api_keys.revoke(store, made.key.key_id, operator="Ada")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    held = {row["key_id"]: row["revoked_at"] is not None for row in api_keys.listed(store).to_dicts()}
    assert last == held
    assert sum(held.values()) == 8


def test_the_last_use_never_moves_backwards(store: Store) -> None:
    used, unused = make(store), make(store)
    later = START + timedelta(minutes=5)
    for moment in (START, later, START + timedelta(minutes=1)):
        store.write(lambda connection, at=moment: api_keys.record_use(connection, {used.key.key_id: at, "none": at}))
    rows = {row["key_id"]: row["last_used_at"] for row in api_keys.listed(store).to_dicts()}
    assert rows == {used.key.key_id: later, unused.key.key_id: None}


def test_a_store_from_before_keys_gets_them_and_keeps_its_data(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.5.0"}) as connection:
        earlier = [migration for migration in migrate.known() if migration.name < "0004"]
        migrate.migrate(connection, clock, earlier)
        # As rows were written before they had a nonce.
        content = [1, START.isoformat(timespec="microseconds"), "Ada", "lesson approve", "lesson 1", "{}"]
        digest = hashlib.sha256((audit.GENESIS + json.dumps(content, separators=(",", ":"))).encode()).hexdigest()
        connection.execute(
            "INSERT INTO audit_log VALUES (1, $now, 'Ada', 'lesson approve', 'lesson 1', '{}', $genesis, $hash)",
            {"now": START, "genesis": audit.GENESIS, "hash": digest},
        )
        connection.execute("INSERT INTO store_meta VALUES ('audit_rows', 1)")
    store = Store.open(path, clock=clock, threads=1)
    try:
        assert api_keys.listed(store).is_empty()
        made = make(store)
        assert audit.recent(store)["action"].to_list() == ["key create", "lesson approve"]
        assert audit.verify(store) is None
    finally:
        store.close()
    reopened = Store.open(path, clock=clock, threads=1)
    try:
        assert api_keys.listed(reopened)["key_id"].to_list() == [made.key.key_id]
    finally:
        reopened.close()


@given(text=st.one_of(st.text(max_size=80), st.from_regex(r"tt_[0-9a-f]{10,14}_[\w=-]{41,45}", fullmatch=True)))
def test_only_texts_of_the_form_of_a_key_are_split(text: str) -> None:
    parts = api_keys.split(text)
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    expected = (
        len(text) == 59
        and text[:3] == "tt_"
        and set(text[3:15]) <= set("0123456789abcdef")
        and text[15] == "_"
        and set(text[16:]) <= alphabet
    )
    assert (parts is not None) == expected
    if parts is not None:
        assert f"tt_{parts[0]}_{parts[1]}" == text
