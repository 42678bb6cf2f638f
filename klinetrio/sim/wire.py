"""WebSocket frames of a server, and the stream they share with trio-websocket.

Theory of operation: trio-websocket does the handshake, reads, and answers pings.  Market data goes
around it: a server's frames are not masked, so one frame's bytes are the same for every
subscriber.  They are made once, and all that waits for a connection is sent in one call that does
not even give way to the scheduler.  Sending through trio-websocket instead costs an encoding, two
turns of the scheduler and a system call per frame and subscriber: more than a core has at 20,000
frames a second.

Invariants:
  I1  sends never overlap, and what one begins is finished before the next: no frame is garbled.
  I2  a silent wire swallows everything, so the peer gets neither data nor pongs.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

import trio


_FINAL_TEXT = 0x81
_FINAL_CLOSE = 0x88
_ONE_BYTE_LENGTH = 125
_TWO_BYTE_LENGTH = 0xFFFF

# SO_LINGER on with no time left: closing sends RST.  Windows has shorts where POSIX has ints.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def text_frame(payload: bytes) -> bytes:
    """Return an unmasked, unfragmented text frame (RFC 6455, 5.2)."""
    return _header(_FINAL_TEXT, len(payload)) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame."""
    payload = struct.pack("!H", code) + reason.encode()
    return _header(_FINAL_CLOSE, len(payload)) + payload


def _header(first: int, length: int) -> bytes:
    if length <= _ONE_BYTE_LENGTH:
        return bytes((first, length))
    if length <= _TWO_BYTE_LENGTH:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


class Wire(trio.abc.Stream):
    """A stream that two senders may use, and that can fall silent or be torn.

    Attributes:
        silent: A fault: what is sent is thrown away.
    """

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._sending = trio.StrictFIFOLock()
        self._direct: socket.socket | None = None
        if isinstance(stream, trio.SocketStream):
            # A second handle on the same descriptor: Trio's has no send that returns at once.
            self._direct = socket.socket(fileno=stream.socket.fileno())
            self._direct.setblocking(False)
        self.silent = False

    def send_nowait(self, data: bytes) -> int:
        """Send what fits, now; return how many bytes that was, 0 if this is not possible here."""
        if self._direct is None or self._sending.locked():
            return 0
        try:
            return self._direct.send(data)
        except OSError:
            # Full, or broken: send_all will wait for it, or tell.
            return 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole frames, or the rest of what ``send_nowait`` began."""
        async with self._sending:
            if not self.silent:
                await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what there is."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close; over TLS say so first, without waiting for the answer."""
        self._let_go()
        await self._stream.aclose()

    def tear(self, *, reset: bool) -> None:
        """Close the socket at once, by RST or by FIN."""
        self._let_go()
        stream = self._stream
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if reset:
            with suppress(OSError):
                transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.socket.close()

    def _let_go(self) -> None:
        # Before the descriptor is closed, lest this handle sends into the next file that gets it.
        if self._direct is not None:
            self._direct.detach()
            self._direct = None
