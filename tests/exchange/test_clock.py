"""The exchange's time, as well as it can be known, and never going back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from klinetrio.exchange.clock import SYNC_INTERVAL_S, ExchangeClock, run_clock_sync


if TYPE_CHECKING:
    from collections.abc import Callable

# What the machine's wall clock says, and the exchange's time a second later, ms.
WALL_S = 1_786_000_000.0
WALL_MS = 1_786_000_000_000


def wall_clock(start_s: float = WALL_S) -> Callable[[], float]:
    """Return a wall clock that runs with Trio's."""
    origin = trio.current_time()
    return lambda: start_s + trio.current_time() - origin


async def test_until_the_first_observation_the_machine_is_believed(
    autojump_clock: MockClock,
) -> None:
    """There is nothing better."""
    clock = ExchangeClock(wall=wall_clock())
    assert clock.now_ms() == WALL_MS
    await trio.sleep(1.5)
    assert clock.now_ms() == WALL_MS + 1_500
    assert not clock.observed
    assert clock.skew_ms() == pytest.approx(0, abs=0.01)


async def test_a_first_observation_may_go_back(autojump_clock: MockClock) -> None:
    """A machine that is an hour ahead must not stop the exchange's time for an hour."""
    clock = ExchangeClock(wall=wall_clock())
    assert clock.now_ms() == WALL_MS
    clock.observe(WALL_MS - 3_600_000, 0.0, 0.0)
    assert clock.now_ms() == WALL_MS - 3_600_000
    assert clock.skew_ms() == pytest.approx(3_600_000, abs=0.01)


async def test_a_later_correction_backwards_stands_still(autojump_clock: MockClock) -> None:
    """Time waits until it has caught up (I1)."""
    clock = ExchangeClock(wall=wall_clock())
    clock.observe(WALL_MS, 0.0, 0.2)
    before = clock.now_ms()
    clock.observe(WALL_MS - 1_000, 0.0, 0.1)
    assert before == clock.now_ms()
    await trio.sleep(0.9)
    assert before == clock.now_ms()
    await trio.sleep(0.04)
    assert before == clock.now_ms()
    await trio.sleep(0.16)
    assert clock.now_ms() == before + 150


@given(
    st.lists(st.tuples(st.integers(-5_000, 5_000), st.floats(0, 3), st.floats(0, 10)), max_size=30),
    st.sampled_from([0.5, 1.0, 60.0]),
)
def test_time_never_goes_back(steps: list[tuple[int, float, float]], rate: float) -> None:
    """Whatever is observed after the first time (I1)."""

    async def main() -> None:
        clock = ExchangeClock(rate, wall_clock())
        clock.observe(WALL_MS, trio.current_time(), trio.current_time())
        shown = clock.now_ms()
        for error_ms, round_trip, pause in steps:
            sent = trio.current_time()
            await trio.sleep(round_trip)
            clock.observe(WALL_MS + error_ms, sent, trio.current_time())
            await trio.sleep(pause)
            assert shown <= clock.now_ms()
            shown = clock.now_ms()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_of_the_last_observations_the_fastest_wins(autojump_clock: MockClock) -> None:
    """A short round trip leaves the least room for error; the server answers in the middle."""
    clock = ExchangeClock(wall=wall_clock())
    for round_trip, error in ((0.8, 400), (0.02, 3), (0.5, -250)):
        sent = trio.current_time()
        middle_ms = WALL_MS + (sent + round_trip / 2) * 1_000
        await trio.sleep(round_trip)
        clock.observe(round(middle_ms + error), sent, trio.current_time())
    expected = WALL_MS + trio.current_time() * 1_000 + 3
    assert clock.now_ms() == pytest.approx(expected, abs=1)

    # Five slower ones push it out.
    for _ in range(5):
        sent = trio.current_time()
        await trio.sleep(0.1)
        clock.observe(round(WALL_MS + 50 + (sent + 0.05) * 1_000), sent, trio.current_time())
    expected = WALL_MS + trio.current_time() * 1_000 + 50
    assert clock.now_ms() == pytest.approx(expected, abs=1)


async def test_a_fast_clock_runs_at_its_rate(autojump_clock: MockClock) -> None:
    """A simulated exchange passes an hour in a minute."""
    clock = ExchangeClock(60.0, wall_clock())
    clock.observe(WALL_MS, 0.0, 0.0)
    await trio.sleep(1)
    assert clock.now_ms() == WALL_MS + 60_000
    assert clock.seconds_until(WALL_MS + 180_000) == pytest.approx(2.0, abs=1e-6)
    await clock.sleep_until(WALL_MS + 180_000)
    assert trio.current_time() == pytest.approx(3.0, abs=1e-6)
    assert clock.now_ms() == WALL_MS + 180_000


@given(
    st.integers(-10_000_000, 10_000_000),
    st.floats(0, 1e6),
    st.integers(1, 100_000),
    st.sampled_from([0.5, 1.0, 7.0, 60.0]),
)
def test_after_sleeping_until_a_moment_the_clock_shows_it(
    offset_ms: int, uptime: float, ahead_ms: int, rate: float
) -> None:
    """Not a millisecond early, however the floats round, and not a millisecond late."""

    async def main() -> None:
        await trio.sleep(uptime)
        clock = ExchangeClock(rate, wall_clock())
        clock.observe(WALL_MS + offset_ms, trio.current_time() - 0.013, trio.current_time())
        wanted = clock.now_ms() + ahead_ms
        await clock.sleep_until(wanted)
        assert wanted == clock.now_ms()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_sleeping_until_the_past_is_a_checkpoint(autojump_clock: MockClock) -> None:
    """It returns at once, but lets others run."""
    clock = ExchangeClock(wall=wall_clock())
    with trio.testing.assert_checkpoints():
        await clock.sleep_until(WALL_MS - 1)
    assert trio.current_time() == 0
    assert clock.seconds_until(WALL_MS - 500) == pytest.approx(-0.5, abs=1e-6)


async def test_the_clock_is_kept_in_step(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One question a minute; a machine that is far off is told of."""
    clock = ExchangeClock(wall=wall_clock(WALL_S + 0.7))
    asked = []

    async def ask() -> int:
        asked.append(trio.current_time())
        await trio.sleep(0.1)
        return WALL_MS + round(trio.current_time() * 1_000 - 50)

    with trio.move_on_after(2.5 * SYNC_INTERVAL_S), caplog.at_level(logging.WARNING):
        await run_clock_sync(clock, ask)
    assert [0.0, 60.1, 120.2] == pytest.approx(asked)
    assert ["clock_skew skew_ms=700"] * 3 == [each.getMessage() for each in caplog.records]
    assert clock.observed


async def test_a_small_skew_is_nobodys_business(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a second is common."""
    clock = ExchangeClock(wall=wall_clock(WALL_S - 0.49))

    async def ask() -> int:
        return WALL_MS + round(trio.current_time() * 1_000)

    with trio.move_on_after(1), caplog.at_level(logging.WARNING):
        await run_clock_sync(clock, ask)
    assert not caplog.records


async def test_drift_is_told_once_it_can_be(autojump_clock: MockClock) -> None:
    """A machine whose clock loses 50 ms in a thousand seconds."""
    clock = ExchangeClock(wall=wall_clock())
    for number in range(30):
        now = trio.current_time()
        clock.observe(round(WALL_MS + now * 1000 * 1.00005), now, now)
        if number < 10:
            assert clock.drift_ppm is None
        await trio.sleep(SYNC_INTERVAL_S)
    assert clock.drift_ppm == pytest.approx(50, abs=2)
