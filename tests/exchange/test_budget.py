"""The exchange's weight is never overdrawn, and the urgent goes first."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klinetrio.domain.interval import MINUTE
from klinetrio.exchange.budget import LIMIT, SHARE, Priority, WeightBudget
from klinetrio.exchange.clock import ExchangeClock


# A UTC minute, in seconds: tests begin a second into it.
START_S = 1_786_171_860.0


def clock_at(second: float, error_s: float = 0.0) -> ExchangeClock:
    """Return a clock that shows this second of a minute, and may be wrong by ``error_s``."""
    origin = trio.current_time()
    return ExchangeClock(wall=lambda: START_S + second + error_s + trio.current_time() - origin)


def budget_at(second: float = 1.0, limit: int = 100, share: float = 1.0) -> WeightBudget:
    """Return a budget whose minute began ``second`` seconds ago."""
    return WeightBudget(clock_at(second), limit=limit, share=share)


def test_the_default_is_four_fifths_of_what_binance_allows() -> None:
    """2,400 a minute and address, shared with whoever else is there."""
    assert (LIMIT, SHARE) == (2_400, 0.8)


async def test_weight_is_granted_at_once_while_there_is_any(autojump_clock: MockClock) -> None:
    """Up to the ceiling, which is the limit's share rounded down."""
    budget = budget_at(limit=101, share=0.5)
    assert budget.spare == 50
    await budget.take(49)
    await budget.take(1)
    assert trio.current_time() == 0
    assert (budget.used, budget.spare, budget.highest) == (50, 0, 50)


async def test_weight_comes_back_with_the_exchanges_minute(autojump_clock: MockClock) -> None:
    """Half a second after it, as far as our clock may be ahead."""
    budget = budget_at(second=1.0)
    await budget.take(100)
    await budget.take(1)
    assert trio.current_time() == pytest.approx(59.5, abs=0.002)
    assert (budget.used, budget.highest) == (1, 100)


async def test_a_weight_beyond_the_ceiling_is_not_waited_for_for_ever(
    autojump_clock: MockClock,
) -> None:
    """It gets a minute of its own."""
    budget = budget_at(limit=10)
    await budget.take(1)
    await budget.take(20)
    assert trio.current_time() == pytest.approx(59.5, abs=0.002)
    assert budget.used == 10


async def test_the_urgent_goes_first_and_equals_in_turn(autojump_clock: MockClock) -> None:
    """Whoever waits with a lower number is served first, then whoever came first."""
    budget = budget_at()
    await budget.take(100)
    served: list[str] = []

    async def want(name: str, priority: Priority) -> None:
        await budget.take(60, priority)
        served.append(name)

    wanted = [("h1", Priority.HISTORY), ("s1", Priority.SEED), ("l1", Priority.LIVE)]
    wanted += [("s2", Priority.SEED), ("l2", Priority.LIVE)]
    async with trio.open_nursery() as nursery:
        for name, priority in wanted:
            nursery.start_soon(want, name, priority)
            await wait_all_tasks_blocked()
    assert ["l1", "l2", "s1", "s2", "h1"] == served


async def test_a_small_wish_does_not_overtake_a_large_urgent_one(
    autojump_clock: MockClock,
) -> None:
    """Else a stream of cheap calls would starve the repair of a hole."""
    budget = budget_at()
    await budget.take(90)
    served = []

    async def want(weight: int, priority: Priority) -> None:
        await budget.take(weight, priority)
        served.append(weight)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(want, 20, Priority.LIVE)
        await wait_all_tasks_blocked()
        nursery.start_soon(want, 1, Priority.HISTORY)
    assert [20, 1] == served


async def test_the_servers_count_rules_when_it_is_higher(autojump_clock: MockClock) -> None:
    """Other programs may share the address; a lower count is late and changes nothing."""
    budget = budget_at()
    await budget.take(10)
    budget.report(70)
    assert (budget.used, budget.spare) == (70, 30)
    budget.report(5)
    assert budget.used == 70
    budget.report(1_000)
    assert budget.spare == 0
    await budget.take(1)
    assert trio.current_time() == pytest.approx(59.5, abs=0.002)


async def test_told_to_be_quiet_nothing_is_granted(autojump_clock: MockClock) -> None:
    """For as long as was said, the longest of what was said."""
    budget = budget_at()
    budget.close_for(150)
    budget.close_for(20)
    assert budget.spare == 0
    await budget.take(1)
    assert trio.current_time() == 150
    assert budget.used == 1


async def test_told_to_be_quiet_while_waiting(autojump_clock: MockClock) -> None:
    """Whoever waits already waits on."""
    budget = budget_at()
    await budget.take(100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.take, 1)
        await wait_all_tasks_blocked()
        budget.close_for(100)
    assert trio.current_time() == pytest.approx(100, abs=0.1)


async def test_a_cancelled_wish_spends_nothing_and_blocks_nobody(
    autojump_clock: MockClock,
) -> None:
    """Also the first of the queue."""
    budget = budget_at()
    await budget.take(100)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(budget.take, 30, Priority.SEED)
            await wait_all_tasks_blocked()
            scope.deadline = trio.current_time() + 5
            await budget.take(80, Priority.LIVE)
    assert scope.cancelled_caught
    assert budget.used == 30
    assert trio.current_time() == pytest.approx(59.5, abs=0.1)
    assert not budget._waiting


WISH = st.tuples(
    st.floats(0, 200),
    st.integers(1, 60),
    st.sampled_from(Priority),
    st.one_of(st.none(), st.floats(0, 100)),
)


@settings(max_examples=60)
@given(
    st.lists(WISH, min_size=1, max_size=12),
    st.floats(0, 59.999),
    st.floats(-0.49, 0.49),
)
def test_no_minute_is_ever_overdrawn(
    wishes: list[tuple[float, int, Priority, float | None]], second: float, error_s: float
) -> None:
    """In no minute of the exchange, though our clock is half a second off (I1)."""
    granted: Counter[int] = Counter()

    async def main() -> None:
        budget = WeightBudget(clock_at(second, error_s), limit=100, share=0.8)

        async def want(
            start: float, weight: int, priority: Priority, give_up: float | None
        ) -> None:
            await trio.sleep(start)
            with trio.move_on_after(float("inf") if give_up is None else give_up):
                await budget.take(weight, priority)
                minute = int((START_S + second + trio.current_time()) * 1_000) // MINUTE
                granted[minute] += weight

        async with trio.open_nursery() as nursery:
            for wish in wishes:
                nursery.start_soon(want, *wish)
        assert not budget._waiting

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert all(weight <= 80 for weight in granted.values()), granted


async def test_weight_spent_around_the_turn_counts_in_both_minutes(
    autojump_clock: MockClock,
) -> None:
    """Nobody knows to which of them the exchange counts it."""
    budget = budget_at(second=59.8)
    await budget.take(40)
    await trio.sleep(1.0)
    assert budget.used == 40
    await trio.sleep(60)
    assert budget.used == 0
