"""One push client's connection.

Three tasks: the reader executes what the client says, the pusher sends what its outbox holds, the
third waits for the shutdown.  Whichever of them has a reason to end the session ends all three;
then the connection is closed with that reason.  A client that goes by itself has the framework
cancel the session.

Only the pusher sends, so that a reply and the updates that follow it keep their order.  Only the
reader waits for a slow client's replies to be fetched, so that one cannot fill our memory with
them.  The pusher waits for work between any two messages: a send to a connection that is gone
returns at once, and a loop of such sends would stop the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from klinetrio.api.commands import execute


if TYPE_CHECKING:
    from klinetrio.api.commands import Message
    from klinetrio.api.hub import Client, PushHub
    from klinetrio.api.names import Catalog

# A client subscribes once and says little after that.  A message counts as one, and one more for
# every 4 KiB of it: 10,000 series in seven messages of 64 KiB count 119.  Executing a message costs
# about 0.15 ms per 4 KiB (measured), so that a client can take 0.3 % of a core in the long run.
MESSAGES_PER_S = 20.0
MESSAGE_BURST = 200.0
MESSAGE_SIZE = 4096

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Socket(Protocol):
    """A WebSocket as Quart has it."""

    async def receive(self) -> Message:
        """Return the next message."""
        ...

    async def send(self, data: str) -> None:
        """Send a text message."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; may be called once."""
        ...


class Allowance:
    """How much a client may say: so much at once, so much per second in the long run."""

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._asked_at = trio.current_time()

    def take(self, cost: float) -> bool:
        """Take ``cost`` of it, if so much is left."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._asked_at) * self._per_second)
        self._asked_at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True


@attrs.frozen
class _Ending(Exception):
    """Ends a session; sent to the client as it is."""

    code: int
    reason: str


async def run_session(socket: Socket, hub: PushHub, catalog: Catalog, shutdown: trio.Event) -> None:
    """Serve one push client until the session or the daemon ends.

    Raises:
        ApiError: There is no room for another client; nothing was sent yet.

    Cancellation: the client went away, or the server's grace is over.
    """
    client = hub.join()
    ending: _Ending | None = None
    bug: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, socket, client, hub, catalog)
            nursery.start_soon(_push, socket, client)
            nursery.start_soon(_watch, shutdown)
    except* _Ending as group:
        ending = _first(group)
    except* Exception as group:  # noqa: BLE001  (raised again below)
        bug = group
        ending = _Ending(INTERNAL_ERROR, "an error of ours; it has been logged")
    finally:
        hub.leave(client)
    if ending is not None:
        await socket.close(ending.code, ending.reason)
    if bug is not None:
        raise bug


def _first(group: BaseExceptionGroup[_Ending]) -> _Ending:
    (first, *_) = group.exceptions
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _read(socket: Socket, client: Client, hub: PushHub, catalog: Catalog) -> None:
    allowance = Allowance(per_second=MESSAGES_PER_S, burst=MESSAGE_BURST)
    while True:
        message = await socket.receive()
        if not allowance.take(1 + len(message or b"") // MESSAGE_SIZE):
            raise _Ending(
                POLICY_VIOLATION, f"expected at most {MESSAGES_PER_S:g} messages per second"
            )
        await client.outbox.wait_room()
        client.outbox.put_reply(execute(message, client, hub, catalog))


async def _push(socket: Socket, client: Client) -> None:
    outbox = client.outbox
    while True:
        await trio.lowlevel.checkpoint()
        await outbox.wait_work()
        if outbox.verdict is not None:
            raise _Ending(POLICY_VIOLATION, outbox.verdict)
        text = outbox.take()
        if text is not None:
            await socket.send(text)


async def _watch(shutdown: trio.Event) -> None:
    await shutdown.wait()
    raise _Ending(GOING_AWAY, "the daemon is shutting down")
