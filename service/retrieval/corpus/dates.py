"""Dates: one instant is one text, in ISO 8601 and UTC.

An instant is a number of microseconds since 1970-01-01 UTC. A date without a time is its midnight,
and a time without a zone is in UTC.
"""

import re
from datetime import date, time

DAY_SECONDS = 86_400
SECOND = 10**6
FIRST_DAY, LAST_DAY = date.min.toordinal(), date.max.toordinal()
EPOCH_DAY = date(1970, 1, 1).toordinal()
FORM = "YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ"
_ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,18})?)?)(?:[Zz]|([+-])(\d\d):?(\d\d)?)?)?",
    re.ASCII,
)


def parse_date(text: str) -> int:
    """Return the instant of an ISO 8601 text; digits beyond microseconds are dropped.

    Raises:
        ValueError: the text is not a date, or its instant is outside the years 1 to 9999.

    >>> parse_date("1970-01-02"), parse_date("1970-01-01T02:00:00.5+02:00")
    (86400000000, 500000)
    """
    found = _ISO_8601.fullmatch(text)
    if not found:
        raise ValueError(f"not a date: write {FORM}")
    day, clock, sign, hours, minutes = found.groups()
    seconds = (date.fromisoformat(day).toordinal() - EPOCH_DAY) * DAY_SECONDS
    fraction = ""
    if clock:
        at = time.fromisoformat(clock[:8])
        fraction = clock[9:]
        seconds += at.hour * 3600 + at.minute * 60 + at.second
    if sign:
        zone = time(int(hours), int(minutes or 0))
        seconds += (zone.hour * 3600 + zone.minute * 60) * (-1 if sign == "+" else 1)
    if not FIRST_DAY <= seconds // DAY_SECONDS + EPOCH_DAY <= LAST_DAY:
        raise ValueError("not a date of the years 1 to 9999 in UTC")
    return seconds * SECOND + int(fraction[:6].ljust(6, "0"))


def is_date(text: str) -> bool:
    """Return whether a text is a date that `parse_date` reads."""
    try:
        parse_date(text)
    except ValueError:
        return False
    return True


def format_date(instant: int) -> str:
    """Return an instant as a text: a date if it is a midnight, else a time in UTC.

    >>> format_date(86_400_000_000), format_date(500_000)
    ('1970-01-02', '1970-01-01T00:00:00.500Z')
    """
    day, rest = divmod(instant, DAY_SECONDS * SECOND)
    return format_instant(instant, SECOND) if rest else format_day(day)


def format_day(day: int) -> str:
    """Return the date of a number of days since 1970-01-01.

    Raises:
        ValueError: the date is outside the years 1 to 9999.
    """
    if not FIRST_DAY <= day + EPOCH_DAY <= LAST_DAY:
        raise ValueError("a date outside the years 1 to 9999")
    return date.fromordinal(day + EPOCH_DAY).isoformat()


def format_instant(instant: int, per_second: int) -> str:
    """Return the date and time in UTC of an instant in units of which a second has `per_second`.

    Raises:
        ValueError: the date is outside the years 1 to 9999.
    """
    day, clock = divmod(instant, DAY_SECONDS * per_second)
    return f"{format_day(day)}T{format_clock(clock, per_second)}Z"


def format_clock(clock: int, per_second: int) -> str:
    """Return a time of day, with 0, 3, 6 or 9 digits of a fraction.

    >>> format_clock(3_600_000_000_001, 10**9), format_clock(3_600_500, 1000)
    ('01:00:00.000000001', '01:00:00.500')
    """
    seconds, fraction = divmod(clock, per_second)
    digits = f"{fraction * 10**9 // per_second:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{'.' if digits else ''}{digits}"
