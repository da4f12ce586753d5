"""Which backups are kept: by example, and by what must hold of any."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipelines.backups.rotation import Kept, surplus

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def daily(days: int, *, unsound: tuple[int, ...] = ()) -> list[Kept]:
    """One a day, numbered by age in days."""
    return [Kept(age, NOON - timedelta(days=age), age not in unsound) for age in range(days)]


def kept(backups: list[Kept], **limits: int) -> list[int]:
    gone = surplus(backups, **limits)
    return sorted(one.backup_id for one in backups if one.backup_id not in gone)


def test_days_and_weeks_are_kept():
    # 20 November 2026 is a Friday: the newest of earlier weeks are the Sundays, 5, 12, 19 and 26 days before.
    assert kept(daily(40), daily=3, weekly=4) == [0, 1, 2, 5, 12, 19]
    assert kept(daily(40), daily=7, weekly=0) == [0, 1, 2, 3, 4, 5, 6]


def test_of_a_day_the_newest_is_kept():
    hourly = [Kept(hour, NOON - timedelta(hours=hour), True) for hour in range(20)]
    assert kept(hourly, daily=5, weekly=0) == [0, 13]


def test_old_backups_stay_when_no_new_one_is_made():
    assert kept([Kept(1, NOON - timedelta(days=900), True)], daily=1, weekly=0) == [1]


def test_what_is_not_sound_never_drives_out_what_is():
    assert kept(daily(5, unsound=(0, 1, 2)), daily=2, weekly=0) == [0, 1, 3, 4]
    assert kept(daily(5, unsound=(1, 2)), daily=2, weekly=0) == [0, 3]


def numbered(drawn: list[tuple[int, bool]]) -> list[Kept]:
    """Backups by their age in hours."""
    return [Kept(i, NOON - timedelta(hours=hours), sound) for i, (hours, sound) in enumerate(drawn)]


backups = st.lists(st.tuples(st.integers(0, 60 * 24), st.booleans()), max_size=40).map(numbered)


@given(backups, st.integers(1, 10), st.integers(0, 6))
def test_what_must_hold_of_any(drawn, days, weeks):
    gone = surplus(drawn, daily=days, weekly=weeks)
    left = [one for one in drawn if one.backup_id not in gone]
    sound = [one for one in drawn if one.sound]
    # The newest sound one always stays, and so does one of each of the newest days that had one.
    if sound:
        assert max(one.made_at for one in sound) == max(one.made_at for one in left if one.sound)
    newest_days = sorted({one.made_at.date() for one in sound}, reverse=True)[:days]
    assert set(newest_days) <= {one.made_at.date() for one in left if one.sound}
    # The disk is bounded, and a second pass finds nothing more.
    assert len([one for one in left if one.sound]) <= days + weeks
    assert len([one for one in left if not one.sound]) <= days
    assert surplus(left, daily=days, weekly=weeks) == []
    assert len(set(gone)) == len(gone)
