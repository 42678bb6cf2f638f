"""A simulated exchange, a proxy before it, and what it takes to reach them."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio
import trustme

from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.sim import (
    NORMAL,
    ScriptedMarket,
    SimClock,
    SimulatedExchange,
    Socks5Proxy,
    open_simulated_exchange,
    serve_socks5,
)


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from klinetrio.sim import ProxyBehaviour

# Every test here ends by itself within a second or so; the machine may stall.
LIMIT_S = 300.0

# A name that no resolver knows: only the proxy can reach it.
HOST = "exchange.sim.invalid"


@attrs.frozen
class Tls:
    """A certificate authority of the test's own, and contexts for both sides."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_tls(*names: str) -> Tls:
    """Return contexts with a certificate for these names."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client)


@attrs.frozen
class Surroundings:
    """What a test of the exchange side needs."""

    exchange: SimulatedExchange
    market: ScriptedMarket
    proxy: Socks5Proxy
    rest_url: str
    ws_url: str
    clock: ExchangeClock

    def dialer(self, tls: Tls | None = None, url: str | None = None) -> Dialer:
        """Return a dialler through the proxy."""
        proxy = parse_proxy(self.proxy.url if url is None else url)
        return Dialer(proxy, tls.client if tls else None)


@asynccontextmanager
async def open_surroundings(
    *,
    tls: Tls | None = None,
    behaviour: ProxyBehaviour = NORMAL,
    username: str | None = None,
    password: str | None = None,
    **options: Any,
) -> AsyncIterator[Surroundings]:
    """Open everything on loopback, within a deadline."""
    market = ScriptedMarket(["BTCUSDT", "ETHUSDT"], clock=SimClock())
    with trio.fail_after(LIMIT_S):
        async with (
            open_simulated_exchange(
                market, ssl_context=tls.server if tls else None, **options
            ) as exchange,
            trio.open_nursery() as nursery,
        ):
            ports = [
                int(url.split(":")[2].split("/")[0]) for url in (exchange.rest_url, exchange.ws_url)
            ]
            resolve = {
                f"rest.{HOST}": ("127.0.0.1", ports[0]),
                f"ws.{HOST}": ("127.0.0.1", ports[1]),
            }
            start = partial(
                serve_socks5,
                resolve=resolve,
                behaviour=behaviour,
                username=username,
                password=password,
            )
            proxy: Socks5Proxy = await nursery.start(start)
            secure = "s" if tls else ""
            yield Surroundings(
                exchange,
                market,
                proxy,
                f"http{secure}://rest.{HOST}:{ports[0]}",
                f"ws{secure}://ws.{HOST}:{ports[1]}/market",
                ExchangeClock(),
            )
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_server(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
) -> AsyncIterator[int]:
    """Serve raw TCP clients on loopback; yield the port.

    A handler that returns closes its connection; what the client does to it is its own business.
    """

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await handler(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def stay_silent(stream: trio.SocketStream) -> None:
    """Read and never answer."""
    while await stream.receive_some():
        pass
    await trio.sleep_forever()
