"""The seam behind which the WebSocket library stands: open, receive frames, ping, end.

The implementation is trio-websocket on a stream of our dialler.  Its known traps and the cures:
closing while pings arrive leaks ``Cancelled``, and a peer that never answers a close costs 60 s,
so a connection is never closed but its scope cancelled; it reads 4 KiB at a time, so it is given
a larger buffer; it puts no deadline on the handshake, so we do.  Another implementation takes its
place by providing ``open_frames`` with the same contract (tests/exchange/test_transport.py).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import h11
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import ProtocolError

from klinetrio.errors import FeedLost, NetworkError


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from klinetrio.exchange.dial import Dialer

HANDSHAKE_TIMEOUT_S = 10.0

# A trade frame is about 200 bytes; a kline frame 400.  Nothing we subscribe to comes near this.
MAX_FRAME = 64 * 2**10

# One read takes up to 300 frames of a burst.
_RECEIVE_BUFFER = 64 * 2**10

# Frames that wait between the library's reader task and ours: 16 * 200 bytes per connection,
# 3 MB for 1,000 connections; beyond that the kernel's buffer and then the exchange wait.
_QUEUE = 16


# What a lost connection raises: ours, and those of the library and of what it is made of.
_LOST = (NetworkError, HandshakeError, ConnectionClosed, ProtocolError, h11.ProtocolError)


class FrameStream(Protocol):
    """An open stream of text frames."""

    async def receive(self) -> str | bytes:
        """Return the next frame.

        Raises:
            FeedLost: The stream has ended, however.

        Cancellation: no frame is lost that has not been returned.
        """
        ...

    async def ping(self) -> None:
        """Send a ping and wait for its pong.

        Raises:
            FeedLost: The stream has ended.

        Blocking: until the pong is here; the caller bounds it.
        """
        ...


class _TrioWebSocketStream:
    """``FrameStream`` over trio-websocket."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.get_message()
        except ConnectionClosed as error:
            raise FeedLost(_reason(error)) from error

    async def ping(self) -> None:
        try:
            await self._connection.ping()
        except ConnectionClosed as error:
            raise FeedLost(_reason(error)) from error


def _reason(error: ConnectionClosed) -> str:
    if error.reason is None:
        return "connection lost"
    return f"closed with {error.reason.code} {error.reason.reason or error.reason.name}"


@asynccontextmanager
async def open_frames(url: str, dialer: Dialer) -> AsyncIterator[FrameStream]:
    """Open a WebSocket; on leaving, the connection is dropped without ceremony.

    Args:
        url: ``ws://`` or ``wss://``, path and query percent-encoded.
        dialer: Opens the connection.

    Raises:
        FeedLost: The handshake failed.
        NetworkError: There is no connection.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    resource = parts.path + (f"?{parts.query}" if parts.query else "")
    stream = await dialer.open(host, port, tls=tls)
    try:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                    connection = await wrap_client_stream(
                        nursery,
                        stream,
                        parts.netloc.rpartition("@")[2],
                        resource,
                        message_queue_size=_QUEUE,
                        max_message_size=MAX_FRAME,
                        receive_buffer_size=_RECEIVE_BUFFER,
                    )
                    if connection.closed is not None:
                        raise FeedLost("connection lost during the WebSocket handshake")
            except trio.TooSlowError as error:
                text = f"no answer to the WebSocket handshake in {HANDSHAKE_TIMEOUT_S:.0f} s"
                raise FeedLost(text) from error
            yield _TrioWebSocketStream(connection)
            nursery.cancel_scope.cancel()
    except* _LOST as group:
        # One cause is enough: the others follow from it.  The library raises most of its own in
        # its reader task, so they come out of the nursery and not out of the call.
        raise _mapped(_first(group)) from None
    finally:
        await trio.aclose_forcefully(stream)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _mapped(error: Exception) -> NetworkError:
    """Return the library's error as one of ours."""
    if isinstance(error, NetworkError):
        return error
    if isinstance(error, ConnectionRejected):
        return FeedLost(f"WebSocket refused with HTTP {error.status_code}")
    return FeedLost(f"WebSocket broken: {error!r}")
