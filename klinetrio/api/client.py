"""One push client: what it follows, and how what waits for it gets into its socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from klinetrio.api.outbox import Outbox


if TYPE_CHECKING:
    from klinetrio.api.live import LiveMessages
    from klinetrio.api.pump import Pump
    from klinetrio.api.resume import Resumption
    from klinetrio.api.topics import Counters, Topic


class FrameSocket(Protocol):
    """Where a client's frames go."""

    def send_now(self, frames: bytes) -> bool:
        """Send whole frames; tell whether there is room for more, else ``drain`` comes next."""
        ...

    async def drain(self) -> None:
        """Wait until there is room."""
        ...


class Client:
    """One push client.

    Args:
        live: The open bars.
        counters: Of all clients together.
        pump: Flushes it when there is something to send.

    Attributes:
        outbox: What waits for it.
        topics: What it follows.
        resuming: Of these, what it is still being told the past of.
        is_due: The pump's own mark.
        fault: What went wrong in sending, if anything did.
    """

    def __init__(self, live: LiveMessages, counters: Counters, pump: Pump) -> None:
        self.outbox = Outbox(live, counters, self._on_work)
        self.topics: set[Topic] = set()
        self.resuming: dict[Topic, Resumption] = {}
        self.is_due = False
        self.fault: Exception | None = None
        self._pump = pump
        self._socket: FrameSocket | None = None
        self._is_blocked = False
        self._trouble = trio.Event()

    def attach(self, socket: FrameSocket) -> None:
        """Begin to send."""
        self._socket = socket
        self._on_work()

    def detach(self) -> None:
        """Send nothing any more."""
        self._socket = None

    def flush(self) -> None:
        """Send a batch, without waiting; what goes wrong ends this client alone."""
        if self._socket is None or self._is_blocked:
            return
        try:
            batch = self.outbox.take_batch()
            if batch and not self._socket.send_now(batch):
                self._is_blocked = True
                self._trouble.set()
        except Exception as error:  # noqa: BLE001  (raised by ``attend``)
            self.fault = error
            self._trouble.set()
            return
        if self.outbox.has_work and not self._is_blocked:
            self._pump.add(self)

    async def attend(self) -> str:
        """Wait for the socket whenever it is full; return why the client has to go.

        Raises:
            Exception: A bug of ours that showed in sending.
        """
        while True:
            await self._trouble.wait()
            self._trouble = trio.Event()
            if self.fault is not None:
                raise self.fault
            if self.outbox.verdict is not None:
                return self.outbox.verdict
            if self._is_blocked and self._socket is not None:
                await self._socket.drain()
                self._is_blocked = False
                self._on_work()

    def _on_work(self) -> None:
        if self.outbox.verdict is not None:
            self._trouble.set()
        else:
            self._pump.add(self)
