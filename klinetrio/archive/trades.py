"""An aggTrades file as exact columns, by id, each trade once.

Most files are in order and are read piece by piece, so that memory is bounded whatever their size.
One that is not is read again as a whole, at 49 bytes per trade, three times over while it is put
into order.

Futures files have seven columns, spot files an eighth (whether the price was the best one).
Trades of quantity 0 are in the files of some months.  Nothing documented says that they are no
trades, their ids count, and the live path folds what the stream sends; so here they are trades
like any other: their price can be a bar's open, extreme or close.

Invariants (tested in tests/archive/test_trades.py):
  I1  Ids rise strictly, and no trade is more than ``MAX_DISORDER_MS`` older than one before it.
  I2  A row that is there twice counts once; two different rows of one id refuse the file, because
      one of them is wrong.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.rows import Column, Kind
from klinetrio.archive.table import at_decimals, in_ms, joined, least_decimals, read_tables
from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.interval import MINUTE
from klinetrio.engine.batch import TradeColumns
from klinetrio.engine.ledger import MAX_DISORDER_MS
from klinetrio.errors import ArchiveError, ScaleError


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.archive.names import ArchiveName
    from klinetrio.archive.table import Table

_FUTURES = (
    Kind.INTEGER,
    Kind.DECIMAL,
    Kind.DECIMAL,
    Kind.INTEGER,
    Kind.INTEGER,
    Kind.INTEGER,
    Kind.BOOLEAN,
)
_SHAPES = (_FUTURES, (*_FUTURES, Kind.BOOLEAN))

# So many blocks, about 130,000 trades, are folded at a time: what a fold costs however few trades
# it has is little then, and what it needs for a moment is no more than 30 MB.
_BLOCKS = 16

# A trade may be filed with its neighbours of the next day; one further off is in the wrong file.
# Up to here no bar of beyond the file's time can be done (see ``runs``).
MAX_OUTSIDE_MS = MINUTE


@attrs.frozen(slots=True)
class FileTrades:
    """Trades of one file.

    Attributes:
        columns: By id; prices and quantities at the decimals of ``price`` and ``quantity``.
        price: Decimals of the prices in the file.
        quantity: Decimals of the quantities.
    """

    columns: TradeColumns
    price: int
    quantity: int

    def scales(self, price: int, quantity: int) -> tuple[int, int]:
        """Return the scales that the trades need, which are at least the given ones."""
        return (
            least_decimals([Column(self.columns.price, self.price)], price),
            least_decimals([Column(self.columns.quantity, self.quantity)], quantity),
        )

    def at(self, price_scale: int, quantity_scale: int) -> TradeColumns:
        """Return the trades at these scales.

        Raises:
            ScaleError: A number, or a price times its quantity, does not fit 64 bits.
        """
        price = at_decimals(Column(self.columns.price, self.price), price_scale)
        quantity = at_decimals(Column(self.columns.quantity, self.quantity), quantity_scale)
        if price is None or quantity is None:
            raise ScaleError("expected prices and quantities of 64 bits at their scales")
        return checked(attrs.evolve(self.columns, price=price, quantity=quantity))


class OutOfOrder(Exception):
    """The rows of a file do not come in the order of their ids."""


def read_pieces(path: Path, name: ArchiveName) -> Iterator[FileTrades]:
    """Yield the trades of a file piece by piece, as most files can be read.

    Raises:
        ArchiveError: Anything is wrong with the file.
        OutOfOrder: The file must be read as a whole, to be put into order.
    """
    newest_id = newest_time = -1
    tables = _checked(path, name)
    while pieces := list(islice(tables, _BLOCKS)):
        trades = _trades(joined(pieces))
        columns = trades.columns
        youngest = np.maximum(np.maximum.accumulate(columns.time), newest_time)
        rising = columns.agg_id[0] > newest_id and (np.diff(columns.agg_id) > 0).all()
        if not rising or (youngest - columns.time > MAX_DISORDER_MS).any():
            raise OutOfOrder
        newest_id, newest_time = int(columns.agg_id[-1]), int(youngest[-1])
        yield trades


def read_trades(path: Path, name: ArchiveName) -> FileTrades:
    """Return all trades of a file by id, each once.

    Raises:
        ArchiveError: Anything is wrong with the file.
    """
    table = joined(list(_checked(path, name)))
    trades = _trades(table)
    return attrs.evolve(trades, columns=_in_order(table, trades.columns))


def _checked(path: Path, name: ArchiveName) -> Iterator[Table]:
    """Yield the blocks of a file, times in ms, if each row makes sense by itself."""
    for table in read_tables(path, "agg_trade_id", _SHAPES):
        _, price, _, first, last, time, _ = table.columns[:7]
        table.refuse(last.values < first.values, "expected a first trade id not above the last one")
        table.refuse(price.values < 1, "expected a price above 0")
        times = in_ms(time.values)
        outside = (times < name.start - MAX_OUTSIDE_MS) | (times >= name.end + MAX_OUTSIDE_MS)
        table.refuse(outside, "expected a time of the day or month that the file is named after")
        table.columns[5] = Column(times)
        yield table


def _trades(table: Table) -> FileTrades:
    agg_id, price, quantity, first, last, time, maker = table.columns[:7]
    fills = last.values - first.values + 1
    columns = TradeColumns(
        agg_id.values, price.values, quantity.values, fills, time.values, maker.values != 0
    )
    return FileTrades(columns, price.decimals, quantity.decimals)


def _in_order(table: Table, trades: TradeColumns) -> TradeColumns:
    order = np.argsort(trades.agg_id, kind="stable")
    trades = trades.take(order)
    again = np.r_[False, np.diff(trades.agg_id) == 0]
    for column in attrs.astuple(trades, recurse=False):
        other = again[1:] & (column[1:] != column[:-1])
        if other.any():
            line = table.line + int(order[int(other.argmax()) + 1])
            raise ArchiveError(table.path, "expected another id or the same trade again", line)
    trades = trades.take(np.flatnonzero(~again))
    fallen = np.maximum.accumulate(trades.time) - trades.time > MAX_DISORDER_MS
    if fallen.any():
        agg_id = int(trades.agg_id[fallen.argmax()])
        raise ArchiveError(table.path, f"expected times to rise with ids, fell at id {agg_id}")
    return trades


def scaled(trades: TradeColumns, price: int, quantity: int) -> TradeColumns:
    """Return trades whose prices and quantities are multiplied.

    Raises:
        ScaleError: A number, or a price times its quantity, does not fit 64 bits.
    """
    if len(trades.price) and int(trades.price.max()) * price > INT64_MAX:
        raise ScaleError("expected prices of 64 bits at their scale")
    if len(trades.price) and int(trades.quantity.max()) * quantity > INT64_MAX:
        raise ScaleError("expected quantities of 64 bits at their scale")
    return checked(
        attrs.evolve(trades, price=trades.price * price, quantity=trades.quantity * quantity)
    )


def checked(trades: TradeColumns) -> TradeColumns:
    """Return the trades, if each price times its quantity fits 64 bits.

    Raises:
        ScaleError: One does not.
    """
    price, quantity = trades.price, trades.quantity
    # A bound first: it usually shows at once that all products fit.
    doubtful = len(price) and int(price.max()) * int(quantity.max()) > INT64_MAX
    if doubtful and (quantity > INT64_MAX // price).any():
        raise ScaleError("expected prices times quantities of 64 bits at their scales")
    return trades
