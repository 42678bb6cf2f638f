"""A klines file as exact rows, ascending, each bar once.

Invariant (tested in tests/archive/test_klines.py):
  I1  A row is what ``exchange.codec.decode_kline`` makes of the same kline of REST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.rows import Column, Kind
from klinetrio.archive.table import at_decimals, in_ms, joined, least_decimals, read_tables
from klinetrio.domain.decimals import MAX_SCALE
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from klinetrio.errors import ArchiveError, ScaleError


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.archive.names import ArchiveName
    from klinetrio.archive.rows import Int64Array
    from klinetrio.archive.table import Table
    from klinetrio.domain.interval import Interval

_INT, _DEC = Kind.INTEGER, Kind.DECIMAL
_SHAPE = (_INT, _DEC, _DEC, _DEC, _DEC, _DEC, _INT, _DEC, _INT, _DEC, _DEC, _DEC)

# Where in the file the fields of a row are, by their scale.
_PRICES = {OPEN: 1, HIGH: 2, LOW: 3, CLOSE: 4}
_QUANTITIES = {VOLUME: 5, TAKER_BUY_VOLUME: 9}
_QUOTES = {QUOTE_VOLUME: 7, TAKER_BUY_QUOTE_VOLUME: 10}
_CLOSE_TIME, _TRADES = 6, 8


@attrs.frozen(slots=True)
class FileKlines:
    """The klines of one file.

    Attributes:
        columns: As in the file, but ascending, times in ms, each bar once.
    """

    columns: list[Column]

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def scales(self, price: int, quantity: int) -> tuple[int, int]:
        """Return the scales that the klines need, which are at least the given ones.

        A quote volume is a sum of prices times quantities, so its decimals are theirs; should the
        other columns of the file not show as many, the quantities are given more.

        Raises:
            ScaleError: There are more than 64 bits can have.
        """
        price = least_decimals([self.columns[each] for each in _PRICES.values()], price)
        quantity = least_decimals([self.columns[each] for each in _QUANTITIES.values()], quantity)
        quote = least_decimals([self.columns[each] for each in _QUOTES.values()], price + quantity)
        if quote > MAX_SCALE:
            raise ScaleError(f"expected quote volumes of at most {MAX_SCALE} decimals, was {quote}")
        return price, quote - price

    def at(self, price_scale: int, quantity_scale: int) -> Int64Array:
        """Return the klines as rows at these scales, shape ``(n, 13)``.

        Raises:
            ScaleError: A number does not fit 64 bits.
        """
        rows = np.zeros((len(self), FIELD_COUNT), np.int64)
        rows[:, OPEN_TIME] = self.columns[0].values
        rows[:, TRADE_COUNT] = self.columns[_TRADES].values
        quote_scale = price_scale + quantity_scale
        for fields, scale in (
            (_PRICES, price_scale),
            (_QUANTITIES, quantity_scale),
            (_QUOTES, quote_scale),
        ):
            for field, column in fields.items():
                values = at_decimals(self.columns[column], scale)
                if values is None:
                    raise ScaleError(f"expected numbers of 64 bits at {scale} decimals")
                rows[:, field] = values
        rows[:, FIRST_AGG_ID] = rows[:, LAST_AGG_ID] = NO_ID
        rows[:, FLAGS] = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
        return rows


def read_klines(path: Path, name: ArchiveName, interval: Interval) -> FileKlines:
    """Return the klines of a file.

    Raises:
        ArchiveError: Anything is wrong with the file.
    """
    table = joined(list(read_tables(path, "open_time", (_SHAPE,))))
    times = in_ms(table.columns[0].values)
    table.refuse(
        times != interval.open_of_many(times), f"expected the start of a bar of {interval}"
    )
    table.refuse(
        (times < name.start) | (times >= name.end),
        "expected a time of the day or month that the file is named after",
    )
    # The opens of longer bars lie on the grid of shorter ones, too.
    closes = in_ms(table.columns[_CLOSE_TIME].values)
    table.refuse(interval.open_of_many(closes) != times, f"expected a bar of {interval}")
    _check_prices(table)
    _check_parts(table)
    return FileKlines(_in_order(table, times))


def _check_prices(table: Table) -> None:
    prices = [table.columns[each] for each in _PRICES.values()]
    decimals = max(each.decimals for each in prices)
    scaled = [at_decimals(each, decimals) for each in prices]
    for each in scaled:
        if each is None:
            raise ArchiveError(table.path, f"expected numbers of 64 bits at {decimals} decimals")
    opened, high, low, close = (np.asarray(each) for each in scaled)
    wrong = (low < 1) | (low > np.minimum(opened, close)) | (high < np.maximum(opened, close))
    table.refuse(wrong, "expected 0 < low <= open, close <= high")
    # Index and mark prices come in files of the same names, with volumes of 0.
    untraded = table.columns[_QUANTITIES[VOLUME]].values == 0
    table.refuse(untraded & (low < high), "expected volume where the price moves")


def _check_parts(table: Table) -> None:
    """Refuse bars whose takers bought more than was traded."""
    for columns in (_QUANTITIES, _QUOTES):
        both = [table.columns[each] for each in columns.values()]
        decimals = max(each.decimals for each in both)
        whole, part = (at_decimals(each, decimals) for each in both)
        if whole is None or part is None:
            # What no scale can hold is refused when the scale is known.
            continue
        table.refuse(part > whole, "expected takers to have bought no more than was traded")


def _in_order(table: Table, times: Int64Array) -> list[Column]:
    columns = [attrs.evolve(table.columns[0], values=times), *table.columns[1:]]
    if (np.diff(times) > 0).all():
        return columns
    order = np.argsort(times, kind="stable")
    columns = [attrs.evolve(each, values=each.values[order]) for each in columns]
    again = np.r_[False, np.diff(columns[0].values) == 0]
    for column in columns[:-1]:
        other = again[1:] & (column.values[1:] != column.values[:-1])
        if other.any():
            line = table.line + int(order[int(other.argmax()) + 1])
            raise ArchiveError(table.path, "expected another time or the same kline again", line)
    return [attrs.evolve(each, values=each.values[~again]) for each in columns]
