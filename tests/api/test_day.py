"""The last 24 hours are the fold of the bars in them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.api.day import REREAD_S, DayBar, DayWindow, rounded
from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import OPEN, TRADE_COUNT
from tests.api.memory_market import START
from tests.api.minute_market import MinuteMarket, plain_fold, random_minutes


def window_of(market: MinuteMarket) -> DayBar | None:
    """Return the window of the only symbol, read anew."""

    async def read() -> DayBar | None:
        window = DayWindow(market)
        await window.load([0])
        return window.bars([0])[0]

    return trio.run(read)


def expected(market: MinuteMarket, step: str) -> DayBar:
    """Return the plain fold of all minutes since 24 hours before the open short bar."""
    start = INTERVALS[step].open_of(market.minutes[-1][0]) - DAY
    inside = [bar for bar in market.minutes if bar[0] >= start]
    (bar,) = plain_fold(inside, INTERVALS["1M"])
    return DayBar(inside[0][0], *bar[OPEN : TRADE_COUNT + 1])


@given(
    seed=st.integers(0, 9),
    since=st.integers(1, 30 * 60),
    until=st.integers(0, 90),
    kept=st.sampled_from([("1m", "1h", "1d"), ("1m", "5m", "30m"), ("1m",), ("1m", "3m", "15m")]),
)
def test_window_is_the_fold_of_its_minutes(
    seed: int, since: int, until: int, kept: tuple[str, ...]
) -> None:
    """Whatever the minute of the hour, wherever the listing, and whichever intervals are kept."""
    # In the middle of a month, so that one bar of a month can stand for a fold of everything.
    newest = START + until * MINUTE
    minutes = random_minutes(seed, range(newest - since * MINUTE, newest + 1, MINUTE))
    market = MinuteMarket(minutes, kept)
    window, plain = window_of(market), expected(market, "1m")

    assert window is not None
    # A first bar says when it opens, which is before the listing if it is a long one.
    assert 0 <= plain.start - window.start < HOUR
    assert (plain.open, plain.high, plain.low, plain.close) == (
        window.open,
        window.high,
        window.low,
        window.close,
    )
    assert (plain.volume, plain.quote_volume, plain.trade_count) == (
        window.volume,
        window.quote_volume,
        window.trade_count,
    )


def test_window_steps_by_the_shortest_kept_interval() -> None:
    """Without minutes it opens where a longer bar does, and still none counts twice."""
    minutes = random_minutes(3, range(START - 30 * HOUR, START + 47 * MINUTE, MINUTE))
    market = MinuteMarket(minutes, ("15m", "1h"))

    assert window_of(market) == expected(market, "15m")


def test_without_an_interval_within_the_hour_there_is_no_window() -> None:
    """Four hours do not make up the last 24 hours; that is said, not guessed."""
    market = MinuteMarket(random_minutes(1, range(START - DAY, START, MINUTE)), ("4h", "1d"))
    window = DayWindow(market)

    assert not window.is_possible
    assert window.bars([0]) == [None]


async def test_a_window_not_read_is_none() -> None:
    """No part of a day is given out as the day."""
    market = MinuteMarket(random_minutes(1, range(START - DAY, START, MINUTE)), ("1m", "1h"))

    assert DayWindow(market).bars([0]) == [None]


async def test_bars_are_read_once_until_one_is_corrected() -> None:
    """What is at hand costs no reading; what has changed is not at hand."""
    market = MinuteMarket(random_minutes(1, range(START - 2 * DAY, START, MINUTE)), ("1m", "1h"))
    window = DayWindow(market)

    assert await window.load([0]) == [0]
    assert await window.load([0]) == []
    before = window.bars([0])[0]
    market.correct(1)
    window.forget(0)
    assert await window.load([0]) == [0]
    after = window.bars([0])[0]
    assert before is not None
    assert after is not None
    assert after.volume == before.volume + 1


async def test_next_hour_is_read_anew() -> None:
    """When the open hour has closed, the window of the hour before is none."""
    market = MinuteMarket(random_minutes(1, range(START - 2 * DAY, START, MINUTE)), ("1m", "1h"))
    window = DayWindow(market)
    await window.load([0])
    for row in (0, 1):
        market.close(row)
    market.swap()

    assert window.bars([0]) == [None]
    assert await window.load([0]) == [0]
    assert window.bars([0])[0] is not None


async def test_a_day_with_bars_missing_is_read_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The history may have been filled since."""
    market = MinuteMarket(random_minutes(1, range(START - 5 * HOUR, START, MINUTE)), ("1m", "1h"))
    window = DayWindow(market)
    await window.load([0])
    await trio.sleep(REREAD_S - 1)
    assert await window.load([0]) == []
    await trio.sleep(1)
    assert await window.load([0]) == [0]


@pytest.mark.parametrize(
    ("close", "opened", "percent"),
    [(410300, 415299, -1204), (4762000, 4915000, -3113), (8308480, 8607110, -3470)],
)
def test_percent_is_rounded_as_the_exchange_does(close: int, opened: int, percent: int) -> None:
    """Three tickers as captured in October 2026."""
    day = DayBar(START, opened, opened, close, close, 1, close, 1)

    assert day.change_percent == percent


def test_average_is_rounded_as_the_exchange_does() -> None:
    """A captured ticker: 3427981.55024 over 7078971 is 0.48424857, told as 0.4842486."""
    assert rounded(34279815502400, 7078971) == 4842486
    assert rounded(-1, 2) == -1
