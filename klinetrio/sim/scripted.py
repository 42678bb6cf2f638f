"""A market in which a test makes every single trade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from klinetrio.domain.decimals import parse_scaled
from klinetrio.domain.symbol import Symbol
from klinetrio.sim.clock import SimClock
from klinetrio.sim.instruments import Instrument
from klinetrio.sim.ledger import Book, Ledger
from klinetrio.sim.market import Deliver, EventEncoder, Frame, Judge
from klinetrio.sim.tape import SimTrade


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# A plausible place for the first aggregate id, and for the first fill id.
FIRST_ID = 3_000_000_001


def plain_instrument(name: str, *, listing_time: int = 1_567_965_300_000) -> Instrument:
    """Return an instrument like most are: ``...USDT``, two decimals of price, three of quantity."""
    base = name.removesuffix("USDT")
    return Instrument(Symbol(name, base, "USDT", listing_time, 2, 3))


class ScriptedMarket(Judge):
    """Trades made one by one, each delivered at once.

    Args:
        symbols: Instruments, domain symbols or bare names.
        clock: The exchange's clock.
    """

    def __init__(
        self, symbols: Iterable[Instrument | Symbol | str], *, clock: SimClock | None = None
    ) -> None:
        self.clock = SimClock() if clock is None else clock
        instruments = [_instrument(each) for each in symbols]
        self.ledger = Ledger(
            self.clock, (Book(each, id_before=FIRST_ID - 1) for each in instruments)
        )
        self._deliver: Deliver | None = None

    def trade(
        self,
        symbol: str,
        price: str,
        quantity: str,
        T: int | None = None,  # noqa: N803  (Binance's name of the trade time)
        *,
        maker: bool = False,
        fills: int = 1,
        delivered: bool = True,
    ) -> SimTrade:
        """Make one trade, now.

        Args:
            symbol: The exchange's name of the symbol.
            price: As decimal text.
            quantity: As decimal text.
            T: Its trade time; ``None`` is now.
            maker: Whether the buyer is the maker, so that the taker sold.
            fills: How many fills it joins.
            delivered: Whether it is sent on the streams; REST has it in any case.
        """
        book = self.ledger.book(symbol)
        tape, scales = book.tape, book.instrument.symbol
        previous = tape[-1] if len(tape) else None
        amount = parse_scaled(quantity, scales.quantity_scale)
        now = self.clock.now_ms()
        first = previous.last_id + 1 if previous else FIRST_ID
        trade = SimTrade(
            agg_id=previous.agg_id + 1 if previous else FIRST_ID,
            price=parse_scaled(price, scales.price_scale),
            quantity=amount,
            normal_quantity=amount,
            first_id=first,
            last_id=first + fills - 1,
            time=now if T is None else T,
            buyer_is_maker=maker,
        )
        book.enter(trade)
        if delivered and self._deliver is not None:
            payload = EventEncoder(scales).encode(trade, max(now, trade.time))
            self._deliver(Frame(symbol, trade.agg_id, payload))
        return trade

    def amend_minute(self, symbol: str, row: Sequence[int]) -> None:
        """Let the exchange claim another minute bar than its trades add up to."""
        self.ledger.amend_minute(symbol, row)

    def subscribed(self, symbol: str) -> None:
        """Wait for nothing: trades come when the test says so."""

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver trades while this runs."""
        self._deliver = deliver
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._deliver = None


def _instrument(given: Instrument | Symbol | str) -> Instrument:
    if isinstance(given, str):
        return plain_instrument(given)
    return Instrument(given) if isinstance(given, Symbol) else given
