"""A market of single fills: its klines are made of fills, its streams show aggregates.

This is what the exchange does, and why bars of its aggregates are not quite its klines (see
``fills``).  Both truths are known here: ``true_klines`` are the bars of the fills, forced ones
included, and what REST serves; ``aggregate_klines`` are the bars of the aggregates by their times,
the best that a reader of the streams can do.

Theory of operation: each symbol draws its bursts one by one, from a generator of its own.  What
becomes of a burst is put into one heap by time: its fills happen each at its own time, its
aggregate is complete, entered in the ledger, 100 ms after the first of them, and delivered some
time later.

Invariants:
  I1  aggregate ids rise by exactly one per symbol, in the order of ``T``; ``E`` never goes back.
  I2  nothing is known before its time, and how often the loop runs changes nothing.
  I3  aggregate bar = true bar + what left it - what entered it + holes - forced fills, in volumes
      and counts; ``differences`` tells which.
"""

from __future__ import annotations

import heapq
from collections import Counter
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import NO_ID
from klinetrio.sim.clock import SimClock
from klinetrio.sim.fills import (
    JOINED_WITHIN_MS,
    FillSource,
    Pace,
    Shares,
    aggregate,
    as_trade,
)
from klinetrio.sim.history import ID_EPOCH_MS, make_histories
from klinetrio.sim.ledger import Book, Ledger
from klinetrio.sim.market import Deliver, EventEncoder, Frame, Judge


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klinetrio.domain.interval import Interval
    from klinetrio.sim.catalogue import Profile
    from klinetrio.sim.fills import Fill
    from klinetrio.sim.history import SeededHistory
    from klinetrio.sim.tape import SimTrade

    Event = Callable[[Deliver], None]

# How often the loop looks at the clock at most, seconds, and how much it does before others get
# their turn.
TICK_S = 0.002
EVENTS_PER_TURN = 1000


@attrs.frozen
class Straddle:
    """The part of an aggregate that lies beyond the end of its minute.

    Attributes:
        agg_id: Of the aggregate, which is dated before the boundary.
        boundary: Open time of the minute in which this part lies.
        price: Of all its fills.
        buyer_is_maker: Whether the taker sold.
        volume: Of the fills beyond.
        trade_count: How many they are.
    """

    agg_id: int
    boundary: int
    price: int
    buyer_is_maker: bool
    volume: int
    trade_count: int


@attrs.frozen
class Difference:
    """Why a minute's aggregates do not add up to the exchange's kline.

    Attributes:
        entered: What the kline has, dated in the minute before.
        left: What the aggregates have, and the kline of the next minute.
        forced: Fills of the kline that are in no aggregate.
        holes: Ids within the aggregates that are no fills.
    """

    entered: Straddle | None
    left: Straddle | None
    forced: tuple[Fill, ...]
    holes: int

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.entered or self.left or self.forced or self.holes)


@attrs.define
class _Trader:
    """The moving state of one symbol.

    What it remembers for the tests is never forgotten: a few hundred bytes per odd minute.
    """

    book: Book
    shown: Book
    bursts: Iterator[list[Fill]]
    rng: Random
    agg_id: int
    event_time: int = 0
    straddles: dict[int, Straddle] = attrs.field(factory=dict, init=False)
    forced: list[Fill] = attrs.field(factory=list, init=False)
    holes: Counter[int] = attrs.field(factory=Counter, init=False)
    encoder: EventEncoder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.encoder = EventEncoder(self.book.instrument.symbol)

    @property
    def name(self) -> str:
        return self.book.instrument.name

    def happen(self, fill: Fill, _: Deliver) -> None:
        """Fold one fill into the exchange's bars."""
        # Which aggregates a kline is made of, the exchange does not say.
        self.book.live.add(as_trade(fill, NO_ID))
        if fill.is_forced:
            self.forced.append(fill)

    def complete(self, trade: SimTrade, burst: list[Fill], _: Deliver) -> None:
        """Enter an aggregate to which nothing can be joined any more."""
        self.shown.enter(trade)
        opened = trade.time - trade.time % MINUTE
        holes = trade.last_id - trade.first_id + 1 - len(burst)
        if holes:
            self.holes[opened] += holes
        beyond = [each.quantity for each in burst if each.time >= opened + MINUTE]
        if beyond:
            boundary = opened + MINUTE
            self.straddles[boundary] = Straddle(
                trade.agg_id,
                boundary,
                trade.price,
                trade.buyer_is_maker,
                sum(beyond),
                len(beyond),
            )

    def send(self, trade: SimTrade, event_time: int, deliver: Deliver) -> None:
        """Deliver an aggregate."""
        deliver(Frame(self.name, trade.agg_id, self.encoder.encode(trade, event_time)))


class FillMarket(Judge):
    """Deterministic fills and history from a seed.

    Args:
        seed: Decides everything but the time.
        symbols: How many perpetuals trade; some exceptional rows are listed beside them.
        trades_per_second: Aggregates of all symbols together, on average, on the market's clock.
        shares: How often aggregates and klines differ, and why.
        history_minutes: How far back the oldest listing lies.
        clock: The exchange's clock.
        delay_ms: Shortest and longest time from an aggregate's completion to its delivery.
    """

    def __init__(
        self,
        *,
        seed: int,
        symbols: int = 5,
        trades_per_second: float = 10,
        shares: Shares | None = None,
        history_minutes: int = 2 * 1440,
        clock: SimClock | None = None,
        delay_ms: tuple[int, int] = (0, 60),
    ) -> None:
        self.clock = SimClock() if clock is None else clock
        self.start_ms = self.clock.now_ms()
        self._seed = seed
        self._shares = Shares() if shares is None else shares
        self._delay_ms = delay_ms
        histories = make_histories(
            seed=seed,
            symbols=symbols,
            trades_per_second=trades_per_second,
            start_ms=self.start_ms,
            minutes=history_minutes,
        )
        id_before = self.start_ms - ID_EPOCH_MS
        shown = [Book(each.profile.instrument, each, id_before) for each in histories]
        books = [Book(each.instrument, each.history, tape=each.tape) for each in shown]
        self.ledger = Ledger(self.clock, books)
        self._shown = Ledger(self.clock, shown)
        self._traders = {
            history.profile.instrument.name: self._make_trader(history, book, shown_book, id_before)
            for history, book, shown_book in zip(histories, books, shown, strict=True)
            if history.profile.instrument.is_trading
        }
        self._events: list[tuple[int, int, Event]] = []
        self._order = count()
        for trader in self._traders.values():
            self._draw(trader)

    def _make_trader(
        self, history: SeededHistory, book: Book, shown: Book, id_before: int
    ) -> _Trader:
        profile, name = history.profile, book.instrument.name
        source = FillSource(
            Random(f"{self._seed} fills {name}"),
            # Never at the very start, which would be before anything was known of it.
            self.start_ms + 1,
            pace=_pace_of(profile, history.last_close),
            shares=self._shares,
            first_id=2 * id_before,
        )
        rng = Random(f"{self._seed} delays {name}")
        return _Trader(book, shown, source.bursts(), rng, id_before)

    @property
    def trading_symbols(self) -> list[str]:
        """Names of all symbols that trade, the liveliest first."""
        return list(self._traders)

    def aggregate_klines(
        self, symbol: str, interval: Interval, start_ms: int, end_ms: int
    ) -> list[tuple[int, ...]]:
        """Return the bars of the aggregates by ``T``: what a fold of the streams must show."""
        return self._shown.true_klines(symbol, interval, start_ms, end_ms)

    def straddles_of(self, symbol: str) -> list[Straddle]:
        """Return what straddled so far, ascending."""
        return list(self._traders[symbol].straddles.values())

    def forced_of(self, symbol: str) -> list[Fill]:
        """Return the fills so far that are in no aggregate."""
        return list(self._traders[symbol].forced)

    def differences(self, symbol: str, open_time: int) -> Difference:
        """Return why the two truths of a minute differ."""
        trader = self._traders[symbol]
        end = open_time + MINUTE
        return Difference(
            trader.straddles.get(open_time),
            trader.straddles.get(end),
            tuple(each for each in trader.forced if open_time <= each.time < end),
            trader.holes[open_time],
        )

    def subscribed(self, symbol: str) -> None:
        """Trade on regardless."""

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make fills for ever."""
        task_status.started()
        while True:
            if not self.advance(self.clock.now_ms(), deliver):
                # Behind: let what was delivered be sent before there is more of it.
                await trio.lowlevel.checkpoint()
                continue
            # Sleeping until something is due makes a quiet market cheap, also on autojump_clock.
            due = self.clock.trio_time_of(self._events[0][0])
            await trio.sleep_until(max(due, trio.current_time() + TICK_S))

    def advance(self, now: int, deliver: Deliver) -> bool:
        """Let what is due at ``now`` happen, but not too much of it at once.

        Returns:
            Whether that was all.
        """
        for _ in range(EVENTS_PER_TURN):
            if self._events[0][0] > now:
                return True
            _, _, event = heapq.heappop(self._events)
            event(deliver)
        return False

    def _draw(self, trader: _Trader) -> None:
        """Plan a symbol's next burst, which is drawn no earlier than the one before begins."""
        burst = next(trader.bursts)
        self._plan(burst[0].time, partial(self._begin, trader, burst))

    def _begin(self, trader: _Trader, burst: list[Fill], _: Deliver) -> None:
        for fill in burst:
            self._plan(fill.time, partial(trader.happen, fill))
        if not burst[0].is_forced:
            trader.agg_id += 1
            (trade,) = aggregate(burst, first_agg_id=trader.agg_id)
            complete = trade.time + JOINED_WITHIN_MS
            self._plan(complete, partial(trader.complete, trade, burst))
            event_time = complete + trader.rng.randint(*self._delay_ms)
            trader.event_time = event_time = max(trader.event_time, event_time)
            self._plan(event_time, partial(trader.send, trade, event_time))
        self._draw(trader)

    def _plan(self, time: int, event: Event) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))


def _pace_of(profile: Profile, price: int) -> Pace:
    instrument = profile.instrument
    return Pace(
        price=price,
        tick=instrument.tick,
        lot=profile.lot * instrument.step,
        step=instrument.step,
        bursts_per_minute=profile.trades_per_minute,
    )
