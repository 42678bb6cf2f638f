"""Actors work off their messages, survive crashes, and disturb nobody."""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.kline import CLOSE, OPEN_TIME, TRADE_COUNT, VOLUME, Flag, has_row, is_complete
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.actor import MAX_BATCH, QUEUE_SIZE, GetKline
from klinetrio.engine.engine import DELIVERY_TIMEOUT_S, Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.engine.seeding import Past, Seed
from klinetrio.errors import GaveUp
from klinetrio.supervise import BUGS_ALLOWED
from tests.engine.strategies import BASE_TIME
from tests.engine.test_book import NO_ROWS


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

NAMES = ("AUSDT", "BUSDT", "CUSDT")
INTERVALS = parse_intervals(["1m", "5m"])


def make_engine(**options: Any) -> Engine:
    """Return an engine of three symbols and two intervals."""
    symbols = [Symbol(name, name[0], "USDT", 0, 2, 3) for name in NAMES]
    return Engine(SymbolPeriodRegistry.ranked(symbols, INTERVALS), **options)


def all_known(engine: Engine) -> None:
    """Let every book know its past, so that it has nothing to report."""
    for index in range(len(NAMES)):
        engine.book(index).seeded = True


def trade_of(name: str, agg_id: int, time: int = BASE_TIME, price: int = 100) -> AggTrade:
    """Return a plain trade."""
    return AggTrade(name, agg_id, price, 1, agg_id, agg_id, time, False)


def poison(name: str, agg_id: int) -> AggTrade:
    """Return a trade that breaks the fold in the middle of a change."""
    price: Any = "not a number"
    return trade_of(name, agg_id, price=price)


async def deliver(engine: Engine, *trades: AggTrade) -> None:
    """Deliver trades, all received now."""
    for trade in trades:
        await engine.deliver(trade, perf_counter())


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[None]:
    """Run the actors; leaving stops them in order."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        yield
        await engine.shut_down()


async def test_trades_reach_the_readers_at_the_next_swap(autojump_clock: MockClock) -> None:
    """Not before it, and only the rows of their symbol have changed."""
    engine = make_engine()
    async with running(engine):
        await deliver(engine, trade_of("BUSDT", 1), trade_of("BUSDT", 2, price=150))
        await wait_all_tasks_blocked()
        assert not has_row(engine.store.live_row(2))
        publication = engine.tick(0)
        assert publication.generation == 1
        assert publication.changed.tolist() == [2, 3]
        assert (2, 150) == tuple(engine.store.live_row(2)[field] for field in (VOLUME, CLOSE))
        assert engine.counts().folded == 2


async def test_an_open_bar_can_be_asked_for_without_waiting(autojump_clock: MockClock) -> None:
    """After all trades that were delivered before the question."""
    engine = make_engine()
    async with running(engine):
        assert not has_row(await engine.get_kline(0, 1))
        for agg_id in range(300):
            await deliver(engine, trade_of("AUSDT", agg_id))
        bar = await engine.get_kline(0, 1)
        assert bar[TRADE_COUNT] == 300
        assert engine.store.generation == 0
        bar[VOLUME] = 0
        assert (await engine.get_kline(0, 1))[VOLUME] == 300


async def test_a_burst_costs_one_write(autojump_clock: MockClock) -> None:
    """What is waiting is drained before the bars are shown."""
    engine = make_engine()
    writes = []
    write = engine.store.write

    def count(first_row: int, values: Any) -> None:
        writes.append(first_row)
        write(first_row, values)

    engine.store.write = count  # type: ignore[method-assign]
    await deliver(engine, *(trade_of("AUSDT", agg_id) for agg_id in range(MAX_BATCH)))
    async with running(engine):
        await wait_all_tasks_blocked()
        assert writes == [0]
        assert engine.delays.count == 1
        assert engine.queue_high_water == MAX_BATCH
        assert engine.counts().folded == MAX_BATCH


async def test_shutdown_comes_after_everything_before_it(autojump_clock: MockClock) -> None:
    """No trade that was delivered is lost in an orderly stop."""
    engine = make_engine()
    for name in NAMES:
        await deliver(engine, *(trade_of(name, agg_id) for agg_id in range(200)))
    async with running(engine):
        pass
    assert engine.counts().folded == 600
    assert engine.queued == 0


async def test_a_crash_in_mid_change_gives_a_new_book(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Of that symbol alone; the others notice nothing, and repair is told."""
    troubled: list[int] = []
    engine = make_engine(on_trouble=troubled.append)
    engine.set_feed(engine.registry.symbols[1], up=True)
    troubled.clear()
    books = [engine.book(index) for index in range(3)]
    async with running(engine):
        for name in NAMES:
            await deliver(engine, trade_of(name, 1))
        await wait_all_tasks_blocked()
        await deliver(engine, poison("BUSDT", 2))
        await wait_all_tasks_blocked()
        assert not books[1].sound

        await deliver(engine, *(trade_of(name, 3) for name in NAMES))
        await trio.sleep(5)
        assert [True, False, True] == [engine.book(i) is books[i] for i in range(3)]
        assert engine.book(1).sound
        assert engine.book(1).feed_up
        assert not engine.book(1).seeded
        assert troubled == [1]
        assert engine.actor_restarts == 1
        engine.tick(0)
        assert [2, 1, 2] == [engine.store.live_row(row)[TRADE_COUNT] for row in (0, 2, 4)]
        # What the broken book had counted is not forgotten.
        assert engine.counts().folded == 7
        assert "book_replaced symbol=BUSDT" in caplog.text


async def test_a_broken_book_takes_part_in_nothing(autojump_clock: MockClock) -> None:
    """Until it is replaced: not seeded, not shown."""
    engine = make_engine()
    async with running(engine):
        await deliver(engine, trade_of("AUSDT", 1))
        await wait_all_tasks_blocked()
        book = engine.book(0)
        book.begin_seed(BASE_TIME + MINUTE)
        await deliver(engine, poison("AUSDT", 2))
        await wait_all_tasks_blocked()
        assert not book.sound

        past = Past(NO_ROWS, None)
        assert not engine.seed(0, Seed(BASE_TIME + MINUTE, [past, past]))
        assert not book.sound
        engine.set_feed(engine.registry.symbols[0], up=False)

        await trio.sleep(1)
        assert engine.book(0) is not book
        assert not engine.book(0).feed_up


async def test_a_question_survives_the_crash_of_its_actor(autojump_clock: MockClock) -> None:
    """Whoever asks gets the successor's answer instead of waiting for ever."""
    engine = make_engine()
    await deliver(engine, trade_of("AUSDT", 1), poison("AUSDT", 2))
    answers: list[list[int]] = []

    async def ask() -> None:
        answers.append(await engine.get_kline(0, 0))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            async with running(engine):
                await trio.sleep(10)
                assert len(answers) == 1
                assert not has_row(answers[0])


async def test_whoever_asks_may_leave(autojump_clock: MockClock) -> None:
    """A question whose asker has been cancelled harms nobody."""
    engine = make_engine()
    with trio.move_on_after(1):
        await engine.get_kline(0, 0)
    await deliver(engine, trade_of("AUSDT", 1))
    async with running(engine):
        await wait_all_tasks_blocked()
        assert engine.actor_restarts == 0
        assert engine.counts().folded == 1


async def test_a_crash_outside_of_a_change_keeps_the_book(autojump_clock: MockClock) -> None:
    """What is sound stays; a drained trade that was lost shows in the ids."""
    engine = make_engine()
    book = engine.book(0)
    async with running(engine):
        await deliver(engine, trade_of("AUSDT", 1))
        await wait_all_tasks_blocked()
        reply, answer = trio.open_memory_channel[list[int]](0)
        engine._actors[0].send_nowait(GetKline(0, reply))
        await deliver(engine, trade_of("AUSDT", 2), trade_of("AUSDT", 3))
        await trio.sleep(5)
        await deliver(engine, trade_of("AUSDT", 4))
        await wait_all_tasks_blocked()
        assert engine.book(0) is book
        assert engine.actor_restarts == 1
        assert [(2, 3)] == [(hole.first, hole.last) for hole in book.ledger.holes]
        reply.close()
        answer.close()


async def test_an_actor_that_keeps_crashing_ends_the_engine(autojump_clock: MockClock) -> None:
    """Better no bars than wrong ones."""
    engine = make_engine()
    await deliver(engine, *(poison("AUSDT", number) for number in range(BUGS_ALLOWED)))

    async def poison_on() -> None:
        async with running(engine):
            while True:
                await deliver(engine, poison("AUSDT", BUGS_ALLOWED))
                await trio.sleep(40)

    with pytest.raises(ExceptionGroup) as caught:
        await poison_on()
    assert caught.value.subgroup(GaveUp) is not None


async def test_a_full_inbox_makes_the_sender_wait(autojump_clock: MockClock) -> None:
    """As long as it is worked off in time, nothing is lost."""
    engine = make_engine()
    await deliver(engine, *(trade_of("AUSDT", agg_id) for agg_id in range(QUEUE_SIZE)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver, engine, trade_of("AUSDT", QUEUE_SIZE))
        await trio.sleep(DELIVERY_TIMEOUT_S - 0.1)
        assert engine.queued == QUEUE_SIZE
        async with running(engine):
            pass
    assert engine.dropped == 0
    assert engine.counts().folded == QUEUE_SIZE + 1
    assert trio.current_time() == DELIVERY_TIMEOUT_S - 0.1


async def test_a_trade_is_dropped_after_the_deadline_and_counted(
    autojump_clock: MockClock,
) -> None:
    """A symbol that hangs does not hang its connection, and the others are not touched."""
    engine = make_engine()
    await deliver(engine, *(trade_of("AUSDT", agg_id) for agg_id in range(QUEUE_SIZE)))
    await deliver(engine, trade_of("AUSDT", QUEUE_SIZE))
    assert trio.current_time() == DELIVERY_TIMEOUT_S
    assert engine.dropped == 1
    await deliver(engine, trade_of("BUSDT", 1))
    assert trio.current_time() == DELIVERY_TIMEOUT_S

    async with running(engine):
        await wait_all_tasks_blocked()
        await deliver(engine, trade_of("AUSDT", QUEUE_SIZE + 1))
        await wait_all_tasks_blocked()
        holes = engine.book(0).ledger.holes
        assert [(QUEUE_SIZE, QUEUE_SIZE)] == [(hole.first, hole.last) for hole in holes]


async def test_a_feed_that_goes_down_shows_without_a_trade(autojump_clock: MockClock) -> None:
    """Its open bars are no longer complete; up again, repair has a look."""
    troubled: list[int] = []
    engine = make_engine(on_trouble=troubled.append)
    all_known(engine)
    symbol = engine.registry.symbols[2]
    engine.set_feed(symbol, up=True)
    assert troubled == [2]
    engine.book(2).anchor(0, BASE_TIME - 1)
    async with running(engine):
        await deliver(engine, trade_of("CUSDT", 1))
        await wait_all_tasks_blocked()
        engine.tick(0)
        assert is_complete(engine.store.live_row(4))
        engine.set_feed(symbol, up=False)
        engine.tick(0)
        assert not is_complete(engine.store.live_row(4))
        assert engine.store.live_row(4)[-1] & Flag.FEED_DOWN
        assert troubled == [2]


async def test_an_unknown_past_is_trouble_at_every_tick() -> None:
    """Until the book is seeded, or halted, when nothing can be done for it."""
    troubled: list[int] = []
    engine = make_engine(on_trouble=troubled.append)
    engine.tick(0)
    assert troubled == [0, 1, 2]
    engine.book(0).seeded = True
    engine.book(1).halt("for a test")
    engine.tick(0)
    assert troubled == [0, 1, 2, 2]


async def test_holes_are_trouble_at_every_tick(autojump_clock: MockClock) -> None:
    """Until they are filled; repair may have been busy."""
    troubled: list[int] = []
    engine = make_engine(on_trouble=troubled.append)
    all_known(engine)
    async with running(engine):
        await deliver(engine, trade_of("BUSDT", 1), trade_of("BUSDT", 3))
        await wait_all_tasks_blocked()
        engine.tick(0)
        engine.tick(0)
        assert troubled == [1, 1]
        await deliver(engine, trade_of("BUSDT", 2))
        await wait_all_tasks_blocked()
        engine.tick(0)
        assert troubled == [1, 1]


async def test_a_tick_closes_what_is_due(autojump_clock: MockClock) -> None:
    """Without a further trade, each bar once; a symbol without bars has none to close."""
    engine = make_engine()
    async with running(engine):
        await deliver(engine, trade_of("AUSDT", 1))
        await wait_all_tasks_blocked()
        assert engine.tick(BASE_TIME + MINUTE - 1).closed == []
        closed = engine.tick(BASE_TIME + MINUTE).closed
        assert [(0, BASE_TIME)] == [(bar.row, bar.values[OPEN_TIME]) for bar in closed]
        assert engine.tick(BASE_TIME + MINUTE).closed == []
        assert engine.store.live_row(0)[OPEN_TIME] == BASE_TIME + MINUTE
        assert not has_row(engine.store.live_row(2))
