"""Servers under test and clients that are allowed to misbehave."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from klinetrio.httpd import open_listener, serve_http


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# Linger for no time: closing resets the connection instead of ending it in order.
RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@attrs.define
class Served:
    """A server that is running."""

    listener: socket.socket
    shutdown: trio.Event
    ended: trio.Event
    nursery: trio.Nursery

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.listener.getsockname()[1]
        return port

    async def connect(self) -> trio.SocketStream:
        """Return a plain TCP connection to it."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Served]:
    """Serve ``app`` on a loopback port; cancelled at the end if it has not been shut down."""
    shutdown, ended = trio.Event(), trio.Event()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        await serve_http(app, listener, shutdown=shutdown, task_status=task_status, **options)
        ended.set()

    with open_listener("127.0.0.1:0") as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield Served(listener, shutdown, ended, nursery)
            nursery.cancel_scope.cancel()


def request(path: str = "/", *, method: str = "GET", headers: str = "") -> bytes:
    """Return the bytes of one HTTP/1.1 request."""
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode()


async def read_reply(stream: trio.SocketStream) -> bytes:
    """Return one HTTP reply with a Content-Length, head and body."""
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += await _read_more(stream)
    head, _, body = reply.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += await _read_more(stream)
    return head + b"\r\n\r\n" + body


async def _read_more(stream: trio.SocketStream) -> bytes:
    chunk = await stream.receive_some()
    if not chunk:
        raise EOFError("the connection ended in the middle of a reply")
    return bytes(chunk)


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Return everything up to the end of the connection, however it ends."""
    received = bytearray()
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        pass
    return bytes(received)


async def ask(served: Served, raw: bytes) -> bytes:
    """Send ``raw`` on a connection of its own; return all that comes back."""
    async with await served.connect() as stream:
        await stream.send_all(raw)
        return await read_to_end(stream)


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """Return one client frame; the mask is zero, which leaves the payload as it is."""
    length = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


async def upgrade(served: Served) -> trio.SocketStream:
    """Return a connection on which ``/ws`` was opened by hand: it answers nothing by itself."""
    stream = await served.connect()
    await stream.send_all(UPGRADE)
    reply = await read_reply(stream)
    assert reply.startswith(b"HTTP/1.1 101"), reply
    return stream


def payloads(frames: bytes) -> list[bytes]:
    """Return the payloads of whole frames from a server."""
    found = []
    while frames:
        length, start = frames[1], 2
        if length == 126:
            length, start = int.from_bytes(frames[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(frames[2:10], "big"), 10
        found.append(frames[start : start + length])
        frames = frames[start + length :]
    return found
