"""The seam behind which the WebSocket library stands: open, receive frames, ping, end.

The protocol is websockets' sans-IO client; the input and output are here.  A frame is read,
unpacked and handed on in the one task that wants it: with a library's reader task and channel in
between, every lone frame costs a second wake-up, which is dearer than all its decoding.
trio-websocket, whose wake-ups those were, is the independent peer of the tests and of the
simulator.  Another implementation takes this one's place by providing ``open_frames`` with the
same contract (tests/exchange/test_transport.py).

A connection is dropped, never closed with ceremony: nothing of ours waits for a peer's goodbye.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from klinetrio.errors import FeedLost


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from klinetrio.exchange.dial import Dialer, Stream

HANDSHAKE_TIMEOUT_S = 10.0

# What we send is a ping or a pong every few minutes: it is gone at once, or the peer is.
SEND_TIMEOUT_S = 10.0

# A trade frame is about 200 bytes; a kline frame 400.  Nothing we subscribe to comes near this.
MAX_FRAME = 64 * 2**10

# One read takes up to 80 trades of a burst.  They are handed on without giving way to other tasks,
# so this bounds how long one connection holds the loop: 80 * 30 us.  (Frames of two bytes, which no
# exchange sends, would be 8,000; they are bad, and counted.)
_READ_SIZE = 16 * 2**10


class FrameStream(Protocol):
    """An open stream of frames; for one task that receives and one that pings."""

    async def receive(self) -> bytes:
        """Return the payload of the next frame, text or binary.

        Raises:
            FeedLost: The stream has ended, however; after all frames that came before.

        Blocking: until a frame is here; returns at once while any of the last read are left.
        Cancellation: no frame is lost that has not been returned.
        """
        ...

    async def ping(self) -> None:
        """Send a ping and wait for its pong.

        Raises:
            FeedLost: The stream has ended.

        Blocking: until the pong is here, which another task's ``receive`` has to read; the caller
            bounds it.
        """
        ...


class _SansIoStream:
    """``FrameStream`` over websockets' sans-IO client and a stream of our dialler."""

    def __init__(self, stream: Stream, url: str) -> None:
        self._stream = stream
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_FRAME)
        self._frames: deque[bytes] = deque()
        self._parts = bytearray()
        self._sending = trio.Lock()
        # By payload; set when the pong is here or the stream has ended.
        self._pings: dict[bytes, trio.Event] = {}
        self._sent_pings = 0
        self._lost = ""

    async def shake_hands(self) -> None:
        """Ask the peer to speak WebSocket.

        Raises:
            FeedLost: It does not.
        """
        protocol = self._protocol
        protocol.send_request(protocol.connect())
        await self._send()
        while protocol.state is State.CONNECTING and not protocol.handshake_exc:
            await self._read()
        error = protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            raise FeedLost(f"WebSocket refused with HTTP {error.response.status_code}")
        if error is not None:
            # It ends with the connection or with what its answer lacks.
            raise FeedLost(f"no WebSocket: {error.__cause__ or error}")

    async def receive(self) -> bytes:
        while not self._frames:
            if self._lost:
                raise FeedLost(self._lost)
            await self._read()
        return self._frames.popleft()

    async def ping(self) -> None:
        if self._lost:
            raise FeedLost(self._lost)
        self._sent_pings += 1
        payload = str(self._sent_pings).encode()
        answered = self._pings[payload] = trio.Event()
        try:
            self._protocol.send_ping(payload)
            await self._send()
            await answered.wait()
        finally:
            self._pings.pop(payload, None)
        if self._lost:
            raise FeedLost(self._lost)

    async def _read(self) -> None:
        """Read once, put the frames where ``receive`` finds them, answer what asks for it."""
        protocol = self._protocol
        try:
            data = await self._stream.receive_some(_READ_SIZE)
        except trio.BrokenResourceError:
            data = b""
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if protocol.state is State.OPEN:
            try:
                await self._send()
            except FeedLost as error:
                # Not before the frames that have come: they are handed out first.
                self._end(str(error))
        elif protocol.state is not State.CONNECTING:
            self._end(self._reason())

    def _take(self, frame: Frame) -> None:
        """Keep a message, joining the parts of one that comes in several."""
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            if frame.fin and not self._parts:
                self._frames.append(bytes(frame.data))
                return
            self._parts += frame.data
            if frame.fin:
                self._frames.append(bytes(self._parts))
                self._parts.clear()
        elif opcode is Opcode.PONG:
            answered = self._pings.get(bytes(frame.data))
            if answered is not None:
                answered.set()

    def _end(self, reason: str) -> None:
        """Take note that nothing more comes, and why."""
        self._lost = reason
        for answered in self._pings.values():
            answered.set()

    def _reason(self) -> str:
        close, error = self._protocol.close_rcvd, self._protocol.parser_exc
        if close is not None:
            return f"closed with {close.code} {close.reason}".rstrip()
        if error is None or isinstance(error, EOFError):
            return "connection lost"
        return f"WebSocket broken: {error}"

    async def _send(self) -> None:
        """Send what the protocol has to say; nothing at all most of the time.

        Raises:
            FeedLost: The peer does not take it.
        """
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                async with self._sending:
                    await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise FeedLost("connection lost") from error
        except trio.TooSlowError as error:
            text = f"the peer took nothing that we sent for {SEND_TIMEOUT_S:.0f} s"
            raise FeedLost(text) from error


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
    port = parts.port or (443 if tls else 80)
    stream = await dialer.open(parts.hostname or "", port, tls=tls)
    try:
        frames = _SansIoStream(stream, url)
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                await frames.shake_hands()
        except trio.TooSlowError as error:
            text = f"no answer to the WebSocket handshake in {HANDSHAKE_TIMEOUT_S:.0f} s"
            raise FeedLost(text) from error
        yield frames
    finally:
        await trio.aclose_forcefully(stream)
