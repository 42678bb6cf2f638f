"""Single fills of one symbol, made up from a seed, and the aggregates that join them.

The exchange folds its klines from fills by the time of each, and shows only aggregates on its
streams: consecutive fills of one price and one taker side within 100 ms, dated by the first.  Bars
of aggregates therefore differ from klines in three ways, and how often is for the caller to say:
an aggregate can straddle the end of a minute, some fills are in no aggregate (insurance fund,
ADL), and ids within an aggregate may belong to no fill.

Invariants:
  I1  fills ascend by time and by id.
  I2  each burst is one aggregate: neighbouring bursts differ in price or in side.
  I3  with all shares at zero, bars of aggregates and bars of fills are the same.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import attrs

from klinetrio.domain.interval import MINUTE
from klinetrio.sim.tape import SimTrade


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Binance joins fills of one price and one side within this time.
JOINED_WITHIN_MS = 100

# A plausible place for the first id of each kind.
FIRST_ID = 3_000_000_001

# How far before a minute's end a burst begins that is to straddle it.
_STRADDLE_LEAD_MS = 40

# Ticks that a price may be away from where it started before it is drawn back.
_LEASH = 200

# Ticks that a forced fill may be away from the price.
_FORCED_REACH = 8


class Fill(NamedTuple):
    """One fill; numbers at the symbol's scales.

    Attributes:
        fill_id: Rises.
        price: Of the fill.
        quantity: Of the fill.
        time: UTC ms.
        buyer_is_maker: Whether the taker sold.
        is_forced: Whether no aggregate shows it.
    """

    fill_id: int
    price: int
    quantity: int
    time: int
    buyer_is_maker: bool
    is_forced: bool


@attrs.frozen(kw_only=True)
class Shares:
    """How often bars of aggregates differ from those of fills, and why.

    Attributes:
        straddles: Of the ends of minutes, how many are straddled by an aggregate.
        forced: Of the bursts, how many have forced fills before or after them.
        holes: Of the fills within a burst, how many come after ids that are no fills.
    """

    straddles: float = 0.1
    forced: float = 0.002
    holes: float = 0.003


@attrs.frozen(kw_only=True)
class Pace:
    """How one symbol trades.

    Attributes:
        price: Where it begins.
        tick: Its smallest step.
        lot: A usual fill.
        step: The smallest step of a quantity.
        bursts_per_minute: On average; each is one aggregate.
    """

    price: int = 100_000
    tick: int = 1
    lot: int = 500
    step: int = 1
    bursts_per_minute: float = 20.0


class FillSource:
    """The endless fills of one symbol.

    Args:
        rng: Decides everything.
        start: From when on, UTC ms.
        pace: How it trades.
        shares: How often what differs.
        first_id: Of the fills.
    """

    def __init__(
        self,
        rng: Random,
        start: int,
        *,
        pace: Pace,
        shares: Shares,
        first_id: int = FIRST_ID,
    ) -> None:
        self._rng = rng
        self._pace = pace
        self._shares = shares
        self._start = start
        self._next_id = first_id
        self._price = pace.price
        self._buyer_is_maker = False

    def bursts(self) -> Iterator[list[Fill]]:
        """Return the fills in groups that belong together; a group of forced fills is alone."""
        begin = self._start
        minute_end = begin - begin % MINUTE + MINUTE
        while True:
            for times in self._plan_minute(begin, minute_end):
                yield from self._burst(times)
                begin = times[-1]
            begin = max(begin, minute_end)
            minute_end += MINUTE

    def _plan_minute(self, begin: int, end: int) -> Iterator[list[int]]:
        """Return when the fills of each burst happen that begins in this part of a minute."""
        rng, share = self._rng, (end - begin) / MINUTE
        count = _poisson(rng, self._pace.bursts_per_minute * share)
        starts = sorted(rng.randrange(begin, end) for _ in range(count))
        last = None
        if rng.random() < self._shares.straddles:
            last = max(begin, end - rng.randint(1, _STRADDLE_LEAD_MS))
            starts = [each for each in starts if each <= last]
        for start, following in pairwise([*starts, end if last is None else last]):
            until = min(following, start + JOINED_WITHIN_MS, end - 1)
            yield self._times(start, until, 1 + self._more_fills())
        if last is not None:
            beyond = rng.randint(end, last + JOINED_WITHIN_MS)
            near = self._times(last, end - 1, 1 + self._more_fills())
            yield near + self._times(beyond, last + JOINED_WITHIN_MS, 1 + self._more_fills())

    def _more_fills(self) -> int:
        # Three in five bursts are a single fill.
        return min(20, int(self._rng.expovariate(1.0) / 0.9))

    def _times(self, start: int, until: int, count: int) -> list[int]:
        """Return times from ``start`` on, some tens of ms apart in all."""
        reach = min(until, start + self._rng.randint(0, _STRADDLE_LEAD_MS))
        return [start, *sorted(self._rng.randint(start, reach) for _ in range(count - 1))]

    def _burst(self, times: list[int]) -> Iterator[list[Fill]]:
        rng = self._rng
        is_forced, is_before = rng.random() < self._shares.forced, rng.random() < 0.5  # noqa: PLR2004
        if is_forced and is_before:
            yield self._force(times[0])
        self._move()
        quantity = [self._quantity() for _ in times]
        fills = []
        for count, time in enumerate(times):
            if count and rng.random() < self._shares.holes:
                self._next_id += rng.randint(1, 3)
            fills.append(self._fill(self._price, quantity[count], time, self._buyer_is_maker))
        yield fills
        if is_forced and not is_before:
            yield self._force(times[-1])

    def _force(self, time: int) -> list[Fill]:
        rng, tick = self._rng, self._pace.tick
        away = rng.randint(-_FORCED_REACH, _FORCED_REACH) * tick
        price, maker = max(tick, self._price + away), away < 0
        count = rng.randint(1, 3)
        return [
            self._fill(price, self._quantity(), time, maker, is_forced=True) for _ in range(count)
        ]

    def _fill(
        self, price: int, quantity: int, time: int, maker: bool, *, is_forced: bool = False
    ) -> Fill:
        fill = Fill(self._next_id, price, quantity, time, maker, is_forced)
        self._next_id += 1
        return fill

    def _quantity(self) -> int:
        lots = round(self._pace.lot * self._rng.lognormvariate(0.0, 1.0) / self._pace.step)
        return max(1, lots) * self._pace.step

    def _move(self) -> None:
        """Choose the next burst's price and side: not both as they were."""
        rng, tick = self._rng, self._pace.tick
        before = self._price, self._buyer_is_maker
        back = (self._pace.price - self._price) // (_LEASH * tick)
        self._price = max(tick, self._price + (rng.choice((-2, -1, 0, 0, 0, 1, 2)) + back) * tick)
        self._buyer_is_maker = rng.random() < 0.5  # noqa: PLR2004  (a fair coin)
        if before == (self._price, self._buyer_is_maker):
            self._price += tick


def make_fills(
    seed: int,
    *,
    start: int,
    minutes: int,
    pace: Pace | None = None,
    shares: Shares | None = None,
) -> list[Fill]:
    """Return all fills of some minutes.

    Args:
        seed: Decides everything.
        start: Open time of the first minute.
        minutes: How many.
        pace: How the symbol trades.
        shares: How often what differs.
    """
    source = FillSource(Random(seed), start, pace=pace or Pace(), shares=shares or Shares())
    end = start + minutes * MINUTE
    fills: list[Fill] = []
    for burst in source.bursts():
        if burst[0].time >= end:
            return fills
        fills += [fill for fill in burst if fill.time < end]
    return fills


def aggregate(fills: Iterable[Fill], *, first_agg_id: int = FIRST_ID) -> list[SimTrade]:
    """Join fills as the exchange does: one price, one side, within 100 ms; never forced ones."""
    aggregates: list[SimTrade] = []
    for fill in fills:
        if fill.is_forced:
            continue
        newest = aggregates[-1] if aggregates else None
        if newest is not None and _belongs(fill, newest):
            quantity = newest.quantity + fill.quantity
            aggregates[-1] = newest._replace(
                quantity=quantity, normal_quantity=quantity, last_id=fill.fill_id
            )
        else:
            aggregates.append(as_trade(fill, first_agg_id + len(aggregates)))
    return aggregates


def as_trade(fill: Fill, agg_id: int) -> SimTrade:
    """Return the aggregate that a fill alone would be."""
    return SimTrade(
        agg_id,
        fill.price,
        fill.quantity,
        fill.quantity,
        fill.fill_id,
        fill.fill_id,
        fill.time,
        fill.buyer_is_maker,
    )


def _belongs(fill: Fill, aggregate: SimTrade) -> bool:
    return (
        fill.price == aggregate.price
        and fill.buyer_is_maker == aggregate.buyer_is_maker
        and fill.time - aggregate.time <= JOINED_WITHIN_MS
    )


def _poisson(rng: Random, mean: float) -> int:
    """Return how many events of a steady stream fall into a span."""
    count, time = 0, rng.expovariate(1.0)
    while time < mean:
        count, time = count + 1, time + rng.expovariate(1.0)
    return count
