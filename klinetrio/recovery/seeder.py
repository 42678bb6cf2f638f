"""The seeder: gives a book the exchange's own klines of all that lies before a minute boundary.

For a book that does not know its past, and for one whose bars differ from the exchange's and are to
be settled.  A boundary still to come is chosen, the book makes ready for it, and once the minute is
over the klines before it are fetched: three requests of weight 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import FLAGS, Flag
from klinetrio.errors import ExchangeError
from klinetrio.exchange.budget import Priority
from klinetrio.recovery.past import build_seed, has_no_gap, is_whole, plan_past


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.book import SymbolBook
    from klinetrio.engine.engine import Engine
    from klinetrio.engine.seeding import Seed
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.recovery.past import Span

    Int64Array = npt.NDArray[np.int64]

# A symbol that has been connected for so long without a trade is asked for its newest one by REST.
# Of 500 that start together few are that quiet; asking for all of them would cost the weight of
# five minutes.
ANCHOR_PATIENCE_S = 60.0

# Symbols that are asked for so at once: they must not hold what pasts are fetched with.
MAX_ASKED = 4

# A minute's kline is asked for this long after its end: its last trades come up to 160 ms late.
SETTLE_MS = 2_000

# And this long after its end where it takes the place of bars that are proved.
RIPE_MS = 30_000

# How long a trade of the next minute is waited for, before the clock alone is believed.
BOUNDARY_PATIENCE_S = 5.0

# A boundary must be this far ahead, so that no trade beyond it has been seen.
_BOUNDARY_MARGIN_MS = 2_000


class HistorySink(Protocol):
    """Where closed bars go that never were live."""

    async def write_history(self, series: int, bars: Int64Array) -> int:
        """Write closed bars of one series where nothing is stored or proved; return how many.

        Raises:
            StoreError: It failed; nothing has changed.  Not the shelf, which tries again.
        """
        ...


class Seeder:
    """Seeds books.

    Args:
        engine: Whose books are seeded.
        rest: Where from.
        clock: The exchange's clock.
        history: Gets the closed bars that come with a past; the shelf, as live bars do not wait.
        limiter: Of the requests under way.
    """

    def __init__(
        self,
        engine: Engine,
        rest: BinanceRest,
        clock: ExchangeClock,
        history: HistorySink,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._engine = engine
        self._rest = rest
        self._clock = clock
        self._history = history
        self._limiter = limiter
        self._asking = trio.CapacityLimiter(MAX_ASKED)

    async def seed(self, index: int, book: SymbolBook, *, patient: bool) -> int | None:
        """Give a book the past that it does not know.

        Args:
            index: Of the symbol.
            book: Its book.
            patient: Whether it failed often enough to believe that the missing bars at the
                beginning, or in a gap of long ago, never were.

        Returns:
            The boundary; None if the book has been replaced or seeded otherwise meanwhile.
        """
        await self._anchor(book)
        until = await self._boundary(book)
        since = [hole.since for hole in book.ledger.holes]
        if book.known_until and not book.seeded:
            since.append(book.known_until)
        intervals = self._engine.registry.intervals
        plan = plan_past(until, intervals, min(since, default=until))
        rows = await self._ask(book, until, plan, patient=patient)
        seed = build_seed(until, intervals, rows, plan)
        await self._keep(index, seed)
        return until if self._engine.seed(index, seed) else None

    async def _keep(self, index: int, seed: Seed) -> None:
        """Have the closed bars that come with a past stored."""
        for period, past in enumerate(seed.pasts):
            if len(past.closed):
                series = self._engine.registry.row(index, period)
                await self._history.write_history(series, past.closed)

    async def settle(
        self, index: int, book: SymbolBook, look: Callable[[Mapping[Interval, Int64Array]], None]
    ) -> int | None:
        """Put the exchange's klines in the place of a book's bars, where they differ.

        Args:
            index: Of the symbol.
            book: Its book, which knows its past.
            look: Called with the exchange's bars, by source, while ours still stand.

        Returns:
            As ``seed``.
        """
        until = await self._boundary(book)
        intervals = self._engine.registry.intervals
        plan = plan_past(until, intervals, until)
        try:
            # There is no hurry, and nothing must be replaced by a kline that is late.
            await self._clock.sleep_until(until + RIPE_MS)
            rows = await self._ask(book, until, plan, patient=True, priority=Priority.AUDIT)
        except BaseException:
            book.abandon_seed(until)
            raise
        seed = build_seed(until, intervals, rows, plan)
        for past in seed.pasts:
            past.closed[:, FLAGS] |= Flag.SETTLED
        # No checkpoint from here on: what was looked at is what is replaced.
        look(rows)
        return until if self._engine.seed(index, seed) else None

    async def _ask(
        self,
        book: SymbolBook,
        until: int,
        plan: Mapping[Interval, Span],
        *,
        patient: bool,
        priority: Priority = Priority.SEED,
    ) -> Mapping[Interval, Int64Array]:
        """Return the exchange's bars before a boundary, once that is over."""
        # Asked too early, the exchange would give the last minute as it is so far.
        await self._clock.sleep_until(until + SETTLE_MS + int(self._clock.error_ms))
        with trio.move_on_after(BOUNDARY_PATIENCE_S):
            # The surest sign that the minute is over is a trade after it.
            while book.ledger.newest_time < until:  # noqa: ASYNC110  (bounded, and rare)
                await trio.sleep(0.1)
        rows = {}
        async with self._limiter:
            for source, span in plan.items():
                rows[source] = await self._rest.klines(
                    book.symbol, source, start=span.start, end=span.end, priority=priority
                )
        whole = is_whole(rows, plan, book.symbol.listing_time)
        if not whole and not (patient and has_no_gap(rows, plan, until)):
            raise ExchangeError(200, 0, f"klines before {until} are not all there yet")
        return rows

    async def _anchor(self, book: SymbolBook) -> None:
        """Wait for an id from which proof can start; ask for one when the symbol is quiet.

        Whoever is not connected yet is not quiet: of many that start together the last ones connect
        after minutes, and what was asked for before that would only show a hole afterwards.
        """
        if not book.anchored.is_set():
            await book.heard.wait()
        with trio.move_on_after(ANCHOR_PATIENCE_S):
            await book.anchored.wait()
        if not book.anchored.is_set():
            trades = await self._newest_trade(book)
            if trades:
                book.anchor(trades[-1].agg_id, trades[-1].time)

    async def _newest_trade(self, book: SymbolBook) -> Sequence[AggTrade]:
        """Return what the exchange says is newest, or nothing if a trade came meanwhile."""
        async with self._asking:
            if book.anchored.is_set():
                return ()
            return await self._rest.agg_trades(book.symbol, limit=1, priority=Priority.QUIET)

    async def _boundary(self, book: SymbolBook) -> int:
        """Return the boundary at which the past ends, and have the book make ready for it."""
        waited_for = book.seeding_until
        if waited_for is not None:
            return waited_for
        await trio.lowlevel.checkpoint()
        soonest = max(self._clock.now_ms() + _BOUNDARY_MARGIN_MS, book.ledger.horizon + 1)
        until = soonest - soonest % MINUTE + MINUTE
        book.begin_seed(until)
        return until
