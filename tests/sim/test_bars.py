"""The truth is the fold of the trades, for every interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE, Interval
from klinetrio.domain.kline import NO_ID
from klinetrio.sim import Instrument, SimClock, SimTrade, plain_instrument
from klinetrio.sim.bars import LiveMinutes, fold
from klinetrio.sim.ledger import Book, Ledger


# Friday 2026-10-30 23:00 UTC: two days from here cross a month, three cross a week.
START = 1_793_401_200_000

HALF_WEEK = 3 * DAY + 12 * HOUR

rows = st.lists(
    st.tuples(
        st.integers(0, HALF_WEEK - 1) | st.integers(0, 10 * MINUTE),
        st.integers(1, 1_000),
        st.integers(1, 1_000),
        st.integers(1, 5),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def make_trades(drawn: list[tuple[int, int, int, int, bool]]) -> list[SimTrade]:
    """Number the drawn trades in the order they are in."""
    return [
        SimTrade(n, price, quantity, quantity, 10 * n, 10 * n + fills - 1, START + offset, maker)
        for n, (offset, price, quantity, fills, maker) in enumerate(drawn)
    ]


# Ids rise with the time, as the exchange's do, or they do not.
orderly_trades = rows.map(sorted).map(make_trades)
any_trades = rows.map(make_trades)


def fold_by_hand(given_trades: list[SimTrade]) -> list[Any]:
    """Return the first ten fields but the open time, written as differently as can be."""
    ordered = sorted(given_trades)
    prices = [each.price for each in ordered]
    taken = [each for each in ordered if not each.buyer_is_maker]
    return [
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(each.quantity for each in ordered),
        sum(each.price * each.quantity for each in ordered),
        sum(each.last_id - each.first_id + 1 for each in ordered),
        sum(each.quantity for each in taken),
        sum(each.price * each.quantity for each in taken),
    ]


@settings(max_examples=60)
@given(interval=st.sampled_from(list(INTERVALS.values())), trades=orderly_trades)
def test_bars_are_the_fold_of_their_trades(interval: Interval, trades: list[SimTrade]) -> None:
    """Each bar with trades is their fold; each without is flat at the close before it."""
    live = LiveMinutes()
    for trade in trades:
        live.add(trade)
    first = interval.open_of(min(trade.time for trade in trades))
    last = interval.open_of(max(trade.time for trade in trades))
    rows = fold(live.dense(first, interval.next_open(last), None), interval).tolist()

    assert first == rows[0][0]
    assert last == rows[-1][0]
    close = 0
    for before, row in zip([None, *rows], rows, strict=False):
        assert before is None or row[0] == interval.next_open(before[0])
        inside = [each for each in trades if interval.open_of(each.time) == row[0]]
        expected = fold_by_hand(inside) if inside else [close] * 4 + [0] * 5
        assert expected == row[1:10]
        close = row[4]


@settings(max_examples=40)
@given(trades=any_trades)
def test_ids_decide_what_opens_and_closes(trades: list[SimTrade]) -> None:
    """Even if ids contradict the times, the smallest one opens a bar and the largest closes it."""
    live = LiveMinutes()
    for trade in trades:
        live.add(trade)
    week = INTERVALS["1w"]
    inside = [each for each in trades if week.open_of(each.time) == week.open_of(START)]
    bars = fold(live.dense(START, week.next_open(week.open_of(START)), None), week).tolist()
    expected = [fold_by_hand(inside)] if inside else []
    assert expected == [row[1:10] for row in bars]


@settings(max_examples=25)
@given(trades=any_trades, data=st.data())
def test_order_of_arrival_changes_nothing(trades: list[SimTrade], data: st.DataObject) -> None:
    """The same trades in any order give the same minutes."""
    straight, shuffled = LiveMinutes(), LiveMinutes()
    for trade in trades:
        straight.add(trade)
    for trade in data.draw(st.permutations(trades)):
        shuffled.add(trade)
    span = START, START + HALF_WEEK, None
    assert np.array_equal(straight.dense(*span), shuffled.dense(*span))


def test_ids_of_empty_minutes_join() -> None:
    """An empty minute has the id before it as its last, and one more as its first."""
    live = LiveMinutes()
    live.add(SimTrade(7, 1, 1, 1, 7, 7, START, False))
    live.add(SimTrade(8, 1, 1, 1, 8, 8, START + 2 * MINUTE, False))
    rows = live.dense(START, START + 3 * MINUTE, None).tolist()
    assert [row[10:] for row in rows] == [[7, 7], [8, 7], [8, 8]]


def make_ledger(trade_times: list[int], now: int) -> Ledger:
    """Return books of one symbol that traded at these times."""
    instrument: Instrument = plain_instrument("BTCUSDT")
    book = Book(instrument)
    for agg_id, time in enumerate(trade_times):
        book.enter(SimTrade(agg_id, 5, 1, 1, agg_id, agg_id, time, False))
    return Ledger(SimClock(now, held=True), [book])


PAGED = [each for each in INTERVALS.values() if each.length <= DAY]


@given(
    interval=st.sampled_from(PAGED),
    offset=st.integers(0, 3 * DAY),
    length=st.integers(0, 3 * DAY),
    limit=st.integers(1, 7),
)
def test_pages_join_without_a_hole_or_a_double(
    interval: Interval, offset: int, length: int, limit: int
) -> None:
    """Paging by start time gives what one call gives; without a start it is the last rows."""
    ledger = make_ledger([START, START + 70 * HOUR], START + 3 * DAY)
    start, end = START + offset, START + offset + min(length, 30 * interval.length)

    def ask(start: int | None, limit: int) -> list[list[int]]:
        rows: list[list[int]] = ledger.bars("BTCUSDT", interval, start, end, limit).tolist()
        return rows

    whole, paged = ask(start, 10_000), []
    while page := ask(start, limit):
        assert len(page) <= limit
        paged += page
        start = interval.next_open(page[-1][0])
    assert whole == paged
    assert ask(0, 10_000)[-limit:] == ask(None, limit)


def test_bounds_are_open_times_and_inclusive() -> None:
    """As measured: an end one millisecond before an open time leaves that bar out."""
    ledger = make_ledger([START], START + HOUR)
    minute = INTERVALS["1m"]

    def opens(end: int) -> list[int]:
        rows = ledger.bars("BTCUSDT", minute, START, end, 500).tolist()
        return [(row[0] - START) // MINUTE for row in rows]

    assert opens(START + 2 * MINUTE - 1) == [0, 1]
    assert opens(START + 2 * MINUTE) == [0, 1, 2]


def test_last_bar_is_the_open_one() -> None:
    """Nothing lies in the future, and true klines say which bars are final."""
    now = START + 90 * 1000
    ledger = make_ledger([START], now)
    rows = ledger.true_klines("BTCUSDT", INTERVALS["1m"], START, START + DAY)
    assert [row[0] for row in rows] == [START, START + MINUTE]
    assert [row[12] for row in rows] == [1, 0]
    future = ledger.bars("BTCUSDT", INTERVALS["1m"], now + HOUR, None, 5)
    assert len(future) == 0


def test_months_page_by_the_calendar() -> None:
    """The last three months end with the present one."""
    october = START - START % DAY - 29 * DAY
    ledger = make_ledger([october - 100 * DAY, START], START + 3 * DAY)
    rows = ledger.bars("BTCUSDT", INTERVALS["1M"], None, None, 3).tolist()
    assert [october - 30 * DAY, october, october + 31 * DAY] == [row[0] for row in rows]


def test_exchange_may_claim_another_bar() -> None:
    """An amended minute is what REST shows, and what longer bars are made of; ids stay."""
    ledger = make_ledger([START], START + HOUR)
    ledger.amend_minute("BTCUSDT", [START, 4, 9, 3, 6, 100, 600, 3, 50, 300])
    row = ledger.bars("BTCUSDT", INTERVALS["1h"], None, START, 1).tolist()[0]
    assert row == [START, 4, 9, 3, 6, 100, 600, 3, 50, 300, 0, 0]
    ledger.amend_minute("BTCUSDT", [START + MINUTE, *[6] * 4, *[0] * 5])
    assert ledger.bars("BTCUSDT", INTERVALS["1m"], None, START + MINUTE, 1)[0, 11] == NO_ID
