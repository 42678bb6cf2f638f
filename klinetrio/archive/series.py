"""One series of files: what each of them adds, with scales that only grow.

A series is the trades, or the klines of one interval, of one symbol.  Its state is a value, so a
file that is refused leaves it as it was; the files around it are then no stream any more, which
the run finds out by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.kline_run import KlineRun
from klinetrio.archive.klines import read_klines
from klinetrio.archive.longer import NO_ROWS, rescaled_rows
from klinetrio.archive.trade_run import TradeRun
from klinetrio.archive.trades import OutOfOrder, read_pieces, read_trades
from klinetrio.errors import ArchiveError, ScaleError


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from klinetrio.archive.longer import Bars
    from klinetrio.archive.names import ArchiveName
    from klinetrio.archive.trades import FileTrades
    from klinetrio.domain.interval import Interval


@attrs.frozen(slots=True)
class Series:
    """What is carried from file to file.

    Attributes:
        intervals: Which bars are wanted, shortest first.
        price_scale: Decimals of prices.
        quantity_scale: Decimals of quantities.
        trades: The trades so far, None before the first or for a series of klines.
        klines: The klines so far, None before the first or for a series of trades.
    """

    intervals: Sequence[Interval]
    price_scale: int
    quantity_scale: int
    trades: TradeRun | None = None
    klines: KlineRun | None = None

    def grown(self, price_scale: int, quantity_scale: int) -> Series:
        """Return the same at larger scales.

        Raises:
            ScaleError: A number does not fit 64 bits there.
        """
        price = 10 ** (price_scale - self.price_scale)
        quantity = 10 ** (quantity_scale - self.quantity_scale)
        if price == quantity == 1:
            return self
        return attrs.evolve(
            self,
            price_scale=price_scale,
            quantity_scale=quantity_scale,
            trades=self.trades and self.trades.rescaled(price, quantity),
            klines=self.klines and self.klines.rescaled(price, quantity),
        )

    def finish(self) -> Bars:
        """Return the bars that are covered, but that nothing has come after."""
        return self.trades.finish() if self.trades else {}


@attrs.frozen(slots=True)
class Taken:
    """What a file has added.

    Attributes:
        series: Afterwards.
        bars: That are done.
        rows: In the file, without repetitions.
    """

    series: Series
    bars: Bars
    rows: int


def take_file(series: Series, path: Path, name: ArchiveName) -> Taken:
    """Take the next file.

    Raises:
        ArchiveError: Anything is wrong with the file, or a number of it, or of a bar, does not fit
            64 bits at the scales it needs.
    """
    take = _take_trades if name.interval is None else _take_klines
    try:
        return take(series, path, name)
    except ScaleError as error:
        raise ArchiveError(path, str(error)) from None


def _take_trades(series: Series, path: Path, name: ArchiveName) -> Taken:
    try:
        return _take_pieces(series, path, name, read_pieces(path, name))
    except OutOfOrder:
        return _take_pieces(series, path, name, [read_trades(path, name)])


def _take_pieces(
    series: Series, path: Path, name: ArchiveName, pieces: Iterable[FileTrades]
) -> Taken:
    done: list[Bars] = []
    rows = 0
    for piece in pieces:
        rows += len(piece.columns.agg_id)
        coarse = series
        series = series.grown(*piece.scales(series.price_scale, series.quantity_scale))
        if series is not coarse:
            done = [_rescaled(bars, coarse, series) for bars in done]
        trades = piece.at(series.price_scale, series.quantity_scale)
        run = series.trades
        if run is not None and not run.joins(trades, name.start):
            done.append(run.finish())
            run = None
        run = run or TradeRun.starting(trades, (name.start, name.end), series.intervals)
        if run.contradicts(trades):
            raise ArchiveError(path, "expected newer ids at newer times than in the file before")
        for after, bars in run.extend(trades, name.end):
            run = after
            done.append(bars)
        series = attrs.evolve(series, trades=run)
    return Taken(series, _joined(done), rows)


def _rescaled(bars: Bars, coarse: Series, fine: Series) -> Bars:
    price = 10 ** (fine.price_scale - coarse.price_scale)
    quantity = 10 ** (fine.quantity_scale - coarse.quantity_scale)
    return {name: rescaled_rows(rows, price, quantity) for name, rows in bars.items()}


def _take_klines(series: Series, path: Path, name: ArchiveName) -> Taken:
    if name.interval is None:
        raise AssertionError("expected klines")
    read = read_klines(path, name, name.interval)
    series = series.grown(*read.scales(series.price_scale, series.quantity_scale))
    rows = read.at(series.price_scale, series.quantity_scale)
    run, done = series.klines or KlineRun.starting(name.interval, series.intervals), []
    for after, bars in run.extend(rows):
        run = after
        done.append(bars)
    return Taken(attrs.evolve(series, klines=run), _joined(done), len(read))


def _joined(parts: Sequence[Bars]) -> Bars:
    names = dict.fromkeys(name for bars in parts for name in bars)
    return {name: np.concatenate([bars.get(name, NO_ROWS) for bars in parts]) for name in names}
