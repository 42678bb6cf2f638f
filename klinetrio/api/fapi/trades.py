"""Aggregate trades, from memory: the newest thousand or so of each symbol.

The exchange has those of two days.  What is asked for and is not held is refused with its code for
that, -4166, and never left out of an answer: ids of a whole answer rise by one.  Where trades have been
missed and are not repaired (yet), an answer ends before them, or begins after them if the last trades
are asked for; if it cannot begin there, it is refused.

Invariants (tested in tests/api/fapi/test_trades.py):
  I1  The ids of an answer are contiguous.
  I2  An answer lacks no trade that the exchange has, up to its last one, or from its first one on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from klinetrio.api.fapi.errors import FapiError
from klinetrio.domain.decimals import format_scaled


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.fapi.parameters import Window
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade

DEFAULT_LIMIT = 500
MAX_LIMIT = 1000


def choose(trades: Sequence[AggTrade], window: Window, from_id: int | None) -> Sequence[AggTrade]:
    """Return the trades that are asked for.

    Args:
        trades: Those held, ascending by id; times of a symbol ascend with them.
        window: By which times, and how many.
        from_id: The first id; None if it is not asked by id.

    Raises:
        FapiError: Trades are asked for that are not held, or ids and times together.
    """
    if from_id is not None:
        if window.start is not None or window.end is not None:
            raise FapiError(-1128, "Combination of optional parameters invalid.")
        return _from_id(trades, from_id, window.limit)
    if window.start is not None:
        return _from_time(trades, window.start, window.end, window.limit)
    if window.end is None:
        return _last(trades, window.limit)
    if not trades or window.end < trades[0].time:
        raise _not_held(trades)
    return _last(trades[: bisect_right(trades, window.end, key=_time)], window.limit)


def _from_id(trades: Sequence[AggTrade], from_id: int, limit: int) -> Sequence[AggTrade]:
    index = bisect_left(trades, from_id, key=_id)
    if index == len(trades):
        if not trades:
            raise _not_held(trades)
        return []
    if trades[index].agg_id != from_id:
        raise _not_held(trades)
    return _unbroken(trades[index : index + limit])


def _from_time(
    trades: Sequence[AggTrade], start: int, end: int | None, limit: int
) -> Sequence[AggTrade]:
    # Of the oldest held trade's own millisecond there may have been others before it.
    if not trades or start <= trades[0].time:
        raise _not_held(trades)
    index = bisect_left(trades, start, key=_time)
    if index == len(trades):
        return []
    if trades[index].agg_id != trades[index - 1].agg_id + 1:
        raise _not_held(trades)
    until = len(trades) if end is None else bisect_right(trades, end, key=_time)
    return _unbroken(trades[index : max(index, until)][:limit])


def _last(trades: Sequence[AggTrade], limit: int) -> Sequence[AggTrade]:
    first = max(0, len(trades) - limit)
    for index in range(len(trades) - 1, first, -1):
        if trades[index].agg_id != trades[index - 1].agg_id + 1:
            return trades[index:]
    return trades[first:]


def _unbroken(trades: Sequence[AggTrade]) -> Sequence[AggTrade]:
    """Return the trades before the first one that is missing."""
    for index in range(1, len(trades)):
        if trades[index].agg_id != trades[index - 1].agg_id + 1:
            return trades[:index]
    return trades


def _not_held(trades: Sequence[AggTrade]) -> FapiError:
    held = "none are"
    if trades:
        first, last = trades[0], trades[-1]
        held = f"ids {first.agg_id} to {last.agg_id} are, times {first.time} to {last.time}"
    message = f"Search window is restricted to the newest trades without a hole in memory: {held}."
    return FapiError(-4166, message)


def _id(trade: AggTrade) -> int:
    return trade.agg_id


def _time(trade: AggTrade) -> int:
    return trade.time


def trade_row(trade: AggTrade, symbol: Symbol) -> dict[str, Any]:
    """Return a trade as the exchange tells it; ``nq`` is there if the exchange told it."""
    quantity, normal = symbol.quantity_scale, trade.normal_quantity
    return {
        "a": trade.agg_id,
        "p": format_scaled(trade.price, symbol.price_scale),
        "q": format_scaled(trade.quantity, quantity),
        **({} if normal is None else {"nq": format_scaled(normal, quantity)}),
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.time,
        "m": trade.buyer_is_maker,
    }
