"""Clients that know nothing of klinetrio, and a bound for every test that does I/O."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream


if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

IO_TIMEOUT_S = 15


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Return an HTTP client that goes nowhere but where it is told."""
    async with httpx2.AsyncClient(trust_env=False, timeout=IO_TIMEOUT_S) as client:
        yield client


@pytest.fixture
def bounded() -> Any:
    """Return a scope that fails a test which waits for ever."""
    return lambda: trio.fail_after(IO_TIMEOUT_S)


@asynccontextmanager
async def _open_stream(
    url: str, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[WebSocketConnection]:
    # Not open_websocket_url: it leaves the socket open when the server was the first to close.
    target = urlsplit(url)
    assert target.hostname is not None
    assert target.port is not None
    plain = await trio.open_tcp_stream(target.hostname, target.port)
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = plain
    if ssl_context is not None:
        stream = trio.SSLStream(plain, ssl_context, server_hostname=target.hostname)
    path = f"{target.path}?{target.query}" if target.query else target.path
    try:
        async with trio.open_nursery() as nursery:
            yield await wrap_client_stream(nursery, stream, target.hostname, path)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


@pytest.fixture
def open_stream() -> Any:
    """Return a context manager for one WebSocket connection; leaving it tears the connection."""
    return _open_stream


async def _until(condition: Callable[[], bool]) -> None:
    # Polling, as the far side of a socket has no event to wait for; the test's bound ends it.
    while not condition():
        await trio.sleep(0.001)


@pytest.fixture
def until() -> Any:
    """Return a function that waits until something is true."""
    return _until
