"""What there is of the daemon on its outer side, over a market in memory, and clients of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from klinetrio.api.app import create_app
from klinetrio.api.board import TickerBoard
from klinetrio.api.hub import MAX_CLIENTS, PushHub
from tests.api.memory_market import MemoryMarket
from tests.api.wire import Served, serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT_S = 120.0


@attrs.frozen
class Daemon:
    """A market, a hub, a board, a server."""

    market: MemoryMarket
    hub: PushHub
    board: TickerBoard
    served: Served
    shutdown: trio.Event

    def swap(self) -> None:
        """Publish what happened."""
        publication = self.market.swap()
        self.hub.publish(publication)
        self.board.publish(publication)

    def stop(self) -> None:
        """Begin the shutdown, of the clients and of the server."""
        self.shutdown.set()
        self.served.shutdown.set()


@asynccontextmanager
async def running(
    market: MemoryMarket | None = None, *, max_clients: int = MAX_CLIENTS, **options: Any
) -> AsyncIterator[Daemon]:
    """Run it, for ``LIMIT_S`` at most."""
    market = market or MemoryMarket()
    hub, shutdown = PushHub(lambda: market, max_clients), trio.Event()
    board = TickerBoard(lambda: market)
    with trio.fail_after(LIMIT_S):
        app = create_app(lambda: market, hub, shutdown, board)
        async with serving(app, **options) as served:
            yield Daemon(market, hub, board, served, shutdown)


@asynccontextmanager
async def connected(daemon: Daemon, path: str) -> AsyncIterator[WebSocketConnection]:
    """Connect a client.

    Not by ``open_websocket``: that leaves the socket open when the server closes first.
    """
    async with await daemon.served.connect() as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "test", path)
        nursery.cancel_scope.cancel()


async def say(client: WebSocketConnection, message: Any) -> None:
    """Send a message."""
    await client.send_message(orjson.dumps(message).decode())


async def hear(client: WebSocketConnection) -> Any:
    """Return the next message."""
    return orjson.loads(await client.get_message())


async def ask(client: WebSocketConnection, message: Any) -> Any:
    """Send a message; return the next one that comes."""
    await say(client, message)
    return await hear(client)


async def hear_the_end(client: WebSocketConnection) -> tuple[int, str | None]:
    """Return the code and the reason with which the server closed."""
    with pytest.raises(ConnectionClosed) as raised:
        await _drain(client)
    reason = raised.value.reason
    assert reason is not None
    return reason.code, reason.reason


async def _drain(client: WebSocketConnection) -> None:
    while True:
        await client.get_message()
