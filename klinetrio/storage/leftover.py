"""What an earlier run has left in the spool.

Most of it waits on for the persister, which needs series of this run.  What belongs to none, because
a symbol is not followed any more or an interval was taken out of the configuration, is written at
the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.delivery import NOTHING
from klinetrio.storage.enrolment import expect_scales, merge_scales
from klinetrio.storage.pending import MAX_BATCH
from klinetrio.storage.protocol import Batch
from klinetrio.storage.stored import StoredBars


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klinetrio.domain.symbol import Symbol
    from klinetrio.storage.protocol import KlineStore
    from klinetrio.storage.spool import Spool
    from klinetrio.storage.spool_file import SpoolFile


def known_to(database: KlineStore, spool: Spool) -> Mapping[str, Symbol]:
    """Return the stored symbols by name, at the larger of the database's and the spool's scales."""
    known = dict(database.known_symbols())
    for name, symbol in spool.known_symbols().items():
        known[name] = merge_scales(symbol, known.get(name))
    return known


def attach_both(
    database: KlineStore, spool: Spool, registry: SymbolPeriodRegistry, known: Mapping[str, Symbol]
) -> int:
    """Let rows mean this registry, in the database and in the spool.

    Args:
        database: Open.
        spool: Open.
        registry: Its symbols have at least the scales of ``known``.
        known: As ``known_to`` returned it.

    Returns:
        How many of the spool's bars belonged to no series of it; they are in the database now.

    Raises:
        StoreError: It failed; it can be tried again.
    """
    strange = spool.series() - set(_series_of(registry))
    written = _write(database, spool, strange, known) if strange else 0
    database.attach(registry)
    spool.attach(registry)
    if spool.live_mark:
        _take_live(database, spool)
    return written


def attach_later(
    database: KlineStore,
    another: Callable[[], KlineStore],
    spool: Spool,
    registry: SymbolPeriodRegistry,
) -> None:
    """Do the same in the middle of a run, whose series the spool's rows mean already.

    Open bars are left where they are: the run's own are younger, and are written by the persister.

    Args:
        database: Open; refuses everything before this is done.
        another: Makes another store of the same database.
        spool: In use.
        registry: Of the run.

    Raises:
        ScalesChanged: Stored bars have more decimals than this run's.
        StoreError: It failed; it can be tried again.
    """
    known = known_to(database, spool)
    merged = [merge_scales(symbol, known.get(symbol.name)) for symbol in registry.symbols]
    scales = {each.name: (each.price_scale, each.quantity_scale) for each in merged}
    expect_scales(scales, registry.symbols)
    strange = spool.series() - set(_series_of(registry))
    if strange:
        # In this one rows mean nothing yet, and never anything else than the run's series.
        other = another()
        other.open()
        try:
            _write(other, spool, strange, known)
        finally:
            other.close()
    database.attach(registry)


def _take_live(database: KlineStore, spool: Spool) -> None:
    """Move the open bars to the database: nobody else would, as they are not this run's.

    They may go before the closed ones, because these are not missing: they are read beside it.
    """
    live = StoredBars(database, spool).read_live()
    rows = np.array(list(live), np.int64)
    bars = np.array(list(live.values()), np.int64).reshape(len(rows), FIELD_COUNT)
    database.write(NOTHING, Batch(rows, bars))
    spool.remove(NOTHING, spool.live_mark)


def _write(
    database: KlineStore, spool: Spool, strange: set[tuple[str, str]], known: Mapping[str, Symbol]
) -> int:
    """Move all bars of some series to the database."""
    symbols = [known[name] for name in sorted({name for name, _ in strange})]
    intervals = parse_intervals({interval for _, interval in strange})
    registry = SymbolPeriodRegistry.ranked(symbols, intervals)
    # None of them is in use by this run, nor by another one: the database is claimed.
    database.regrow(registry.symbols)
    database.enlist(registry)
    view = spool.view(registry)
    written = 0
    for row, series in enumerate(_series_of(registry)):
        while series in strange and len(batch := _of_series(view, row)):
            database.write(batch, NOTHING)
            spool.remove(batch, 0, view)
            written += len(batch)
    return written


def _series_of(registry: SymbolPeriodRegistry) -> list[tuple[str, str]]:
    """Return the names of all series, by row."""
    series = [registry.series(row) for row in range(registry.capacity)]
    return [(symbol.name, interval.name) for symbol, interval in series]


def _of_series(spool: SpoolFile, row: int) -> Batch:
    bars = spool.read(row, start=0, end=None, limit=MAX_BATCH)
    return Batch(np.full(len(bars), row, np.int64), bars)
