"""Access: which requests pass, which are refused and how, and that revoking and rates act."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from starlette.datastructures import Headers

from gateway import key_ring
from gateway.access import (
    Access,
    AccessRefused,
    Bucket,
    Caller,
    KeyMissing,
    KeyUnknown,
    KeyUse,
    RateLimited,
    Scope,
    ScopeMissing,
    require_keys,
)  # fmt: skip
from store import api_keys
from store.api_keys import CreatedKey
from store.clock import FixedClock
from store.connection import Store
from store.errors import SettingsError, StoreError
from store.settings import Settings

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AWAY = "203.0.113.9"


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def store(clock: FixedClock) -> Iterator[Store]:
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def access(store: Store, ticks: Ticks) -> Iterator[Access]:
    opened = Access(store, keyless_loopback=False, clock=ticks)
    yield opened
    opened.close()


@pytest.fixture
def keyless(store: Store, ticks: Ticks) -> Iterator[Access]:
    opened = Access(store, keyless_loopback=True, clock=ticks)
    yield opened
    opened.close()


def make(store: Store, *scopes: str, **changed: object) -> CreatedKey:
    return api_keys.create(store, scopes=scopes or ["ingest"], operator="Ada", **changed)


def headers(*pairs: tuple[str, str], host: str = "trimtab.example.com:8501") -> Headers:
    every = [("host", host), *pairs]
    return Headers(raw=[(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in every])


def bearer(text: str) -> Headers:
    return headers(("Authorization", f"Bearer {text}"))


def check(access: Access, request: Headers, host: str | None = AWAY, scope: Scope = "ingest") -> Caller:
    return access.check(request, host, scope)


# Keys


@pytest.mark.parametrize(
    "pair",
    [
        ("Authorization", "Bearer {}"),
        ("authorization", "bearer {}"),
        ("AUTHORIZATION", "BEARER   {}  "),
        ("authorization", "Bearer%20{}"),
        ("x-api-key", "{}"),
        ("X-API-Key", " {}\t"),
    ],
)
def test_a_key_is_accepted_however_clients_send_it(store: Store, access: Access, pair: tuple[str, str]) -> None:
    made = make(store, name="shop")
    caller = check(access, headers((pair[0], pair[1].format(made.text))))
    assert caller == Caller(made.key.key_id, "shop", "shop")


def test_a_percent_encoded_key_is_accepted(store: Store, access: Access) -> None:
    made = make(store)
    encoded = "".join(f"%{ord(character):02X}" for character in made.text)
    assert check(access, headers(("x-api-key", encoded))).key_id == made.key.key_id
    assert check(access, headers(("authorization", quote(f"Bearer {made.text}", safe="")))).key_id == made.key.key_id


def test_the_same_key_in_both_headers_is_one_key_and_two_keys_are_none(store: Store, access: Access) -> None:
    one, two = make(store), make(store)
    both = headers(("authorization", f"Bearer {one.text}"), ("x-api-key", one.text))
    assert check(access, both).key_id == one.key.key_id
    for pairs in (
        [("authorization", f"Bearer {one.text}"), ("x-api-key", two.text)],
        [("x-api-key", one.text), ("x-api-key", two.text)],
        [("authorization", f"Bearer {one.text}"), ("authorization", "Bearer wrong")],
    ):
        with pytest.raises(KeyUnknown):
            check(access, headers(*pairs))


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Token {}", "Bearer{}", "Bearer " + " " * 400 + "{}", "{} Bearer"])
def test_a_good_key_in_a_form_that_is_none_is_refused(store: Store, keyless: Access, form: str) -> None:
    made = make(store)
    with pytest.raises(KeyUnknown):
        check(keyless, headers(("authorization", form.format(made.text)), host="localhost"), "127.0.0.1")


def test_keys_made_before_and_after_the_start_are_known(store: Store, ticks: Ticks) -> None:
    before, revoked = make(store), make(store)
    api_keys.revoke(store, revoked.key.key_id, operator="Ada")
    access = Access(store, keyless_loopback=False, clock=ticks)
    after = make(store)
    try:
        assert check(access, bearer(before.text)).key_id == before.key.key_id
        assert check(access, bearer(after.text)).key_id == after.key.key_id
        with pytest.raises(KeyUnknown):
            check(access, bearer(revoked.text))
    finally:
        access.close()


def test_without_a_key_the_answer_names_the_command(access: Access) -> None:
    with pytest.raises(KeyMissing, match="python -m pipelines key create --scope ingest") as caught:
        check(access, headers())
    assert (caught.value.status, caught.value.headers) == (401, {"WWW-Authenticate": "Bearer"})


def test_unknown_wrong_and_revoked_keys_get_one_and_the_same_answer(store: Store, access: Access) -> None:
    made, revoked = make(store), make(store)
    api_keys.revoke(store, revoked.key.key_id, operator="Ada")
    last = "A" if made.text[-1] != "A" else "B"
    texts = {
        "same id, last character of the secret differs": made.text[:-1] + last,
        "same id, first character of the secret differs": made.text[:16] + ("A" if made.text[16] != "A" else "B")
        + made.text[17:],
        "secret of another key": made.text[:16] + revoked.text[16:],
        "unknown id": "tt_" + "0" * 12 + made.text[15:],
        "revoked": revoked.text,
        "id alone": made.text[:15],
        "hash for the secret": made.text[:16] + made.key.secret_hash[:43],
        "not ours": "hunter2",
    }  # fmt: skip
    answers = set()
    for text in texts.values():
        with pytest.raises(KeyUnknown) as caught:
            check(access, bearer(text))
        answers.add((str(caught.value), caught.value.status, str(caught.value.headers)))
    assert len(answers) == 1
    assert access.refused() == {"key_unknown": len(texts)}


def test_hashes_are_compared_in_constant_time_also_for_unknown_ids(
    store: Store, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(store)
    compared: list[tuple[int, int]] = []
    real = key_ring.hmac.compare_digest

    def watch(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(key_ring.hmac, "compare_digest", watch)
    check(access, bearer(made.text))
    for text in (made.text[:-1] + ("A" if made.text[-1] != "A" else "B"), "tt_" + "0" * 12 + made.text[15:]):
        with pytest.raises(KeyUnknown):
            check(access, bearer(text))
    assert compared == [(64, 64)] * 3


HOSTILE = [
    "", " ", "Bearer", "Bearer ", "Bearer \x00", "Bearer é", "\xff\xfe", "Bearer tt_" + "é" * 55, "%00", "%", "%zz",
    "Basic dXNlcjpwYXNz", "Bearer " + "x" * 1_000_000, "%41" * 400_000, "Bearer tt__", "tt_" * 19 + "tt", "Digest a=b",
    "Bearer tt_" + "0" * 12 + "_" + "A" * 42 + "\n", "Bearer tt_" + "\u0660".encode().decode("latin-1") * 12,
]  # fmt: skip


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:24])
def test_hostile_values_are_refused_also_where_no_key_is_needed(keyless: Access, name: str, value: str) -> None:
    with pytest.raises(KeyUnknown):
        check(keyless, headers((name, value), host="127.0.0.1:8501"), "127.0.0.1")


@given(value=st.text(st.characters(max_codepoint=255), max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_passes_or_breaks_anything(access: Access, value: str) -> None:
    for name in ("authorization", "x-api-key"):
        with pytest.raises(AccessRefused):
            check(access, headers((name, value)))


def test_an_answer_never_repeats_what_was_sent(store: Store, access: Access) -> None:
    made = make(store)
    with pytest.raises(KeyUnknown) as caught:
        check(access, bearer(made.text[:-1]))
    assert made.text[16:-1] not in str(caught.value)
    with pytest.raises(ScopeMissing) as lacking:
        check(access, bearer(made.text), scope="steer")
    assert made.text[16:] not in str(lacking.value)


# Scopes


@pytest.mark.parametrize("held", list(api_keys.SCOPES))
def test_each_scope_counts_for_itself(store: Store, access: Access, held: str) -> None:
    made = make(store, held)
    for scope in ("ingest", "steer", "propose", "admin"):
        if scope == held:
            assert check(access, bearer(made.text), scope=scope).key_id == made.key.key_id
        else:
            with pytest.raises(ScopeMissing, match=f"lacks the scope {scope}; it has {held}") as caught:
                check(access, bearer(made.text), scope=scope)
            assert (caught.value.status, caught.value.headers) == (403, {})


def test_a_key_may_have_several_scopes(store: Store, access: Access) -> None:
    made = make(store, "ingest", "steer")
    for scope in ("ingest", "steer"):
        check(access, bearer(made.text), scope=scope)
    with pytest.raises(ScopeMissing):
        check(access, bearer(made.text), scope="admin")


# Revoking


def test_a_key_is_refused_from_the_moment_revoke_returns(store: Store, access: Access) -> None:
    made, other = make(store), make(store)
    check(access, bearer(made.text))
    api_keys.revoke(store, made.key.key_id, operator="Ada")
    with pytest.raises(KeyUnknown):
        check(access, bearer(made.text))
    check(access, bearer(other.text))


def test_checking_a_request_needs_no_database(
    store: Store, access: Access, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(store)
    check(access, bearer(made.text))
    for name in ("read", "write", "submit"):
        monkeypatch.setattr(store, name, lambda *_, **__: pytest.fail("the database was asked"))
    for _ in range(100):
        ticks.now += 0.5
        check(access, bearer(made.text))
    monkeypatch.undo()


def test_requests_and_revocations_from_many_threads(store: Store, access: Access) -> None:
    keys = [make(store) for _ in range(4)]
    late: list[str] = []
    errors: list[Exception] = []

    def work(made: CreatedKey) -> None:
        try:
            for _ in range(50):
                check(access, bearer(made.text))
            api_keys.revoke(store, made.key.key_id, operator="Ada")
            for _ in range(20):
                try:
                    check(access, bearer(made.text))
                    late.append(made.text)
                except KeyUnknown:
                    continue
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[made]) for made in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (errors, late) == ([], [])
    assert access.use() == {}


# Rates


def test_the_rate_holds_and_says_when_to_try_again(store: Store, access: Access, ticks: Ticks) -> None:
    made = make(store, rate_per_second=0.5, burst=3)
    for _ in range(3):
        check(access, bearer(made.text))
    with pytest.raises(RateLimited, match=r"0\.5 requests a second") as caught:
        check(access, bearer(made.text))
    assert (caught.value.status, caught.value.retry_after) == (429, 2)
    assert caught.value.headers == {"Retry-After": "2"}
    ticks.now += 1.9
    with pytest.raises(RateLimited) as caught:
        check(access, bearer(made.text))
    assert caught.value.retry_after == 1
    ticks.now += caught.value.retry_after
    check(access, bearer(made.text))
    assert access.refused() == {"rate_limited": 2}
    assert access.use()[made.key.key_id] == KeyUse(4, 2, START)


def test_one_key_does_not_use_up_the_rate_of_another(store: Store, access: Access) -> None:
    greedy, modest = make(store, rate_per_second=1, burst=1), make(store, rate_per_second=1, burst=1)
    check(access, bearer(greedy.text))
    with pytest.raises(RateLimited):
        check(access, bearer(greedy.text))
    check(access, bearer(modest.text))


def test_who_knows_the_id_only_cannot_use_up_the_rate(store: Store, access: Access) -> None:
    made = make(store, rate_per_second=1, burst=1)
    for _ in range(10):
        with pytest.raises(KeyUnknown):
            check(access, bearer(made.text[:-1] + ("A" if made.text[-1] != "A" else "B")))
    check(access, bearer(made.text))


def test_requests_without_the_scope_count_too(store: Store, access: Access) -> None:
    made = make(store, rate_per_second=1, burst=2)
    for _ in range(2):
        with pytest.raises(ScopeMissing):
            check(access, bearer(made.text), scope="admin")
    with pytest.raises(RateLimited):
        check(access, bearer(made.text))


@given(
    rate=st.floats(0.001, 1e6),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(-1, 5) | st.floats(0, 0.01) | st.just(0.0), max_size=200),
)
def test_a_bucket_never_admits_more_than_the_burst_and_the_rate(rate: float, burst: int, steps: list[float]) -> None:
    """Over every interval between two requests, not only from the start."""
    now = 50.0
    bucket = Bucket(rate, burst, now)
    admitted: list[float] = []
    for step in steps:
        # A clock that goes backwards gives nothing away.
        if bucket.take(now + step) == 0:
            admitted.append(max([now + step, *admitted[-1:]]))
        now = max(now, now + step)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate * (admitted[last] - admitted[first]) * (1 + 1e-9) + 1e-6


def test_a_clock_that_goes_back_and_forth_neither_gives_nor_takes() -> None:
    bucket = Bucket(1.0, 2, 10.0)
    assert [bucket.take(10.0), bucket.take(5.0)] == [0.0, 0.0]
    assert [bucket.take(5.0), bucket.take(10.0)] == [1.0, 1.0]
    assert bucket.take(11.0) == 0.0


@given(rate=st.floats(0.001, 1e6), burst=st.integers(1, 50), late=st.floats(0, 1e6))
def test_a_bucket_admits_all_it_owes(rate: float, burst: int, late: float) -> None:
    bucket = Bucket(rate, burst, 0.0)
    assert [bucket.take(late) for _ in range(burst)] == [0.0] * burst
    wait = bucket.take(late)
    assert 0 < wait <= 1 / rate * (1 + 1e-9)
    assert bucket.take(late + wait * (1 + 1e-6) + 1e-6) == 0.0


# Last use


def used(store: Store) -> list[datetime | None]:
    store.write(lambda _: None)  # the writer takes one change after the other
    return api_keys.listed(store).sort("created_at")["last_used_at"].to_list()


def test_the_last_use_is_written_at_most_once_a_minute_and_at_the_end(
    store: Store, access: Access, clock: FixedClock, ticks: Ticks
) -> None:
    made = make(store)
    check(access, bearer(made.text))
    assert used(store) == [START]

    def later(seconds: float) -> None:
        ticks.now += seconds
        clock.moment += timedelta(seconds=seconds)
        check(access, bearer(made.text))

    later(30)
    later(29)
    assert used(store) == [START]
    later(1)
    assert used(store) == [START + timedelta(seconds=60)]
    later(10)
    assert used(store) == [START + timedelta(seconds=60)]
    assert access.use()[made.key.key_id].last_used_at == START + timedelta(seconds=70)
    access.close()
    access.close()
    assert used(store) == [START + timedelta(seconds=70)]


def test_a_refused_request_is_no_use(store: Store, access: Access) -> None:
    made = make(store)
    with pytest.raises(ScopeMissing):
        check(access, bearer(made.text), scope="admin")
    access.close()
    assert used(store) == [None]


def test_a_write_that_fails_is_told_and_made_up_for(
    store: Store, access: Access, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(store)

    def fail(*_: object) -> None:
        raise StoreError("the disk is on the moon")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(api_keys, "record_use", fail)
        check(access, bearer(made.text))
        assert used(store) == [None]
    assert "the disk is on the moon" in caplog.text
    access.close()
    assert used(store) == [START]


def test_a_closed_store_refuses_no_request(store: Store, access: Access, caplog: pytest.LogCaptureFixture) -> None:
    made = make(store)
    store.close()
    with caplog.at_level(logging.WARNING):
        assert check(access, bearer(made.text)).key_id == made.key.key_id
        check(access, bearer(made.text))
        access.close()
    assert caplog.text.count("could not be written") == 2


def test_after_closing_keys_are_not_followed(store: Store, access: Access) -> None:
    access.close()
    made = make(store)
    with pytest.raises(KeyUnknown):
        check(access, bearer(made.text))


# Without a key


@pytest.mark.parametrize("scope", ["ingest", "steer", "propose"])
@pytest.mark.parametrize(
    ("client", "host"),
    [
        ("127.0.0.1", "127.0.0.1:8501"),
        ("127.0.0.1", "localhost:8501"),
        ("127.0.0.1", "LocalHost"),
        ("127.0.0.2", "127.0.0.1"),
        ("::1", "[::1]:8501"),
    ],
)
def test_programs_on_this_machine_need_no_key_when_allowed(
    keyless: Access, access: Access, client: str, host: str, scope: Scope
) -> None:
    assert check(keyless, headers(host=host), client, scope) == Caller(None, "local", "local")
    with pytest.raises(KeyMissing):
        check(access, headers(host=host), client, scope)


@pytest.mark.parametrize(
    ("client", "request_headers"),
    [
        (AWAY, headers(host="127.0.0.1:8501")),
        ("10.0.0.7", headers(host="localhost")),
        ("testclient", headers(host="localhost")),
        ("", headers(host="localhost")),
        (None, headers(host="localhost")),
        ("127.0.0.1", headers(host="rebound.example.com:8501")),
        ("127.0.0.1", headers(host="localhost.example.com")),
        ("127.0.0.1", headers(host="127.0.0.1.example.com")),
        ("127.0.0.1", headers(host="localhost.")),
        ("127.0.0.1", headers(host="0.0.0.0:8501")),
        ("127.0.0.1", headers(host="localhost@example.com")),
        ("127.0.0.1", headers(host="localhost:8501, example.com")),
        ("127.0.0.1", headers(host="localhost\x00")),
        ("127.0.0.1", headers(host="[::1")),
        ("127.0.0.1", headers(host="")),
        ("127.0.0.1", Headers(raw=[])),
        ("127.0.0.1", headers(("host", "example.com"), host="localhost")),
        ("127.0.0.1", headers(("origin", "https://example.com"), host="localhost")),
        ("127.0.0.1", headers(("origin", "null"), host="localhost")),
        ("127.0.0.1", headers(("origin", "http://localhost:8501"), host="localhost:8501")),
        ("127.0.0.1", headers(("sec-fetch-site", "cross-site"), host="localhost")),
        ("127.0.0.1", headers(("x-forwarded-for", "127.0.0.1"), host="localhost")),
        ("127.0.0.1", headers(("forwarded", "for=127.0.0.1"), host="localhost")),
        ("127.0.0.1", headers(("via", "1.1 proxy"), host="localhost")),
        (AWAY, headers(("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1"), host="localhost")),
    ],
)
def test_nobody_else_may_do_without_a_key(keyless: Access, client: str | None, request_headers: Headers) -> None:
    with pytest.raises(KeyMissing) as caught:
        check(keyless, request_headers, client)
    assert caught.value.status == 401
    assert keyless.refused() == {"key_missing": 1}


def test_admin_needs_a_key_everywhere(keyless: Access) -> None:
    with pytest.raises(KeyMissing, match="--scope admin"):
        check(keyless, headers(host="localhost"), "127.0.0.1", "admin")


def test_a_wrong_key_on_this_machine_is_not_treated_as_no_key(store: Store, keyless: Access) -> None:
    made = make(store)
    api_keys.revoke(store, made.key.key_id, operator="Ada")
    for request in (
        headers(("authorization", f"Bearer {made.text}"), host="localhost"),
        headers(("x-api-key", "wrong"), host="localhost"),
        headers(("x-api-key", ""), host="localhost"),
    ):
        with pytest.raises(KeyUnknown):
            check(keyless, request, "127.0.0.1")


def test_a_key_works_from_this_machine_and_through_browsers_and_proxies(store: Store, keyless: Access) -> None:
    made = make(store)
    pairs = [("x-api-key", made.text), ("origin", "https://example.com"), ("x-forwarded-for", AWAY)]
    assert check(keyless, headers(*pairs, host="rebound.example.com"), "127.0.0.1").key_id == made.key.key_id


# The start


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "trimtab.example.com"])
def test_other_addresses_need_a_key_in_force_at_the_start(store: Store, host: str) -> None:
    settings = Settings(host=host, allow_keyless_loopback=True)
    with pytest.raises(SettingsError, match="python -m pipelines key create --scope ingest"):
        require_keys(settings, store)
    made = make(store)
    require_keys(settings, store)
    api_keys.revoke(store, made.key.key_id, operator="Ada")
    with pytest.raises(SettingsError, match="TRIMTAB_HOST"):
        require_keys(settings, store)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_key_at_the_start(store: Store, host: str) -> None:
    for allowed in (False, True):
        require_keys(replace(Settings(), host=host, allow_keyless_loopback=allowed), store)
