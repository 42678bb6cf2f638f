"""The one place from which klinetrio connects to the outside.

Everything, REST and streams, gets its sockets here: through the SOCKS5 proxy if one is
configured, with the target's name resolved by the proxy, else directly.  There is no second way
out, so nothing can go around the proxy.

The proxy's handshake is python-socks' (its v1 API, which gives a plain Trio socket and reads
replies exactly, however they are cut).
"""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs
import trio
from python_socks import ProxyError as SocksError
from python_socks import ProxyTimeoutError, ProxyType
from python_socks.async_.trio import Proxy

from klinetrio.errors import ConfigError, NetworkError, ProxyError


if TYPE_CHECKING:
    from typing import TypeAlias

    Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

# From the first packet to the proxy's final answer.  A healthy proxy needs two round trips to
# itself and one to the target.
DIAL_TIMEOUT_S = 10.0

TLS_TIMEOUT_S = 10.0

_DEFAULT_PORT = 1080
_MAX_LOGIN = 255


@attrs.frozen(slots=True)
class ProxyAddress:
    """A SOCKS5 proxy.

    Attributes:
        host: Name or address.
        port: TCP port.
        username: For authentication, or None.
        password: For authentication, or None; never shown.
        remote_names: Whether the proxy resolves names (``socks5h``).
    """

    host: str
    port: int
    username: str | None
    password: str | None = attrs.field(repr=False)
    remote_names: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'socks5h' if self.remote_names else 'socks5'}://{host}:{self.port}"


def parse_proxy(url: str) -> ProxyAddress | None:
    """Return the proxy of the configuration; None for an empty URL, which connects directly.

    Raises:
        ConfigError: Not a SOCKS5 URL.
    """
    if not url:
        return None
    expected = "socks5h://[user:password@]host[:port], or nothing to connect directly"
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        # Its text may hold a part of the password, so it does not come along.
        raise ConfigError("proxy.url", without_password(url), expected) from None
    # What follows the host is most likely a password with a / or # that is not percent-encoded.
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"socks5", "socks5h"} or not parts.hostname or rest:
        raise ConfigError("proxy.url", without_password(url), expected)
    username = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password or "") if parts.username is not None else None
    for each in (username or "", password or ""):
        # RFC 1929 gives their length a byte; python-socks writes nothing but ASCII.
        if not each.isascii() or len(each) > _MAX_LOGIN:
            expected = f"user and password of ASCII, at most {_MAX_LOGIN} characters each"
            raise ConfigError("proxy.url", without_password(url), expected)
    return ProxyAddress(
        host=parts.hostname,
        port=port,
        username=username,
        password=password,
        remote_names=parts.scheme == "socks5h",
    )


# libpq takes them behind the question mark, too.
_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&]*")


def without_password(url: str) -> str:
    """Return a URL without the user and password in it, as far as it can be made out."""
    url = _PASSWORD.sub(r"\1...", url)
    before, at, after = url.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme if separator else ''}{separator}...@{after}" if at else url


class Dialer:
    """Opens connections, all through the proxy or all without.

    Args:
        proxy: The proxy, None to connect directly.
        ssl_context: For TLS; the platform's trusted certificates if None.
    """

    def __init__(
        self, proxy: ProxyAddress | None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.proxy = proxy
        self._ssl_context = ssl_context or ssl.create_default_context()

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """Open a TCP connection to ``host``.

        Raises:
            ProxyError: The proxy is not there, refuses, or stays silent.
            NetworkError: Without a proxy: the host cannot be reached.

        Blocking: at most ``DIAL_TIMEOUT_S``.
        """
        if self.proxy is None:
            return await self._connect_directly(host, port)
        socks = Proxy(
            ProxyType.SOCKS5,
            self.proxy.host,
            self.proxy.port,
            username=self.proxy.username,
            password=self.proxy.password,
            rdns=self.proxy.remote_names,
        )
        where = f"proxy {self.proxy}"
        try:
            socket = await socks.connect(host, port, timeout=DIAL_TIMEOUT_S)
        except ProxyTimeoutError as error:
            raise ProxyError(f"{where} gave no answer in {DIAL_TIMEOUT_S:.0f} s") from error
        except SocksError as error:
            raise ProxyError(f"{where} refused {host}:{port}: {error}") from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ProxyError(f"{where} cannot be reached: {reason}") from error
        return trio.SocketStream(socket)

    async def connect_tls(self, host: str, port: int) -> trio.SSLStream[trio.SocketStream]:
        """Open a TLS connection to ``host``, whose certificate must name it.

        Raises:
            NetworkError: As ``connect``, or the handshake failed.

        Blocking: at most ``DIAL_TIMEOUT_S + TLS_TIMEOUT_S``.
        """
        return await self.start_tls(await self.connect(host, port), host)

    async def start_tls(
        self, stream: trio.SocketStream, host: str, context: ssl.SSLContext | None = None
    ) -> trio.SSLStream[trio.SocketStream]:
        """Put TLS on an open connection.

        Raises:
            NetworkError: The handshake failed; the connection is closed.
        """
        secured = trio.SSLStream(
            stream, context or self._ssl_context, server_hostname=host, https_compatible=True
        )
        try:
            with trio.fail_after(TLS_TIMEOUT_S):
                await secured.do_handshake()
        except (trio.TooSlowError, trio.BrokenResourceError, ssl.SSLError) as error:
            await trio.aclose_forcefully(stream)
            cause = error.__cause__ or error
            text = "no answer" if isinstance(error, trio.TooSlowError) else str(cause)
            raise NetworkError(f"TLS handshake with {host} failed: {text}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    async def open(self, host: str, port: int, *, tls: bool) -> Stream:
        """Open a connection with or without TLS."""
        return await (self.connect_tls(host, port) if tls else self.connect(host, port))

    async def _connect_directly(self, host: str, port: int) -> trio.SocketStream:
        try:
            with trio.fail_after(DIAL_TIMEOUT_S):
                return await trio.open_tcp_stream(host, port)
        except trio.TooSlowError as error:
            raise NetworkError(f"{host}:{port} gave no answer in {DIAL_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise NetworkError(f"{host}:{port} cannot be reached: {error}") from error
