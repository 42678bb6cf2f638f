"""Ready WebSocket frames past Hypercorn, and the one place where a connection's bytes leave.

A frame from server to client is not masked (RFC 6455, 5.1), so one frame serves all clients.  What
Hypercorn does for each message (an ASGI event through the framework, a wsproto frame, a lock, a
deadline) is most of what a message costs; ``FramePort`` leaves that out for established WebSockets.
Hypercorn still shakes hands, reads, pings, answers pings and closes.

Invariants (tests/api/test_frames.py):
  I1  Frames are sent whole and in order, whoever sends in between.
  I2  ``send_now`` never waits; what the socket does not take at once leaves before anything else.
  I3  Nothing follows a close frame.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import trio


if TYPE_CHECKING:
    from collections.abc import Callable

# A reply of 1,500 klines (500 KB) at 25 KB/s.  A peer that takes less than that is gone.
SEND_TIMEOUT_S = 20.0

FRAME_EXTENSION = "klinetrio.frames"
"""Where an app finds its ``FramePort``: in the extensions of a WebSocket's scope."""

_FINAL_TEXT = 0x81
_ONE_BYTE_LENGTH = 125
_TWO_BYTE_LENGTH = 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """Return an unmasked, unfragmented text frame (RFC 6455, 5.2)."""
    length = len(payload)
    if length <= _ONE_BYTE_LENGTH:
        return bytes((_FINAL_TEXT, length)) + payload
    if length <= _TWO_BYTE_LENGTH:
        return struct.pack("!BBH", _FINAL_TEXT, 126, length) + payload
    return struct.pack("!BBQ", _FINAL_TEXT, 127, length) + payload


class Sender:
    """What leaves on one connection.

    Args:
        stream: The connection.

    Attributes:
        is_shut: Set it once nothing more may be sent; what is given to it then is dropped.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.is_shut = False
        self._stream = stream
        self._lock = trio.Lock()
        self._left = b""

    def send_now(self, data: bytes) -> bool:
        """Send what fits, now, and keep the rest; tell whether there is no rest.

        After False nothing may be given to it before ``send`` has returned.
        """
        sent = 0
        if not self._left and not self._lock.locked():
            try:
                sent = os.write(self._stream.socket.fileno(), data)
            except OSError:
                # Full; or broken, which ``send`` will tell; or Windows, where a socket is no file.
                sent = 0
        if sent < len(data):
            self._left += data[sent:]
        return not self._left

    async def send(self, data: bytes = b"") -> bool:
        """Send what is left, then ``data``; tell whether the peer took it.

        Cancellation: not in the middle, as half a frame would spoil all that follow.
        Blocking: until the peer has taken it, at most ``SEND_TIMEOUT_S``.
        """
        async with self._lock:
            if self.is_shut:
                return True
            data, self._left = self._left + data, b""
            deadline = trio.current_time() + SEND_TIMEOUT_S
            with trio.CancelScope(deadline=deadline, shield=True):
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return False
                return True
            return False


class FramePort:
    """Where an app sends the frames of an established WebSocket.

    Args:
        sender: Of its connection.
        is_open: Tells whether frames may still be sent.
        on_failure: Ends the connection.
    """

    def __init__(
        self, sender: Sender, is_open: Callable[[], bool], on_failure: Callable[[], None]
    ) -> None:
        self._sender = sender
        self._is_open = is_open
        self._on_failure = on_failure

    def send_now(self, frames: bytes) -> bool:
        """Send whole frames; tell whether there is room for more, else ``drain`` comes next.

        After the end of the WebSocket they are dropped, as its news is on the way.
        """
        return not self._is_open() or self._sender.send_now(frames)

    async def drain(self) -> None:
        """Wait until everything has been sent; a peer that does not take it is cut off."""
        if not await self._sender.send():
            self._on_failure()
