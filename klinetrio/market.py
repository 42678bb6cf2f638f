"""The running daemon as its interfaces and its logs see it; reads, never writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from klinetrio.api.ports import SymbolState
from klinetrio.measures import measures_of
from klinetrio.status import audit_of, books_of, status_of, symbols_that_seed


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.listing import Listing
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.book import SymbolBook
    from klinetrio.parts import Parts
    from klinetrio.storage.persister import Persister

# The share of connections that may be down while the daemon calls itself ready: of hundreds one is
# nearly always being opened again, which costs its symbol a second.
TOLERATED_DOWN = 0.05

# A database that needs 10 s for a batch keeps up, and whoever waits for it behind another batch has
# waited for 20 s and a flush interval.
TOLERATED_WAIT_S = 30.0


class LiveMarket:
    """Implements ``api.ports.Market`` on the running parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registry = parts.engine.registry

    @property
    def symbols(self) -> Sequence[Symbol]:
        """All symbols, by symbol index."""
        return self._registry.symbols

    @property
    def intervals(self) -> Sequence[Interval]:
        """All intervals, shortest first."""
        return self._registry.intervals

    def live_row(self, row: int) -> Sequence[int]:
        """Return a copy of the series' open bar as of the last swap."""
        return self._parts.engine.store.live_row(row)

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return bars of one series, ascending by open time."""
        return await self._parts.history.klines(row, start=start, end=end, limit=limit)

    @property
    def listing(self) -> Listing:
        """What the exchange says of the symbols."""
        return self._parts.listing

    def now_ms(self) -> int:
        """Return the exchange's time, UTC ms."""
        return self._parts.clock.now_ms()

    def recent_trades(self, symbol_index: int) -> Sequence[AggTrade]:
        """Return the newest trades of a symbol that are in memory, ascending by id."""
        return self._parts.engine.tape.recent(symbol_index)

    def is_seeded(self, symbol_index: int) -> bool:
        """Tell whether a symbol's past is here, or cannot come as the symbol is halted."""
        book = self._parts.engine.book(symbol_index)
        return book.seeded or bool(book.halted)

    def states(self) -> Sequence[SymbolState]:
        """Return how each symbol stands, by symbol index."""
        return [
            SymbolState(_state_of(book), book.ledger.newest_time or None)
            for book in books_of(self._parts)
        ]

    def unready(self) -> Sequence[str]:
        """Return why the daemon is not ready, in words."""
        reasons = []
        parts = self._parts
        down = sum(each.link.state != "up" for each in parts.links)
        if down > TOLERATED_DOWN * len(parts.links):
            reasons.append(f"{down} of {len(parts.links)} connections are not up")
        seeding = len(symbols_that_seed(self._parts))
        if seeding:
            reasons.append(f"{seeding} of {len(self.symbols)} symbols do not know their past yet")
        halted = [each.symbol.public_name for each in books_of(self._parts) if each.halted]
        if halted:
            reasons.append(f"{len(halted)} symbols are halted, {halted[0]} the first")
        return [*reasons, *_unready_storage(parts.persister)]

    def status(self) -> dict[str, Any]:
        """Return what ``/api/v1/status`` shows."""
        return status_of(self._parts)

    def audit(self) -> list[dict[str, Any]]:
        """Return what ``/api/v1/audit`` shows."""
        return audit_of(self._parts)

    def metrics(self) -> Iterable[Metric]:
        """Return what ``/metrics`` shows."""
        return measures_of(self._parts)


def _state_of(book: SymbolBook) -> str:
    if book.halted:
        return "halted"
    if not book.feed_up:
        return "down"
    return "live" if book.seeded else "seeding"


def _unready_storage(persister: Persister) -> list[str]:
    """Return why what closes does not get where it is kept for ever, in words."""
    reasons = []
    counts = persister.counts
    if counts.failures_in_a_row:
        reasons.append(f"the database failed {counts.failures_in_a_row} times in a row")
    waiting_s = persister.waiting_s
    if waiting_s > TOLERATED_WAIT_S + persister.flush_interval_s:
        reasons.append(f"closed bars have waited for the database for {waiting_s:.0f} s")
    if counts.spool_error:
        reasons.append(f"the spool failed: {counts.spool_error}")
    return reasons
