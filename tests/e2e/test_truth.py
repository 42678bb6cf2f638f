"""What the daemon serves is what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, MINUTE
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.world import LIMIT_S, assert_true, open_world


if TYPE_CHECKING:
    from pathlib import Path

RATE = 60
START = 1_786_172_370_000
"""Half a minute before 05:00 UTC: an hour's end comes soon, and with it many bars close."""


def fast_market(seed: int) -> SeededMarket:
    """Return a market whose minutes pass in seconds."""
    clock = SimClock(START, rate=RATE)
    return SeededMarket(
        seed=seed, symbols=20, trades_per_second=4, history_minutes=3_000, clock=clock
    )


async def test_every_complete_bar_of_every_interval_is_true(tmp_path: Path) -> None:
    """A cold start takes over the past; all that is then called complete equals the truth."""
    market = fast_market(seed=11)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            newest = START - START % MINUTE + 5 * MINUTE
            await daemon.until_closed("BTC_USDT", "1m", newest)
            checked = dict.fromkeys(DEFAULT_INTERVALS, 0)
            for symbol in await daemon.get("/api/v1/symbols"):
                name = symbol["exchange_symbol"]
                for interval in DEFAULT_INTERVALS:
                    bars = await daemon.klines(name, interval)
                    opens = [bar["open_time"] for bar in bars]
                    assert sorted(set(opens)) == opens
                    checked[interval] += assert_true(market, name, interval, bars)

            # A symbol listed in this week has no whole one behind it.
            assert all(checked[interval] for interval in DEFAULT_INTERVALS if interval != "1w")
