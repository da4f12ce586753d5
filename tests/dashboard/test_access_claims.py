"""What a provider's token proves: an address that it verified, not before its time and not after."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.access.claims import NotProven, judge

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BEGUN = int(NOW.timestamp()) - 3600
LASTS = timedelta(hours=12)
GOOD = {
    "iss": "https://accounts.example.com", "sub": "1", "email": "Ana@Example.com", "email_verified": True,
    "iat": BEGUN, "nonce": "n",
}  # fmt: skip


def judged(now=NOW, **changed):
    return judge({**GOOD, **changed}, lasts=LASTS, now=now)


def test_a_verified_address_is_proven_for_so_many_hours():
    found = judged()
    assert found.email == "ana@example.com"
    assert found.expires_at == NOW - timedelta(hours=1) + LASTS


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"email": None}, "no e-mail address"),
        ({"email": ["ana@example.com"]}, "no e-mail address"),
        ({"email": "\u0430na@example.com"}, "no e-mail address"),
        ({"email_verified": False}, "verified"),
        ({"email_verified": None}, "verified"),
        ({"email_verified": "false"}, "verified"),
        ({"email_verified": "True "}, "verified"),
        ({"email_verified": 2}, "verified"),
        ({"iat": None}, "since when"),
        ({"iat": str(BEGUN)}, "since when"),
        ({"iat": True}, "since when"),
        ({"sub": ""}, "whom it is for"),
        ({"iat": BEGUN + 3600 + 301}, "future"),
        ({"iat": BEGUN - 11 * 3600}, "over"),
        ({"iat": float("inf")}, "no time"),
        ({"iat": float("nan")}, "no time"),
        ({"iat": 10**30}, "no time"),
        ({"iat": -(10**18)}, "no time"),
    ],
)
def test_anything_else_proves_nothing(changed, says):
    with pytest.raises(NotProven, match=says):
        judged(**changed)


def test_the_sign_in_ends_to_the_second():
    end = datetime.fromtimestamp(BEGUN, UTC) + LASTS
    assert judged(now=end - timedelta(seconds=1)).expires_at == end
    with pytest.raises(NotProven, match="over"):
        judged(now=end)


def test_each_sign_in_is_told_apart():
    sessions = {judged().session} | {
        judged(**changed).session for changed in ({"nonce": "m"}, {"sub": "2"}, {"iat": BEGUN + 1}, {"iss": "x"})
    }
    assert len(sessions) == 5
    assert judged(name="Ana").session in sessions


@given(
    st.dictionaries(st.sampled_from(list(GOOD)), st.none() | st.booleans() | st.integers() | st.text() | st.floats())
)
def test_no_claims_break_it(changed):
    try:
        found = judged(**changed)
    except NotProven:
        return
    assert found.email.isascii()
    assert NOW < found.expires_at <= NOW + LASTS + timedelta(minutes=5)
