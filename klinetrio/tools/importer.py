"""Archive files into a database, one series after the other, one transaction per file.

The trades of a symbol come before its klines: what trades prove stands, and klines mend the rest.

Invariants (tested in tests/archive/test_importer.py):
  I1  A file is taken as a whole or not at all; one that is refused keeps no other from being taken.
  I2  The same files twice give the same database.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.files import verify
from klinetrio.archive.names import ArchiveName, split_assets
from klinetrio.archive.series import Series, Taken, take_file
from klinetrio.domain.kline import OPEN_TIME
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ArchiveError, ClaimError
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from klinetrio.archive.longer import Bars
    from klinetrio.domain.interval import Interval
    from klinetrio.storage.protocol import KlineStore


@attrs.frozen(slots=True)
class ArchiveFile:
    """One file and what its name says."""

    path: Path
    name: ArchiveName


@attrs.define(slots=True)
class ImportCounts:
    """What has been done.

    Attributes:
        files: Taken.
        rows: In these.
        bars: Written.
        proved: Not written, because a proved bar was there.
        checked: Files that matched their checksum.
        refused: Why, by file.
    """

    files: int = 0
    rows: int = 0
    bars: int = 0
    proved: int = 0
    checked: int = 0
    refused: dict[Path, str] = attrs.field(factory=dict)


class Importer:
    """Imports files.

    Args:
        store: Open.
        intervals: Which bars are wanted, shortest first.
        done: Called after each file.
    """

    def __init__(
        self,
        store: KlineStore,
        intervals: Sequence[Interval],
        done: Callable[[ArchiveFile], None] = lambda _file: None,
    ) -> None:
        self.counts = ImportCounts()
        self._store = store
        self._intervals = intervals
        self._done = done

    def take(self, files: Iterable[ArchiveFile]) -> None:
        """Take files of any series.

        Raises:
            StoreError: The database failed; the files before have been taken.
        """
        for _, series in groupby(sorted(files, key=_order), key=lambda file: _order(file)[:2]):
            self._take_series(list(series))

    def _take_series(self, files: Sequence[ArchiveFile]) -> None:
        symbol = self._symbol(files[0].name)
        series = Series(self._intervals, symbol.price_scale, symbol.quantity_scale)
        for file in files:
            try:
                taken = self._read(series, file)
                symbol = self._enlist(symbol, taken, file)
            except ArchiveError as error:
                self.counts.refused[file.path] = str(error)
            else:
                self._write(taken.bars)
                series = taken.series
                self.counts.files += 1
                self.counts.rows += taken.rows
            self._done(file)
        self._write(series.finish())

    def _read(self, series: Series, file: ArchiveFile) -> Taken:
        self.counts.checked += verify(file.path)
        return take_file(series, file.path, file.name)

    def _symbol(self, name: ArchiveName) -> Symbol:
        """Return what is known of a symbol; if that is nothing, what its name says."""
        known = self._store.known_symbols().get(name.symbol)
        base, quote = split_assets(name.symbol)
        return known or Symbol(name.symbol, base, quote, name.start, 0, 0)

    def _enlist(self, symbol: Symbol, taken: Taken, file: ArchiveFile) -> Symbol:
        """Make the database ready for bars at the scales of a file; return the symbol at these."""
        price, quantity = taken.series.price_scale, taken.series.quantity_scale
        symbol = attrs.evolve(symbol, price_scale=price, quantity_scale=quantity)
        known = self._store.known_symbols().get(symbol.name)
        if known is None:
            opens = [int(rows[0, OPEN_TIME]) for rows in taken.bars.values()]
            symbol = attrs.evolve(symbol, listing_time=min(opens, default=symbol.listing_time))
        elif (known.price_scale, known.quantity_scale) != (price, quantity):
            self._regrow(symbol, file)
        self._store.enlist(SymbolPeriodRegistry.ranked([symbol], self._intervals))
        return symbol

    def _regrow(self, symbol: Symbol, file: ArchiveFile) -> None:
        try:
            with self._store.claim():
                self._store.regrow([symbol])
        except ClaimError as error:
            text = f"{symbol.name} has more decimals in the file than in the database"
            raise ArchiveError(file.path, f"{text}; stop the daemon first ({error})") from None

    def _write(self, bars: Bars) -> None:
        """Write bars of the symbol that was enlisted last."""
        if not bars:
            return
        rows = {interval.name: row for row, interval in enumerate(self._intervals)}
        series = [np.full(len(each), rows[name], np.int64) for name, each in bars.items()]
        batch = Batch(np.concatenate(series), np.concatenate(list(bars.values())))
        written = self._store.write_history(batch)
        self.counts.bars += written
        self.counts.proved += len(batch) - written


def _order(file: ArchiveFile) -> tuple[str, int, int, int, str]:
    """Return a series' place among others, and the file's place in it."""
    name = file.name
    length = name.interval.length if name.interval else 0
    return name.symbol, length, name.start, name.end, str(file.path)
