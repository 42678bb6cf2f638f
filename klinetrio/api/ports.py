"""What the interfaces need from the rest of the daemon; the composition root provides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.listing import Listing
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade

    Row = Sequence[int]


class SymbolState(NamedTuple):
    """How a symbol stands.

    Attributes:
        state: ``live``; ``down``: its stream is not connected; ``seeding``: its past is not known
            yet; ``halted``: it takes no more trades.
        last_trade_time: When it last traded, UTC ms; None if that is not known.
    """

    state: str
    last_trade_time: int | None


class Market(Protocol):
    """The market as the interfaces read it.

    Series are addressed by ``row = symbol_index * len(intervals) + interval_index``.
    """

    @property
    def symbols(self) -> Sequence[Symbol]:
        """All symbols, by symbol index."""
        ...

    @property
    def intervals(self) -> Sequence[Interval]:
        """All intervals, shortest first, by interval index."""
        ...

    def live_row(self, row: int) -> Row:
        """Return a copy of the series' open bar as of the last swap; all zeros if there is none."""
        ...

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Row]:
        """Return bars of one series, ascending by open time, without a hole or a double.

        Args:
            row: The series.
            start: Lowest open time, inclusive, UTC ms.
            end: Highest open time, inclusive, UTC ms.
            limit: How many: the first ones from ``start`` if it is given, else the last ones.

        Raises:
            StoreError: The database could not be read.
        """
        ...

    @property
    def listing(self) -> Listing:
        """What the exchange says of the symbols."""
        ...

    def now_ms(self) -> int:
        """Return the exchange's time, UTC ms."""
        ...

    def recent_trades(self, symbol_index: int) -> Sequence[AggTrade]:
        """Return the newest trades of a symbol that are in memory, ascending by id, each once.

        About a thousand since the start.  Ids may be missing where trades have been missed.
        """
        ...

    def is_seeded(self, symbol_index: int) -> bool:
        """Tell whether a symbol's past is here, or cannot come."""
        ...

    def states(self) -> Sequence[SymbolState]:
        """Return how each symbol stands, by symbol index."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what ``/api/v1/status`` shows, ready for JSON."""
        ...

    def audit(self) -> list[dict[str, Any]]:
        """Return what ``/api/v1/audit`` shows, ready for JSON."""
        ...

    def metrics(self) -> Iterable[Metric]:
        """Return what ``/metrics`` shows: aggregates, not a sample per series."""
        ...

    def unready(self) -> Sequence[str]:
        """Return why the daemon is not ready, in words; empty when it is."""
        ...


MarketSource = Callable[[], Market | None]
"""Returns the market, ``None`` while the daemon is starting; once there, always the same."""
