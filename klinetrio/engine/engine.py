"""The engine: every symbol's book, actor and inbox, and the store they write.

The only writer of bars.  Feed and repair send trades to ``deliver``; the swapper calls ``tick``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.engine.actor import QUEUE_SIZE, Arrival, KlineActor, Pulse, Shutdown
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.counts import BookCounts
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.publication import Publication
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.engine.tape import TradeTape
from klinetrio.logs import QuietLog, log_event
from klinetrio.supervise import Supervision, supervise


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.engine.seeding import Seed
    from klinetrio.latency import LatencyHistogram

log = logging.getLogger("klinetrio.engine")
quiet = QuietLog(log)

# An inbox stays full only while its actor is being restarted or the machine is overloaded; a
# trade dropped after this shows as a hole in the ids and is fetched again.
DELIVERY_TIMEOUT_S = 5.0


class Engine:
    """Books, actors and the store of all symbols.

    Args:
        registry: Symbols and intervals.
        on_trouble: Called with a symbol index, at every tick, while its past is not known, its ids
            have holes, or it is unsure what it has missed; cheap and synchronous.
    """

    def __init__(
        self,
        registry: SymbolPeriodRegistry,
        on_trouble: Callable[[int], None] = lambda _index: None,
    ) -> None:
        self.registry = registry
        self.store = DoubleBufferedKlineStore.allocate(registry.capacity)
        self.outbox = Outbox()
        self.tape = TradeTape(registry)
        self._pulse = Pulse()
        self.on_trouble = on_trouble
        self.dropped = 0
        self._retired = BookCounts()
        self._actors = [
            KlineActor(self._make_book(index), self._pulse, self.tape)
            for index in range(len(registry.symbols))
        ]
        self._supervisions = [Supervision(f"actor {each.name}") for each in registry.symbols]

    def book(self, symbol_index: int) -> SymbolBook:
        """Return a symbol's book."""
        return self._actors[symbol_index].book

    @property
    def delays(self) -> LatencyHistogram:
        """Delays from a trade's frame to the write buffer, since they were last taken."""
        return self._pulse.delays

    @property
    def queued(self) -> int:
        """Messages waiting in all inboxes."""
        return sum(actor.waiting for actor in self._actors)

    @property
    def queue_high_water(self) -> int:
        """The most messages that were ever found waiting in one inbox."""
        return self._pulse.most_waiting

    @property
    def actor_restarts(self) -> int:
        """How often actors have been restarted."""
        return sum(each.restarts for each in self._supervisions)

    def counts(self) -> BookCounts:
        """Return what happened to the trades of all symbols since the start."""
        total = attrs.asdict(self._retired)
        for actor in self._actors:
            for name in total:
                total[name] += getattr(actor.book.counts, name)
        return BookCounts(**total)

    async def deliver(self, trade: AggTrade, received: float) -> None:
        """Hand a trade to its symbol's actor.

        Args:
            trade: Of a symbol of this engine.
            received: When it came in, on the clock of ``time.perf_counter``.

        Blocking: while the inbox is full, at most ``DELIVERY_TIMEOUT_S``; then the trade is
        dropped and counted, and its missing id has it fetched again.
        """
        actor = self._actors[self.registry.index_of(trade.symbol)]
        arrival = Arrival(trade, received)
        try:
            actor.send_nowait(arrival)
        except trio.WouldBlock:
            with trio.move_on_after(DELIVERY_TIMEOUT_S) as scope:
                await actor.send(arrival)
            if scope.cancelled_caught:
                self.dropped += 1
                quiet.event(logging.WARNING, "trade_dropped", trade.symbol, inbox=QUEUE_SIZE)

    def set_feed(self, symbol: Symbol, *, up: bool) -> None:
        """Take note that a symbol's feed came up or went down."""
        index = self.registry.index_of(symbol.name)
        book = self._actors[index].book
        book.set_feed(up=up)
        if book.sound:
            book.flush()
        if up:
            self.on_trouble(index)

    def seed(self, symbol_index: int, seed: Seed) -> bool:
        """Give a book its past; tell whether it was waiting for it."""
        book = self._actors[symbol_index].book
        if not book.sound:
            # It is about to be replaced; taking a seed would make it look sound again.
            return False
        taken = book.seed(seed)
        book.flush()
        return taken

    async def get_kline(self, symbol_index: int, period_index: int) -> list[int]:
        """Return an open bar as its actor has it now, without waiting for a swap."""
        return await self._actors[symbol_index].get_kline(period_index)

    def tick(self, close_before_ms: int) -> Publication:
        """Close what is due, swap, and return what has changed; only the swapper calls this.

        Args:
            close_before_ms: Bars that ended at or before this moment are closed.
        """
        for index, actor in enumerate(self._actors):
            if not actor.book.sound:
                # Its actor may start again only after a while, but bars close on time.
                self._replace_book(index)
            book = actor.book
            if book.close_due(close_before_ms):
                book.flush()
            if book.needs_repair:
                self.on_trouble(index)
        changed = self.store.swap()
        closed, proved = self.outbox.take()
        return Publication(self.store.generation, changed, closed, proved, self.tape.take())

    async def run_actors(self) -> None:
        """Run all actors, each under its own supervisor, until ``shut_down``.

        Raises:
            GaveUp: An actor kept failing.
        """
        async with trio.open_nursery() as nursery:
            for index, state in enumerate(self._supervisions):
                attempt = partial(self._run_actor, index)
                nursery.start_soon(partial(supervise, attempt, state=state))

    async def shut_down(self) -> None:
        """Have every actor end after everything that has been delivered."""
        for actor in self._actors:
            await actor.send(Shutdown())

    async def _run_actor(self, index: int) -> None:
        actor = self._actors[index]
        if not actor.book.sound:
            self._replace_book(index)
        await actor.run()

    def _replace_book(self, index: int) -> None:
        """Put a new book in place of one that broke off in the middle of a change."""
        actor = self._actors[index]
        broken = actor.book
        book = self._make_book(index)
        book.succeed(broken)
        actor.book = book
        for name, value in attrs.asdict(broken.counts).items():
            setattr(self._retired, name, getattr(self._retired, name) + value)
        log_event(log, logging.ERROR, "book_replaced", symbol=broken.symbol.name)
        self.on_trouble(index)

    def _make_book(self, index: int) -> SymbolBook:
        return SymbolBook(
            self.registry.symbols[index],
            self.registry.intervals,
            store=self.store,
            outbox=self.outbox,
            first_row=self.registry.first_row(index),
        )
