"""What a market is to the exchange around it, and how its trades look on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio


if TYPE_CHECKING:
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.sim.clock import SimClock
    from klinetrio.sim.ledger import Ledger
    from klinetrio.sim.tape import SimTrade


class Frame(NamedTuple):
    """One aggTrade event, ready to be sent.

    Attributes:
        symbol: The exchange's name of the symbol.
        agg_id: The aggregate id.
        payload: The raw event: JSON in UTF-8, without the envelope of combined streams.
    """

    symbol: str
    agg_id: int
    payload: bytes


Deliver = Callable[[Frame], None]


class Market(Protocol):
    """Where trades come from."""

    @property
    def clock(self) -> SimClock:
        """The clock that the trades follow."""
        ...

    @property
    def ledger(self) -> Ledger:
        """Instruments, trades and true bars, for REST and for judging."""
        ...

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make trades, entering each in the ledger at ``T`` and delivering it at ``E``."""
        ...

    def subscribed(self, symbol: str) -> None:
        """Hear that a symbol's stream now has a subscriber."""
        ...


class Judge:
    """What a market knows that clients are judged by."""

    ledger: Ledger

    def true_klines(
        self, symbol: str, interval: Interval, start_ms: int, end_ms: int
    ) -> list[tuple[int, ...]]:
        """Return the true bars (see ``Ledger.true_klines``)."""
        return self.ledger.true_klines(symbol, interval, start_ms, end_ms)

    def trades_of(self, symbol: str) -> list[SimTrade]:
        """Return all trades of a symbol that have been entered and are still kept."""
        return list(self.ledger.book(symbol).tape)


class EventEncoder:
    """Writes aggTrade events of one symbol as Binance sends them (key order of 2026)."""

    # One template per symbol, not orjson: every value is ours and needs no escaping, and at
    # 20,000 frames a second building the dictionaries alone would cost more than this does.

    def __init__(self, symbol: Symbol) -> None:
        price, quantity = _number(symbol.price_scale), _number(symbol.quantity_scale)
        self._price_unit = 10**symbol.price_scale
        self._quantity_unit = 10**symbol.quantity_scale
        self._template = (
            f'{{"e":"aggTrade","E":%d,"a":%d,"s":"{symbol.name}",'
            f'"p":"{price}","q":"{quantity}","nq":"{quantity}",'
            '"f":%d,"l":%d,"T":%d,"m":%s,"st":1}'
        )

    def encode(self, trade: SimTrade, event_time: int) -> bytes:
        """Return the event's JSON."""
        price, price_part = divmod(trade.price, self._price_unit)
        quantity, part = divmod(trade.quantity, self._quantity_unit)
        normal, normal_part = divmod(trade.normal_quantity, self._quantity_unit)
        text = self._template % (
            event_time,
            trade.agg_id,
            price,
            price_part,
            quantity,
            part,
            normal,
            normal_part,
            trade.first_id,
            trade.last_id,
            trade.time,
            "true" if trade.buyer_is_maker else "false",
        )
        return text.encode()


def _number(scale: int) -> str:
    # "%.0s" swallows the fraction of a number without decimals.
    return f"%d.%0{scale}d" if scale else "%d%.0s"
