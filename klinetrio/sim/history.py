"""What happened before the market started: one-minute bars made up from a seed.

A bar depends on nothing but the seed, the instrument and the minute, so the same minute has the
same bar however often it is asked for, in whatever order, and whenever the market was started.
That is what lets days be made when asked for and forgotten again.

The price of a minute is the smooth path of its day (sines of several periods) plus a random walk
that is pinned to it at both ends of the day.

Invariants:
  I1  low <= open, close <= high; a price is at least one tick.
  I2  low * volume <= quote volume <= high * volume, and likewise for the taker's part.
  I3  a minute without trades is flat at the close before it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING
from zlib import crc32

import attrs
import numpy as np

from klinetrio.domain.interval import DAY, MINUTE
from klinetrio.domain.kline import NO_ID
from klinetrio.sim.bars import WIDTH, no_rows
from klinetrio.sim.catalogue import make_catalogue


if TYPE_CHECKING:
    import numpy.typing as npt

    from klinetrio.sim.bars import Rows
    from klinetrio.sim.catalogue import Profile

    Floats = npt.NDArray[np.float64]

# A market's ids start at its start_ms minus this (2019-06-08).  One that is started later thus begins
# at higher ids than an earlier one reached, up to 1,000 trades a second per symbol: a database that
# survives a restart of the demo never sees ids go back.
ID_EPOCH_MS = 1_560_000_000_000

MINUTES_PER_DAY = DAY // MINUTE

# 512 days of 1440 rows of 96 bytes: 71 MB at most, for all symbols together.
KEEP_DAYS = 512

# How far the price wanders within a day, and the periods (days) and sizes of the smooth path.
_DAILY_NOISE = 0.01
_WAVES = ((2.3, 0.01), (7.9, 0.03), (31.0, 0.08), (211.0, 0.15))


@attrs.define
class HistoryCache:
    """Days already made, least recently used first out."""

    _days: OrderedDict[tuple[str, int], Rows] = attrs.field(factory=OrderedDict, init=False)

    def get(self, history: SeededHistory, day: int) -> Rows:
        """Return one UTC day of a history."""
        key = history.profile.instrument.name, day
        rows = self._days.get(key)
        if rows is None:
            rows = self._days[key] = history.make_day(day)
            if len(self._days) > KEEP_DAYS:
                self._days.popitem(last=False)
        self._days.move_to_end(key)
        return rows


@attrs.frozen
class SeededHistory:
    """The minutes of one instrument in ``[first_open, end)``."""

    profile: Profile
    seed: int
    end: int
    cache: HistoryCache

    @property
    def first_open(self) -> int:
        """Open time of the first bar: that of the minute of the listing."""
        listing = self.profile.instrument.symbol.listing_time
        return listing - listing % MINUTE

    @property
    def last_close(self) -> int:
        """The price at which history ends and trading begins."""
        rows = self.minutes(self.end - MINUTE, self.end)
        return int(rows[-1, 4]) if len(rows) else self.profile.price

    def minutes(self, start: int, end: int) -> Rows:
        """Return the bars of ``[start, end)``, as far as there is history."""
        start, end = max(start, self.first_open), min(end, self.end)
        if start >= end:
            return no_rows()
        days = range(start // DAY, (end - 1) // DAY + 1)
        rows = np.concatenate([self.cache.get(self, day) for day in days])
        offset = start // MINUTE - days[0] * MINUTES_PER_DAY
        return rows[offset : offset + (end - start) // MINUTE]

    def make_day(self, day: int) -> Rows:
        """Make the 1440 bars of one UTC day."""
        name = self.profile.instrument.name
        rng = np.random.default_rng([self.seed, crc32(name.encode()), day])
        tick, step = self.profile.instrument.tick, self.profile.instrument.step
        traded = rng.random(MINUTES_PER_DAY) < self.profile.busy_minutes
        # The first minute of a day always trades: nothing needs to be carried over midnight.
        traded[0] = True
        closes = self._closes(day, rng)
        opens = np.maximum(1, np.concatenate((closes[:1], closes[:-1])) + rng.integers(-1, 2, 1440))
        source = np.maximum.accumulate(np.where(traded, np.arange(MINUTES_PER_DAY), 0))
        closes = closes[source]
        rows = np.zeros((MINUTES_PER_DAY, WIDTH), dtype=np.int64)
        rows[:, 0] = day * DAY + np.arange(MINUTES_PER_DAY) * MINUTE
        rows[:, 1] = np.where(traded, opens, closes)
        reach = 1 + rng.geometric(0.3, (2, MINUTES_PER_DAY)) * traded
        rows[:, 2] = np.maximum(opens, closes) + reach[0]
        rows[:, 3] = np.maximum(1, np.minimum(opens, closes) - reach[1])
        rows[:, 4] = closes
        for price in (2, 3):
            rows[:, price] = np.where(traded, rows[:, price], closes)
        rows[:, 1:5] *= tick
        self._fill_volumes(rows, traded, rng, step)
        rows[:, 10:] = NO_ID
        return rows

    def _closes(self, day: int, rng: np.random.Generator) -> Rows:
        """Return the day's closes in ticks: a walk pinned to the smooth path at both ends."""
        steps = rng.standard_normal(MINUTES_PER_DAY) * (_DAILY_NOISE / math.sqrt(MINUTES_PER_DAY))
        walk = np.cumsum(steps)
        walk -= walk[-1] * np.arange(1, MINUTES_PER_DAY + 1) / MINUTES_PER_DAY
        days = day + np.arange(1, MINUTES_PER_DAY + 1) / MINUTES_PER_DAY
        ticks = self.profile.price / self.profile.instrument.tick
        closes = np.rint(ticks * np.exp(self._path(days) + walk)).astype(np.int64)
        return np.maximum(1, closes)

    def _path(self, days: Floats) -> Floats:
        rng = np.random.default_rng([self.seed, crc32(self.profile.instrument.name.encode())])
        path = np.zeros_like(days)
        for period, size in _WAVES:
            path += size * np.sin(2 * math.pi * (days / period + rng.random()))
        return path

    def _fill_volumes(
        self, rows: Rows, traded: npt.NDArray[np.bool_], rng: np.random.Generator, step: int
    ) -> None:
        trades = rng.geometric(1 / max(1.0, self.profile.trades_per_minute), MINUTES_PER_DAY)
        lots = np.rint(trades * self.profile.lot * rng.uniform(1, 3, MINUTES_PER_DAY)).astype(
            np.int64
        )
        bought = (lots * rng.random(MINUTES_PER_DAY)).astype(np.int64)
        mean_price = rng.integers(rows[:, 3], rows[:, 2] + 1)
        rows[:, 5] = np.where(traded, lots * step, 0)
        rows[:, 6] = rows[:, 5] * mean_price
        rows[:, 7] = np.where(traded, trades, 0)
        rows[:, 8] = np.where(traded, bought * step, 0)
        rows[:, 9] = rows[:, 8] * mean_price


def make_histories(
    *, seed: int, symbols: int, trades_per_second: float, start_ms: int, minutes: int
) -> list[SeededHistory]:
    """Return the histories of a new listing, which end at the minute of the start.

    Args:
        seed: Decides everything.
        symbols: How many perpetuals trade; some exceptional rows are listed beside them.
        trades_per_second: Of all symbols together, on average.
        start_ms: When the market starts.
        minutes: How far back the oldest listing lies.
    """
    profiles = make_catalogue(
        seed=seed,
        symbols=symbols,
        trades_per_second=trades_per_second,
        now_ms=start_ms,
        history_ms=minutes * MINUTE,
    )
    cache = HistoryCache()
    end = start_ms - start_ms % MINUTE
    return [SeededHistory(each, seed, end, cache) for each in profiles]
