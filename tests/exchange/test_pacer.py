"""Connection attempts are evenly spaced, however many wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.testing import assert_checkpoints

from klinetrio.exchange.pacer import Pacer


if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_attempts_are_evenly_spaced(autojump_clock: MockClock) -> None:
    """240 a minute is one every quarter of a second, the first at once."""
    pacer = Pacer(240)
    passed = []

    async def attempt() -> None:
        await pacer.wait()
        passed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(attempt)
    assert [number * 0.25 for number in range(9)] == passed


async def test_a_pause_saves_nothing_up(autojump_clock: MockClock) -> None:
    """After a quiet hour there is no burst."""
    pacer = Pacer(60)
    await pacer.wait()
    await trio.sleep(3_600)
    start = trio.current_time()
    for number in range(3):
        await pacer.wait()
        assert start + number == trio.current_time()


async def test_a_cancelled_attempt_delays_nobody(autojump_clock: MockClock) -> None:
    """Its place stays empty, the next ones keep theirs."""
    pacer = Pacer(60)
    await pacer.wait()
    with trio.move_on_after(0.5):
        await pacer.wait()
    await pacer.wait()
    assert trio.current_time() == 2.0


async def test_waiting_is_always_a_checkpoint() -> None:
    """A loop of immediate attempts cannot hold the scheduler."""
    pacer = Pacer(60_000_000)
    with assert_checkpoints():
        await pacer.wait()
