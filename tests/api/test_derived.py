"""Intervals that are not kept are told as if they were."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api import derived
from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import FLAGS, Flag, is_complete, is_final, revision_of
from tests.api.memory_market import START
from tests.api.minute_market import MinuteMarket, plain_fold, random_minutes


KEPT = [
    ("1m", "5m", "1h", "1d"),
    ("1m",),
    ("1m", "30m", "4h"),
    ("15m", "1d"),
]


def market_with_hole(
    seed: int, kept: tuple[str, ...], minutes: int, hole: tuple[int, int]
) -> MinuteMarket:
    """Return a market that lacks some minutes, but not those of its open bars."""
    opens = [START + each * MINUTE for each in range(minutes)]
    held = [each for each in opens if not hole[0] <= (each - START) // MINUTE < sum(hole)]
    return MinuteMarket(random_minutes(seed, [*held, START + minutes * MINUTE]), kept)


spans = st.tuples(
    st.none() | st.integers(-100, 500), st.none() | st.integers(-100, 500), st.integers(1, 60)
)


@given(
    market=st.builds(
        market_with_hole,
        st.integers(0, 5),
        st.sampled_from(KEPT),
        st.integers(1, 400),
        st.tuples(st.integers(0, 400), st.integers(0, 120)),
    ),
    name=st.sampled_from(["3m", "15m", "2h", "6h", "8h", "12h", "3d", "1w", "1M"]),
    span=spans,
    page=st.sampled_from([1, 2, 7, 1000]),
)
@settings(max_examples=200)
def test_bars_are_what_a_kept_interval_would_give(
    market: MinuteMarket, name: str, span: tuple[int | None, int | None, int], page: int
) -> None:
    """Whatever is kept, wherever the listing, the hole, the page and the span end."""
    interval = INTERVALS[name]
    if derived.source_of(interval, market.intervals) is None:
        return
    start, end = (None if each is None else START + each * MINUTE for each in span[:2])
    limit = span[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derived, "PAGE_BARS", page)
        bars = read(market, name, start=start, end=end, limit=limit)

    plain = [
        bar
        for bar in plain_fold(market.minutes, interval)
        if (start is None or bar[0] >= start) and (end is None or bar[0] <= end)
    ]
    plain = plain[-limit:] if start is None else plain[:limit]
    assert [bar[:FLAGS] for bar in bars] == [bar[:FLAGS] for bar in plain]
    newest = market.minutes[-1][0]
    assert [is_final(bar) for bar in bars] == [interval.next_open(b[0]) <= newest for b in bars]


def read(
    market: MinuteMarket, name: str, *, start: int | None, end: int | None, limit: int
) -> list[list[int]]:
    """Return bars as lists."""

    async def main() -> list[list[int]]:
        bars = await derived.klines(market, 0, INTERVALS[name], start=start, end=end, limit=limit)
        return [list(bar) for bar in bars]

    return trio.run(main)


@pytest.mark.parametrize(
    ("wanted", "source"),
    [("3m", "1m"), ("2h", "1h"), ("12h", "4h"), ("3d", "1d"), ("1w", "1w"), ("1M", "1d")],
)
def test_the_longest_fitting_interval_is_read(wanted: str, source: str) -> None:
    """The fewest bars are read; a month is made of days, not of weeks."""
    kept = [INTERVALS[name] for name in ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")]
    index = derived.source_of(INTERVALS[wanted], kept)

    assert index is not None
    assert kept[index].name == source


def test_what_nothing_makes_up_has_no_source() -> None:
    """Hours do not make up minutes, days no hours, weeks no months."""
    for kept, wanted in (("1h", "1m"), ("1d", "12h"), ("1w", "1M"), ("1M", "1w"), ("5m", "3m")):
        assert derived.source_of(INTERVALS[wanted], [INTERVALS[kept]]) is None


async def test_open_bar_alone() -> None:
    """The last bar, if it is open."""
    market = MinuteMarket(random_minutes(1, range(START, START + HOUR, MINUTE)), ("1m", "5m"))
    bar = await derived.open_bar(market, 0, INTERVALS["2h"])

    assert bar is not None
    assert bar[0] == START
    assert not is_final(bar)


async def test_a_bar_with_a_part_missing_claims_nothing() -> None:
    """Complete is only what all parts of are there and complete; final what is over."""
    minutes = random_minutes(1, range(START, START + 10 * MINUTE, MINUTE))
    market = MinuteMarket([each for each in minutes if each[0] != START + 4 * MINUTE], ("1m",))
    bars = await derived.klines(market, 0, INTERVALS["3m"], start=START, end=None, limit=9)

    assert [is_complete(bar) for bar in bars] == [True, False, True, True]
    assert [is_final(bar) for bar in bars] == [True, True, True, False]


async def test_a_correction_of_a_part_is_one_of_the_bar() -> None:
    """A revision rises with each of any part; what is said of one part is said of the bar."""
    market = MinuteMarket(random_minutes(1, range(START, START + 4 * MINUTE, MINUTE)), ("1m",))
    market.correct(0)
    market.correct(0)
    (bar, _) = await derived.klines(market, 0, INTERVALS["3m"], start=None, end=None, limit=2)

    assert revision_of(bar) == 2
    assert not bar[FLAGS] & Flag.BACKFILLED


async def test_long_spans_are_read_in_pages() -> None:
    """However much is asked for, no reading is longer than a page."""
    market = MinuteMarket(random_minutes(1, range(START - 3 * DAY, START, MINUTE)), ("1m",))
    bars = await derived.klines(market, 0, INTERVALS["3m"], start=None, end=None, limit=1500)

    assert len(bars) == 1440
    assert max(market.reads) <= derived.PAGE_BARS
    assert len(market.reads) == 5


async def test_an_interval_without_a_source_is_refused() -> None:
    """Nobody is told bars of what cannot be made."""
    market = MinuteMarket(random_minutes(1, [START]), ("1h",))
    with pytest.raises(ValueError, match="expected an interval that kept ones make up, was 1m"):
        await derived.klines(market, 0, INTERVALS["1m"], start=None, end=None, limit=1)


async def test_times_beyond_everything_are_no_trouble() -> None:
    """No calendar and no database sees a number of twenty digits."""
    market = MinuteMarket(random_minutes(1, range(START, START + HOUR, MINUTE)), ("1m",))
    for name in ("1m", "1M"):
        interval = INTERVALS[name]
        assert await derived.klines(market, 0, interval, start=10**19, end=None, limit=1) == []
        assert await derived.klines(market, 0, interval, start=None, end=10**19, limit=1)
