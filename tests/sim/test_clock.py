"""The exchange's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.sim import SimClock


if TYPE_CHECKING:
    from trio.testing import MockClock


START = 1_790_000_000_000


@pytest.mark.parametrize(("rate", "passed"), [(1.0, 2_000), (60.0, 120_000), (0.5, 1_000)])
async def test_runs_at_its_rate(autojump_clock: MockClock, rate: float, passed: int) -> None:
    """Two seconds of Trio's clock are two seconds times the rate."""
    clock = SimClock(START, rate)
    assert clock.now_ms() == START
    await trio.sleep(2)
    assert clock.now_ms() == START + passed


async def test_trio_time_is_when_the_clock_gets_there(autojump_clock: MockClock) -> None:
    """Sleeping until ``trio_time_of`` ends at that very time."""
    clock = SimClock(START, 10.0)
    clock.now_ms()
    await trio.sleep_until(clock.trio_time_of(START + 5_000))
    assert clock.now_ms() == START + 5_000
    assert trio.current_time() == pytest.approx(0.5)


async def test_stands_still_until_released(autojump_clock: MockClock) -> None:
    """A held clock shows its start however long one waits."""
    clock = SimClock(START, held=True)
    await trio.sleep(100)
    assert clock.now_ms() == START
    clock.release()
    await trio.sleep(1)
    assert clock.now_ms() == START + 1_000


async def test_skew_is_told_not_lived() -> None:
    """The fault shifts what clients are told only."""
    clock = SimClock(START, held=True)
    clock.skew_ms = -700
    assert clock.told_ms() == START - 700
    assert clock.now_ms() == START
