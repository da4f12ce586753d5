"""Operators: who gets in, what is written down of it, and that there is always an admin."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import audit, operators
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, Forbidden, NotFound, StoreError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANA, BEN, EVE = "ana@example.com", "ben@example.com", "eve@elsewhere.net"


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path, clock):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


def come(store, *people):
    """Invite and let in."""
    for email, role in people:
        operators.invite(store, email, role, operator="Ada")
        assert operators.enter(store, email, listed=False) == role


def logged(store):
    """The audit log, oldest first: actor, action, subject, before and after."""
    return [
        (row["actor"], row["action"], row["subject"], *map(json.loads(row["detail"]).get, ("before", "after")))
        for row in reversed(audit.recent(store).to_dicts())
    ]


@pytest.mark.parametrize(
    ("held", "allowed"),
    [(None, []), ("viewer", ["viewer"]), ("reviewer", ["viewer", "reviewer"]), ("admin", list(operators.ROLES))],
)
def test_a_role_includes_the_ones_before_it(held, allowed):
    assert [role for role in operators.ROLES if operators.allows(held, role)] == allowed


def test_nobody_comes_in_uninvited(store):
    assert operators.enter(store, EVE, listed=False) is None
    assert operators.role_of(store, EVE) is None
    assert operators.listed(store).is_empty()
    assert logged(store) == []


def test_who_is_invited_comes_in_with_the_role_and_every_change_is_written_down(store, clock):
    assert operators.invite(store, " Ana@Example.COM ", "admin", operator="local operator") == ANA
    assert operators.role_of(store, ANA) is None, "an invitation alone is no sign-in"
    assert operators.enter(store, ANA, listed=False) == "admin"
    come(store, (BEN, "viewer"))
    operators.change(store, BEN, "reviewer", operator=ANA)
    assert operators.role_of(store, BEN) == "reviewer"
    operators.remove(store, BEN, operator=ANA)
    assert operators.role_of(store, BEN) is None
    assert logged(store)[0] == (
        "local operator", "operator invite", f"operator {ANA}", None, {"role": "admin", "state": "invited"},
    )  # fmt: skip
    assert logged(store)[2:] == [
        (ANA, "operator role", f"operator {BEN}", {"role": "viewer", "state": "active"},
         {"role": "reviewer", "state": "active"}),
        (ANA, "operator remove", f"operator {BEN}", {"role": "reviewer", "state": "active"},
         {"role": "reviewer", "state": "removed"}),
    ]  # fmt: skip
    assert audit.verify(store) is None


def test_who_is_listed_becomes_a_viewer_and_stays_out_after_being_removed(store):
    come(store, (ANA, "admin"))
    assert operators.enter(store, BEN, listed=True) == "viewer"
    assert logged(store)[-1] == (
        "trimtab", "operator join", f"operator {BEN}", None, {"role": "viewer", "state": "active"},
    )  # fmt: skip
    operators.remove(store, BEN, operator=ANA)
    assert operators.enter(store, BEN, listed=True) is None
    operators.invite(store, BEN, "reviewer", operator=ANA)
    assert operators.enter(store, BEN, listed=True) == "reviewer"
    assert operators.listed(store).height == 2


def test_first_admins_are_invited_once_and_stay_what_they_were_made(store):
    operators.appoint(store, (ANA, BEN))
    operators.appoint(store, (ANA, BEN))
    assert operators.count_admins(store) == 2
    assert operators.enter(store, ANA, listed=False) == operators.enter(store, BEN, listed=False) == "admin"
    operators.change(store, BEN, "viewer", operator=ANA)
    operators.appoint(store, (ANA, BEN))
    assert operators.role_of(store, BEN) == "viewer"


def test_when_somebody_was_seen_is_written_every_five_minutes(store, clock):
    come(store, (ANA, "admin"))
    for minutes, seen in ((4, 0), (6, 6)):
        clock.moment = NOW + timedelta(minutes=minutes)
        operators.enter(store, ANA, listed=False)
        assert operators.listed(store)["last_seen_at"].to_list() == [NOW + timedelta(minutes=seen)]


@pytest.mark.parametrize("how", ["remove", "viewer", "reviewer"])
def test_the_last_admin_stays(store, how):
    come(store, (ANA, "admin"), (BEN, "reviewer"))
    operators.invite(store, EVE, "admin", operator=ANA)
    rows = audit.count(store)
    with pytest.raises(ActionRefused, match="last admin"):
        operators.remove(store, ANA, operator=BEN) if how == "remove" else operators.change(
            store, ANA, how, operator=BEN
        )
    assert operators.role_of(store, ANA) == "admin"
    assert audit.count(store) == rows
    operators.enter(store, EVE, listed=False)
    operators.remove(store, ANA, operator=EVE)
    with pytest.raises(ActionRefused, match="last admin"):
        operators.change(store, EVE, "viewer", operator=EVE)


def test_an_admin_who_never_came_may_be_taken_back(store):
    operators.appoint(store, (ANA, BEN))
    operators.remove(store, BEN, operator="Ada")
    with pytest.raises(ActionRefused, match="last admin"):
        operators.remove(store, ANA, operator="Ada")


def test_of_admins_who_demote_each_other_at_once_one_stays(store):
    people = [f"admin{number}@example.com" for number in range(8)]
    come(store, *((email, "admin") for email in people))
    begin, refused = threading.Barrier(len(people)), []

    def demote(number):
        begin.wait(10)
        try:
            operators.change(store, people[number - 1], "viewer", operator=people[number])
        except StoreError:
            raise
        except ActionRefused:
            refused.append(number)

    threads = [threading.Thread(target=demote, args=(number,)) for number in range(len(people))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    held = [operators.role_of(store, email) for email in people]
    assert held.count("admin") == len(refused) == 1


def test_changing_nobody_is_refused(store):
    for change in (
        lambda: operators.remove(store, EVE, operator="Ada"),
        lambda: operators.change(store, EVE, "admin", operator="Ada"),
    ):
        with pytest.raises(NotFound, match="operator"):
            change()
    with pytest.raises(ActionRefused, match="no role"):
        operators.invite(store, EVE, "owner", operator="Ada")
    come(store, (EVE, "viewer"))
    with pytest.raises(ActionRefused, match="has the role viewer already"):
        operators.invite(store, EVE, "admin", operator="Ada")


def test_a_role_that_stays_is_not_written_down(store):
    come(store, (ANA, "admin"))
    rows = audit.count(store)
    operators.change(store, ANA, "admin", operator=ANA)
    assert audit.count(store) == rows


def test_a_sign_in_that_was_ended_stays_ended_until_it_would_be_over(store, clock):
    operators.end_session(store, "one", ANA, expires_at=NOW + timedelta(hours=1))
    assert operators.is_ended(store, "one")
    assert not operators.is_ended(store, "two")
    clock.moment = NOW + timedelta(hours=2)
    operators.end_session(store, "two", ANA, expires_at=clock.moment + timedelta(hours=1))
    assert operators.is_ended(store, "two")
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM ended_sessions") == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Ana.B+c@Example.co.uk", "ana.b+c@example.co.uk"), ("ana@localhost", ANA.replace("example.com", "localhost")),
        ("ana", None), ("@example.com", None), ("ana@", None), ("ana@b@example.com", None), ("a b@example.com", None),
        ("ana@example..com", None), ("ana@exa_mple.com", None), ("ana@example.com\n", ANA), ("ana\n@example.com", None),
        # The Kelvin sign, which lower() makes a k of, and letters that look like Latin ones.
        ("\u212aim@example.com", None), ("\u0430na@example.com", None), ("ana@ex\u0430mple.com", None),
        ("a" * 65 + "@example.com", None), ("a@" + "b" * 254, None), ("", None),
    ],
)  # fmt: skip
def test_addresses_are_compared_as_plain_text(given, kept):
    assert operators.normal(given) == kept


@given(st.text(max_size=300))
def test_no_text_breaks_an_address(text):
    found = operators.normal(text)
    assert found is None or (found.isascii() and found == operators.normal(found) and found.count("@") == 1)


def test_a_refusal_says_what_is_needed_and_whom_to_ask():
    text = str(Forbidden("Making a key", "admin", "viewer"))
    assert text == (
        "Making a key: this needs the role admin, and you have the role viewer. Nothing was changed. Ask an admin."
    )
    assert "not signed in" in str(Forbidden("Making a key", "admin", None))
