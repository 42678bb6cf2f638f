"""Moments as people write them: a date, a date with a time of day, or milliseconds; always UTC."""

from __future__ import annotations

from datetime import UTC, datetime


EXPECTED = "a UTC date or time as 2026-01-31 or 2026-01-31T12:00, or milliseconds"

# Texts of so many digits are milliseconds since 1970; dates without dashes are not understood.
_LEAST_DIGITS = 11

# The first moment that an interval's grid has a bar for, and a last one that dates can show.
LAST_MOMENT = 253_402_300_799_999


def parse_moment(text: str) -> int:
    """Return a moment in ms since 1970.

    Raises:
        ValueError: The text is none, or lies before 1970.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) >= _LEAST_DIGITS:
        milliseconds = int(text)
    else:
        milliseconds = _parse_date(text)
    if not 0 <= milliseconds <= LAST_MOMENT:
        raise ValueError(f"expected a moment from 1970 to 9999, was {text!r}")
    return milliseconds


def _parse_date(text: str) -> int:
    """Return a date, perhaps with a time of day, in ms since 1970."""
    try:
        moment = datetime.fromisoformat(text) if "-" in text else None
        if moment is not None:
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"expected {EXPECTED}, was {text!r}")


def format_moment(time_ms: int) -> str:
    """Return a moment as people read it, to the second."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"
