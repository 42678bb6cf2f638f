"""Stored bars of some symbols, read beside whoever writes them; nobody is asked but the database.

All of it may block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.names import Catalog
from klinetrio.api.problems import ApiError
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ConfigError, ScalesChanged
from klinetrio.storage.stores import open_store


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.formats.series import Series
    from klinetrio.storage.protocol import Int64Array, KlineStore

_SQLITE = "sqlite:///"

# As many names as help whoever mistyped one.
_MOST_LISTED = 10


class StoredBars:
    """The bars of one interval of some symbols.

    Args:
        database: Open; its rows mean these series, in their order.
        series: The series.

    Attributes:
        series: The series; every method takes the index of one.
    """

    def __init__(self, database: KlineStore, series: Sequence[Series]) -> None:
        self.series = series
        self._database = database

    def read(self, index: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return closed bars, ascending, shape ``(n, 13)``, as ``KlineStore.read`` does.

        Raises:
            ScalesChanged: A daemon that has started since has multiplied the bars.
            StoreError: The database failed.
        """
        bars = self._database.read(index, start=start, end=end, limit=limit)
        # Scales only grow, together with the bars: if they are the same after, they were before.
        symbol = self.series[index].symbol
        now = self._database.known_symbols()[symbol.name]
        if (now.price_scale, now.quantity_scale) != (symbol.price_scale, symbol.quantity_scale):
            raise ScalesChanged(f"{symbol.name} has got more decimals meanwhile: start again")
        return bars

    def span(self, index: int, start: int, end: int) -> tuple[int, int] | None:
        """Return the open times of the first and the last bar in ``[start, end]``, if any."""
        first = self.read(index, start=start, end=end, limit=1)
        last = self.read(index, start=None, end=end, limit=1)
        return (int(first[0, 0]), int(last[0, 0])) if len(first) else None

    def newest(self, index: int, limit: int) -> list[list[int]]:
        """Return the last bars, with the open one as it was last written."""
        bars: list[list[int]] = self.read(index, start=None, end=None, limit=limit).tolist()
        live = self._database.read_live().get(index)
        if live is not None and (not bars or live[0] > bars[-1][0]):
            bars.append(list(live))
        return bars[-limit:]

    def close(self) -> None:
        """Close the database; harmless when repeated."""
        self._database.close()


def open_stored(url: str, names: Sequence[str], interval: Interval) -> StoredBars:
    """Open a database for the bars of some symbols.

    Args:
        url: As ``storage.url`` names it.
        names: Symbols, by exchange or by public name.
        interval: Of the bars.

    Raises:
        ConfigError: There is no such database, or it does not know a symbol.
        StoreError: It cannot be used.
    """
    database = open_store(url)
    if not database.exists():
        # Opening it would create an empty one.
        raise ConfigError("storage.url", database.name, "a database with klinetrio's tables")
    database.open()
    try:
        known = list(database.known_symbols().values())
        series = _series(names, Catalog(known, (interval,)))
        symbols = tuple(each.symbol for each in series)
        database.consult(SymbolPeriodRegistry(symbols, (interval,)))
    except BaseException:
        database.close()
        raise
    return StoredBars(database, series)


def _series(names: Sequence[str], catalog: Catalog) -> list[Series]:
    found: dict[int, Series] = {}
    for name in names:
        try:
            row = catalog.row_of(name, catalog.intervals[0].name)
        except ApiError:
            listed = " ".join(sorted(catalog.shown)[:_MOST_LISTED])
            more = " ..." if len(catalog.shown) > _MOST_LISTED else ""
            expected = f"a symbol in the database ({listed}{more})"
            raise ConfigError("SYMBOL", name, expected) from None
        found[row] = catalog.series(row)
    return list(found.values())
