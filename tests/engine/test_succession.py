"""A book that breaks off in a change has a successor that claims less and forgets nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    OPEN,
    OPEN_TIME,
    TRADE_COUNT,
    Flag,
    has_row,
    is_complete,
    is_final,
    revision_of,
)
from klinetrio.domain.trade import AggTrade
from klinetrio.engine import book as book_module
from klinetrio.engine import closed as closed_module
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.closed import ClosedBars
from klinetrio.engine.ledger import IdLedger
from klinetrio.engine.seeding import Past, Seed
from tests.engine.reference import reference_bars
from tests.engine.strategies import BASE_TIME, FIRST_ID, trade_lists
from tests.engine.test_book import SYMBOL, Desk, anchored_desk, klines_before
from tests.engine.test_restarted_ids import Repair, assert_claims_are_true
from tests.engine.test_swapper import GRACE_MS, Stage, open_stage


if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

# Where a book can break off, between any two of its steps.
STEPS: tuple[tuple[Any, str], ...] = (
    (book_module, "fold_trade"),
    (closed_module, "fold_trade"),
    (SymbolBook, "_open"),
    (ClosedBars, "correct"),
    (ClosedBars, "carry"),
    (ClosedBars, "_publish"),
    (IdLedger, "see"),
)


class BrokenOffError(Exception):
    """A bug, as far as the book is concerned."""


@contextmanager
def breaking(step: tuple[Any, str], countdown: int, *, after: bool) -> Iterator[None]:
    """Let one step fail at its n-th call, before or after it has done its work."""
    target, name = step
    work = getattr(target, name)
    left = countdown

    def fail_once(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise BrokenOffError
        result = work(*arguments, **keywords)
        if left == 0:
            raise BrokenOffError
        return result

    with patch.object(target, name, fail_once):
        yield


def succeed(desk: Desk) -> None:
    """Put a successor in place of the desk's book."""
    broken = desk.book
    desk.book = SymbolBook(
        SYMBOL, desk.intervals, store=desk.store, outbox=desk.outbox, first_row=0
    )
    desk.book.succeed(broken)


@settings(max_examples=300)
@given(
    trade_lists(max_size=50, step_ms=90_000),
    st.sampled_from(STEPS),
    st.integers(1, 25) | st.integers(1, 200),
    st.booleans(),
    st.data(),
)
def test_wherever_a_book_breaks_off_its_bars_are_told_once_and_end_right(
    trades: list[AggTrade],
    step: tuple[Any, str],
    countdown: int,
    after: bool,
    data: st.DataObject,
) -> None:
    """Every bar is announced as final once, corrections by revision, no claim is ever wrong."""
    desk = anchored_desk()
    desk.book.seeded = True
    repair = Repair(desk, trades)
    # A bar of which nothing was ever shown is not told either: that is left to the history.
    desk.book.apply(trades[0])
    desk.swap()
    arrivals = data.draw(st.permutations(trades[1:6])) + trades[6:]
    seen = trades[:1]
    breaks = 0
    with breaking(step, countdown, after=after):
        for trade in arrivals:
            seen.append(trade)
            for act, argument in (("close_due", trade.time - 500), ("apply", trade)):
                try:
                    getattr(desk.book, act)(argument)
                except BrokenOffError:
                    breaks += 1
                    succeed(desk)
            desk.swap()
            if len(seen) >= 6:
                # Trades overtake each other; the clock does not go back.
                repair.look(max(each.time for each in seen))
                desk.swap()
                assert_claims_are_true(desk, seen)
    assert breaks <= 1
    event(f"broke off in {step[1]}" if breaks else "did not break off")
    end_right(desk, repair, trades, seeded=bool(breaks))


def end_right(desk: Desk, repair: Repair, trades: list[AggTrade], *, seeded: bool) -> None:
    """Let time pass and trades come until the past is known; judge what was told and what is."""
    last = trades[-1]
    for number in range(1, 12):
        trade = last._replace(agg_id=last.agg_id + number, time=last.time + number * 20_000)
        repair.truth = [*repair.truth, trade]
        desk.book.close_due(trade.time - 500)
        desk.book.apply(trade)
        repair.look(trade.time)
        desk.swap()
    assert not desk.book.needs_repair
    assert (repair.seeds > 0) or not seeded
    for index, interval in enumerate(desk.intervals):
        truth = reference_bars(repair.truth, interval)
        bars = desk.bars(interval.name)
        assert {opened: list(row[OPEN:FIRST_AGG_ID]) for opened, row in bars.items()} == truth
        told = [(opened, rev) for row, opened, rev in desk.announced if row == index]
        firsts = [opened for opened, rev in told if rev == 0]
        assert sorted(firsts) == sorted(opened for opened, row in bars.items() if is_final(row))
        for opened in set(firsts):
            revisions = [rev for each, rev in told if each == opened]
            assert revisions == sorted(set(revisions))


def test_what_was_shown_is_shown_on_without_the_claim() -> None:
    """The same bars, at once, incomplete; and they go on growing."""
    desk = anchored_desk()
    desk.book.seeded = True
    for number in range(3):
        desk.book.apply(AggTrade("BTCUSDT", FIRST_ID + number, 100, 1, 1, 1, BASE_TIME + 5, False))
    desk.swap()
    before = desk.store.live_row(0)
    assert is_complete(before)

    succeed(desk)
    desk.store.swap()
    shown = desk.store.live_row(0)
    assert not shown[FLAGS] & Flag.COMPLETE
    assert before[:FLAGS] == shown[:FLAGS]
    desk.book.apply(AggTrade("BTCUSDT", FIRST_ID + 9, 70, 1, 1, 1, BASE_TIME + 6, False))
    desk.swap()
    shown = desk.store.live_row(0)
    assert (70, 4) == (shown[CLOSE], shown[TRADE_COUNT])
    assert not is_complete(shown)


def test_a_book_that_had_no_bars_leaves_none() -> None:
    """Nothing is made of nothing."""
    desk = Desk()
    succeed(desk)
    desk.swap()
    assert not has_row(desk.book.open_bar(0))
    assert not has_row(desk.store.live_row(0))
    assert not desk.book.close_due(BASE_TIME + 10 * MINUTE)


def test_the_exchange_s_newest_trade_proves_no_close_that_was_taken_over() -> None:
    """The trade that the book died of may be that trade; only the klines tell its close."""
    desk = anchored_desk()
    desk.book.seeded = True
    desk.book.apply(AggTrade("BTCUSDT", FIRST_ID, 100, 1, 1, 1, BASE_TIME + 5, False))
    desk.swap()
    lost = AggTrade("BTCUSDT", FIRST_ID + 1, 777, 1, 1, 1, BASE_TIME + 6, False)
    succeed(desk)
    desk.book.close_due(BASE_TIME + 3 * MINUTE)
    desk.book.anchor(lost.agg_id, lost.time)
    truth = [AggTrade("BTCUSDT", FIRST_ID, 100, 1, 1, 1, BASE_TIME + 5, False), lost]
    until = BASE_TIME + 4 * MINUTE
    desk.book.begin_seed(until)
    for time in (BASE_TIME + 3 * MINUTE + 1, until + 1, until + MINUTE + 1):
        truth.append(lost._replace(agg_id=truth[-1].agg_id + 1, time=time))
        desk.book.apply(truth[-1])
        desk.swap()
        assert_claims_are_true(desk, truth)
    pasts = [Past(*klines_before(truth, until, each.name)) for each in desk.intervals]
    assert desk.book.seed(Seed(until, pasts))
    desk.swap()
    assert_claims_are_true(desk, truth)
    bars = desk.bars("1m")
    assert [777] * 4 == [bars[BASE_TIME + n * MINUTE][CLOSE] for n in range(4)]
    assert all(is_complete(bars[BASE_TIME + n * MINUTE]) for n in range(6))


def poison(agg_id: int, time_ms: int) -> AggTrade:
    """Return a trade that breaks a fold in the middle."""
    price: Any = "not a number"
    return AggTrade("AUSDT", agg_id, price, 1, agg_id, agg_id, BASE_TIME + time_ms, False)


async def break_off(stage: Stage, agg_id: int, time_ms: int) -> None:
    """Have the book of AUSDT break off at a moment after the start."""
    await stage.clock.sleep_until(BASE_TIME + time_ms)
    await stage.engine.deliver(poison(agg_id, time_ms), 0.0)
    await wait_all_tasks_blocked()
    assert not stage.engine.book(0).sound


async def test_a_crash_shows_at_the_next_swap_and_delays_no_bar(
    autojump_clock: MockClock,
) -> None:
    """A quiet symbol's minutes close on time from crash to seed, each told once, then corrected."""
    async with open_stage() as stage:
        stage.engine.set_feed(stage.engine.registry.symbols[0], up=True)
        stage.engine.book(0).anchor(0, BASE_TIME - 1)
        await stage.trade(1, 10_000, price=100)
        await stage.clock.sleep_until(BASE_TIME + 10_150)
        assert is_complete(stage.engine.store.live_row(0))
        await break_off(stage, 2, 30_000)
        await stage.clock.sleep_until(BASE_TIME + 30_150)
        for row in (0, 1):
            shown = stage.engine.store.live_row(row)
            assert (BASE_TIME - BASE_TIME % (MINUTE, 5 * MINUTE)[row], 100, 1) == (
                shown[OPEN_TIME],
                shown[CLOSE],
                shown[TRADE_COUNT],
            )
            assert not shown[FLAGS] & Flag.COMPLETE

        await stage.clock.sleep_until(BASE_TIME + 3 * MINUTE + 2 * GRACE_MS)
        minutes = [each for each in stage.closings() if each[1] == 0]
        assert [(n * MINUTE + GRACE_MS, 0, (n - 1) * MINUTE) for n in (1, 2, 3)] == minutes

        book = stage.engine.book(0)
        book.anchor(2, BASE_TIME + 30_000)
        until = BASE_TIME + 4 * MINUTE
        book.begin_seed(until)
        await stage.clock.sleep_until(until + 2 * GRACE_MS)
        truth = [
            AggTrade("AUSDT", n, price, 1, n, n, BASE_TIME + time, False)
            for n, price, time in ((1, 100, 10_000), (2, 777, 30_000))
        ]
        pasts = []
        for interval in stage.engine.registry.intervals:
            bars, part = klines_before(truth, until, interval.name)
            if interval.length == MINUTE:
                flat = [bars[-1].tolist() for _ in range(3)]
                for number, row in enumerate(flat, 1):
                    row[:FIRST_AGG_ID] = [BASE_TIME + number * MINUTE, *[777] * 4, *[0] * 5]
                bars = np.concatenate((bars, flat))
            pasts.append(Past(bars, part))
        assert stage.engine.seed(0, Seed(until, pasts))
        await stage.clock.sleep_until(until + 3 * GRACE_MS)
        told: dict[int, list[tuple[int, int]]] = {}
        for _, publication in stage.published:
            for bar in publication.closed:
                if bar.row == 0:
                    entry = revision_of(bar.values), bar.values[CLOSE]
                    told.setdefault(bar.values[OPEN_TIME] - BASE_TIME, []).append(entry)
        assert {n * MINUTE: [(0, 100), (1, 777)] for n in range(4)} == told


async def test_a_book_that_breaks_off_in_the_swapper_is_replaced(
    autojump_clock: MockClock,
) -> None:
    """Without a trade, which a quiet symbol may not have for hours; nothing is told twice."""
    async with open_stage() as stage:
        await stage.trade(1, 10_000)
        book = stage.engine.book(0)
        with breaking((SymbolBook, "_open"), 1, after=False), pytest.raises(BrokenOffError):
            stage.engine.tick(BASE_TIME + MINUTE)
        assert not book.sound
        await stage.clock.sleep_until(BASE_TIME + 2 * MINUTE + 2 * GRACE_MS)
        assert stage.engine.book(0) is not book
        assert [0, MINUTE] == [opened for _, row, opened in stage.closings() if row == 0]
