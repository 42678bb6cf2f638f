"""Trades from files give the bars that the live path makes of them, and claim no more."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.archive.longer import NO_ROWS, Bars
from klinetrio.archive.trade_run import TradeRun
from klinetrio.domain.interval import DAY, INTERVALS, parse_intervals
from klinetrio.domain.kline import (
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    OPEN,
    OPEN_TIME,
    Flag,
    is_complete,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.errors import ScaleError
from tests.archive.texts import DAY_ONE, PRICE, QUANTITY
from tests.engine.reference import make_trade, reference_bars
from tests.engine.strategies import trade_lists
from tests.engine.test_batch import columns_of


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.domain.trade import AggTrade

NAMES = ("1m", "3m", "5m", "1h", "1d", "1w", "1M")
CHOSEN = parse_intervals(NAMES)

Live = dict[str, dict[int, list[int]]]


def live_bars(trades: Iterable[AggTrade]) -> Live:
    """Return the closed bars that a book makes, which sees nothing before the first trade."""
    store, outbox = DoubleBufferedKlineStore.allocate(len(CHOSEN)), Outbox()
    symbol = Symbol("BTCUSDT", "BTC", "USDT", 0, PRICE, QUANTITY)
    book = SymbolBook(symbol, CHOSEN, store=store, outbox=outbox, first_row=0)
    book.set_feed(up=True)
    for trade in trades:
        book.apply(trade)
    book.flush()
    closed: Live = {name: {} for name in NAMES}
    announced, proved = outbox.take()
    for row, values in [*announced, *proved]:
        closed[NAMES[row]][values[OPEN_TIME]] = list(values)
    return closed


def imported_bars(
    pieces: Sequence[Sequence[AggTrade]], covered: tuple[int, int] = (0, 10**15)
) -> Bars:
    """Return the bars that runs make of trades in several files."""
    run: TradeRun | None = None
    done: list[Bars] = []
    for piece in pieces:
        columns = columns_of(list(piece))
        run = run or TradeRun.starting(columns, covered, CHOSEN)
        for after, bars in run.extend(columns, covered[1]):
            run = after
            done.append(bars)
    if run is not None:
        done.append(run.finish())
    return {name: np.concatenate([bars.get(name, NO_ROWS) for bars in done]) for name in NAMES}


def cut(trades: Sequence[AggTrade], data: st.DataObject) -> list[Sequence[AggTrade]]:
    """Draw a cut into files."""
    places = sorted(data.draw(st.lists(st.integers(1, len(trades)), max_size=4)))
    pieces = [trades[start:end] for start, end in zip([0, *places], [*places, None], strict=True)]
    return [piece for piece in pieces if piece]


@settings(max_examples=120)
@given(trade_lists(step_ms=100_000), st.data())
def test_bars_are_those_of_the_live_path(trades: list[AggTrade], data: st.DataObject) -> None:
    """All fields, with id holes and slightly disordered times, however cut (I1, I4)."""
    shift = data.draw(st.sampled_from([0, 400]))
    kept = [trade for trade in trades if data.draw(st.integers(0, 9))] or trades
    shifted = [
        trade._replace(time=trade.time - data.draw(st.sampled_from([0, 0, 0, shift])))
        for trade in kept
    ]

    in_order = all(a.time <= b.time for a, b in pairwise(shifted))
    newest = max(trade.time for trade in shifted)

    bars, live = imported_bars(cut(shifted, data)), live_bars(shifted)
    for interval in CHOSEN if in_order else CHOSEN[:1]:
        theirs = live[interval.name]
        for ours in bars[interval.name].tolist():
            assert ours[FLAGS] & ~Flag.COMPLETE == Flag.FINAL
            if interval.next_open(ours[OPEN_TIME]) > newest:
                # Still open live; done here, as far as it is covered.
                assert not is_complete(ours)
                continue
            other = theirs.pop(ours[OPEN_TIME])
            # A late trade makes a revision there, and a hole between disordered times touches
            # more bars here.
            known = FIELD_COUNT if in_order else FLAGS
            assert other[:known] == ours[:known]
            assert is_complete(other) or not is_complete(ours)
        assert not theirs


@settings(max_examples=80)
@given(trade_lists(step_ms=100_000), st.data())
def test_complete_bars_are_the_truth(trades: list[AggTrade], data: st.DataObject) -> None:
    """Whatever is missing from the files, a bar that says complete misses nothing (I2)."""
    kept = [trade for trade in trades if data.draw(st.booleans())] or trades
    bars = imported_bars(cut(kept, data))
    for interval in CHOSEN:
        truth = reference_bars(trades, interval)
        for row in bars[interval.name].tolist():
            if is_complete(row):
                assert truth[row[OPEN_TIME]] == row[OPEN:FIRST_AGG_ID]


@settings(max_examples=50)
@given(trade_lists(step_ms=6_000_000), st.data())
def test_bars_that_are_not_covered_are_not_made(
    trades: list[AggTrade], data: st.DataObject
) -> None:
    """At both edges, in every interval (I3)."""
    since = data.draw(st.integers(trades[0].time - DAY, trades[0].time + 60_000)) // 60_000 * 60_000
    until = data.draw(st.integers(trades[-1].time, trades[-1].time + DAY)) // 60_000 * 60_000
    everything = imported_bars([trades])
    bars = imported_bars([trades], (since, until))
    for interval in CHOSEN:
        expected = [
            row
            for row in everything[interval.name].tolist()
            if row[OPEN_TIME] >= since and interval.next_open(row[OPEN_TIME]) <= until
        ]
        assert expected == bars[interval.name].tolist()


def test_the_same_trades_again_change_nothing() -> None:
    """Files may overlap: ids that were seen are dropped."""
    trades = [make_trade(1 + n, DAY_ONE + n * 10_000) for n in range(100)]
    once = imported_bars([trades])
    again = imported_bars([trades[:60], trades[20:80], trades[:30], trades])
    for name in NAMES:
        assert np.array_equal(once[name], again[name])


def test_a_file_joins_if_time_or_ids_show_that_nothing_is_missing() -> None:
    """Not after an uncovered time with a hole, and not when ids begin anew."""
    first = columns_of([make_trade(10, DAY_ONE + 5)])
    *_, (run, _) = TradeRun.starting(first, (DAY_ONE, DAY_ONE + DAY), CHOSEN).extend(first, 0)
    next_day, later = DAY_ONE + DAY, DAY_ONE + 3 * DAY

    assert run.joins(columns_of([make_trade(12, next_day)]), next_day)
    assert run.joins(columns_of([make_trade(11, later)]), later)
    assert not run.joins(columns_of([make_trade(12, later)]), later)
    assert not run.joins(columns_of([make_trade(10, next_day)]), next_day)
    assert not run.joins(columns_of([make_trade(9, DAY_ONE)]), DAY_ONE)
    assert run.contradicts(columns_of([make_trade(11, DAY_ONE - 2000)]))
    assert not run.contradicts(columns_of([make_trade(11, DAY_ONE - 500)]))


def test_scales_grow_in_the_middle() -> None:
    """What was folded before is multiplied, exactly."""
    trades = [make_trade(1 + n, DAY_ONE + n * 10_000, 100 + n, 7) for n in range(100)]
    finer = [
        trade._replace(price=trade.price * 10, quantity=trade.quantity * 100) for trade in trades
    ]

    first = columns_of(trades[:50])
    run = TradeRun.starting(first, (0, 10**15), CHOSEN)
    for after, _ in run.extend(first, 10**15):
        run = after
    grown = run.rescaled(10, 100)
    assert np.array_equal(run.tail.price * 10, grown.tail.price)
    for after, _ in grown.extend(columns_of(finer[50:]), 10**15):
        grown = after
    assert np.array_equal(imported_bars([finer])["1h"], grown.finish()["1h"])
    with pytest.raises(ScaleError, match="64 bits"):
        run.rescaled(10**9, 10**9)


def test_no_interval_is_left_out() -> None:
    """Every one is made of minutes."""
    assert all(interval.contains(INTERVALS["1m"]) for interval in INTERVALS.values())
