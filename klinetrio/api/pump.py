"""Sends to all push clients, in one task.

A swap concerns a thousand clients at once.  Were each of them served by a task of its own, all of
these would run before anything is read again, and trades would wait for them.  So one task writes
what waits, without waiting, into one socket after the other, and lets others run after every few.
Only a client whose socket is full has a task of its own wait for it.

Invariants (tests/api/test_pump.py):
  I1  No client delays another one.
  I2  A client is served as long as it has work and room, whatever happens to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio


if TYPE_CHECKING:
    from typing import Protocol

    class Flushed(Protocol):
        """A client, as the pump sees it."""

        is_due: bool

        def flush(self) -> None:
            """Send what can be sent without waiting; never raises."""
            ...


# Trades wait for one such step, not for all clients.
CLIENTS_PER_STEP = 25


class Pump:
    """Clients that have something to be sent."""

    def __init__(self) -> None:
        self._due: list[Flushed] = []
        self._wake = trio.Event()

    def add(self, client: Flushed) -> None:
        """Flush a client at the next turn."""
        if not client.is_due:
            client.is_due = True
            self._due.append(client)
            self._wake.set()

    async def run(self) -> None:
        """Send, for ever.

        Cancellation: nothing is lost; who was due is flushed by the next ``run``.
        """
        while True:
            while not self._due:
                self._wake = trio.Event()
                await self._wake.wait()
            step, self._due = self._due[:CLIENTS_PER_STEP], self._due[CLIENTS_PER_STEP:]
            for client in step:
                client.is_due = False
                client.flush()
            await trio.lowlevel.checkpoint()
