"""Stream faults: each does what it says, and nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio

from klinetrio.sim import FaultPlan
from klinetrio.sim.faults import GARBAGE, FaultyFeed
from klinetrio.sim.market import Frame


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


class Probe:
    """Records what a feed lets through, and when."""

    def __init__(self, **plan: Any) -> None:
        self.ids: list[int] = []
        self.times: list[float] = []
        self.garbage: list[str] = []
        self.feed = FaultyFeed(FaultPlan(**plan), self._publish, self._inject)

    def _publish(self, frame: Frame) -> None:
        self.ids.append(frame.agg_id)
        self.times.append(trio.current_time())

    def _inject(self, symbol: str, text: str) -> None:
        assert symbol == "BTCUSDT"
        self.garbage.append(text)

    def deliver(self, *ids: int) -> None:
        """Let the market deliver frames with these ids."""
        for agg_id in ids:
            self.feed.deliver(Frame("BTCUSDT", agg_id, b"{}"))


@asynccontextmanager
async def running(probe: Probe) -> AsyncIterator[Probe]:
    """Run the feed's clockwork."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe.feed.run)
        yield probe
        nursery.cancel_scope.cancel()


async def test_without_a_plan_all_passes_at_once() -> None:
    """No fault, no detour."""
    probe = Probe()
    probe.deliver(1, 2, 3)
    assert probe.ids == [1, 2, 3]
    assert not probe.feed.counts


async def test_lost_frames_are_the_next_ones() -> None:
    """``lose`` hits exactly as many, of that symbol only."""
    probe = Probe()
    probe.feed.lose("BTCUSDT", 2)
    probe.feed.deliver(Frame("ETHUSDT", 9, b"{}"))
    probe.deliver(1, 2, 3)
    assert probe.ids == [9, 3]
    assert probe.feed.counts == {"lost": 2}


async def test_drop_and_duplicate() -> None:
    """Certain faults hit every frame."""
    dropping, doubling = Probe(drop=1.0), Probe(duplicate=1.0)
    dropping.deliver(1, 2)
    doubling.deliver(1, 2)
    assert dropping.ids == []
    assert doubling.ids == [1, 1, 2, 2]


async def test_reordered_frames_swap_places(autojump_clock: MockClock) -> None:
    """The held frame follows its successor, or comes after ``hold_s`` if there is none."""
    async with running(Probe(reorder=1.0, hold_s=2.0)) as probe:
        probe.deliver(1, 2)
        assert probe.ids == [2, 1]
        probe.deliver(3)
        await trio.sleep(5)
        assert probe.ids == [2, 1, 3]
        assert probe.times[2] - probe.times[0] == pytest.approx(2.0)


async def test_delayed_frames_are_overtaken(autojump_clock: MockClock) -> None:
    """Each delayed frame comes once, within the limits."""
    async with running(Probe(delay=1.0, delay_s=(1.0, 3.0))) as probe:
        start = trio.current_time()
        probe.deliver(*range(50))
        assert probe.ids == []
        await trio.sleep(4)
        assert sorted(probe.ids) == list(range(50))
        assert probe.ids != sorted(probe.ids)
        assert all(1.0 <= each - start <= 3.0 for each in probe.times)


async def test_frames_held_back_come_late_in_their_order(autojump_clock: MockClock) -> None:
    """All of one symbol until the time is over; others and later ones pass at once."""
    async with running(Probe()) as probe:
        probe.feed.hold_back("BTCUSDT", 3.0)
        probe.deliver(1, 2)
        probe.feed.deliver(Frame("ETHUSDT", 9, b"{}"))
        await trio.sleep(2)
        probe.deliver(3)
        assert probe.ids == [9]
        await trio.sleep(2)
        assert probe.ids == [9, 1, 2, 3]
        probe.deliver(4)
        assert probe.ids == [9, 1, 2, 3, 4]
        assert probe.feed.counts == {"held_back": 3}


async def test_calm_is_the_end_of_all_faults(autojump_clock: MockClock) -> None:
    """Nothing is lost, held back or delayed any more; what was delayed before still comes."""
    async with running(Probe(delay=1.0, delay_s=(1.0, 1.0))) as probe:
        probe.deliver(1)
        probe.feed.lose("BTCUSDT", 100)
        probe.feed.hold_back("BTCUSDT", 100)
        probe.feed.calm()
        probe.deliver(2, 3)
        await trio.sleep(2)
        assert probe.ids == [2, 3, 1]


async def test_garbage_comes_beside_the_frame() -> None:
    """The true frame is still sent; all kinds of garbage have their turn."""
    probe = Probe(garbage=1.0)
    probe.deliver(*range(len(GARBAGE)))
    assert probe.ids == list(range(len(GARBAGE)))
    assert probe.garbage == list(GARBAGE)


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_no_trade(text: str) -> None:
    """None of it has all that a trade needs."""
    try:
        event = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    assert not (isinstance(event, dict) and isinstance(event.get("a"), int))


async def test_seed_decides_what_is_hit() -> None:
    """The same seed hits the same frames, about as many as asked for."""
    one, same, other = (Probe(drop=0.2, duplicate=0.1, seed=seed) for seed in (1, 1, 2))
    for probe in (one, same, other):
        probe.deliver(*range(1_000))
    assert one.ids == same.ids
    assert one.ids != other.ids
    assert 150 < one.feed.counts["drop"] < 250
    assert 60 < one.feed.counts["duplicate"] < 140


@pytest.mark.parametrize("plan", [{"drop": 1.1}, {"drop": -0.1}, {"drop": 0.6, "delay": 0.6}])
def test_impossible_plans_are_refused(plan: dict[str, float]) -> None:
    """Probabilities are between nothing and all, together as well."""
    with pytest.raises(ValueError, match="expected"):
        FaultPlan(**plan)  # type: ignore[arg-type]
