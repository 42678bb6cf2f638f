"""The demo: a simulated exchange, a SOCKS5 proxy and the whole daemon, on loopback.

What runs is the daemon as it runs live, reached through the same sockets; only the exchange at
the other end of the proxy is simulated.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import click
import trio

from klinetrio.app import Daemon
from klinetrio.config import Config, load_config
from klinetrio.process import stop_on_signal
from klinetrio.sim.exchange import open_simulated_exchange
from klinetrio.sim.seeded import SeededMarket
from klinetrio.sim.socks5 import serve_socks5
from klinetrio.storage.stores import open_store


WELCOME = """\
klinetrio demo: {symbols} symbols, about {rate} trades a second, no network.

  curl '{address}/api/v1/klines?symbol=BTC_USDT&interval=1m&limit=3'
  curl '{address}/api/v1/status'
  curl '{address}/readyz'
  a WebSocket at {push}/api/v1/ws takes
      {{"op":"subscribe","klines":[{{"symbol":"BTC_USDT","interval":"1m"}}]}}

Bars say "is_complete":false until the first full UTC minute has been taken over from the
exchange, a minute or so from now.  Database: {storage}.  Stop with Ctrl+C.
"""


async def run_demo(*, bind: str, symbols: int, rate: int, seed: int, storage: str | None) -> None:
    """Run until a signal says stop.

    Args:
        bind: Where the daemon serves.
        symbols: Perpetuals that trade.
        rate: Trades per second of all symbols together.
        seed: Of the market.
        storage: Database URL; a temporary file if None.
    """
    with tempfile.TemporaryDirectory(prefix="klinetrio-demo-") as folder:
        url = storage or f"sqlite:///{Path(folder) / 'klinetrio.db'}"
        market = SeededMarket(seed=seed, symbols=symbols, trades_per_second=rate)
        async with (
            open_simulated_exchange(market) as exchange,
            trio.open_nursery() as nursery,
        ):
            proxy = await nursery.start(partial(serve_socks5))
            config = load_config(
                overrides={
                    "exchange.rest_url": exchange.rest_url,
                    "exchange.ws_url": exchange.ws_url,
                    "exchange.connects_per_minute": 6_000,
                    "proxy.url": proxy.url,
                    "storage.url": url,
                    "api.bind": bind,
                    "stats.interval_s": 10,
                }
            )
            await _run_daemon(config, symbols, rate)
            nursery.cancel_scope.cancel()


async def _run_daemon(config: Config, symbols: int, rate: int) -> None:
    daemon = Daemon(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, daemon.stop)
        async with trio.open_nursery() as running:
            address = await running.start(daemon.run)
            push = address.replace("http", "ws", 1)
            click.echo(
                WELCOME.format(
                    symbols=symbols,
                    rate=rate,
                    address=address,
                    push=push,
                    storage=open_store(config.storage.url).url,
                )
            )
        nursery.cancel_scope.cancel()
