"""The swapper: closes the bars whose time is up, swaps, and publishes, every 100 ms.

Ticks are absolute moments of the exchange's clock, so their spacing does not drift with the work
done in them; a tick that comes late is counted, ticks that were missed altogether are skipped.
Closing waits a grace after a bar's end, because its last trades arrive up to about 160 ms after
it; a later trade of the symbol closes a bar at once.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import attrs


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.engine.engine import Engine
    from klinetrio.engine.publication import Publication


class TickClock(Protocol):
    """The part of the exchange's clock that a swapper needs."""

    def now_ms(self) -> int:
        """Return the exchange's time, UTC ms."""
        ...

    async def sleep_until(self, time_ms: int) -> None:
        """Sleep until the exchange's clock shows ``time_ms``; always a checkpoint."""
        ...


@attrs.define(slots=True)
class SwapCounts:
    """What the swapper has done since the start.

    Attributes:
        swaps: Number of swaps.
        late: Ticks that came more than one interval late.
        longest_s: Longest time that a tick held the loop, in seconds.
    """

    swaps: int = 0
    late: int = 0
    longest_s: float = 0.0


@attrs.frozen(slots=True)
class Swapper:
    """Swaps the engine's store on the exchange's clock.

    Attributes:
        engine: What is swapped.
        clock: The exchange's clock.
        interval_ms: Between ticks.
        grace_ms: How long after its end a bar waits for its last trades.
        publish: Gets the outcome of every swap; cheap and synchronous.
        counts: Statistics.
    """

    engine: Engine
    clock: TickClock
    interval_ms: int
    grace_ms: int
    publish: Callable[[Publication], None]
    counts: SwapCounts = attrs.field(factory=SwapCounts)

    async def run(self) -> None:
        """Tick for ever.

        Cancellation: between ticks only, so that no swap is left half done.
        """
        while True:
            now = self.clock.now_ms()
            tick = now - now % self.interval_ms + self.interval_ms
            await self.clock.sleep_until(tick)
            if self.clock.now_ms() - tick > self.interval_ms:
                self.counts.late += 1
            self.tick()

    def tick(self) -> None:
        """Close what is due, swap and publish, now."""
        started = perf_counter()
        publication = self.engine.tick(self.clock.now_ms() - self.grace_ms)
        self.publish(publication)
        self.counts.swaps += 1
        self.counts.longest_s = max(self.counts.longest_s, perf_counter() - started)
