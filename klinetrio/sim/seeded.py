"""A market made up from a seed: always the same trades, at the pace of the clock.

Theory of operation: time is cut into blocks of up to a second.  When the clock enters a block all its
trades are drawn at once (in numpy, from a generator of their own), then each is made known when
its time has come: entered in the ledger at ``T``, delivered at ``E = T + delay``.  So what happens
depends on the seed and the start, never on how often the loop gets to run.

Invariants:
  I1  aggregate ids rise by exactly one per symbol, in the order of ``T``.
  I2  events of one symbol are delivered in the order of their ids; ``E`` never goes back.
  I3  nothing is known before its time: at ``now`` the ledger holds exactly the trades with
      ``T <= now``.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import trio

from klinetrio.sim.clock import SimClock
from klinetrio.sim.history import ID_EPOCH_MS, make_histories
from klinetrio.sim.ledger import Book, Ledger
from klinetrio.sim.market import Deliver, Frame, Judge
from klinetrio.sim.trader import Draw, Trader


if TYPE_CHECKING:
    from collections.abc import Iterator


# A block is a second long, or as long as about BLOCK_TRADES trades take if that is less: more at
# once would only fill memory.
BLOCK_MS = 1000
BLOCK_TRADES = 1000

# How often the loop looks at the clock at most, seconds: deliveries are late by half of it.
TICK_S = 0.002

# One trade in a hundred has an RPI part; before one in two hundred some fill ids were used up by
# trades that no aggregate shows (ADL, insurance fund).
_RPI_SHARE = 0.01
_HOLE_SHARE = 0.005


class SeededMarket(Judge):
    """Deterministic trades and history from a seed.

    Args:
        seed: Decides everything but the time.
        symbols: How many perpetuals trade; some exceptional rows are listed beside them.
        trades_per_second: Of all symbols together, on average, on the market's clock.
        history_minutes: How far back the oldest listing lies.
        clock: The exchange's clock.
        delay_ms: Shortest and longest ``E - T``.
    """

    def __init__(
        self,
        *,
        seed: int,
        symbols: int = 20,
        trades_per_second: float = 300,
        history_minutes: int = 10 * 1440,
        clock: SimClock | None = None,
        delay_ms: tuple[int, int] = (50, 150),
    ) -> None:
        self.clock = SimClock() if clock is None else clock
        self.start_ms = self.clock.now_ms()
        self._delay_ms = delay_ms
        histories = make_histories(
            seed=seed,
            symbols=symbols,
            trades_per_second=trades_per_second,
            start_ms=self.start_ms,
            minutes=history_minutes,
        )
        id_before = self.start_ms - ID_EPOCH_MS
        books = [Book(each.profile.instrument, each, id_before) for each in histories]
        self.ledger = Ledger(self.clock, books, self.catch_up)
        self._traders = [
            Trader(each.profile, book, each.last_close, id_before, 2 * id_before)
            for each, book in zip(histories, books, strict=True)
            if each.profile.instrument.is_trading
        ]
        rates = np.array([each.profile.trades_per_second for each in self._traders])
        self._total_rate = float(rates.sum())
        self._shares = np.cumsum(rates) / self._total_rate
        self._rng = np.random.default_rng([seed, 1])
        self._block_ms = max(1, min(BLOCK_MS, int(1000 * BLOCK_TRADES / self._total_rate)))
        self._block_end = self.start_ms
        self._drawn: deque[Draw] = deque()
        # Frames by event time, and a heap of those times: at most one heap step per millisecond.
        self._frames_at: dict[int, list[Frame]] = {}
        self._event_times: list[int] = []

    @property
    def trading_symbols(self) -> list[str]:
        """Names of all symbols that trade, the liveliest first."""
        return [each.name for each in self._traders]

    def subscribed(self, symbol: str) -> None:
        """Trade on regardless."""

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make trades for ever."""
        task_status.started()
        while True:
            if not self.advance(self.clock.now_ms(), deliver):
                # Behind: let what was delivered be sent before there is more of it.
                await trio.lowlevel.checkpoint()
                continue
            # Sleeping until something is due makes a quiet market cheap, also on autojump_clock.
            due = self.clock.trio_time_of(self._next_due())
            await trio.sleep_until(max(due, trio.current_time() + TICK_S))

    def advance(self, now: int, deliver: Deliver) -> bool:
        """Make known what is due at ``now``, but not more than a block of it.

        Returns:
            Whether that was all.
        """
        is_all = now < self._block_end
        now = min(now, self._block_end)
        self._make_due(now)
        if not is_all:
            self._drawn.extend(self._draw_block())
        while self._event_times and self._event_times[0] <= now:
            for frame in self._frames_at.pop(heapq.heappop(self._event_times)):
                deliver(frame)
        return is_all

    def catch_up(self) -> None:
        """Enter in the ledger what is due now; its frames are delivered when the loop gets to run.

        Without it REST would call a minute over and give it without its last trades whenever the
        loop was held up: at thirty times the speed a tenth of a second is three.
        """
        now = self.clock.now_ms()
        while now >= self._block_end:
            self._make_due(self._block_end)
            self._drawn.extend(self._draw_block())
        self._make_due(now)

    def _next_due(self) -> int:
        due = self._drawn[0].time if self._drawn else self._block_end
        return min(due, self._event_times[0]) if self._event_times else due

    def _make_due(self, now: int) -> None:
        while self._drawn and self._drawn[0].time <= now:
            self._make(self._drawn.popleft())

    def _make(self, draw: Draw) -> None:
        trader = self._traders[draw.trader]
        trade = trader.trade(draw)
        trader.book.enter(trade)
        event_time = trader.event_time = max(trader.event_time, draw.time + draw.delay)
        frame = Frame(trader.name, trade.agg_id, trader.encoder.encode(trade, event_time))
        if event_time in self._frames_at:
            self._frames_at[event_time].append(frame)
        else:
            self._frames_at[event_time] = [frame]
            heapq.heappush(self._event_times, event_time)

    def _draw_block(self) -> Iterator[Draw]:
        """Draw all trades of the next block, by ascending time."""
        rng, start = self._rng, self._block_end
        self._block_end += self._block_ms
        count = int(rng.poisson(self._total_rate * self._block_ms / 1000))
        # Never at the block's very start, which would be before anything was known of it.
        times = start + 1 + np.sort(rng.integers(0, self._block_ms, count))
        traders = np.searchsorted(self._shares, rng.random(count))
        columns = (
            times,
            traders,
            rng.integers(-1, 2, count) * rng.geometric(0.6, count),
            rng.lognormal(0.0, 1.0, count),
            rng.geometric(0.6, count),
            (rng.random(count) < _HOLE_SHARE) * rng.integers(1, 4, count),
            rng.integers(*self._delay_ms, count, endpoint=True),
            rng.random(count) < 0.5,  # noqa: PLR2004  (a fair coin: who is the taker)
            rng.random(count) < _RPI_SHARE,
        )
        return map(Draw._make, zip(*(column.tolist() for column in columns), strict=True))
