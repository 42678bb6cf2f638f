"""After a step of the local clock only what was observed since then counts.

Trio's clock stands still while the machine is suspended, and a virtual machine's may jump when it
is moved: the exchange then seems to have stepped against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.exchange.clock import DRIFT_MS, ExchangeClock


if TYPE_CHECKING:
    from trio.testing import MockClock

SERVER_MS = 1_786_000_000_000


class Exchange:
    """Answers with its time, after a round trip whose middle is the moment of the answer."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self.stepped_ms = 0

    def now_ms(self) -> int:
        """Return the true time."""
        return SERVER_MS + self.stepped_ms + round(trio.current_time() * 1_000 * self.rate)

    async def tell(self, clock: ExchangeClock, round_trip_s: float) -> None:
        """Let the clock observe the time once."""
        sent = trio.current_time()
        await trio.sleep(round_trip_s / 2)
        told = self.now_ms()
        await trio.sleep(round_trip_s / 2)
        clock.observe(told, sent, trio.current_time())


@pytest.mark.parametrize("rate", [1.0, 60.0])
@pytest.mark.parametrize("slept_ms", [3_600_000, 1_000, 300])
async def test_after_a_suspension_the_faster_answers_from_before_are_forgotten(
    autojump_clock: MockClock, rate: float, slept_ms: int
) -> None:
    """The first answer after it sets the clock, however slow it was."""
    exchange, clock = Exchange(rate), ExchangeClock(rate)
    for _ in range(5):
        await exchange.tell(clock, 0.002)
    before = clock.now_ms()
    exchange.stepped_ms = round(slept_ms * rate)
    await exchange.tell(clock, 0.2)
    assert clock.now_ms() == pytest.approx(exchange.now_ms(), abs=1)
    assert clock.now_ms() >= before + slept_ms * rate
    assert clock.error_ms == pytest.approx(100 * rate)

    # And stays forgotten: of the answers since then the fastest wins.
    await exchange.tell(clock, 0.4)
    assert clock.error_ms == pytest.approx(100 * rate)
    await exchange.tell(clock, 0.1)
    assert clock.now_ms() == pytest.approx(exchange.now_ms(), abs=1)
    assert clock.error_ms == pytest.approx(50 * rate)


async def test_after_a_step_forward_time_stands_still_until_it_is_true(
    autojump_clock: MockClock,
) -> None:
    """The local clock jumped ahead, so the exchange's is behind all answers from before."""
    exchange, clock = Exchange(), ExchangeClock()
    for _ in range(5):
        await exchange.tell(clock, 0.002)
    exchange.stepped_ms = -2_000
    before = clock.now_ms()
    await exchange.tell(clock, 0.2)
    assert clock.now_ms() in {before, before + 1}
    await trio.sleep(2.5)
    assert clock.now_ms() == pytest.approx(exchange.now_ms(), abs=1)
    # Deadlines follow the true time at once, not the one that is shown.
    assert clock.seconds_until(exchange.now_ms() + 5_000) == pytest.approx(5.0, abs=0.002)


async def test_answers_that_agree_within_their_errors_are_kept(autojump_clock: MockClock) -> None:
    """A slow answer that only seems to differ does not cost the exactness of a fast one."""
    exchange, clock = Exchange(), ExchangeClock()
    await exchange.tell(clock, 0.002)
    allowed = 1 + 100 + DRIFT_MS
    for step, kept in ((allowed - 1, True), (allowed + 1, False)):
        exchange.stepped_ms = step
        await exchange.tell(clock, 0.2)
        assert clock.error_ms == pytest.approx(1 if kept else 100)
        true = exchange.now_ms() - (step if kept else 0)
        # Two slow answers agree with each other, too, and either of them may be the faster.
        assert clock.now_ms() == pytest.approx(true, abs=3)
