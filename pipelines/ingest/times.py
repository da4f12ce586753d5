"""Reading a time from whatever an exporter wrote: ISO 8601 with or without a zone, or a count since 1970.

A count needs no stated unit: for times from 1990 to 2100 the ranges of seconds, milliseconds, microseconds and
nanoseconds since 1970 do not overlap, so at most one unit fits.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
EXPECTED: Final = "an ISO 8601 time or a count of s, ms, us or ns since 1970, between 1990-01-01 and 2100-01-01"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = (int((EARLIEST - _EPOCH).total_seconds()), int((LATEST - _EPOCH).total_seconds()))
_TICKS: Final = (1, 10**3, 10**6, 10**9)  # of each unit, in a second
_LONGEST: Final = 64  # no way of writing a time needs more characters

_ISO: Final = re.compile(
    r"\d{4}(?:-\d\d-\d\d|\d{4})"
    r"(?:[T ]\d\d:?\d\d(?::?\d\d(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?"
)
_COUNT: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?")


def parse_time(value: object) -> datetime | None:
    """The time in `value`, aware and in UTC; None for null and blank text.

    Args: `value` a text (ISO 8601 with `T` or a space, naive read as UTC, also inside double quotes as Langfuse's CSV
    has it; or digits), a number of s, ms, us or ns since 1970, or a datetime.
    Raises: `ValueError` with a text for the user when it is no time, or one outside 1990 to 2100.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return _within(value)
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _from_count(Decimal(value) if isinstance(value, int) else Decimal(str(value)))
    raise ValueError(f"not a time; expected {EXPECTED}")


def _from_text(text: str) -> datetime | None:
    if len(text) > _LONGEST:
        raise ValueError(f"not a time; expected {EXPECTED}")
    bare = text.strip().strip('"').strip()
    if not bare:
        return None
    moment = bare.upper().removesuffix("UTC").removesuffix("GMT").rstrip()
    if _ISO.fullmatch(moment):
        try:
            return _within(datetime.fromisoformat(moment))
        except (ValueError, OverflowError) as error:
            # eight digits may also be a count, which no time from 1990 on is
            raise ValueError(f"not a time between 1990 and 2100; expected {EXPECTED}") from error
    if _COUNT.fullmatch(bare):
        try:
            return _from_count(Decimal(bare))
        except InvalidOperation as error:
            raise ValueError(f"not a time; expected {EXPECTED}") from error
    raise ValueError(f"not a time; expected {EXPECTED}")


def _from_count(count: Decimal) -> datetime:
    if count.is_finite():
        for ticks in _TICKS:
            if _SECONDS[0] * ticks <= count <= _SECONDS[1] * ticks:
                return _EPOCH + timedelta(microseconds=int(count * 10**6 / ticks))
    raise ValueError(f"outside 1990 to 2100 in any unit; expected {EXPECTED}")


def _within(moment: datetime) -> datetime:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if not EARLIEST <= aware <= LATEST:
        raise ValueError(f"outside 1990 to 2100; expected {EXPECTED}")
    return aware
