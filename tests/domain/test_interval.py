"""The time grid of every interval that Binance has."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import (
    DAY,
    DEFAULT_INTERVALS,
    HOUR,
    INTERVALS,
    MINUTE,
    WEEK,
    Interval,
    parse_intervals,
)


ALL = tuple(INTERVALS.values())

# From 2001 to 2100: no market of ours is older, no test needs a younger one.
TIMES = st.integers(978_307_200_000, 4_102_444_800_000)


def utc(text: str) -> int:
    """Return an ISO date and time of UTC in ms."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_there_are_the_fifteen_of_binance() -> None:
    """Names are Binance's, and no other is known."""
    assert " ".join(INTERVALS) == "1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"
    assert list(INTERVALS) == [str(interval) for interval in ALL]


@pytest.mark.parametrize(
    ("name", "opened", "following"),
    [
        ("1m", "2026-08-19T17:46:00", "2026-08-19T17:47:00"),
        ("3m", "2026-08-19T17:45:00", "2026-08-19T17:48:00"),
        ("5m", "2026-08-19T17:45:00", "2026-08-19T17:50:00"),
        ("15m", "2026-08-19T17:45:00", "2026-08-19T18:00:00"),
        ("30m", "2026-08-19T17:30:00", "2026-08-19T18:00:00"),
        ("1h", "2026-08-19T17:00:00", "2026-08-19T18:00:00"),
        ("2h", "2026-08-19T16:00:00", "2026-08-19T18:00:00"),
        ("4h", "2026-08-19T16:00:00", "2026-08-19T20:00:00"),
        ("6h", "2026-08-19T12:00:00", "2026-08-19T18:00:00"),
        ("8h", "2026-08-19T16:00:00", "2026-08-20T00:00:00"),
        ("12h", "2026-08-19T12:00:00", "2026-08-20T00:00:00"),
        ("1d", "2026-08-19T00:00:00", "2026-08-20T00:00:00"),
        ("3d", "2026-08-17T00:00:00", "2026-08-20T00:00:00"),
        ("1w", "2026-08-17T00:00:00", "2026-08-24T00:00:00"),
        ("1M", "2026-08-01T00:00:00", "2026-09-01T00:00:00"),
    ],
)
def test_a_moment_lies_in_the_bar_that_the_calendar_says(
    name: str, opened: str, following: str
) -> None:
    """A Wednesday evening of August 2026, bar by bar, written out by hand."""
    interval = INTERVALS[name]
    open_time = interval.open_of(utc("2026-08-19T17:46:59.999"))
    assert utc(opened) == open_time
    assert utc(following) == interval.next_open(open_time)
    assert utc(following) - 1 == interval.close_of(open_time)


def test_a_week_of_the_exchange_opens_on_monday() -> None:
    """The weekly bar of Binance's documentation: Monday to Sunday, July 2017."""
    week = INTERVALS["1w"]
    assert week.open_of(1_499_040_000_000) == 1_499_040_000_000
    assert week.close_of(1_499_040_000_000) == 1_499_644_799_999


def test_three_days_hang_on_the_epoch() -> None:
    """Three-day bars open where the days since the epoch divide by three, whatever the month."""
    opened = INTERVALS["3d"].open_of(utc("2026-09-01T12:00:00"))
    assert opened % (3 * DAY) == 0
    assert utc("2026-09-01T00:00:00") == opened


@pytest.mark.parametrize(
    ("opened", "days"), [("2024-02-01", 29), ("2026-02-01", 28), ("2026-12-01", 31)]
)
def test_months_have_the_length_of_the_calendar(opened: str, days: int) -> None:
    """A leap February, a common one, and the turn of a year."""
    month = INTERVALS["1M"]
    start = utc(f"{opened}T00:00:00")
    assert start + days * DAY == month.next_open(start)
    assert start == month.open_of(start + days * DAY - 1)
    assert start == month.previous_open(start + days * DAY)


@given(TIMES, st.sampled_from(ALL))
def test_bars_tile_time(time_ms: int, interval: Interval) -> None:
    """Every moment lies in exactly one bar, and neighbours meet without gap or overlap."""
    opened = interval.open_of(time_ms)
    following = interval.next_open(opened)
    assert opened <= time_ms < following
    assert following == interval.open_of(following)
    assert opened == interval.open_of(following - 1)
    assert opened == interval.previous_open(following)
    assert interval.ordinal(opened) + 1 == interval.ordinal(following)
    assert interval.ordinal(opened) == interval.ordinal(interval.previous_open(opened)) + 1


@given(st.lists(TIMES, max_size=20), st.sampled_from(ALL))
def test_the_vectorised_grid_is_the_same_grid(times: list[int], interval: Interval) -> None:
    """``open_of_many`` is ``open_of`` of each."""
    expected = [interval.open_of(each) for each in times]
    assert expected == interval.open_of_many(np.array(times, np.int64)).tolist()


@given(st.lists(TIMES, max_size=20), st.sampled_from(ALL))
def test_what_follows_is_the_same_vectorised(times: list[int], interval: Interval) -> None:
    """Next open times and ordinals of many are those of each."""
    opens = [interval.open_of(each) for each in times]
    many = np.array(opens, np.int64)
    assert [interval.next_open(each) for each in opens] == interval.next_open_of_many(many).tolist()
    assert [interval.ordinal(each) for each in opens] == interval.ordinal_of_many(many).tolist()


@given(TIMES, st.sampled_from(ALL), st.sampled_from(ALL))
def test_a_container_never_cuts_what_it_contains(
    time_ms: int, longer: Interval, shorter: Interval
) -> None:
    """If an interval contains another, no bar of the other straddles one of its boundaries."""
    opened = shorter.open_of(time_ms)
    inside = longer.open_of(opened) == longer.open_of(shorter.close_of(opened))
    assert inside or not longer.contains(shorter)


@pytest.mark.parametrize("longer", ALL, ids=str)
def test_contains_says_yes_whenever_it_is_true(longer: Interval) -> None:
    """Four years of bars, leap day included, show which intervals really fit."""
    start = utc("2024-01-01T00:00:00")
    for shorter in ALL:
        # Minutes that fit into the hours of three days fit into everything beyond.
        span = 3 * DAY if shorter.length < HOUR else 4 * 366 * DAY
        step = min(shorter.length, DAY)
        opens = np.unique(shorter.open_of_many(np.arange(start, start + span, step)))
        closes = np.array([shorter.close_of(each) for each in opens.tolist()])
        fits = bool((longer.open_of_many(opens) == longer.open_of_many(closes)).all())
        assert fits == longer.contains(shorter), shorter


def test_parsing_sorts_and_drops_doubles() -> None:
    """The order of period indexes is by length, whatever the order of the configuration."""
    parsed = parse_intervals(["1M", "1w", "1m", "3d", "1m"])
    expected = ("1m", "3d", "1w", "1M")
    assert expected == tuple(interval.name for interval in parsed)
    assert tuple(map(str, parse_intervals(DEFAULT_INTERVALS))) == DEFAULT_INTERVALS


@pytest.mark.parametrize("name", ["1s", "1H", "", "7d", "1m "])
def test_an_unknown_interval_is_named(name: str) -> None:
    """The error says which name it was."""
    with pytest.raises(KeyError) as caught:
        parse_intervals(["1m", name])
    assert (name,) == caught.value.args


def test_lengths_are_milliseconds() -> None:
    """The constants say what their names say."""
    assert (MINUTE, HOUR, DAY, WEEK) == (60_000, 3_600_000, 86_400_000, 604_800_000)


@given(st.sampled_from(ALL), TIMES, st.integers(-2, 40))
def test_the_open_times_of_a_span(interval: Interval, start: int, bars: int) -> None:
    """All that lie in it, its start included and its end not."""
    end = start + bars * interval.length
    opens = interval.opens_between(start, end).tolist()
    expected = []
    each = interval.open_of(start)
    while each < end:
        if each >= start:
            expected.append(each)
        each = interval.next_open(each)
    assert opens == expected
