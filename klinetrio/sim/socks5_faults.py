"""How the SOCKS5 proxy may misbehave, and what it counts."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import attrs
import trio


if TYPE_CHECKING:
    from klinetrio.sim.socks5_protocol import Target

_BYTE_PAUSE_S = 0.001


class Mode(Enum):
    """What the proxy does to its clients."""

    NORMAL = "serves them"
    REFUSE = "answers each request with 'connection refused'"
    STALL_ACCEPTED = "accepts connections and stays silent"
    STALL_GREETED = "answers the greeting and then stays silent"
    BYTE_BY_BYTE = "serves them, but answers one byte at a time"
    CUT = "cuts each tunnel after some bytes"
    WRONG_AUTH = "refuses every password"


@attrs.frozen
class ProxyBehaviour:
    """How the proxy behaves.

    Attributes:
        mode: What it does.
        cut_after: For ``CUT``: how many bytes of both directions together pass through a tunnel.
    """

    mode: Mode = Mode.NORMAL
    cut_after: int = 0


NORMAL = ProxyBehaviour()


@attrs.frozen
class ProxyStatistics:
    """What the proxy has done so far.

    Attributes:
        accepted: Clients ever.
        tunnels_open: Tunnels now.
        tunnels_opened: Tunnels ever.
        refused: Clients refused or gone before they had a tunnel.
        targets: The newest requested targets, oldest first.
        requests: How often each target was asked for.
    """

    accepted: int
    tunnels_open: int
    tunnels_opened: int
    refused: int
    targets: tuple[Target, ...]
    requests: dict[Target, int]


@attrs.define
class Budget:
    """How many bytes may still pass."""

    left: int

    def take(self, size: int) -> int:
        """Return how many of ``size`` bytes may pass."""
        allowed = min(size, self.left)
        self.left -= allowed
        return allowed


async def send_answer(stream: trio.SocketStream, data: bytes, behaviour: ProxyBehaviour) -> None:
    """Send a part of the handshake."""
    if behaviour.mode is not Mode.BYTE_BY_BYTE:
        await stream.send_all(data)
        return
    for byte in data:
        # TCP_NODELAY is Trio's default: each byte leaves in a segment of its own.
        await stream.send_all(bytes((byte,)))
        await trio.sleep(_BYTE_PAUSE_S)
