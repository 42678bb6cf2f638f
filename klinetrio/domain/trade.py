"""One aggregate trade of the exchange."""

from __future__ import annotations

from typing import NamedTuple


class AggTrade(NamedTuple):
    """Fills of one taker order at one price, joined by the exchange.

    A named tuple, not an attrs class: one is made per trade, and this is the cheapest immutable
    record there is.

    Attributes:
        symbol: The exchange's name of the symbol.
        agg_id: The exchange's ``a``; rises by exactly one per symbol, which is what proves
            completeness.
        price: Scaled by the symbol's price scale.
        quantity: Scaled by the symbol's quantity scale.
        first_id: First fill's trade id, ``f``.
        last_id: Last fill's trade id, ``l``.
        time: Trade time ``T``, UTC ms: the bar it belongs to.
        buyer_is_maker: Whether the taker sold.
        normal_quantity: The part of the quantity without RPI orders, ``nq``; None if the exchange
            did not tell, as before 2026.  No bar depends on it.
    """

    symbol: str
    agg_id: int
    price: int
    quantity: int
    first_id: int
    last_id: int
    time: int
    buyer_is_maker: bool
    normal_quantity: int | None = None
