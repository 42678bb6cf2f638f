"""A book's bars are right in any order of trades, and say no more than is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import INTERVALS, MINUTE, Interval, parse_intervals
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN,
    OPEN_TIME,
    TRADE_COUNT,
    VOLUME,
    Flag,
    has_row,
    is_complete,
    is_final,
    revision_of,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.seeding import Past, Seed
from klinetrio.engine.store import DoubleBufferedKlineStore
from tests.engine.reference import make_trade, reference_bars
from tests.engine.strategies import BASE_TIME, FIRST_ID, trade_lists


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade


SYMBOL = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)
NAMES = ("1m", "3m", "5m", "1h", "1d", "1w")
Rows = npt.NDArray[np.int64]
NO_ROWS = np.zeros((0, FIELD_COUNT), np.int64)


@attrs.define
class Desk:
    """A book with its surroundings, and what a follower of the outbox has seen."""

    intervals: tuple[Interval, ...] = attrs.field(factory=lambda: parse_intervals(NAMES))
    store: DoubleBufferedKlineStore = attrs.field(init=False)
    outbox: Outbox = attrs.field(factory=Outbox)
    book: SymbolBook = attrs.field(init=False)
    closed: dict[tuple[int, int], tuple[int, ...]] = attrs.field(factory=dict)
    announced: list[tuple[int, int, int]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.store = DoubleBufferedKlineStore.allocate(len(self.intervals))
        self.book = SymbolBook(
            SYMBOL, self.intervals, store=self.store, outbox=self.outbox, first_row=0
        )

    def swap(self) -> None:
        """Show and publish, and check what a follower may rely on."""
        self.book.flush()
        self.store.swap()
        announced, proved = self.outbox.take()
        for bar in [*announced, *proved]:
            key = bar.row, bar.values[OPEN_TIME]
            if key in self.closed and self.closed[key][OPEN:FLAGS] != bar.values[OPEN:FLAGS]:
                assert revision_of(bar.values) == revision_of(self.closed[key]) + 1
            self.closed[key] = bar.values
        for bar in announced:
            entry = bar.row, bar.values[OPEN_TIME], revision_of(bar.values)
            assert entry not in self.announced
            self.announced.append(entry)

    def bars(self, name: str) -> dict[int, tuple[int, ...]]:
        """All bars of an interval as a follower knows them."""
        index = [interval.name for interval in self.intervals].index(name)
        bars = {opened: values for (row, opened), values in self.closed.items() if row == index}
        live = tuple(self.store.live_row(index))
        if has_row(live):
            bars[live[OPEN_TIME]] = live
        return bars


def anchored_desk(first_time: int = BASE_TIME) -> Desk:
    """Return a desk whose proof starts before the first trade."""
    desk = Desk()
    desk.book.set_feed(up=True)
    desk.book.anchor(FIRST_ID - 1, first_time - 1)
    return desk


@settings(max_examples=200)
@given(trade_lists(step_ms=60_000), st.data())
def test_any_order_duplication_and_split_gives_the_same_bars(
    trades: list[AggTrade], data: st.DataObject
) -> None:
    """However trades arrive and whenever swaps fall between them, the bars are the truth's."""
    arrivals = data.draw(st.permutations(trades + data.draw(st.lists(st.sampled_from(trades)))))
    desk = anchored_desk()
    for trade in arrivals:
        desk.book.apply(trade)
        if data.draw(st.booleans()):
            desk.swap()
    desk.swap()

    for interval in desk.intervals:
        truth = reference_bars(trades, interval)
        bars = desk.bars(interval.name)
        assert truth == {opened: list(row[OPEN:FIRST_AGG_ID]) for opened, row in bars.items()}
        assert all(is_complete(row) for row in bars.values() if row[OPEN_TIME] >= BASE_TIME)
    assert desk.book.counts.duplicates == len(arrivals) - len(trades)


@settings(max_examples=200)
@given(trade_lists(step_ms=60_000), st.data())
def test_a_bar_with_a_missing_trade_never_says_complete(
    trades: list[AggTrade], data: st.DataObject
) -> None:
    """Whatever is lost, a bar that says complete equals the truth (I3)."""
    kept = [trade for trade in trades if data.draw(st.booleans())]
    desk = anchored_desk()
    for trade in kept:
        desk.book.apply(trade)
        desk.swap()
        for interval in desk.intervals:
            seen = [t for t in trades if t.agg_id <= trade.agg_id]
            truth = reference_bars(seen, interval)
            for opened, row in desk.bars(interval.name).items():
                if is_complete(row):
                    assert truth.get(opened) == list(row[OPEN:FIRST_AGG_ID])


def test_the_clock_closes_bars_and_empty_ones_carry_the_close() -> None:
    """Closing needs no next trade; a bar without trades has o = h = l = c (I5)."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5, price=321))
    desk.swap()

    desk.book.close_due(BASE_TIME + 2 * MINUTE)
    desk.swap()

    bars = desk.bars("1m")
    assert [321] * 4 + [0] * 5 == list(bars[BASE_TIME + MINUTE][OPEN:FIRST_AGG_ID])
    assert is_final(bars[BASE_TIME + MINUTE])
    assert not is_final(bars[BASE_TIME + 2 * MINUTE])
    # Nobody knows yet whether a trade of that minute is still on its way.
    assert not is_complete(bars[BASE_TIME + MINUTE])

    desk.book.apply(make_trade(FIRST_ID + 1, BASE_TIME + 2 * MINUTE + 1))
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME + MINUTE])
    assert [(0, BASE_TIME, 0), (0, BASE_TIME + MINUTE, 0)] == [
        a for a in desk.announced if a[0] == 0
    ]


def test_a_late_trade_corrects_its_bar_and_all_that_carried_it() -> None:
    """The bar gets a higher revision, and so do the empty bars after it (I2, I4, I5)."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5, price=10))
    desk.book.apply(make_trade(FIRST_ID + 2, BASE_TIME + 2 * MINUTE + 5, price=30))
    desk.swap()
    assert not is_complete(desk.bars("1m")[BASE_TIME])

    desk.book.apply(make_trade(FIRST_ID + 1, BASE_TIME + 6, price=20))
    desk.swap()

    first, empty = desk.bars("1m")[BASE_TIME], desk.bars("1m")[BASE_TIME + MINUTE]
    assert (20, 2, 1, True) == (
        first[CLOSE],
        first[TRADE_COUNT],
        revision_of(first),
        is_complete(first),
    )
    assert (20, 0, 1, True) == (
        empty[CLOSE],
        empty[TRADE_COUNT],
        revision_of(empty),
        is_complete(empty),
    )
    assert (FIRST_ID + 2, FIRST_ID + 1) == (empty[FIRST_AGG_ID], empty[LAST_AGG_ID])
    assert desk.book.counts.late == 1


def test_an_open_bar_is_not_complete_while_its_feed_is_down() -> None:
    """A lost feed shows at once, and a contiguous id after it heals everything."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5))
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME])

    desk.book.set_feed(up=False)
    desk.swap()
    assert not is_complete(desk.bars("1m")[BASE_TIME])

    desk.book.set_feed(up=True)
    desk.book.apply(make_trade(FIRST_ID + 1, BASE_TIME + 6))
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME])


def klines_before(trades: list[AggTrade], until: int, name: str) -> tuple[Rows, list[int] | None]:
    """What the exchange's REST would give of the past: closed bars, and the open one's part."""
    interval = INTERVALS[name]
    bars = reference_bars([t for t in trades if t.time < until], interval)
    flags = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
    rows = [[opened, *values, -1, -1, flags] for opened, values in bars.items()]
    closed = [row for row in rows if interval.next_open(row[0]) <= until]
    part = [row for row in rows if interval.next_open(row[0]) > until]
    return (np.array(closed, np.int64) if closed else NO_ROWS), (part[0] if part else None)


@settings(max_examples=200)
@given(trade_lists(max_size=60, step_ms=20_000), st.integers(0, 30), st.integers(0, 40), st.data())
def test_a_seed_makes_every_open_bar_right(
    trades: list[AggTrade], missed: int, wait: int, data: st.DataObject
) -> None:
    """A daemon that came late takes over the past, whatever closes while it is being fetched."""
    missed = min(missed, len(trades) - 1)
    desk = Desk()
    desk.book.set_feed(up=True)
    desk.book.apply(trades[missed])
    until = INTERVALS["1m"].next_open(INTERVALS["1m"].open_of(trades[missed].time))
    desk.book.begin_seed(until)
    rest = trades[missed + 1 :]
    before_seed = rest[:wait]
    for trade in before_seed:
        desk.book.apply(trade)
        if data.draw(st.booleans()):
            desk.swap()
    if not any(trade.time >= until for trade in before_seed):
        desk.book.close_due(until)
    pasts = []
    for interval in desk.intervals:
        closed, part = klines_before(trades, until, interval.name)
        pasts.append(Past(closed, part))
    assert desk.book.seed(Seed(until, pasts))
    for trade in rest[wait:]:
        desk.book.apply(trade)
    desk.swap()

    for interval in desk.intervals:
        truth = reference_bars(trades, interval)
        for opened, row in desk.bars(interval.name).items():
            if opened in truth and (is_complete(row) or not is_final(row)):
                assert truth[opened] == list(row[OPEN:FIRST_AGG_ID])
        live = desk.store.live_row([i.name for i in desk.intervals].index(interval.name))
        assert is_complete(live)


@pytest.mark.parametrize("wait", [0, 1, 2, 4, 9, 70])
def test_a_late_seed_leaves_no_hole_before_the_first_trade(wait: int) -> None:
    """A quiet symbol's past may come only after its next trade, many minutes after the boundary."""
    until = BASE_TIME + 2 * MINUTE
    first = make_trade(FIRST_ID, BASE_TIME + 10_000, price=17)
    then = make_trade(FIRST_ID + 1, until + wait * MINUTE + 5_000, price=23)
    desk = Desk()
    desk.book.set_feed(up=True)
    desk.book.anchor(first.agg_id, first.time)
    desk.book.begin_seed(until)
    desk.book.apply(then)
    desk.swap()
    pasts = [Past(*klines_before([first], until, each.name)) for each in desk.intervals]
    for past, each in zip(pasts, desk.intervals, strict=True):
        # The exchange has a kline of the minute without a trade, too.
        if each.length == MINUTE:
            empty = [BASE_TIME + MINUTE, *[17] * 4, *[0] * 5, -1, -1, int(past.closed[0, FLAGS])]
            pasts[0] = Past(np.array([*past.closed.tolist(), empty], np.int64), None)
    assert desk.book.seed(Seed(until, pasts))
    desk.swap()

    for interval in desk.intervals:
        truth = reference_bars([first, then], interval)
        bars = desk.bars(interval.name)
        assert truth.keys() - {BASE_TIME, BASE_TIME + MINUTE} <= bars.keys(), interval
        for opened, row in bars.items():
            assert truth[opened] == list(row[OPEN:FIRST_AGG_ID]), interval
            assert is_complete(row), interval
            assert is_final(row) == (interval.next_open(opened) <= then.time)
        newest = bars[max(bars)]
        assert (then.agg_id, 23) == (newest[LAST_AGG_ID], newest[CLOSE])


def test_a_restored_book_goes_on_where_it_stopped() -> None:
    """Open bars come back from an earlier run, and what was missed shows as a hole."""
    before = anchored_desk()
    before.book.apply(make_trade(FIRST_ID, BASE_TIME + MINUTE))
    before.book.apply(make_trade(FIRST_ID + 1, BASE_TIME + 7 * MINUTE))
    before.book.set_feed(up=False)
    before.swap()
    live = [before.store.live_row(index) for index in range(len(NAMES))]
    short = [row for index, row in enumerate(live) if index < 2]
    assert all(row[FLAGS] & Flag.COMPLETE for row in short)

    after = Desk()
    proved = [[*row[:FLAGS], row[FLAGS] | Flag.COMPLETE] for row in live]
    assert after.book.restore(proved)
    after.book.apply(make_trade(FIRST_ID + 4, BASE_TIME + 9 * MINUTE))

    assert [(FIRST_ID + 2, FIRST_ID + 3)] == [(h.first, h.last) for h in after.book.ledger.holes]
    for late in (FIRST_ID + 3, FIRST_ID + 2):
        after.book.apply(make_trade(late, BASE_TIME + 8 * MINUTE))
    after.swap()
    assert after.bars("1m")[BASE_TIME + 8 * MINUTE][VOLUME] == 2
    assert after.bars("1h")[INTERVALS["1h"].open_of(BASE_TIME + 9 * MINUTE)][VOLUME] >= 1


def test_a_restart_folds_nothing_that_the_klines_hold() -> None:
    """Trades missed before a seed are in its klines: whoever goes on must not take them once more."""
    until = BASE_TIME + 5 * MINUTE
    # The first one is seen, the next two only the klines know, the last one comes after the restart.
    times = [until - 110_000, until - 50_000, until - 20_000, until + 70_000]
    trades = [make_trade(FIRST_ID + number, time) for number, time in enumerate(times)]
    before = Desk()
    before.book.set_feed(up=True)
    before.book.apply(trades[0])
    before.book.set_feed(up=False)
    before.book.begin_seed(until)
    before.book.close_due(until)
    pasts = [Past(*klines_before(trades, until, each.name)) for each in before.intervals]
    assert before.book.seed(Seed(until, pasts))
    before.swap()

    after = Desk()
    for index, past in enumerate(pasts):
        after.book.remember(index, past.closed)
    after.book.restore([before.store.live_row(index) for index in range(len(NAMES))])
    after.book.set_feed(up=True)
    for trade in (trades[3], trades[1], trades[2]):
        after.book.apply(trade)
        after.swap()
    for interval in after.intervals:
        truth = reference_bars(trades, interval)
        for opened, row in after.bars(interval.name).items():
            if is_complete(row):
                assert truth[opened] == list(row[OPEN:FIRST_AGG_ID]), interval


def test_what_is_not_proved_is_not_restored() -> None:
    """An unproved bar, a missing one or disagreeing ids send the symbol to the exchange."""
    good = [[BASE_TIME, 1, 1, 1, 1, 1, 1, 1, 0, 0, 5, 7, Flag.COMPLETE] for _ in NAMES]

    def changed(field: int, value: int) -> list[list[int]]:
        rows = [list(row) for row in good]
        rows[2][field] = value
        return rows

    assert Desk().book.restore(good)
    assert not Desk().book.restore(changed(FLAGS, 0))
    assert not Desk().book.restore(changed(OPEN_TIME, 0))
    assert not Desk().book.restore(changed(LAST_AGG_ID, 6))


def test_a_sum_beyond_64_bits_halts_the_symbol_and_keeps_what_was_right() -> None:
    """Nothing wraps around, nothing is shown that is not true, and the reason is named."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME, price=2**31, quantity=2**31))
    desk.swap()
    shown = desk.bars("1m")
    desk.book.apply(make_trade(FIRST_ID + 1, BASE_TIME, price=2**31, quantity=2**31))
    desk.swap()

    assert "BTCUSDT does not fit 64 bits" in desk.book.halted
    after = desk.bars("1m")
    assert shown[BASE_TIME][:FLAGS] == after[BASE_TIME][:FLAGS]
    assert not is_complete(after[BASE_TIME])
    assert desk.book.sound


def assert_complete_bars_are_true(desk: Desk, trades: list[AggTrade]) -> None:
    """Whatever a book calls complete has the values that its trades make."""
    for interval in desk.intervals:
        truth = reference_bars(trades, interval)
        for opened, row in desk.bars(interval.name).items():
            if opened in truth and is_complete(row):
                assert truth[opened] == list(row[OPEN:FIRST_AGG_ID])


@given(trade_lists(step_ms=20_000), st.integers(1, 20), st.integers(0, 20))
def test_what_the_klines_held_is_not_folded_once_more_after_a_restart(
    trades: list[AggTrade], seen: int, later: int
) -> None:
    """The stream may be behind the klines that take over, and the run may end right then."""
    seen = min(seen, len(trades))
    until = INTERVALS["1m"].next_open(INTERVALS["1m"].open_of(trades[seen - 1].time)) + MINUTE
    desk = anchored_desk(trades[0].time)
    desk.book.begin_seed(until)
    for trade in trades[:seen]:
        desk.book.apply(trade)
    pasts = [Past(*klines_before(trades, until, each.name)) for each in desk.intervals]
    assert desk.book.seed(Seed(until, pasts))
    for trade in trades[seen : seen + later]:
        desk.book.apply(trade)
    desk.swap()
    live = [desk.store.live_row(index) for index in range(len(NAMES))]
    after = Desk()
    if not after.book.restore(live):
        return
    after.book.set_feed(up=True)
    for trade in trades:
        after.book.apply(trade)
    after.swap()
    assert_complete_bars_are_true(after, trades)


def id_span(trades: list[AggTrade], start: int, end: int) -> list[int]:
    """Return the true first and last id of a bar."""
    last = max((trade.agg_id for trade in trades if trade.time < end), default=FIRST_ID - 1)
    inside = [trade.agg_id for trade in trades if start <= trade.time < end]
    return [min(inside, default=last + 1), last]


@settings(max_examples=200)
@given(
    trade_lists(max_size=12, step_ms=200_000),
    st.sets(st.integers(1, 11), min_size=1, max_size=3),
    st.integers(2, 12),
    st.integers(1, 4),
)
def test_what_is_held_back_until_after_a_seed_leaves_no_bar_with_old_ids(
    trades: list[AggTrade], held: set[int], seen: int, later: int
) -> None:
    """The klines hold such a trade, but it is the trade that tells the ids of bars after it."""
    seen = min(seen, len(trades))
    until = INTERVALS["1m"].next_open(INTERVALS["1m"].open_of(trades[seen - 1].time))
    missing = [trades[index] for index in sorted(held) if index < seen]
    desk = anchored_desk(trades[0].time)
    desk.book.begin_seed(until)
    for trade in trades[: seen + later]:
        if trade not in missing:
            desk.book.apply(trade)
    desk.book.close_due(until)
    desk.swap()
    pasts = [Past(*klines_before(trades, until, each.name)) for each in desk.intervals]
    assert desk.book.seed(Seed(until, pasts))
    desk.swap()
    for trade in [*missing, *trades[seen + later :]]:
        desk.book.apply(trade)
    desk.swap()

    assert_complete_bars_are_true(desk, trades)
    for interval in desk.intervals:
        known = reference_bars(trades, interval).keys()
        for opened, row in desk.bars(interval.name).items():
            if opened in known and is_complete(row):
                ids = id_span(trades, opened, interval.next_open(opened))
                told = row[FIRST_AGG_ID], row[LAST_AGG_ID]
                assert all(a in (b, NO_ID) for a, b in zip(told, ids, strict=True)), interval
