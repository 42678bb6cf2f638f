"""The server's side of SOCKS5 (RFC 1928) and its passwords (RFC 1929): bytes in, requests out.

No I/O and no clock: ``Handshake.receive`` takes bytes as they come, in pieces of any size, and
returns what to answer.

Invariants:
  I1  how the bytes are cut into pieces changes nothing.
  I2  the handshake buffers at most MAX_HANDSHAKE bytes; what follows the request is not its own
      and is kept for the tunnel.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import attrs


VERSION = 5
_PASSWORD_VERSION = 1
_NO_AUTH = 0
_PASSWORD = 2
_NONE_ACCEPTABLE = 0xFF
_CONNECT = 1

# A greeting and credentials begin with a version and a length; a request with its version, command,
# a zero, the address type and the address's first byte, which is the length if it is a name.
_HEAD = 2
_REQUEST_HEAD = 5

# The longest request: 4 bytes, a length, 255 bytes of name, a port; credentials take 513.
MAX_HANDSHAKE = 600


class AddressType(IntEnum):
    """How a target is given."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


class ReplyCode(IntEnum):
    """The outcome of a request."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class State(Enum):
    """How far the client has come."""

    GREETING = "offers its methods"
    CREDENTIALS = "sends user name and password"
    REQUEST = "asks for a target"
    DONE = "has asked"
    FAILED = "has been refused"


class Target(NamedTuple):
    """Where a client wants to go."""

    host: str
    port: int
    address_type: AddressType


class Refused(Exception):
    """The client is refused; ``answer`` is the last thing it gets."""

    def __init__(self, answer: bytes, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer


@attrs.define
class Handshake:
    """One client's way to its tunnel.

    Attributes:
        username: Needed to get in, together with ``password``; ``None`` lets everybody in.
        state: How far it has come.
        target: What it asked for, once it has.
    """

    username: str | None = None
    password: str | None = None
    state: State = attrs.field(default=State.GREETING, init=False)
    target: Target | None = attrs.field(default=None, init=False)
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)

    def receive(self, data: bytes) -> bytes:
        """Take some bytes; return what to answer now, perhaps nothing.

        Raises:
            Refused: The client broke the protocol or may not enter.
        """
        self._buffer += data
        answer = b""
        try:
            while (consumed := self._step()) is not None:
                size, reply = consumed
                del self._buffer[:size]
                answer += reply
            if self.state is not State.DONE and len(self._buffer) > MAX_HANDSHAKE:
                raise self._refuse(b"", f"more than {MAX_HANDSHAKE} bytes")
        except Refused as refused:
            # What was granted before in the same piece is still to be said (I1).
            raise Refused(answer + refused.answer, str(refused)) from None
        return answer

    def take_rest(self) -> bytes:
        """Return what came after the request, for the tunnel."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _step(self) -> tuple[int, bytes] | None:
        """Parse one message; return its length and the answer, or ``None`` if it is incomplete."""
        match self.state:
            case State.GREETING:
                return self._greeting(self._buffer)
            case State.CREDENTIALS:
                return self._credentials(self._buffer)
            case State.REQUEST:
                return self._request(self._buffer)
            case _:
                return None

    def _greeting(self, data: bytearray) -> tuple[int, bytes] | None:
        if data and data[0] != VERSION:
            raise self._refuse(b"", f"expected version 5, was {data[0]}")
        if len(data) < _HEAD or len(data) < _HEAD + data[1]:
            return None
        end = _HEAD + data[1]
        method = _NO_AUTH if self.username is None else _PASSWORD
        if method not in data[_HEAD:end]:
            raise self._refuse(bytes((VERSION, _NONE_ACCEPTABLE)), "no acceptable method")
        self.state = State.REQUEST if self.username is None else State.CREDENTIALS
        return end, bytes((VERSION, method))

    def _credentials(self, data: bytearray) -> tuple[int, bytes] | None:
        if len(data) < _HEAD or len(data) <= _HEAD + data[1]:
            return None
        name_end = _HEAD + data[1]
        end = name_end + 1 + data[name_end]
        if len(data) < end:
            return None
        given = bytes(data[_HEAD:name_end]), bytes(data[name_end + 1 : end])
        wanted = (self.username or "").encode(), (self.password or "").encode()
        if data[0] != _PASSWORD_VERSION or given != wanted:
            raise self._refuse(bytes((_PASSWORD_VERSION, 1)), "wrong user name or password")
        self.state = State.REQUEST
        return end, bytes((_PASSWORD_VERSION, 0))

    def _request(self, data: bytearray) -> tuple[int, bytes] | None:
        if len(data) < _REQUEST_HEAD:
            return None
        if data[0] != VERSION or data[2] != 0:
            raise self._refuse(reply(ReplyCode.GENERAL_FAILURE), "malformed request")
        lengths = {AddressType.IPV4: 4, AddressType.IPV6: 16, AddressType.NAME: 1 + data[4]}
        if data[3] not in lengths:
            unsupported = reply(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED)
            raise self._refuse(unsupported, f"address type {data[3]}")
        kind = AddressType(data[3])
        end = 4 + lengths[kind]
        if len(data) < end + 2:
            return None
        if data[1] != _CONNECT:
            raise self._refuse(reply(ReplyCode.COMMAND_NOT_SUPPORTED), f"command {data[1]}")
        host = _read_host(kind, bytes(data[4:end]))
        if host is None:
            raise self._refuse(reply(ReplyCode.GENERAL_FAILURE), "malformed name")
        self.target = Target(host, int.from_bytes(data[end : end + 2]), kind)
        self.state = State.DONE
        return end + 2, b""

    def _refuse(self, answer: bytes, reason: str) -> Refused:
        self.state = State.FAILED
        return Refused(answer, reason)


def _read_host(kind: AddressType, raw: bytes) -> str | None:
    if kind is AddressType.IPV4:
        return str(IPv4Address(raw))
    if kind is AddressType.IPV6:
        return str(IPv6Address(raw))
    try:
        return raw[1:].decode("ascii") or None
    except UnicodeDecodeError:
        return None


def reply(code: ReplyCode, bound: tuple[str, int] = ("0.0.0.0", 0)) -> bytes:  # noqa: S104
    """Return a reply; ``bound`` is the proxy's own end of the connection to the target."""
    host, port = bound
    address = ip_address(host)
    kind = AddressType.IPV4 if address.version == 4 else AddressType.IPV6  # noqa: PLR2004
    return bytes((VERSION, code, 0, kind)) + address.packed + port.to_bytes(2)
