"""The proxy over real sockets: with a bare client, and with an HTTP client through it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from klinetrio.sim import (
    Mode,
    ProxyBehaviour,
    ScriptedMarket,
    Socks5Proxy,
    open_simulated_exchange,
    serve_socks5,
)
from klinetrio.sim.socks5 import HANDSHAKE_S
from klinetrio.sim.socks5_protocol import AddressType


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from trio.testing import MockClock

    Bounded = Callable[[], AbstractContextManager[Any]]

HELLO = b"\x05\x01\x00"


@asynccontextmanager
async def open_proxy(**options: Any) -> AsyncIterator[tuple[Socks5Proxy, int]]:
    """Run a proxy that knows ``echo.invalid``; yield it and the port of the echo server."""

    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send_all(chunk)
            await stream.send_all(b"END")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        resolve = {"echo.invalid": ("127.0.0.1", port)}
        yield await nursery.start(partial(serve_socks5, resolve=resolve, **options)), port
        nursery.cancel_scope.cancel()


async def read_exactly(stream: trio.SocketStream, size: int) -> bytes:
    """Read so many bytes, or fewer if the stream ends."""
    data = b""
    while len(data) < size and (chunk := await stream.receive_some(size - len(data))):
        data += chunk
    return data


async def ask(proxy: Socks5Proxy, host: str, port: int = 1) -> tuple[trio.SocketStream, int]:
    """Ask for a target by name; return the stream and the reply's code (-1: none came)."""
    stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    name = bytes([len(host)]) + host.encode()
    await stream.send_all(HELLO + b"\x05\x01\x00\x03" + name + port.to_bytes(2))
    answer = await read_exactly(stream, 12)
    return stream, answer[3] if len(answer) == 12 else -1


async def log_in(proxy: Socks5Proxy, name: bytes, password: bytes) -> bytes:
    """Send user name and password; return the four bytes of answers."""
    async with await trio.open_tcp_stream(proxy.host, proxy.port) as stream:
        credentials = bytes([1, len(name)]) + name + bytes([len(password)]) + password
        await stream.send_all(b"\x05\x01\x02" + credentials)
        return await read_exactly(stream, 4)


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.BYTE_BY_BYTE])
async def test_tunnels_both_ways_and_half_closes(bounded: Bounded, until: Any, mode: Mode) -> None:
    """What is sent comes back, also after the client has ended its direction."""
    with bounded():
        async with open_proxy(behaviour=ProxyBehaviour(mode)) as (proxy, _):
            stream, code = await ask(proxy, "echo.invalid", 443)
            async with stream:
                assert code == 0
                assert proxy.statistics().tunnels_open == 1
                await stream.send_all(b"hello")
                await stream.send_eof()
                assert await read_exactly(stream, 100) == b"helloEND"
            statistics = proxy.statistics()
            assert statistics.targets == (("echo.invalid", 443, AddressType.NAME),)
            assert statistics.requests[statistics.targets[0]] == 1
            await until(lambda: proxy.statistics().tunnels_open == 0)


async def test_refusals_have_the_right_code(bounded: Bounded) -> None:
    """Nobody listening is 5, an unknown name is 4, and REFUSE says 5 to everything."""
    with bounded():
        async with open_proxy() as (proxy, _):
            closed = trio.socket.socket()
            await closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()[1]
            stream, code = await ask(proxy, "127.0.0.1", nobody)
            closed.close()
            await stream.aclose()
            assert code == 5
            stream, code = await ask(proxy, "nowhere.invalid", 1)
            await stream.aclose()
            assert code == 4
            proxy.behaviour = ProxyBehaviour(Mode.REFUSE)
            stream, code = await ask(proxy, "echo.invalid", 1)
            await stream.aclose()
            assert code == 5
            assert proxy.statistics().refused == 3


@pytest.mark.parametrize(("mode", "answer"), [(Mode.STALL_ACCEPTED, 0), (Mode.STALL_GREETED, 2)])
async def test_stalls(bounded: Bounded, mode: Mode, answer: int) -> None:
    """Silent from the start, or after the greeting."""
    with bounded():
        async with open_proxy(behaviour=ProxyBehaviour(mode)) as (proxy, _):
            stream = await trio.open_tcp_stream(proxy.host, proxy.port)
            async with stream:
                await stream.send_all(HELLO)
                assert len(await read_exactly(stream, answer)) == answer
                with trio.move_on_after(0.1) as patience:
                    await stream.receive_some(1)
                assert patience.cancelled_caught


async def test_cut_tunnels_end_after_so_many_bytes(bounded: Bounded) -> None:
    """Both directions count; what is within the budget arrives."""
    with bounded():
        behaviour = ProxyBehaviour(Mode.CUT, cut_after=9)
        async with open_proxy(behaviour=behaviour) as (proxy, _):
            stream, code = await ask(proxy, "echo.invalid")
            async with stream:
                assert code == 0
                await stream.send_all(b"hello")
                received = b""
                try:
                    while chunk := await stream.receive_some(100):
                        received += chunk
                except trio.BrokenResourceError:
                    pass  # a reset is as good an end as any
                assert received == b"hell"


async def test_open_tunnels_can_be_torn(bounded: Bounded) -> None:
    """``cut_tunnels`` ends them all, and leaves the proxy in service."""
    with bounded():
        async with open_proxy() as (proxy, _):
            stream, _ = await ask(proxy, "echo.invalid")
            async with stream:
                assert proxy.cut_tunnels() == 1
                assert await stream.receive_some(1) == b""
            stream, code = await ask(proxy, "echo.invalid")
            await stream.aclose()
            assert code == 0


async def test_http_goes_through_with_a_password(bounded: Bounded) -> None:
    """A client library gets in with the password only, and its names are resolved by the proxy."""
    market = ScriptedMarket(["BTCUSDT"])
    with bounded():
        async with open_simulated_exchange(market) as exchange, trio.open_nursery() as nursery:
            host, port = exchange.rest_url.removeprefix("http://").split(":")
            resolve = {"fapi.sim.invalid": (host, int(port))}
            serve = partial(serve_socks5, username="u", password="p", resolve=resolve)
            proxy = await nursery.start(serve)
            url = "http://fapi.sim.invalid/fapi/v1/ping"
            async with httpx2.AsyncClient(proxy=proxy.url, trust_env=False) as client:
                assert (await client.get(url)).json() == {}
            assert proxy.statistics().targets[0].host == "fapi.sim.invalid"
            # A bare client for the refusals: httpx2 leaves its socket open after them.
            assert await log_in(proxy, b"u", b"x") == b"\x05\x02\x01\x01"
            assert await log_in(proxy, b"u", b"p") == b"\x05\x02\x01\x00"
            proxy.behaviour = ProxyBehaviour(Mode.WRONG_AUTH)
            assert await log_in(proxy, b"u", b"p") == b"\x05\x02\x01\x01"
            nursery.cancel_scope.cancel()


async def test_handshakes_have_a_deadline(autojump_clock: MockClock) -> None:
    """A client that says nothing is gone after the deadline."""
    with trio.fail_after(2 * HANDSHAKE_S):
        async with open_proxy() as (proxy, _):
            stream = await trio.open_tcp_stream(proxy.host, proxy.port)
            start = trio.current_time()
            async with stream:
                assert await stream.receive_some(1) == b""
            assert trio.current_time() - start == pytest.approx(HANDSHAKE_S, abs=1)


async def test_many_tunnels(bounded: Bounded) -> None:
    """Hundreds at once (each takes four descriptors here, of the usual 1024) are no trouble."""
    with bounded():
        async with open_proxy() as (proxy, _):
            streams = [(await ask(proxy, "echo.invalid"))[0] for _ in range(200)]
            assert proxy.statistics().tunnels_open == 200
            for stream in streams:
                await stream.send_all(b"x")
            assert all([await stream.receive_some(1) == b"x" for stream in streams])
            for stream in streams:
                await stream.aclose()
