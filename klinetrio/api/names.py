"""Names to series and back.

A symbol answers to its exchange name (``BTCUSDT``) and to its public name (``BTC_USDT``), both in
any ASCII case; other letters are taken as they are, as the exchange does.  A public name that two
symbols would share, or that is another symbol's exchange name, names neither: those symbols are
shown, and answer, under their exchange name alone.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from klinetrio.api.problems import ApiError, quoted
from klinetrio.formats.series import Series


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.ports import Market, MarketSource, Row
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol


def normalise(name: str) -> str:
    """Return ``name`` with its ASCII letters, and only those, in upper case."""
    return "".join(c.upper() if c.isascii() else c for c in name)


def shown_names(symbols: Sequence[Symbol]) -> list[str]:
    """Return the name under which each symbol is shown."""
    public = [normalise(symbol.public_name) for symbol in symbols]
    exchange = {normalise(symbol.name): index for index, symbol in enumerate(symbols)}
    uses = Counter(public)
    return [
        symbol.public_name
        if uses[name] == 1 and exchange.get(name, index) == index
        else symbol.name
        for index, (symbol, name) in enumerate(zip(symbols, public, strict=True))
    ]


class Catalog:
    """All series of a market by name and by row."""

    def __init__(self, symbols: Sequence[Symbol], intervals: Sequence[Interval]) -> None:
        self.symbols = symbols
        self.intervals = intervals
        self.shown = shown_names(symbols)
        self._symbol_indexes = {normalise(name): index for index, name in enumerate(self.shown)}
        self._symbol_indexes |= {normalise(each.name): i for i, each in enumerate(symbols)}
        self._interval_indexes = {each.name: index for index, each in enumerate(intervals)}
        self._series = [
            Series(name, symbol, interval)
            for name, symbol in zip(self.shown, symbols, strict=True)
            for interval in intervals
        ]

    def index_of(self, symbol: str) -> int:
        """Return the index of a symbol.

        Raises:
            ApiError: No such symbol.
        """
        symbol_index = self._symbol_indexes.get(normalise(symbol))
        if symbol_index is None:
            expected = "symbol: expected one of /api/v1/symbols"
            raise ApiError(404, "unknown_symbol", f"{expected}, was {quoted(symbol)}")
        return symbol_index

    def row_of(self, symbol: str, interval: str) -> int:
        """Return the row of a series.

        Raises:
            ApiError: No such symbol or interval.
        """
        symbol_index = self.index_of(symbol)
        interval_index = self._interval_indexes.get(interval)
        if interval_index is None:
            expected = f"interval: expected one of {' '.join(self._interval_indexes)}"
            raise ApiError(404, "unknown_interval", f"{expected}, was {quoted(interval)}")
        return symbol_index * len(self.intervals) + interval_index

    def series_of(self, row: int) -> dict[str, str]:
        """Return a series as clients name it."""
        series = self._series[row]
        return {"symbol": series.name, "interval": series.interval.name}

    def series(self, row: int) -> Series:
        """Return a series under the name by which clients see it."""
        return self._series[row]

    def kline_of(self, row: int, values: Row) -> dict[str, Any]:
        """Return a bar as clients see it."""
        return self._series[row].kline(values)


class OpenMarket:
    """The market and its names, once the daemon has started."""

    def __init__(self, source: MarketSource) -> None:
        self._source = source
        self._catalog: Catalog | None = None

    @property
    def market(self) -> Market:
        """The market.

        Raises:
            ApiError: The daemon is still starting.
        """
        market = self._source()
        if market is None:
            message = "the daemon is starting: its market is not there yet"
            raise ApiError(503, "starting", message, retry_after_s=1)
        return market

    @property
    def catalog(self) -> Catalog:
        """The names of the market.

        Raises:
            ApiError: The daemon is still starting.
        """
        if self._catalog is None:
            self._catalog = Catalog(self.market.symbols, self.market.intervals)
        return self._catalog
