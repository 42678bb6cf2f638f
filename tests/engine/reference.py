"""A second, obvious fold to judge the engine by: dictionaries, sorting, no cleverness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.trade import AggTrade


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.domain.interval import Interval


def reference_bars(trades: Iterable[AggTrade], interval: Interval) -> dict[int, list[int]]:
    """Return ``{open_time: [o, h, l, c, v, q, n, tv, tq]}`` of distinct trades, gaps carried."""
    distinct = sorted({trade.agg_id: trade for trade in trades}.values(), key=lambda t: t.agg_id)
    groups: dict[int, list[AggTrade]] = {}
    for trade in distinct:
        groups.setdefault(interval.open_of(trade.time), []).append(trade)
    bars: dict[int, list[int]] = {}
    if not groups:
        return bars
    open_time, price = min(groups), 0
    while open_time <= max(groups):
        inside = groups.get(open_time, [])
        if inside:
            prices = [trade.price for trade in inside]
            price = prices[-1]
            bought = [trade for trade in inside if not trade.buyer_is_maker]
            bars[open_time] = [
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                sum(trade.quantity for trade in inside),
                sum(trade.quantity * trade.price for trade in inside),
                sum(trade.last_id - trade.first_id + 1 for trade in inside),
                sum(trade.quantity for trade in bought),
                sum(trade.quantity * trade.price for trade in bought),
            ]
        else:
            bars[open_time] = [price] * 4 + [0] * 5
        open_time = interval.next_open(open_time)
    return bars


def make_trade(agg_id: int, time: int, price: int = 100, quantity: int = 1) -> AggTrade:
    """Return a plain trade of one fill."""
    return AggTrade("BTCUSDT", agg_id, price, quantity, agg_id * 2, agg_id * 2, time, False)
