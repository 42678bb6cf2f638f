"""httpx over our own dialler.

httpx speaks SOCKS itself, but gives its handshake no deadline and takes replies that come in
pieces for garbage.  Its connection pool takes any network backend, so it gets ours, and every
connection of the daemon is dialled in one place.
"""

from __future__ import annotations

import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2
import trio

from klinetrio.errors import NetworkError


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from klinetrio.exchange.dial import Dialer, Stream

# Requests under way at once; each holds a connection.  REST is for repair, not for throughput.
MAX_CONNECTIONS = 8


class _NetworkStream(httpcore2.AsyncNetworkStream):
    """A Trio stream as httpcore wants it."""

    def __init__(self, stream: Stream, dialer: Dialer) -> None:
        self._stream = stream
        self._dialer = dialer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            with trio.fail_after(_seconds(timeout)):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError as error:
            raise httpcore2.ReadTimeout("no answer") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ReadError(str(error.__cause__ or error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        try:
            with trio.fail_after(_seconds(timeout)):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore2.WriteTimeout("not taken") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error.__cause__ or error)) from error

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002  (the dialler has its own bound)
    ) -> httpcore2.AsyncNetworkStream:
        if not isinstance(self._stream, trio.SocketStream) or server_hostname is None:
            raise httpcore2.ConnectError("expected TLS once, on a named host")
        try:
            secured = await self._dialer.start_tls(self._stream, server_hostname, ssl_context)
        except NetworkError as error:
            raise httpcore2.ConnectError(str(error)) from error
        return _NetworkStream(secured, self._dialer)

    def get_extra_info(self, info: str) -> Any:
        """Return what the pool asks to find out whether an idle connection has been closed."""
        if info == "is_readable":
            stream = self._stream
            plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            return plain.socket.is_readable()
        return None


class _NetworkBackend(httpcore2.AsyncNetworkBackend):
    """Opens the pool's connections with the dialler."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002  (the dialler has its own bound)
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return _NetworkStream(await self._dialer.connect(host, port), self._dialer)
        except NetworkError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Body(httpx2.AsyncByteStream):
    """A response body of bounded size whose errors are httpx's."""

    def __init__(self, response: httpcore2.Response, max_size: int) -> None:
        self._response = response
        self._max_size = max_size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            # Closed at once when the reader breaks off, not when it is collected.
            async with aclosing(self._response.aiter_stream()) as parts:
                async for part in parts:
                    size += len(part)
                    if size > self._max_size:
                        raise httpx2.ReadError(f"expected at most {self._max_size} bytes")
                    yield part  # noqa: ASYNC119  (httpx wants a generator, and closes it)
        except httpcore2.TimeoutException as error:
            raise httpx2.ReadTimeout(str(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise httpx2.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._response.aclose()


class DialedTransport(httpx2.AsyncBaseTransport):
    """Sends httpx requests over connections of our dialler.

    Args:
        dialer: Opens the connections.
        ssl_context: For https.
        max_body: Bytes of a response body, as they come; more are an error.
    """

    def __init__(
        self, dialer: Dialer, ssl_context: ssl.SSLContext | None = None, *, max_body: int
    ) -> None:
        self._max_body = max_body
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            network_backend=_NetworkBackend(dialer),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; httpx calls this."""
        url = request.url
        try:
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme,
                        host=url.raw_host,
                        port=url.port,
                        target=url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except httpcore2.TimeoutException as error:
            raise httpx2.ReadTimeout(str(error) or "no answer", request=request) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, self._max_body),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _seconds(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout
