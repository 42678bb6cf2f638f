"""Hypercorn's HTTP/1.1 machine, without its ways out of HTTP/1.1 and its half-closed ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
import trio
from hypercorn.events import Closed
from hypercorn.protocol.events import EndBody, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from wsproto.connection import ConnectionState


if TYPE_CHECKING:
    from hypercorn.protocol.events import Event as StreamEvent

# Left out, the client and wsproto do without compression.
_DEFLATE_OFFER = b"sec-websocket-extensions"


class Http1(H11Protocol):
    """The state of one connection's protocol: HTTP/1.1 until a WebSocket takes over.

    Attributes:
        answered: Set when the (latest) request has its status.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answered = trio.Event()

    @property
    def is_websocket(self) -> bool:
        """Whether the connection has become, or is becoming, a WebSocket."""
        return isinstance(self.stream, WSStream)

    @property
    def is_established(self) -> bool:
        """Whether WebSocket messages may be sent: the upgrade is done, and nobody has closed."""
        stream = self.stream
        return (
            isinstance(stream, WSStream)
            and stream.state is ASGIWebsocketState.CONNECTED
            and stream.connection.state is ConnectionState.OPEN
        )

    @property
    def is_overlong(self) -> bool:
        """Whether a WebSocket message was refused with 1009 (fault G)."""
        stream = self.stream
        return isinstance(stream, WSStream) and stream.buffer.length > stream.buffer.max_length

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what an HTTP or WebSocket stream has to say."""
        is_refused_upgrade = isinstance(event, EndBody) and self.is_websocket
        if isinstance(event, Response):
            self.answered.set()
        await super().stream_send(event)
        if is_refused_upgrade:
            await self.send(Closed())

    async def _create_stream(self, request: h11.Request) -> None:
        self.answered = trio.Event()
        target = _origin_form(request.target)
        headers = [
            each for each in request.headers.raw_items() if each[0].lower() != _DEFLATE_OFFER
        ]
        # Bytes after the head of an upgrade come before there is anything they could belong to.
        is_rash = self.connection.trailing_data[0] and _wants_websocket(request)
        host = next((value for name, value in request.headers if name == b"host"), b"")
        if target is None or is_rash or not _is_host(host):
            await self._send_error_response(400)
            await self.send(Closed())
            return
        if target != request.target or len(headers) != len(request.headers):
            request = h11.Request(
                method=request.method,
                headers=headers,
                target=target,
                http_version=request.http_version,
            )
        await super()._create_stream(request)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Stay with HTTP/1.1, whatever the request would like to upgrade to."""


def _is_host(value: bytes) -> bool:
    """Tell whether a Host header names one at all; frameworks fail over those that do not."""
    try:
        value.decode("ascii").partition(":")[0].encode("idna")
    except UnicodeError:
        return False
    return True


def _wants_websocket(request: h11.Request) -> bool:
    return any(
        name == b"upgrade" and value.strip().lower() == b"websocket"
        for name, value in request.headers
    )


def _origin_form(target: bytes) -> bytes | None:
    """Return the target as path and query, ``None`` if it has no path."""
    if target.startswith(b"/") or target == b"*":
        return target
    if target.startswith((b"http://", b"https://")):  # as to a proxy; servers must take it too
        slash = target.find(b"/", len(b"https://"))
        return target[slash:] if slash > 0 else None
    return None
