"""Moments are read as people write them, and never guessed."""

from __future__ import annotations

import pytest

from klinetrio.domain.moment import format_moment, parse_moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", 1_769_817_600_000),
        (" 2026-01-31T12:00 ", 1_769_860_800_000),
        ("2026-01-31 12:00:01", 1_769_860_801_000),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600_000),
        ("1769817600000", 1_769_817_600_000),
        ("1970-01-01", 0),
    ],
)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str, expected: int) -> None:
    """Dates, times of day, offsets, milliseconds."""
    assert parse_moment(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026", "20260131", "1769817600", "2026-13-01", "1969-12-31", "9" * 20, "-1"],
)
def test_what_is_none_is_refused(text: str) -> None:
    """Seconds too: they would be a moment in January 1970.  The message holds what was given."""
    with pytest.raises(ValueError, match=r"^expected .+, was ") as raised:
        parse_moment(text)
    assert repr(text) in str(raised.value)


def test_a_moment_is_written_to_the_second() -> None:
    """As the database's view does."""
    assert format_moment(1_769_860_801_999) == "2026-01-31 12:00:01"
