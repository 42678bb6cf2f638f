"""The contract of a frame stream; any implementation has to keep it.

The server is trio-websocket's, on loopback: another library than the one under test.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import asynccontextmanager, suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from klinetrio.errors import FeedLost, NetworkError, ProxyError
from klinetrio.exchange import transport
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.transport import MAX_FRAME, open_frames
from tests.exchange.surroundings import HOST, LIMIT_S, make_tls, open_server, open_surroundings


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from klinetrio.exchange.transport import FrameStream

    Handler = Callable[[WebSocketConnection], Awaitable[object]]


# RFC 6455, section 1.3.
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

WRONG_KEY = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: wrong\r\n\r\n"
)


@asynccontextmanager
async def open_websockets(handler: Handler) -> AsyncIterator[str]:
    """Serve WebSocket clients; yield the URL."""

    async def serve(request: WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            await handler(connection)
        except* ConnectionClosed:
            pass

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
            yield f"ws://127.0.0.1:{server.port}/ws/btcusdt@aggTrade"
            nursery.cancel_scope.cancel()


async def shake_hands(stream: trio.SocketStream) -> bytes:
    """Return a server's answer to the handshake that comes in."""
    request = (await stream.receive_some()).decode()
    key = next(line for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
    accept = b64encode(sha1((key.split(": ")[1] + GUID).encode()).digest()).decode()  # noqa: S324 RFC 6455 asks for it
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def until_gone(connection: WebSocketConnection) -> None:
    """Take whatever comes, until the client has left."""
    while True:
        await connection.get_message()


async def test_frames_come_as_they_were_sent() -> None:
    """In order, text and binary, the non-ASCII ones too."""
    sent: list[str | bytes] = ["one", "币安人生", b"\x00\xff", "", "x" * MAX_FRAME]
    expected = [each.encode() if isinstance(each, str) else each for each in sent]

    async def send(connection: WebSocketConnection) -> None:
        for each in sent:
            await connection.send_message(each)
        await until_gone(connection)

    async with open_websockets(send) as url, open_frames(url, Dialer(None)) as frames:
        assert expected == [await frames.receive() for _ in sent]


async def test_a_burst_is_not_lost() -> None:
    """Many more frames than any queue between holds."""

    async def send(connection: WebSocketConnection) -> None:
        for number in range(2_000):
            await connection.send_message(str(number))
        await until_gone(connection)

    async with open_websockets(send) as url, open_frames(url, Dialer(None)) as frames:
        expected = [str(number).encode() for number in range(2_000)]
        assert expected == [await frames.receive() for _ in expected]


async def test_a_cancelled_receive_loses_no_frame() -> None:
    """What has not been returned comes next."""

    async def send(connection: WebSocketConnection) -> None:
        for number in range(200):
            await connection.send_message(str(number))
        await until_gone(connection)

    async with open_websockets(send) as url, open_frames(url, Dialer(None)) as frames:
        received: list[bytes] = []
        while len(received) < 200:
            with trio.move_on_after(0.0005):
                received.append(await frames.receive())
        assert [str(number).encode() for number in range(200)] == received


async def test_the_request_is_what_the_url_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Path and query as they are, and a Host header that names the server."""
    monkeypatch.setattr(transport, "HANDSHAKE_TIMEOUT_S", 0.3)
    heard = bytearray()

    async def listen(stream: trio.SocketStream) -> None:
        heard.extend(await stream.receive_some())

    with trio.fail_after(LIMIT_S):
        async with open_server(listen) as port:
            url = f"ws://127.0.0.1:{port}/market/stream?streams=btcusdt@aggTrade/%E5%B8%81@aggTrade"
            with pytest.raises(FeedLost):
                async with open_frames(url, Dialer(None)):
                    raise AssertionError("there was no handshake")
    assert bytes(heard).startswith(
        b"GET /market/stream?streams=btcusdt@aggTrade/%E5%B8%81@aggTrade HTTP/1.1\r\n"
    )
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in heard


async def test_a_ping_returns_with_its_pong() -> None:
    """And the server's pings are answered by themselves."""
    answered = trio.Event()

    async def ping(connection: WebSocketConnection) -> None:
        await connection.ping(b"1791382992488")
        answered.set()
        await until_gone(connection)

    async with (
        open_websockets(ping) as url,
        open_frames(url, Dialer(None)) as frames,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(frames.receive)
        for _ in range(3):
            await frames.ping()
        await answered.wait()
        nursery.cancel_scope.cancel()


async def test_a_ping_does_not_outlive_the_stream() -> None:
    """Who waits for a pong hears that there will be none."""
    pinged = trio.Event()

    async def tear(stream: trio.SocketStream) -> None:
        await stream.send_all(await shake_hands(stream))
        await stream.receive_some()
        pinged.set()

    async def ping(frames: FrameStream) -> None:
        with pytest.raises(FeedLost):
            await frames.ping()

    with trio.fail_after(LIMIT_S):
        async with (
            open_server(tear) as port,
            open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)) as frames,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ping, frames)
            with pytest.raises(FeedLost, match="connection lost"):
                await frames.receive()
        assert pinged.is_set()


async def test_frames_that_have_come_are_handed_out_before_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer asks for pongs and does not take them; what it sent with its pings still counts."""
    monkeypatch.setattr(transport, "SEND_TIMEOUT_S", 0.3)
    # All of it waits in our buffers before we read; the answers to it do not fit into the peer's.
    sent = trio.Event()
    asked = [b"\x81\x08%08d" % number + b"\x89\x7d" + bytes(125) for number in range(300)]

    async def ask_and_take_nothing(stream: trio.SocketStream) -> None:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
        await stream.send_all(await shake_hands(stream))
        await stream.send_all(b"".join(asked))
        sent.set()
        await trio.sleep_forever()

    with trio.fail_after(LIMIT_S):
        async with (
            open_server(ask_and_take_nothing) as port,
            open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)) as frames,
        ):
            inside = cast("Any", frames)
            inside._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4_096)
            await sent.wait()
            got: list[int] = []

            async def receive() -> None:
                while True:
                    got.append(int(await frames.receive()))

            with pytest.raises(FeedLost, match="the peer took nothing that we sent"):
                await receive()
            assert got == list(range(len(got)))
            assert not inside._frames
    assert len(asked) >= len(got) > 0


async def test_parts_of_a_message_are_joined() -> None:
    """Also with a ping between them, which is answered, and when one read brings it all."""
    pong = bytearray()

    async def send(stream: trio.SocketStream) -> None:
        answer = await shake_hands(stream)
        await stream.send_all(answer + b"\x01\x02ab" + b"\x89\x01!" + b"\x00\x00" + b"\x80\x01c")
        pong.extend(await stream.receive_some())
        await stream.send_all(b"\x81\x04next")

    with trio.fail_after(LIMIT_S):
        async with (
            open_server(send) as port,
            open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)) as frames,
        ):
            assert [await frames.receive() for _ in range(2)] == [b"abc", b"next"]
    assert pong[0] == 0x8A
    assert len(pong) == 7
    assert pong[6] ^ pong[2] == ord("!")


async def test_parts_that_grow_beyond_the_bound_end_the_feed() -> None:
    """The bound is that of the message, not of its parts."""

    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(await shake_hands(stream))
        part = b"\x7e\x80\x00" + b"x" * (MAX_FRAME // 2)
        await stream.send_all(b"\x01" + part + (b"\x00" + part) * 2)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass

    with trio.fail_after(LIMIT_S):
        async with (
            open_server(send) as port,
            open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)) as frames,
        ):
            with pytest.raises(FeedLost, match="WebSocket broken"):
                await frames.receive()


@pytest.mark.parametrize("action", ["receive", "ping"])
async def test_a_close_is_a_lost_feed_with_its_reason(action: str) -> None:
    """After all frames that were sent before it."""

    async def send_and_close(connection: WebSocketConnection) -> None:
        await connection.send_message("last")
        await connection.aclose(1001, "going away")

    async with open_websockets(send_and_close) as url, open_frames(url, Dialer(None)) as frames:
        assert await frames.receive() == b"last"
        with pytest.raises(FeedLost, match="closed with 1001 going away"):
            await frames.receive()
        with pytest.raises(FeedLost):
            await getattr(frames, action)()


async def test_an_abrupt_end_is_a_lost_feed() -> None:
    """No close frame, just the end of the connection."""

    async def tear(connection: WebSocketConnection) -> None:
        await connection.send_message("last")
        await trio.aclose_forcefully(connection._stream)

    async with open_websockets(tear) as url, open_frames(url, Dialer(None)) as frames:
        assert await frames.receive() == b"last"
        with pytest.raises(FeedLost):
            await frames.receive()


async def test_a_reset_is_a_lost_feed() -> None:
    """A cable cut and a peer that says so."""
    async with open_surroundings() as world:
        url = f"{world.ws_url}/ws/btcusdt@aggTrade"
        async with open_frames(url, world.dialer()) as frames:
            while not world.exchange.subscribers("BTCUSDT"):
                await trio.sleep(0.001)
            world.exchange.drop_connections()
            with pytest.raises(FeedLost):
                await frames.receive()


async def test_a_frame_beyond_the_bound_ends_the_feed() -> None:
    """Nothing we subscribe to is that large."""

    async def send(connection: WebSocketConnection) -> None:
        await connection.send_message("x" * (MAX_FRAME + 1))
        await until_gone(connection)

    async with open_websockets(send) as url, open_frames(url, Dialer(None)) as frames:
        with pytest.raises(FeedLost):
            await frames.receive()


async def test_bytes_that_are_no_frame_end_the_feed() -> None:
    """A peer that breaks the protocol after the handshake."""
    opened = trio.Event()

    async def babble(connection: WebSocketConnection) -> None:
        await opened.wait()
        await connection._stream.send_all(b"\xff" * 100)
        await until_gone(connection)

    async with open_websockets(babble) as url, open_frames(url, Dialer(None)) as frames:
        opened.set()
        with pytest.raises(FeedLost):
            await frames.receive()


async def test_leaving_is_immediate_although_the_server_says_nothing() -> None:
    """Nobody waits for the answer to a close."""
    arrived, left = trio.Event(), trio.Event()

    async def serve(request: WebSocketRequest) -> None:
        await request.accept()
        arrived.set()
        try:
            await trio.sleep_forever()
        finally:
            left.set()

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
            async with open_frames(f"ws://127.0.0.1:{server.port}/", Dialer(None)):
                await arrived.wait()
                started = trio.current_time()
            assert trio.current_time() - started < 5
            assert not left.is_set()
            nursery.cancel_scope.cancel()


async def test_leaving_by_an_error_passes_the_error_on() -> None:
    """A bug of the user is not taken for a lost feed, and comes out as it is."""
    async with open_websockets(until_gone) as url:
        with pytest.raises(KeyError, match="bug"):
            async with open_frames(url, Dialer(None)):
                raise KeyError("bug")


async def test_leaving_by_cancellation_is_clean() -> None:
    """While frames and pings are under way."""

    async def chatter(connection: WebSocketConnection) -> None:
        while True:
            await connection.send_message("x")
            await connection.ping()

    async with open_websockets(chatter) as url:
        for _ in range(20):
            with trio.move_on_after(0.01):
                async with open_frames(url, Dialer(None)) as frames:
                    while True:
                        await frames.receive()


@pytest.mark.parametrize("status", [400, 404, 429, 503])
async def test_a_refused_handshake_is_a_lost_feed(status: int) -> None:
    """With the status that the server gave."""

    async def refuse(request: WebSocketRequest) -> None:
        await request.reject(status)

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, refuse, "127.0.0.1", 0, None)
            with pytest.raises(FeedLost, match=f"WebSocket refused with HTTP {status}"):
                async with open_frames(f"ws://127.0.0.1:{server.port}/", Dialer(None)):
                    raise AssertionError("it was refused")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Switch",
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        WRONG_KEY,
    ],
    ids=["nothing", "cut off", "not HTTP", "not 101", "wrong key"],
)
async def test_what_is_no_websocket_server_is_a_lost_feed(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Hanging up, talking nonsense, or answering like a web server."""
    monkeypatch.setattr(transport, "HANDSHAKE_TIMEOUT_S", 0.3)

    async def reply(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.send_eof()
        while await stream.receive_some():
            pass

    with trio.fail_after(LIMIT_S):
        async with open_server(reply) as port:
            with pytest.raises(FeedLost):
                async with open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)):
                    raise AssertionError("there was no handshake")


async def test_a_silent_server_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It accepts the connection and never answers."""
    monkeypatch.setattr(transport, "HANDSHAKE_TIMEOUT_S", 0.2)
    gone = trio.Event()

    async def wait(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some():
                pass
        finally:
            gone.set()

    with trio.fail_after(LIMIT_S):
        async with open_server(wait) as port:
            with pytest.raises(FeedLost, match="no answer to the WebSocket handshake"):
                async with open_frames(f"ws://127.0.0.1:{port}/", Dialer(None)):
                    raise AssertionError("there was no handshake")
            await gone.wait()


async def test_no_connection_is_a_network_error_as_it_is() -> None:
    """Not wrapped in a group: the proxy's error stays the proxy's."""
    with trio.fail_after(LIMIT_S):
        with pytest.raises(ProxyError):
            async with open_frames("ws://x/", Dialer(parse_proxy("socks5h://127.0.0.1:1"))):
                raise AssertionError("there was no connection")
        with pytest.raises(NetworkError):
            async with open_frames("ws://127.0.0.1:1/", Dialer(None)):
                raise AssertionError("there was no connection")


async def test_tls_through_the_proxy() -> None:
    """As in production: SOCKS5, then TLS for the name, then WebSocket."""
    tls = make_tls(f"ws.{HOST}", f"rest.{HOST}")
    async with open_surroundings(tls=tls) as world:
        url = f"{world.ws_url}/ws/btcusdt@aggTrade"
        async with open_frames(url, world.dialer(tls)) as frames:
            while not world.exchange.subscribers("BTCUSDT"):
                await trio.sleep(0.001)
            world.market.trade("BTCUSDT", "100.00", "1.000")
            assert b'"s":"BTCUSDT"' in await frames.receive()
        targets = {target.host for target in world.proxy.statistics().targets}
        assert {f"ws.{HOST}"} == targets


async def test_a_wrong_certificate_is_a_network_error() -> None:
    """Before a single byte of WebSocket."""
    tls = make_tls("other.sim.invalid")
    async with open_surroundings(tls=tls) as world:
        with pytest.raises(NetworkError, match="TLS handshake"):
            async with open_frames(f"{world.ws_url}/ws/x", world.dialer(tls)):
                raise AssertionError("the certificate is for somebody else")
