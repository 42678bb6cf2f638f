"""A whole world on loopback: simulated exchange, SOCKS5 proxy, daemon, and a client to ask it.

Exchange and daemon share a clock that runs fast, so that minutes pass in seconds; everything else
is as it is live.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import httpx2
import trio

from klinetrio.app import Daemon
from klinetrio.config import load_config
from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import FIRST_AGG_ID, OPEN
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.sim.exchange import SimulatedExchange, open_simulated_exchange
from klinetrio.sim.socks5 import Socks5Proxy, serve_socks5


if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from klinetrio.sim.clock import SimClock
    from klinetrio.sim.market import Market

# Nothing is judged by time: on a busy machine a test may take some times what it takes on a quiet one.
LIMIT_S = 300.0

# Names that no resolver knows: only the proxy can reach them.
REST_HOST = "fapi.sim.invalid"
WS_HOST = "fstream.sim.invalid"


class SharedClock(ExchangeClock):
    """The exchange's own clock, for markets that hold it still until they are listened to."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(rate=clock.rate)
        self._clock = clock

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self._clock.now_ms()

    def seconds_until(self, time_ms: int) -> float:
        """Return the seconds from now to a moment of the exchange."""
        return self._clock.trio_time_of(time_ms) - trio.current_time()


@attrs.define
class World:
    """Everything a test needs to look at and to break."""

    exchange: SimulatedExchange
    proxy: Socks5Proxy
    database: Path
    settings: dict[str, Any]
    ssl_context: ssl.SSLContext | None = None
    shared_clock: bool = False

    @asynccontextmanager
    async def daemon(self, **overrides: Any) -> AsyncIterator[Asked]:
        """Run a daemon for the length of the block; leaving stops it in order."""
        config = load_config(overrides={**self.settings, **overrides})
        told = self.exchange.market.clock
        clock = SharedClock(told) if self.shared_clock else ExchangeClock(rate=told.rate)
        daemon = Daemon(config, clock=clock, ssl_context=self.ssl_context)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(daemon.run)
            async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
                yield Asked(daemon, client)
            daemon.stop.set()


@attrs.define
class Asked:
    """A running daemon and questions to it."""

    running: Daemon
    client: httpx2.AsyncClient

    async def get(self, path: str, **params: Any) -> Any:
        """Return the answer to a GET."""
        response = await self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def klines(self, symbol: str, interval: str, **params: Any) -> list[dict[str, Any]]:
        """Return klines by REST."""
        bars: list[dict[str, Any]] = await self.get(
            "/api/v1/klines", symbol=symbol, interval=interval, **{"limit": 1500, **params}
        )
        return bars

    async def until_ready(self) -> None:
        """Wait until the daemon says that it is ready."""
        while (await self.client.get("/readyz")).status_code != 200:
            await trio.sleep(0.05)

    async def until_taken(self, frames: int) -> None:
        """Wait until so many frames have come in and two swaps have shown what they did."""
        while (await self.get("/api/v1/status"))["trades"]["frames"] < frames:
            await trio.sleep(0.05)
        swaps = (await self.get("/api/v1/status"))["swaps"]["swaps"]
        while (await self.get("/api/v1/status"))["swaps"]["swaps"] < swaps + 2:
            await trio.sleep(0.05)

    async def until_closed(self, symbol: str, interval: str, open_time: int) -> None:
        """Wait until a bar is final and complete."""
        while True:
            bars = await self.klines(symbol, interval, start_time=open_time, end_time=open_time)
            if bars and bars[0]["is_final"] and bars[0]["is_complete"]:
                return
            await trio.sleep(0.05)


@asynccontextmanager
async def open_world(
    market: Market, folder: Path, *, tls: Any = None, **exchange_options: Any
) -> AsyncIterator[World]:
    """Open an exchange and a proxy; daemons are the test's to start."""
    async with (
        open_simulated_exchange(
            market, ssl_context=tls.server if tls else None, **exchange_options
        ) as exchange,
        trio.open_nursery() as nursery,
    ):
        rest_port, ws_port = _port(exchange.rest_url), _port(exchange.ws_url)
        resolve = {REST_HOST: ("127.0.0.1", rest_port), WS_HOST: ("127.0.0.1", ws_port)}
        proxy = await nursery.start(partial(serve_socks5, resolve=resolve))
        secure = "s" if tls else ""
        database = folder / "klines.db"
        settings = {
            "exchange.rest_url": f"http{secure}://{REST_HOST}:{rest_port}",
            "exchange.ws_url": f"ws{secure}://{WS_HOST}:{ws_port}/market",
            "exchange.connects_per_minute": 60_000,
            "proxy.url": proxy.url,
            "storage.url": f"sqlite:///{database}",
            "storage.flush_interval_s": 0.3,
            "api.bind": "127.0.0.1:0",
        }
        yield World(exchange, proxy, database, settings, tls.client if tls else None)
        nursery.cancel_scope.cancel()


def _port(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


VALUE_FIELDS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


def scaled(bar: dict[str, Any]) -> list[int]:
    """Return a served bar's nine values as scaled integers."""
    return [int(str(bar[name]).replace(".", "")) for name in VALUE_FIELDS]


def assert_true(market: Any, symbol: str, interval: str, bars: list[dict[str, Any]]) -> int:
    """Check served bars against the market's truth; return how many were checked.

    A bar that is not complete may say less, but a complete and final one must be true.
    """
    checked = [bar for bar in bars if bar["is_final"] and bar["is_complete"]]
    if not checked:
        return 0
    start, end = checked[0]["open_time"], checked[-1]["open_time"]
    truth = {
        row[0]: list(row[OPEN:FIRST_AGG_ID])
        for row in market.true_klines(symbol, INTERVALS[interval], start, end + 1)
    }
    for bar in checked:
        assert truth[bar["open_time"]] == scaled(bar), (symbol, interval, bar)
    return len(checked)
