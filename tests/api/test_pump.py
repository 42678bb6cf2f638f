"""One task that sends for all."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.api.pump import CLIENTS_PER_STEP, Pump


class Counted:
    """A client that counts its flushes, and has so many batches to send."""

    def __init__(self, pump: Pump, batches: int = 1) -> None:
        self.is_due = False
        self.flushes = 0
        self._pump = pump
        self._batches = batches

    def flush(self) -> None:
        """Send a batch."""
        self.flushes += 1
        if self.flushes < self._batches:
            self._pump.add(self)


async def test_client_is_flushed_once_however_often_it_is_due() -> None:
    """Work that comes together leaves together."""
    pump = Pump()
    client = Counted(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        for _ in range(3):
            pump.add(client)
        await wait_all_tasks_blocked()
        assert client.flushes == 1
        pump.add(client)
        await wait_all_tasks_blocked()
        assert client.flushes == 2
        nursery.cancel_scope.cancel()


async def test_others_run_between_steps() -> None:
    """I1: a thousand clients, and one with a thousand batches, hold up nobody."""
    pump = Pump()
    many = [Counted(pump) for _ in range(1_000)]
    long = Counted(pump, batches=1_000)
    async with trio.open_nursery() as nursery:
        for client in (long, *many):
            pump.add(client)
        nursery.start_soon(pump.run)
        turns = 0
        while any(not client.flushes for client in many):
            await trio.lowlevel.checkpoint()
            turns += 1
            assert turns < 10_000
        assert turns >= len(many) // CLIENTS_PER_STEP
        assert long.flushes < 1_000
        await wait_all_tasks_blocked()
        assert long.flushes == 1_000
        nursery.cancel_scope.cancel()
