"""The past put together from three requests is what the minutes add up to."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
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
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from klinetrio.exchange.rest import klines_weight
from klinetrio.recovery.past import (
    CHEAP_ROWS,
    MAX_ROWS,
    SOURCES,
    build_seed,
    has_no_gap,
    is_whole,
    plan_past,
)


Rows = npt.NDArray[np.int64]

ALL = parse_intervals(INTERVALS)
CLOSED = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED


def utc(text: str) -> int:
    """Return an ISO date and time of UTC in ms."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# The minutes of a made-up market: 170 days that end with the turn of a year.
WORLD_START = utc("2026-08-03T00:00:00")
WORLD_END = utc("2027-01-20T00:00:00")


def make_minutes() -> Rows:
    """Return one bar per minute, some of them without trades."""
    rng = np.random.default_rng(20_261_121)
    count = (WORLD_END - WORLD_START) // MINUTE
    rows = np.zeros((count, FIELD_COUNT), np.int64)
    rows[:, OPEN_TIME] = WORLD_START + np.arange(count) * MINUTE
    traded = rng.random(count) < 0.8
    traded[0] = True
    price = 100_000 + rng.integers(-50, 51, (count, 4)).cumsum(axis=0)
    # A bar without trades carries the close before it.
    newest = np.maximum.accumulate(np.where(traded, np.arange(count), 0))
    rows[:, CLOSE] = price[newest, 3]
    rows[:, OPEN] = np.where(traded, price[:, 0], rows[:, CLOSE])
    rows[:, HIGH] = np.where(traded, price.max(axis=1), rows[:, CLOSE])
    rows[:, LOW] = np.where(traded, price.min(axis=1), rows[:, CLOSE])
    for field in (VOLUME, QUOTE_VOLUME, TRADE_COUNT, TAKER_BUY_VOLUME, TAKER_BUY_QUOTE_VOLUME):
        rows[:, field] = np.where(traded, rng.integers(1, 1_000, count), 0)
    rows[:, FIRST_AGG_ID] = rows[:, LAST_AGG_ID] = NO_ID
    rows[:, FLAGS] = CLOSED
    return rows


MINUTES = make_minutes()


def fold(minutes: Rows) -> list[int]:
    """Return the nine values of the bar that these minutes add up to: the obvious way."""
    traded = minutes[minutes[:, TRADE_COUNT] > 0]
    if len(traded) == 0:
        return [int(minutes[0, CLOSE])] * 4 + [0] * 5
    prices = [traded[0, OPEN], traded[:, HIGH].max(), traded[:, LOW].min(), traded[-1, CLOSE]]
    return [int(each) for each in (*prices, *traded[:, VOLUME : TAKER_BUY_QUOTE_VOLUME + 1].sum(0))]


def minutes_of(start: int, end: int, listed: int) -> Rows:
    """Return the minutes of ``[start, end)`` since the listing."""
    low, high = (max(start, listed) - WORLD_START) // MINUTE, (end - WORLD_START) // MINUTE
    return MINUTES[max(0, low) : max(0, high)]


def bars_of(interval: Interval, start: int, end: int, listed: int, now: int) -> Rows:
    """Return what the exchange answers: bars that open in ``[start, end]``, the open one too."""
    first = interval.open_of(max(listed, WORLD_START))
    opened = interval.open_of(max(start, first))
    opened = opened if opened >= start else interval.next_open(opened)
    rows = []
    while opened <= min(end, now - 1):
        inside = minutes_of(opened, min(interval.next_open(opened), now), listed)
        rows.append([opened, *fold(inside), NO_ID, NO_ID, CLOSED])
        opened = interval.next_open(opened)
    return np.array(rows, np.int64).reshape(len(rows), FIELD_COUNT)


def answers(
    until: int, intervals: tuple[Interval, ...], listed: int, since: int | None = None
) -> dict[Interval, Rows]:
    """Return the exchange's answers to the plan, two minutes after the boundary."""
    plan = plan_past(until, intervals, until if since is None else since)
    now = until + 2 * MINUTE
    return {
        source: bars_of(source, span.start, span.end, listed, now) for source, span in plan.items()
    }


def whole(rows: dict[Interval, Rows], until: int, listed: int) -> bool:
    """Tell whether the answers to the plan are all that the exchange must have."""
    return is_whole(rows, plan_past(until, tuple(rows), until), listed)


def check(until: int, intervals: tuple[Interval, ...], listed: int) -> None:
    """Compare a seed with the fold of the minutes, bar by bar."""
    rows = answers(until, intervals, listed)
    assert whole(rows, until, listed)
    seed = build_seed(until, intervals, rows, plan_past(until, intervals, until))
    assert (until, len(intervals)) == (seed.until, len(seed.pasts))
    for interval, past in zip(intervals, seed.pasts, strict=True):
        spanning = interval.open_of(until - 1)
        inside = minutes_of(spanning, until, listed)
        if interval.next_open(spanning) == until or len(inside) == 0:
            assert past.part is None, interval
        else:
            assert past.part is not None, interval
            assert [spanning, *fold(inside)] == list(past.part[:FIRST_AGG_ID]), interval
        opens = past.closed[:, OPEN_TIME].tolist()
        for bar in past.closed.tolist():
            end = interval.next_open(bar[OPEN_TIME])
            assert end <= until
            assert [bar[OPEN_TIME], *fold(minutes_of(bar[OPEN_TIME], end, listed))] == bar[
                :FIRST_AGG_ID
            ], interval
            assert (NO_ID, NO_ID, CLOSED) == tuple(bar[FIRST_AGG_ID:])
        for early, late in pairwise(opens):
            assert late == interval.next_open(early), interval
        newest = interval.open_of(until) if past.part is None else spanning
        if opens:
            assert newest == interval.next_open(opens[-1])
        elif listed < newest:
            raise AssertionError(f"no closed bar of {interval}")


BOUNDARIES = st.one_of(
    st.integers((WORLD_START + 110 * DAY) // MINUTE, WORLD_END // MINUTE - 5).map(
        lambda minute: minute * MINUTE
    ),
    st.builds(
        lambda length, number, minutes: (
            WORLD_START
            + 110 * DAY
            + (number * length) % (58 * DAY // length * length)
            + minutes * MINUTE
        ),
        st.sampled_from([HOUR, 4 * HOUR, DAY, WEEK]),
        st.integers(0, 10_000),
        st.integers(-1, 1),
    ),
)


@settings(max_examples=30)
@given(BOUNDARIES)
def test_a_seed_is_the_fold_of_the_minutes(until: int) -> None:
    """In every one of the fifteen intervals, at any minute."""
    check(until, ALL, WORLD_START)


@pytest.mark.parametrize(
    "until",
    [
        "2026-12-10T17:46:00",
        "2026-12-10T17:00:00",
        "2026-12-10T17:01:00",
        "2026-12-10T16:59:00",
        "2026-12-10T16:00:00",
        "2026-12-11T00:00:00",
        "2026-12-11T00:01:00",
        "2026-12-10T23:59:00",
        "2026-12-14T00:00:00",
        "2026-12-14T00:01:00",
        "2026-12-13T23:59:00",
        "2027-01-01T00:00:00",
        "2027-01-01T00:01:00",
        "2026-12-31T23:59:00",
    ],
)
def test_boundaries_on_the_ends_of_bars(until: str) -> None:
    """Of an hour, four hours, a day, a Monday, a month and a year, and a minute off."""
    check(utc(until), ALL, WORLD_START)


@settings(max_examples=60)
@given(BOUNDARIES, st.integers(1, 40_000))
def test_a_symbol_that_was_listed_lately(until: int, age: int) -> None:
    """The bar in which it was listed is whole from there; older ones do not exist."""
    check(until, ALL, until - age * MINUTE)


def test_the_bar_of_the_listing_is_in_the_seed_once_it_is_over() -> None:
    """In every interval: a week whose days begin on a Thursday is whole if there were no others."""
    until, listed = utc("2026-12-14T00:10:00"), utc("2026-12-10T14:47:00")
    plan = plan_past(until, ALL, until)
    seed = build_seed(until, ALL, answers(until, ALL, listed), plan)
    first = {
        interval.name: past.closed[0, OPEN_TIME]
        for interval, past in zip(ALL, seed.pasts, strict=True)
        if len(past.closed)
    }
    assert utc("2026-12-07T00:00:00") == first["1w"]
    assert utc("2026-12-10T00:00:00") == first["1d"]
    assert utc("2026-12-10T12:00:00") == first["4h"]
    assert "1M" not in first
    # Minutes go back an hour and forty here, to bars that were not the first ones.
    assert utc("2026-12-13T22:30:00") == first["30m"]


@settings(max_examples=60)
@given(BOUNDARIES, st.sets(st.sampled_from(ALL), min_size=1), st.integers(1, 300_000))
def test_any_set_of_intervals(until: int, chosen: set[Interval], age: int) -> None:
    """Alone or together, with whatever sources they need."""
    check(
        until, parse_intervals(each.name for each in chosen), max(WORLD_START, until - age * MINUTE)
    )


def test_a_symbol_that_is_listed_after_the_boundary_has_no_past() -> None:
    """Nothing, not zeros."""
    until = utc("2026-12-10T17:46:00")
    rows = answers(until, ALL, until)
    assert whole(rows, until, until)
    for past in build_seed(until, ALL, rows, plan_past(until, ALL, until)).pasts:
        assert past.part is None
        assert past.closed.shape == (0, FIELD_COUNT)


@settings(max_examples=100)
@given(BOUNDARIES)
def test_the_default_intervals_cost_three_requests_of_weight_one(until: int) -> None:
    """A thousand symbols in less than two minutes of the exchange's weight."""
    plan = plan_past(until, parse_intervals(DEFAULT_INTERVALS), until)
    assert ["1d", "1h", "1m"] == [source.name for source in plan]
    for source, span in plan.items():
        rows = source.ordinal(source.open_of(span.end)) - source.ordinal(span.start) + 1
        assert rows == CHEAP_ROWS
        assert klines_weight(rows) == 1
        assert span.start == source.open_of(span.start)
        assert until - source.length < source.next_open(source.open_of(span.end)) <= until


@pytest.mark.parametrize("interval", ALL, ids=str)
def test_no_interval_asks_for_more_sources_than_it_needs(interval: Interval) -> None:
    """And for the minutes always, because the boundary is one."""
    plan = plan_past(utc("2026-12-10T17:46:00"), (interval,), utc("2026-12-10T17:46:00"))
    assert [source for source in SOURCES if interval.contains(source)] == list(plan)
    assert INTERVALS["1m"] in plan


@settings(max_examples=100)
@given(BOUNDARIES, st.integers(0, 3_000))
def test_the_plan_reaches_back_to_what_is_missing(until: int, minutes: int) -> None:
    """As far as one request goes."""
    since = until - minutes * MINUTE
    for source, span in plan_past(until, ALL, since).items():
        end = source.open_of(until)
        furthest = end - MAX_ROWS * source.length
        for interval in ALL:
            # The longer bar in which something is missing is made of whole ones of its source.
            if source is next(each for each in SOURCES if interval.contains(each)):
                assert span.start <= max(interval.open_of(since), furthest)
        assert span.start >= furthest
        assert span.end == end - 1


def test_the_rows_of_an_outage_are_all_in_the_seed() -> None:
    """What was missed while the daemon was down comes as closed bars."""
    until = utc("2026-12-10T17:46:00")
    since = until - 1_000 * MINUTE
    intervals = parse_intervals(DEFAULT_INTERVALS)
    rows = answers(until, intervals, WORLD_START, since)
    seed = build_seed(until, intervals, rows, plan_past(until, intervals, since))
    opens = seed.pasts[0].closed[:, OPEN_TIME].tolist()
    assert list(range(INTERVALS["30m"].open_of(since), until, MINUTE)) == opens
    five = seed.pasts[1].closed[:, OPEN_TIME].tolist()
    assert five[0] <= since
    assert five[-1] == until - 6 * MINUTE


def test_a_minute_that_is_not_there_yet_is_waited_for() -> None:
    """Unless the symbol is listed after it."""
    until = utc("2026-12-10T17:46:00")
    rows = answers(until, ALL, WORLD_START)
    late = {**rows, INTERVALS["1m"]: rows[INTERVALS["1m"]][:-1]}
    assert whole(rows, until, WORLD_START)
    assert not whole(late, until, WORLD_START)
    assert not whole(late, until, until - 2 * MINUTE)
    assert not whole(late, until, until - MINUTE)
    assert whole(late, until, until)


@pytest.mark.parametrize("source", SOURCES[:2], ids=str)
def test_an_hour_or_a_day_that_is_not_there_yet_is_waited_for(source: Interval) -> None:
    """Else the bars above it would miss it, and say that they are complete."""
    until = utc("2026-12-10T17:46:00")
    rows = answers(until, ALL, WORLD_START)
    late = {**rows, source: rows[source][:-1]}
    assert not whole(late, until, WORLD_START)
    first_missing = {**rows, source: rows[source][1:]}
    assert not whole(first_missing, until, WORLD_START)
    middle_missing = {**rows, source: np.delete(rows[source], 5, axis=0)}
    assert not whole(middle_missing, until, WORLD_START)


def test_bars_that_never_were_are_told_from_bars_that_are_missing() -> None:
    """A symbol that first traded after its listing has no gap; a hole in the middle is one."""
    until = utc("2026-12-10T17:46:00")
    plan = plan_past(until, ALL, until)
    late = answers(until, ALL, until - 30 * MINUTE)
    assert not is_whole(late, plan, WORLD_START)
    assert has_no_gap(late, plan, until)
    minutes = late[INTERVALS["1m"]]
    assert not has_no_gap({**late, INTERVALS["1m"]: np.delete(minutes, 5, axis=0)}, plan, until)
    assert has_no_gap({source: bars[:0] for source, bars in late.items()}, plan, until)


@pytest.mark.parametrize("source", SOURCES[:2], ids=str)
def test_a_gap_of_long_ago_is_one_of_the_exchange(source: Interval) -> None:
    """A symbol that was taken off the exchange and came back has one; a recent gap is none."""
    until = utc("2026-12-10T17:46:00")
    plan = plan_past(until, ALL, until)
    rows = answers(until, ALL, WORLD_START)
    away = {**rows, source: np.delete(rows[source], range(5, 40), axis=0)}
    assert not is_whole(away, plan, WORLD_START)
    assert has_no_gap(away, plan, until)
    hour = INTERVALS["1h"]
    assert not has_no_gap({**rows, hour: np.delete(rows[hour], -20, axis=0)}, plan, until)
    assert not has_no_gap({**rows, source: rows[source][:-1]}, plan, until)
