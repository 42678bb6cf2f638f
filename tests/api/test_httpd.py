"""The server survives its clients; every fault named in ``klinetrio.httpd`` has its test here."""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from quart import websocket
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

from klinetrio.errors import ConfigError
from klinetrio.httpd import connection, open_listener, serve_http
from tests.api.wire import (
    RESET_ON_CLOSE,
    UPGRADE,
    Served,
    ask,
    frame,
    read_reply,
    read_to_end,
    request,
    serving,
    upgrade,
)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Far above anything that a test waits for when all is well.
LIMIT_S = 60.0
# A grace that would break LIMIT_S if it were used up.
LONG_GRACE_S = 240.0


def make_app(session: Callable[[], Awaitable[None]] | None = None) -> QuartTrio:
    """Return an app with one page and one WebSocket that runs ``session``."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"answer": "yes"}

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        if session is not None:
            await session()

    return app


async def is_alive(served: Served) -> bool:
    """Tell whether a new client gets its answer."""
    return b'"yes"' in await ask(served, request(headers="Connection: close\r\n"))


# Fault A


async def test_connection_close_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for the connection to be closed sees it closed, and at once."""
    monkeypatch.setattr(connection, "LINGER_S", LONG_GRACE_S)
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, request(headers="Connection: close\r\n"))

    assert reply.endswith(b'{"answer":"yes"}\n')


async def test_http_1_0_connection_is_closed() -> None:
    """HTTP/1.0 has no other end of a reply than the end of the connection."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, b"GET / HTTP/1.0\r\n\r\n")

    assert reply.endswith(b'{"answer":"yes"}\n')


async def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept-alive connection ends after the keep-alive time."""
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.1)
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served, await served.connect() as stream:
            await stream.send_all(request())
            await read_reply(stream)
            rest = await read_to_end(stream)

    assert rest == b""


async def test_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request does not hold a connection."""
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.1)
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, b"GET / HTTP/1.1\r\nHost: tes")

    assert reply == b""


async def test_connection_is_reused() -> None:
    """Requests follow each other on one connection, pipelined ones too."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served, await served.connect() as stream:
            for _ in range(3):
                await stream.send_all(request())
                assert b'"yes"' in await read_reply(stream)
            await stream.send_all(request() + request(headers="Connection: close\r\n"))
            replies = await read_to_end(stream)

    assert replies.count(b"HTTP/1.1 200") == 2


async def test_idle_connections_do_not_delay_shutdown() -> None:
    """A shutdown closes idle connections at once instead of waiting for the grace."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app(), grace_s=LONG_GRACE_S) as served:
            async with await served.connect() as stream:
                await stream.send_all(request())
                await read_reply(stream)
                served.shutdown.set()
                assert await read_to_end(stream) == b""
            await served.ended.wait()


async def test_client_that_keeps_its_end_open_is_torn_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our end of the connection is not held by a client that ignores that we closed."""
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    with trio.fail_after(LIMIT_S):
        async with (
            serving(make_app(), grace_s=LONG_GRACE_S) as served,
            await served.connect() as stream,
        ):
            await stream.send_all(request(headers="Connection: close\r\n"))
            await read_to_end(stream)
            served.shutdown.set()
            await served.ended.wait()


async def test_refusal_reaches_a_client_that_is_still_sending() -> None:
    """Bytes that nobody will read do not reset the connection under our last words."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, b"not HTTP\r\n\r\n" + b"x" * 100_000)

    assert reply.startswith(b"HTTP/1.1 400")


# Fault B

FAULTY = {
    "upgrade with a byte too much": UPGRADE + b"x",
    "undecodable connection header": UPGRADE.replace(
        b"Connection: Upgrade", b"Connection: Upgrade, \xe9"
    ),
    "upgrade without key": UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key"),
    "upgrade of another version": UPGRADE.replace(b"13", b"12"),
    "upgrade by HTTP/1.0": UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no path": b"GET ?x HTTP/1.1\r\nHost: test\r\n\r\n",
    "impossible host": request().replace(b"Host: test", b"Host: a..b"),
    "undecodable host": request().replace(b"Host: test", b"Host: \xe9"),
    "no host": b"GET http://[ HTTP/1.1\r\nHost: test\r\n\r\n",
    "endless head": b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 50_000,
    "two lengths": request(headers="Content-Length: 1\r\nContent-Length: 2\r\n"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unfinished body": request(method="POST", headers="Content-Length: 9\r\n") + b"x",
}


@pytest.mark.parametrize("raw", FAULTY.values(), ids=FAULTY.keys())
async def test_faulty_request_ends_its_own_connection_only(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a client sends, its connection ends, the server goes on and does not cry."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, raw)
            assert await is_alive(served)

    assert reply == b"" or reply.startswith(b"HTTP/1.1 4")
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_faults_are_logged_once_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    """A client cannot fill the log with its faults."""
    raw = FAULTY["undecodable connection header"]
    with trio.fail_after(LIMIT_S), caplog.at_level(logging.INFO, "klinetrio.httpd"):
        async with serving(make_app()) as served:
            for _ in range(3):
                await ask(served, raw)

    (line,) = [r.getMessage() for r in caplog.records if r.name == "klinetrio.httpd"]
    assert "connection failed: kind=UnicodeDecodeError count=1" in line


async def test_bug_of_the_app_is_a_500() -> None:
    """An app that raises costs its own request only."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/bug":
            raise ValueError("of the app")
        await quart(scope, receive, send)

    quart = make_app()
    with trio.fail_after(LIMIT_S):
        async with serving(app) as served:
            reply = await ask(served, request("/bug"))
            assert await is_alive(served)

    assert reply.startswith(b"HTTP/1.1 500")


# Fault C


async def send_for_ever() -> None:
    """Send until somebody ends it."""
    while True:
        await websocket.send("x" * 50_000)
        await trio.lowlevel.checkpoint()


async def test_stalled_reader_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops reading loses its connection, and others do not notice it."""
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "_set_user_timeout", id)  # not every platform has it
    ended = trio.Event()

    async def session() -> None:
        try:
            await send_for_ever()
        finally:
            ended.set()

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session)) as served, await upgrade(served):
            assert await is_alive(served)
            await ended.wait()
            assert await is_alive(served)


async def test_stalled_reader_does_not_delay_shutdown_beyond_grace() -> None:
    """The grace holds although the send to a stalled client is shielded."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app(send_for_ever), grace_s=0.2) as served, await upgrade(served):
            served.shutdown.set()
            await served.ended.wait()


async def test_stalled_reader_does_not_delay_cancellation() -> None:
    """Cancelling the server ends it at once, whatever its clients do."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app(send_for_ever)) as served:
            stream = await upgrade(served)
            await stream.receive_some()
            served.nursery.cancel_scope.cancel()
        await stream.aclose()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the platform has none")
async def test_kernel_is_told_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted sockets carry TCP_USER_TIMEOUT, so that vanished peers end without a write."""
    seen = []
    original = connection._set_user_timeout

    def spy(raw: trio.socket.SocketType) -> None:
        original(raw)
        seen.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    monkeypatch.setattr(connection, "_set_user_timeout", spy)
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            assert await is_alive(served)

    assert seen == [20_000]


# Fault D


async def test_silent_websocket_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not even answer pings is taken for dead."""
    monkeypatch.setattr(connection, "WEBSOCKET_SILENCE_S", 0.2)
    ended = trio.Event()

    async def session() -> None:
        try:
            await websocket.receive()
        finally:
            ended.set()

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session)) as served:
            stream = await upgrade(served)
            await ended.wait()
            await stream.aclose()


# Fault E


async def test_open_websocket_does_not_cost_the_grace() -> None:
    """A session that ends at shutdown lets the server end; its ping task does not hold it."""
    stop = trio.Event()

    async def session() -> None:
        await stop.wait()
        await websocket.close(1001)

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session), grace_s=LONG_GRACE_S) as served:
            stream = await upgrade(served)
            served.shutdown.set()
            stop.set()
            received = await read_to_end(stream)
            await stream.aclose()
            await served.ended.wait()

    assert b"\x88\x02\x03\xe9" in received


# Fault F


async def test_flooding_client_cannot_hold_its_connection() -> None:
    """The end of a session reaches a client that has sent more than was ever read."""

    async def session() -> None:
        await websocket.close(1008, "enough")

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session), grace_s=LONG_GRACE_S) as served:
            stream = await upgrade(served)
            await stream.send_all(frame(b"more") * 1000)
            received = await read_to_end(stream)
            await stream.aclose()
            served.shutdown.set()
            await served.ended.wait()

    assert b"enough" in received


async def test_flooding_client_that_does_not_read_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full inbox does not keep the news of the end from the app."""
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.3)
    ended = trio.Event()

    async def session() -> None:
        try:
            while True:
                await websocket.send("x" * 50_000)
                await websocket.receive()
        finally:
            ended.set()

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session)) as served:
            stream = await upgrade(served)
            await stream.send_all(frame(b"more") * 1000)
            await ended.wait()
            await stream.aclose()


# Fault G


@pytest.mark.parametrize("fragments", [1, 4])
async def test_overlong_message_ends_the_connection(fragments: int) -> None:
    """Close code 1009, and then the end, although the client would go on."""
    payload = b"x" * (80_000 // fragments)
    frames = b"".join(
        frame(payload, opcode=0 if i else 1, fin=i == fragments - 1) for i in range(fragments)
    )

    async def session() -> None:
        await websocket.receive()

    with trio.fail_after(LIMIT_S):
        async with serving(make_app(session)) as served:
            stream = await upgrade(served)
            await stream.send_all(frames)
            received = await read_to_end(stream)
            await stream.aclose()

    assert b"\x88\x02\x03\xf1" in received


# Fault H


async def test_client_that_pipelines_and_vanishes_is_let_go() -> None:
    """A reader that waits for a reply to be sent ends when that cannot be sent."""
    replying = trio.Event()
    app = QuartTrio(__name__)

    @app.get("/")
    async def root() -> str:
        await replying.wait()
        return "late"

    with trio.fail_after(LIMIT_S):
        async with serving(app, grace_s=LONG_GRACE_S) as served:
            stream = await served.connect()
            await stream.send_all(request() * 2)
            await wait_all_tasks_blocked(0.01)
            stream.setsockopt(*RESET_ON_CLOSE)
            await stream.aclose()
            await wait_all_tasks_blocked(0.01)
            replying.set()
            served.shutdown.set()
            await served.ended.wait()


async def test_compression_is_declined() -> None:
    """The offer of every browser is not taken up."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key"
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, UPGRADE.replace(b"Sec-WebSocket-Key", offer))

    assert b"101" in reply
    assert b"deflate" not in reply


async def test_absolute_target_is_understood() -> None:
    """Servers have to accept what clients send to proxies (RFC 9112, 3.2.2)."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app()) as served:
            reply = await ask(served, request("http://test/", headers="Connection: close\r\n"))

    assert b'"yes"' in reply


async def test_message_before_the_upgrade_is_answered_waits() -> None:
    """A client that does not wait for the 101 finds its message delivered all the same."""
    accepting = trio.Event()
    app = QuartTrio(__name__)

    @app.websocket("/ws")
    async def echo() -> None:
        await accepting.wait()
        await websocket.accept()
        await websocket.send(await websocket.receive())

    with trio.fail_after(LIMIT_S):
        async with serving(app) as served, await served.connect() as stream:
            await stream.send_all(UPGRADE)
            await wait_all_tasks_blocked(0.01)
            await stream.send_all(frame(b"early"))
            await wait_all_tasks_blocked(0.01)
            accepting.set()
            received = await read_to_end(stream)

    assert b"HTTP/1.1 101" in received
    assert b"\x81\x05early" in received


# Bounds and restarts


async def test_connections_are_bounded() -> None:
    """One too many is told so; when one leaves there is room again."""
    with trio.fail_after(LIMIT_S):
        async with serving(make_app(), max_connections=1) as served:
            async with await served.connect() as first:
                await first.send_all(request())
                await read_reply(first)
                refused = await ask(served, request())
                assert refused.startswith(b"HTTP/1.1 503")
                assert b'"overloaded"' in refused
            while not await is_alive(served):
                pass


async def test_nobody_is_refused_between_two_runs() -> None:
    """Who connects while the server is down is served when it is back."""
    with trio.fail_after(LIMIT_S), open_listener("127.0.0.1:0") as listener:
        for _ in range(2):
            shutdown = trio.Event()
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(request(headers="Connection: close\r\n"))
                async with trio.open_nursery() as nursery:
                    serve = partial(serve_http, make_app(), listener, shutdown=shutdown)
                    nursery.start_soon(serve)
                    assert b'"yes"' in await read_to_end(stream)
                    await stream.aclose()
                    shutdown.set()


async def test_failing_start_of_the_app_is_raised() -> None:
    """An app that cannot start is the supervisor's business."""
    app = make_app()

    @app.before_serving
    async def fail() -> None:
        raise ValueError("cannot start")

    with (
        trio.fail_after(LIMIT_S),
        open_listener("127.0.0.1:0") as listener,
        pytest.raises(BaseExceptionGroup) as raised,
    ):
        await serve_http(app, listener, shutdown=trio.Event())

    assert raised.group_contains(Exception, match="cannot start")


@pytest.mark.parametrize(
    "bind", ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "a:-1"]
)
def test_bad_bind_is_a_config_error(bind: str) -> None:
    """What is not host:port is refused by the key's name."""
    with pytest.raises(ConfigError, match=r"^api\.bind: expected host:port"):
        open_listener(bind)


def test_taken_port_is_a_config_error() -> None:
    """A port that is in use is refused with the system's reason."""
    with open_listener("127.0.0.1:0") as listener:
        host, port = listener.getsockname()
        with pytest.raises(ConfigError, match=r"^api\.bind: expected a free address"):
            open_listener(f"{host}:{port}")


def test_ipv6_stands_in_brackets() -> None:
    """Brackets keep an IPv6 address and its port apart."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with open_listener("[::1]:0") as listener:
        assert listener.getsockname()[0] == "::1"
