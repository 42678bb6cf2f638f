"""How one symbol of the seeded market moves from trade to trade.

Invariants:
  I1  aggregate ids rise by exactly one; fill ids rise, with a hole now and then.
  I2  of neighbouring aggregates with one price and one taker side, the second comes more than
      100 ms after the first: the exchange would have joined them otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from klinetrio.sim.market import EventEncoder
from klinetrio.sim.tape import SimTrade


if TYPE_CHECKING:
    from klinetrio.sim.catalogue import Profile
    from klinetrio.sim.ledger import Book

# Binance joins fills of one price and one side within this time.
_MERGE_MS = 100

# Ticks that a price may be away from where it started before it is drawn back; a fiftieth of the
# price if that is more.
_MIN_LEASH = 50


class Draw(NamedTuple):
    """What chance decided about one trade."""

    time: int
    trader: int
    move: int
    size: float
    fills: int
    hole: int
    delay: int
    maker: bool
    rpi: bool


@attrs.define
class Trader:
    """The moving state of one symbol that trades."""

    profile: Profile
    book: Book
    price: int
    agg_id: int
    fill_id: int
    event_time: int = 0
    _last: tuple[int, bool, int] = (0, False, 0)
    _home: int = attrs.field(init=False)
    _leash: int = attrs.field(init=False)
    name: str = attrs.field(init=False)
    encoder: EventEncoder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.name = self.profile.instrument.name
        ticks = self.price // self.profile.instrument.tick
        self._home = self.price
        self._leash = max(_MIN_LEASH, ticks // 50) * self.profile.instrument.tick
        self.encoder = EventEncoder(self.profile.instrument.symbol)

    def trade(self, draw: Draw) -> SimTrade:
        """Make the next trade of this symbol."""
        price, maker = self._agree_on_price(draw)
        self.agg_id += 1
        first = self.fill_id + 1 + draw.hole
        self.fill_id = first + draw.fills - 1
        step = self.profile.instrument.step
        lots = max(draw.fills, int(draw.size * self.profile.lot))
        normal = lots // 2 if draw.rpi else lots
        return SimTrade(
            self.agg_id, price, lots * step, normal * step, first, self.fill_id, draw.time, maker
        )

    def _agree_on_price(self, draw: Draw) -> tuple[int, bool]:
        """Return the price, and whether the buyer is the maker."""
        tick, maker = self.profile.instrument.tick, draw.maker
        # A walk on a leash: at thousands of trades a second a free one runs into the ground.
        back = (self._home - self.price) // self._leash
        price = max(tick, self.price + (draw.move + back) * tick)
        last_price, last_maker, last_time = self._last
        if price == last_price and maker == last_maker and draw.time - last_time <= _MERGE_MS:
            # A buyer who comes again so soon pays a tick more; I2.
            price, maker = price + tick, False
        self.price, self._last = price, (price, maker, draw.time)
        return price, maker
