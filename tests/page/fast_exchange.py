"""A simulated exchange and a proxy in a process of their own, on a clock that runs fast.

Its argument is the clock's rate; it prints the settings of a daemon, and ends with its input.
"""

from __future__ import annotations

import sys
from functools import partial

import orjson
import trio

from klinetrio.sim.clock import SimClock
from klinetrio.sim.exchange import open_simulated_exchange
from klinetrio.sim.seeded import SeededMarket
from klinetrio.sim.socks5 import serve_socks5


# Midnight, with eight days of minutes before it: more than the page loads at first.
START = 1_795_132_800_000
HISTORY_MINUTES = 12_000


async def main() -> None:
    """Run until the input ends."""
    market = SeededMarket(
        seed=11,
        symbols=12,
        trades_per_second=10,
        history_minutes=HISTORY_MINUTES,
        clock=SimClock(START, rate=float(sys.argv[1])),
    )
    async with open_simulated_exchange(market) as exchange, trio.open_nursery() as nursery:
        proxy = await nursery.start(partial(serve_socks5))
        settings = {
            "exchange.rest_url": exchange.rest_url,
            "exchange.ws_url": exchange.ws_url,
            "exchange.connects_per_minute": 60_000,
            "proxy.url": proxy.url,
            "history.since": "2026-11-13",
        }
        sys.stdout.buffer.write(orjson.dumps(settings) + b"\n")
        sys.stdout.buffer.flush()
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
