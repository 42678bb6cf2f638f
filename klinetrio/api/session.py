"""One push client's connection.

Three tasks: the reader has the dialogue answer what the client says, the attendant waits for the
socket when it is full, the third waits for the shutdown.  Whichever of them has a reason to end the
session ends all three; then the connection is closed with that reason.  A client that goes by
itself has the framework cancel the session.

Only the pump and the attendant send, one after the other, so that a reply and the updates that
follow it keep their order.  Only the reader waits for a slow client's replies to be fetched, so
that one cannot fill our memory with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from klinetrio.api.dialogue import GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION, Ending
from klinetrio.httpd import FRAME_EXTENSION


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from quart import Websocket

    from klinetrio.api.client import Client
    from klinetrio.api.dialogue import Answer, Dialogue, Message
    from klinetrio.api.hub import PushHub
    from klinetrio.httpd import FramePort


class Socket(Protocol):
    """A client's WebSocket."""

    async def accept(self) -> None:
        """Finish the handshake."""
        ...

    async def receive(self) -> Message:
        """Return the next message."""
        ...

    def send_now(self, frames: bytes) -> bool:
        """Send whole frames; tell whether there is room for more, else ``drain`` comes next."""
        ...

    async def drain(self) -> None:
        """Wait until there is room."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; may be called once."""
        ...


class QuartSocket:
    """A WebSocket of Quart's on a connection of ``httpd``.

    Args:
        websocket: Not its proxy, which knows only the task of the handler.
    """

    def __init__(self, websocket: Websocket) -> None:
        extensions: Mapping[str, Any] = websocket.scope["extensions"]
        port: FramePort = extensions[FRAME_EXTENSION]
        self.accept = websocket.accept
        self.close = websocket.close
        self.send_now = port.send_now
        self.drain = port.drain
        self._receive: Callable[[], Awaitable[Any]] = websocket.receive

    async def receive(self) -> Message:
        """Return the next message."""
        message: Message = await self._receive()
        return message


@attrs.frozen
class _End(Exception):
    """Ends a session."""

    ending: Ending


async def run_session(
    socket: Socket,
    hub: PushHub,
    make_dialogue: Callable[[Client], Dialogue],
    shutdown: trio.Event,
) -> None:
    """Serve one push client until the session or the daemon ends.

    Args:
        socket: Not accepted yet.
        hub: Tells the client what it follows.
        make_dialogue: Returns what answers the client.
        shutdown: Ends it.

    Raises:
        ApiError: There is no room for another client; nothing was sent yet.

    Cancellation: the client went away, or the server's grace is over.
    """
    client = hub.join()
    ending: Ending | None = None
    bug: Exception | None = None
    try:
        dialogue = make_dialogue(client)
        await socket.accept()
        client.attach(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, socket, client, dialogue, nursery)
            nursery.start_soon(_attend, client)
            nursery.start_soon(_watch, shutdown)
    except* _End as group:
        ending = _first(group)
    except* Exception as group:  # noqa: BLE001  (raised again below)
        bug = group
        ending = Ending(INTERNAL_ERROR, "an error of ours; it has been logged")
    finally:
        client.detach()
        hub.leave(client)
    if ending is not None:
        await socket.close(*ending)
    if bug is not None:
        raise bug


def _first(group: BaseExceptionGroup[_End]) -> Ending:
    (first, *_) = group.exceptions
    return _first(first) if isinstance(first, BaseExceptionGroup) else first.ending


async def _read(socket: Socket, client: Client, dialogue: Dialogue, nursery: trio.Nursery) -> None:
    await _give(dialogue.begin(), client, nursery)
    while True:
        message = await socket.receive()
        await client.outbox.wait_room()
        await _give(dialogue.hear(message), client, nursery)


async def _give(answer: Answer, client: Client, nursery: trio.Nursery) -> None:
    if answer.reply is not None:
        client.outbox.put_reply(answer.reply)
    if answer.work is not None:
        nursery.start_soon(answer.work)
    if answer.ending is not None:
        await client.outbox.wait_replied()
        raise _End(answer.ending)


async def _attend(client: Client) -> None:
    raise _End(Ending(POLICY_VIOLATION, await client.attend()))


async def _watch(shutdown: trio.Event) -> None:
    await shutdown.wait()
    raise _End(Ending(GOING_AWAY, "the daemon ends or starts over"))
