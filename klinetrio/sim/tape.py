"""All trades of one symbol: what REST ``aggTrades`` selects from.

Packed rows of 64 bytes, because a benchmark makes millions of trades: a tuple of Python integers
takes about 300, and eight columns of machine integers (tried) take six times as long to append to.

Invariants:
  I1  rows ascend by aggregate id, each id once.
  I2  at most ``limit`` rows are kept; the oldest go first, a tenth at a time.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# 500 symbols of which 20 fill it: 20 * 200,000 * 64 B = 256 MB at most.
KEEP_TRADES = 200_000


class SimTrade(NamedTuple):
    """One aggregate trade of the simulated exchange; numbers at the symbol's scales.

    The names are those of ``klinetrio.domain.trade.AggTrade``; ``normal_quantity`` (``nq``) is the
    part that is not from RPI orders.
    """

    agg_id: int
    price: int
    quantity: int
    normal_quantity: int
    first_id: int
    last_id: int
    time: int
    buyer_is_maker: bool


_ROW = Struct(f"={len(SimTrade._fields)}q")
_AGG_ID = SimTrade._fields.index("agg_id")
_TIME = SimTrade._fields.index("time")


class Tape:
    """Trades of one symbol, ascending by aggregate id."""

    def __init__(self, limit: int = KEEP_TRADES) -> None:
        self._limit = limit
        self._rows = bytearray()
        self._last_id = -1

    def add(self, trade: SimTrade) -> bool:
        """Add a trade, nearly always the newest; return whether it was not there yet."""
        if trade.agg_id > self._last_id:
            self._rows += _ROW.pack(*trade)
            self._last_id = trade.agg_id
        elif not self._insert(trade):
            return False
        if len(self._rows) > self._limit * _ROW.size:
            # A tenth at a time: moving the rest then costs one copy per many trades.
            del self._rows[: max(1, self._limit // 10) * _ROW.size]
        return True

    def _insert(self, trade: SimTrade) -> bool:
        index = self._index_of(trade.agg_id)
        if self[index].agg_id == trade.agg_id:
            return False
        self._rows[index * _ROW.size : index * _ROW.size] = _ROW.pack(*trade)
        return True

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def __iter__(self) -> Iterator[SimTrade]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> SimTrade:
        if index < 0:
            index += len(self)
        trade = SimTrade._make(_ROW.unpack_from(self._rows, index * _ROW.size))
        return trade._replace(buyer_is_maker=bool(trade.buyer_is_maker))

    def from_id(self, agg_id: int, limit: int) -> list[SimTrade]:
        """Return the first ``limit`` trades from ``agg_id`` on, inclusive."""
        start = self._index_of(agg_id)
        return [self[index] for index in range(start, min(start + limit, len(self)))]

    def between(self, start: int | None, end: int | None, limit: int) -> list[SimTrade]:
        """Return trades by time, bounds inclusive.

        Returns:
            The first ``limit`` from ``start`` on if that is given, else the last ``limit``.
        """
        times = self._column(_TIME)
        wanted = np.ones(len(times), dtype=np.bool_)
        if start is not None:
            wanted &= times >= start
        if end is not None:
            wanted &= times <= end
        chosen = np.flatnonzero(wanted)
        chosen = chosen[:limit] if start is not None else chosen[-limit:]
        return [self[index] for index in chosen.tolist()]

    def _index_of(self, agg_id: int) -> int:
        return int(np.searchsorted(self._column(_AGG_ID), agg_id))

    def _column(self, index: int) -> npt.NDArray[np.int64]:
        # Only for use within one synchronous step: the rows cannot grow while a view exists.
        return np.frombuffer(self._rows, dtype=np.int64).reshape(-1, len(SimTrade._fields))[
            :, index
        ]
