"""The repair desk: gives every symbol its past, and fetches what its ids show to be missing.

A symbol comes to the desk when its feed has come up, its past is not known, its ids have holes, or
a trade came that cannot be believed.  At most one repair of a symbol runs at a time.

What outsiders can make it spend on a symbol is bounded: a seed ends at a minute boundary still to
come, so there is one a minute at most, and its newest trade is asked for once a minute at most.

Which way a hole is mended:
  trades  Few, recent, and payable at once: ``aggTrades`` from the first missing id.  The trades go
          the way of live ones, so the bars are proved by ids again.
  klines  Else: the symbol is seeded anew.  At the next minute boundary the exchange's own klines
          take over all that lies before (three requests of weight 1), and proof starts there.
"""

from __future__ import annotations

import logging
import random
from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import MINUTE
from klinetrio.errors import (
    DecodeError,
    ExchangeError,
    NetworkError,
    Refused,
    ScaleError,
    StoreError,
)
from klinetrio.exchange.budget import Priority
from klinetrio.exchange.rest import AGG_TRADES_WEIGHT, MAX_AGG_TRADES
from klinetrio.insist import delay_after
from klinetrio.logs import log_event
from klinetrio.recovery.seeder import MAX_ASKED, Seeder
from klinetrio.supervise import describe


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.book import SymbolBook
    from klinetrio.engine.engine import Engine
    from klinetrio.engine.ledger import Hole
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.recovery.seeder import HistorySink

log = logging.getLogger("klinetrio.repair")

# Repairs under way at once; more symbols wait.
MAX_REPAIRS = 8

# Frames that merely overtook each other fill their hole by themselves in this time.
PATIENCE_S = 0.5

# A symbol is not asked for its newest trade again so soon, however often its feed comes and goes or
# contradicts itself.
ASK_PAUSE_S = 60.0

# A symbol whose feed was lost and that has been silent for so long since is asked for by REST.
CONFIRM_PATIENCE_S = 10.0

# A trade that REST tells may still be on its way in the stream, but not longer than this.
STREAM_PATIENCE_S = 2.0

# Older holes may lie in bars that are no longer in memory (engine/recent.py keeps two hours).
MAX_HOLE_AGE_MS = 100 * MINUTE

# More weight than this for one symbol is better spent on klines, which cost 3.
MAX_TRADE_WEIGHT = 5 * AGG_TRADES_WEIGHT

# After so many failures in a row the exchange is believed not to have the trades.
TRADE_ATTEMPTS = 3

_AGAIN = (NetworkError, ExchangeError, DecodeError, StoreError)


@attrs.define(slots=True)
class RepairCounts:
    """What has been repaired since the start.

    Attributes:
        seeds: Symbols that were given their past.
        trades: Trades fetched for holes.
        failures: Repairs that failed and were tried again.
        deaf: How often a stream was found not to bring the trades that happen.
    """

    seeds: int = 0
    trades: int = 0
    failures: int = 0
    deaf: int = 0


class RepairDesk:
    """Repairs symbols as they report.

    Args:
        engine: Whose books are repaired.
        rest: Where from.
        clock: The exchange's clock.
        history: Gets the closed bars that come with a past.

    Attributes:
        counts: Statistics.
        fetched: By symbol index, trades that came from here and not from the stream.
        deaf: Symbols whose stream was found not to bring their trades, until it does again.
        on_deaf: Called with a symbol index and the time of a trade that its stream did not bring,
            ms; tells whether the stream should have.
    """

    def __init__(
        self, engine: Engine, rest: BinanceRest, clock: ExchangeClock, history: HistorySink
    ) -> None:
        self.counts = RepairCounts()
        self._engine = engine
        self._rest = rest
        self._clock = clock
        self._limiter = trio.CapacityLimiter(MAX_REPAIRS)
        self._asking = trio.CapacityLimiter(MAX_ASKED)
        self._seeder = Seeder(engine, rest, clock, history, self._limiter)
        self._waiting: set[int] = set()
        self._busy: set[int] = set()
        self._asked: dict[int, float] = {}
        self.deaf: set[int] = set()
        self.fetched = [0] * len(engine.registry.symbols)
        self.on_deaf: Callable[[int, int], bool] = lambda _index, _time: False
        self._bell = trio.Event()
        self._rng = random.Random()  # noqa: S311  (jitter, not secrets)

    @property
    def busy(self) -> int:
        """Symbols under repair or waiting for it."""
        return len(self._waiting | self._busy)

    def report(self, symbol_index: int) -> None:
        """Have a symbol looked at; cheap, synchronous, and harmless when repeated."""
        if symbol_index not in self._busy and symbol_index not in self._waiting:
            self._waiting.add(symbol_index)
            self._bell.set()

    async def run(self) -> None:
        """Repair for ever.

        Cancellation: repairs under way are abandoned; the ids still tell what is missing.
        """
        self._busy.clear()
        self._waiting.update(range(len(self._engine.registry.symbols)))
        self._bell.set()
        async with trio.open_nursery() as nursery:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                waiting, self._waiting = self._waiting, set()
                for index in sorted(waiting):
                    self._busy.add(index)
                    nursery.start_soon(self._attend, index)

    async def _attend(self, index: int) -> None:
        """Repair one symbol until there is nothing left to repair."""
        attempt = 0
        try:
            while self._engine.book(index).needs_repair:
                try:
                    await self._repair(index, by_trades=attempt < TRADE_ATTEMPTS)
                    attempt = 0
                except _AGAIN as error:
                    await self._fail(index, error, attempt)
                    # What is refused for good needs no second try: the klines are asked instead.
                    attempt = TRADE_ATTEMPTS if isinstance(error, Refused) else attempt + 1
                except ScaleError as error:
                    # More tries give the same sums.
                    self._engine.book(index).halt(str(error))
                    log_event(log, logging.ERROR, "symbol_halted", cause=error)
        finally:
            self._busy.discard(index)

    async def _fail(self, index: int, error: Exception, attempt: int) -> None:
        self.counts.failures += 1
        delay = delay_after(error, attempt, self._rng)
        name = self._engine.registry.symbols[index].name
        cause = describe(error)
        log_event(
            log, logging.WARNING, "repair_failed", symbol=name, cause=cause, delay_s=round(delay, 2)
        )
        await trio.sleep(delay)

    async def _repair(self, index: int, *, by_trades: bool) -> None:
        book = self._engine.book(index)
        if not book.seeded:
            await self._seed(index, book, patient=not by_trades)
            return
        if self._is_unsure(index, book):
            await self._confirm(index, book)
            return
        await trio.sleep(PATIENCE_S)
        holes = list(book.ledger.holes)
        if not holes and not book.ledger.overflowed:
            return
        by_trades = by_trades and not book.ledger.overflowed
        if by_trades and self._trades_are_cheap(holes):
            async with self._limiter:
                for hole in holes:
                    await self._fetch(index, hole.first, hole.last)
            # The actor has to work through what was just delivered before the holes can be gone.
            await self._engine.get_kline(index, 0)
        else:
            await self._seed(index, book, patient=not by_trades)

    async def _confirm(self, index: int, book: SymbolBook) -> None:
        """Ask the exchange for its newest trade when none comes by itself that can be believed."""
        asked = self._asked.get(index, -ASK_PAUSE_S)
        wait = max(CONFIRM_PATIENCE_S, asked + ASK_PAUSE_S - trio.current_time())
        with trio.move_on_after(wait):
            while self._is_unsure(index, book):  # noqa: ASYNC110  (bounded, and rare)
                await trio.sleep(0.1)
        if not self._is_unsure(index, book):
            return
        async with self._asking:
            if not self._is_unsure(index, book):
                return
            self._asked[index] = trio.current_time()
            trades = await self._rest.agg_trades(book.symbol, limit=1, priority=Priority.QUIET)
        for trade in trades:
            if trade.agg_id == book.ledger.newest:
                book.confirm(trade.agg_id)
                book.flush()
            elif not await self._comes_by_itself(index, book):
                if self.on_deaf(index, trade.time):
                    self.counts.deaf += 1
                    self.deaf.add(index)
                    facts = {"newest": book.ledger.newest, "missed": trade.agg_id}
                    name = book.symbol.name
                    log_event(log, logging.WARNING, "deaf_stream", symbol=name, **facts)
                book.ledger.vouch(trade.agg_id)
                await self._deliver(index, trade)
        # The actor has to work through what was just delivered.
        await self._engine.get_kline(index, 0)

    async def _comes_by_itself(self, index: int, book: SymbolBook) -> bool:
        """Give the stream a moment to bring what REST may have told first."""
        with trio.move_on_after(STREAM_PATIENCE_S):
            while self._is_unsure(index, book):  # noqa: ASYNC110  (bounded, and rare)
                await trio.sleep(0.1)
        return not self._is_unsure(index, book)

    async def _deliver(self, index: int, trade: AggTrade) -> None:
        """Send a fetched trade the way of all trades."""
        self.fetched[index] += 1
        await self._engine.deliver(trade, perf_counter())

    def _is_unsure(self, index: int, book: SymbolBook) -> bool:
        """Tell whether the question whether anything was missed is still open, and the only one."""
        same = self._engine.book(index) is book
        return same and book.unsure and book.feed_up and book.seeded and not book.ledger.holes

    def _trades_are_cheap(self, holes: list[Hole]) -> bool:
        weight = sum(AGG_TRADES_WEIGHT * -(-hole.size // MAX_AGG_TRADES) for hole in holes)
        age = self._clock.now_ms() - holes[0].since
        payable = weight <= min(MAX_TRADE_WEIGHT, self._rest.budget.spare)
        return payable and age < MAX_HOLE_AGE_MS

    async def _fetch(self, index: int, first: int, last: int) -> None:
        """Fetch the trades of a hole and send them the way of all trades."""
        symbol = self._engine.registry.symbols[index]
        while first <= last:
            limit = min(MAX_AGG_TRADES, last - first + 1)
            trades = await self._rest.agg_trades(symbol, from_id=first, limit=limit)
            if not trades:
                raise ExchangeError(
                    200, 0, f"expected trade {first} of {symbol.name}, got none yet"
                )
            for trade in trades:
                await self._deliver(index, trade)
            self.counts.trades += len(trades)
            first = trades[-1].agg_id + 1
        log_event(log, logging.INFO, "hole_filled", symbol=symbol.name, last=last)

    async def _seed(self, index: int, book: SymbolBook, *, patient: bool) -> None:
        until = await self._seeder.seed(index, book, patient=patient)
        if until is not None:
            self.counts.seeds += 1
            log_event(log, logging.INFO, "seeded", symbol=book.symbol.name, until=until)
