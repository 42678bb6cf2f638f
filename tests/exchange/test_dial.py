"""There is one way out: through the proxy, with a deadline, names and all."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.errors import ConfigError, NetworkError, ProxyError
from klinetrio.exchange import dial
from klinetrio.exchange.dial import Dialer, ProxyAddress, parse_proxy, without_password
from klinetrio.sim import Mode, ProxyBehaviour
from tests.exchange.surroundings import (
    HOST,
    LIMIT_S,
    make_tls,
    open_server,
    open_surroundings,
    stay_silent,
)


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PASSWORD = "p@ss:word/#"
QUOTED = "p%40ss%3Aword%2F%23"


@pytest.fixture
async def free_port() -> AsyncIterator[int]:
    """Return a port on which nobody listens, and which nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def echo(stream: trio.SocketStream) -> None:
    """Send everything back."""
    async for data in stream:
        await stream.send_all(data)


async def ask(stream: trio.abc.Stream, text: bytes) -> bytes:
    """Send a text and return as many bytes of the answer."""
    await stream.send_all(text)
    answer = b""
    while len(answer) < len(text):
        part = await stream.receive_some()
        assert part, "the other side hung up"
        answer += bytes(part)
    return answer


def test_a_proxy_url_is_read_whole() -> None:
    """User and password percent-decoded, port 1080 by default, IPv6 in brackets."""
    expected = ProxyAddress("host", 1080, None, None, remote_names=True)
    assert expected == parse_proxy("socks5h://host")
    expected = ProxyAddress("::1", 9050, "me", PASSWORD, remote_names=True)
    assert expected == parse_proxy(f"socks5h://me:{QUOTED}@[::1]:9050/")
    expected = ProxyAddress("host", 1080, "me", "", remote_names=False)
    assert expected == parse_proxy("socks5://me@host")
    assert parse_proxy("") is None


@pytest.mark.parametrize("login", ["me:w%C3%B6rd", "m%C3%AA:word", f"{'m' * 256}:word"])
def test_a_login_that_cannot_be_sent_is_refused_at_the_start(login: str) -> None:
    """Instead of failing at every connection."""
    with pytest.raises(ConfigError, match=r"^proxy.url: expected user and password of ASCII") as it:
        parse_proxy(f"socks5h://{login}@host")
    assert "rd" not in str(it.value).partition(", was")[2]
    assert parse_proxy(f"socks5h://{'m' * 255}:word@host") is not None


def test_a_proxy_is_shown_without_its_login() -> None:
    """In logs and in tracebacks."""
    proxy = parse_proxy(f"socks5h://me:{QUOTED}@[::1]:9050")
    assert str(proxy) == "socks5h://[::1]:9050"
    assert "p@ss" not in repr(proxy)
    assert without_password("socks5h://me:secret@host:1") == "socks5h://...@host:1"
    assert without_password("me:secret@host:1") == "...@host:1"
    assert without_password("socks5h://host:1") == "socks5h://host:1"
    asked = "postgresql://host/db?user=me&password=secret&sslpassword=other&sslmode=require"
    shown = "postgresql://host/db?user=me&password=...&sslpassword=...&sslmode=require"
    assert without_password(asked) == shown


async def test_the_proxy_gets_the_name_and_resolves_it() -> None:
    """A name that nobody here can resolve is reached all the same."""
    async with open_surroundings() as world:
        port = int(world.rest_url.rpartition(":")[2])
        stream = await world.dialer().connect(f"rest.{HOST}", port)
        await stream.aclose()
        target = world.proxy.statistics().targets[-1]
        assert (f"rest.{HOST}", port) == (target.host, target.port)


async def test_without_a_proxy_it_connects_directly() -> None:
    """An empty URL in the configuration."""
    with trio.fail_after(LIMIT_S):
        async with open_server(echo) as port:
            stream = await Dialer(None).connect("127.0.0.1", port)
            async with stream:
                assert await ask(stream, b"hello") == b"hello"


async def test_with_a_proxy_nothing_connects_directly() -> None:
    """A target on this very machine is asked of the proxy, too."""
    async with open_server(echo) as port, open_surroundings() as world:
        stream = await world.dialer().connect("127.0.0.1", port)
        async with stream:
            assert await ask(stream, b"hello") == b"hello"
        assert world.proxy.statistics().tunnels_opened == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "socks5h://127.0.0.1:1"])
async def test_proxies_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The configuration alone decides."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("ALL_PROXY", url)
    with trio.fail_after(LIMIT_S):
        async with (
            open_server(echo) as port,
            await Dialer(None).connect("127.0.0.1", port) as stream,
        ):
            assert await ask(stream, b"hello") == b"hello"


async def test_answers_that_come_byte_by_byte_are_understood() -> None:
    """However the proxy's replies are cut."""
    async with open_surroundings(
        behaviour=ProxyBehaviour(Mode.BYTE_BY_BYTE), username="me", password=PASSWORD
    ) as world:
        url = f"socks5h://me:{QUOTED}@127.0.0.1:{world.proxy.port}"
        async with (
            open_server(echo) as port,
            await world.dialer(url=url).connect("127.0.0.1", port) as stream,
        ):
            assert await ask(stream, b"hello") == b"hello"


@pytest.mark.parametrize("login", ["", "me:wrong@", "you:secret@", "me@"])
async def test_wrong_credentials_are_a_proxy_error(login: str) -> None:
    """Which names the proxy, not the password."""
    async with open_surroundings(username="me", password="secret") as world:
        dialer = world.dialer(url=f"socks5h://{login}127.0.0.1:{world.proxy.port}")
        with pytest.raises(ProxyError, match=r"^proxy socks5h://127.0.0.1:\d+ refused") as caught:
            await dialer.connect(f"rest.{HOST}", 80)
        assert "secret" not in str(caught.value)
        assert "wrong" not in str(caught.value)


async def test_a_refusing_proxy_is_a_proxy_error() -> None:
    """The message names proxy and target."""
    async with open_surroundings(behaviour=ProxyBehaviour(Mode.REFUSE)) as world:
        with pytest.raises(ProxyError, match=rf"refused rest.{HOST}:80: Connection refused"):
            await world.dialer().connect(f"rest.{HOST}", 80)


async def test_an_absent_proxy_is_a_proxy_error(free_port: int) -> None:
    """Nobody listens there."""
    with trio.fail_after(LIMIT_S):
        dialer = Dialer(parse_proxy(f"socks5h://127.0.0.1:{free_port}"))
        with pytest.raises(ProxyError, match=r"cannot be reached"):
            await dialer.connect("anywhere", 80)


@pytest.mark.parametrize("mode", [Mode.STALL_ACCEPTED, Mode.STALL_GREETED])
async def test_a_silent_proxy_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """Whether it falls silent at once or after the greeting."""
    monkeypatch.setattr(dial, "DIAL_TIMEOUT_S", 0.2)
    async with open_surroundings(behaviour=ProxyBehaviour(mode)) as world:
        with pytest.raises(ProxyError, match="gave no answer in 0 s"):
            await world.dialer().connect(f"rest.{HOST}", 80)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x05",
        b"\x04\x00",
        b"\x05\xff",
        b"\x05\x07",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x05\x00",
        b"\x05\x00\x05",
        b"\x05\x00\x05\x63\x00\x01" + bytes(6),
        b"\x05\x00\x05\x00\x00\x09" + bytes(6),
        b"\x05\x00\x05\x01\x00\x01" + bytes(6),
        b"\x05\x00\x05\x00\x00\x03\xffshort",
    ],
    ids=repr,
)
async def test_whatever_a_proxy_answers_it_is_a_proxy_error(answer: bytes) -> None:
    """Cut off, foreign, refusing or nonsense: nothing else comes out."""

    async def answer_and_hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for byte in answer:
            await stream.send_all(bytes([byte]))
        await stream.send_eof()
        await stay_silent_until_gone(stream)

    async def stay_silent_until_gone(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    with trio.fail_after(LIMIT_S):
        async with open_server(answer_and_hang_up) as port:
            dialer = Dialer(parse_proxy(f"socks5h://127.0.0.1:{port}"))
            with pytest.raises(ProxyError):
                await dialer.connect("anywhere", 80)


async def test_a_host_that_is_not_there_is_a_network_error(free_port: int) -> None:
    """Without a proxy it is nobody's fault but the network's."""
    with trio.fail_after(LIMIT_S):
        with pytest.raises(
            NetworkError, match=f"127.0.0.1:{free_port} cannot be reached"
        ) as caught:
            await Dialer(None).connect("127.0.0.1", free_port)
        assert not isinstance(caught.value, ProxyError)


async def test_tls_is_checked_against_the_name() -> None:
    """The right certificate opens the way."""
    tls = make_tls(f"rest.{HOST}", f"ws.{HOST}")
    async with open_surroundings(tls=tls) as world:
        port = int(world.rest_url.rpartition(":")[2])
        stream = await world.dialer(tls).connect_tls(f"rest.{HOST}", port)
        async with stream:
            await stream.send_all(b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_a_certificate_for_another_name_is_refused() -> None:
    """Although it is signed by a trusted authority."""
    tls = make_tls("other.sim.invalid")
    async with open_surroundings(tls=tls) as world:
        port = int(world.rest_url.rpartition(":")[2])
        with pytest.raises(NetworkError, match=rf"TLS handshake with rest.{HOST} .*certificate"):
            await world.dialer(tls).connect_tls(f"rest.{HOST}", port)


async def test_an_untrusted_certificate_is_refused() -> None:
    """Right name, unknown authority."""
    name = f"rest.{HOST}"
    async with open_surroundings(tls=make_tls(name, f"ws.{HOST}")) as world:
        port = int(world.rest_url.rpartition(":")[2])
        with pytest.raises(NetworkError, match=r"TLS handshake with .*CERTIFICATE_VERIFY_FAILED"):
            await world.dialer(make_tls(name)).connect_tls(name, port)


async def hang_up(stream: trio.SocketStream) -> None:
    """Take the first bytes and close."""
    await stream.receive_some()


async def talk_http(stream: trio.SocketStream) -> None:
    """Answer a TLS greeting as an HTTP server would."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.receive_some()


@pytest.mark.parametrize("handler", [hang_up, talk_http])
async def test_what_is_no_tls_server_is_a_network_error(handler: object) -> None:
    """A server that hangs up, or speaks something else."""
    with trio.fail_after(LIMIT_S):
        async with open_server(handler) as port:  # type: ignore[arg-type]
            with pytest.raises(NetworkError, match=r"TLS handshake with 127\.0\.0\.1 failed"):
                await Dialer(None).connect_tls("127.0.0.1", port)


async def test_a_silent_tls_server_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handshake is bounded."""
    monkeypatch.setattr(dial, "TLS_TIMEOUT_S", 0.2)
    with trio.fail_after(LIMIT_S):
        async with open_server(stay_silent) as port:
            with pytest.raises(NetworkError, match=r"TLS handshake with .* failed: no answer"):
                await Dialer(None).connect_tls("127.0.0.1", port)


async def test_a_cancelled_dial_leaves_no_connection_behind() -> None:
    """Neither in the proxy's handshake nor in that of TLS."""
    came, gone = trio.Event(), trio.Event()

    async def watch(stream: trio.SocketStream) -> None:
        came.set()
        try:
            while await stream.receive_some():
                pass
        finally:
            gone.set()

    async def dial(dialer: Dialer, port: int, *, tls: bool) -> None:
        await dialer.open("127.0.0.1", port, tls=tls)

    with trio.fail_after(LIMIT_S):
        async with open_server(watch) as port:
            for dialer, tls in (
                (Dialer(parse_proxy(f"socks5h://127.0.0.1:{port}")), False),
                (Dialer(None), True),
            ):
                came, gone = trio.Event(), trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(dial, dialer, port, tls=tls))
                    await came.wait()
                    nursery.cancel_scope.cancel()
                await gone.wait()
