"""A part that dies comes back, nobody else notices, and the bars are right afterwards."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

import klinetrio.api.app
import klinetrio.app
from klinetrio.domain.interval import MINUTE
from klinetrio.engine.actor import Arrival
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.world import LIMIT_S, Asked, assert_true, open_world


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from klinetrio.parts import Parts

RATE = 30
START = 1_786_172_370_000


@pytest.fixture
async def market() -> SeededMarket:
    """About 300 trades per real second."""
    clock = SimClock(START, rate=RATE)
    return SeededMarket(
        seed=31, symbols=20, trades_per_second=10, history_minutes=3_000, clock=clock
    )


@pytest.fixture
async def daemon(market: SeededMarket, tmp_path: Path) -> AsyncIterator[Asked]:
    """A daemon that is ready."""
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as running:
            await running.until_ready()
            yield running


def parts_of(daemon: Asked) -> Parts:
    """Return the running parts."""
    assert daemon.running.market is not None
    parts: Parts = daemon.running.market._parts
    return parts


def failing_once(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``fn`` that raises at its first call."""
    calls: list[bool] = []

    def once(*arguments: Any, **keywords: Any) -> Any:
        calls.append(True)
        if len(calls) == 1:
            raise RuntimeError("killed by the test")
        return fn(*arguments, **keywords)

    return once


async def right_afterwards(daemon: Asked, market: SeededMarket) -> None:
    """Every bar of every symbol is true, and complete again, two minutes later."""
    now = market.clock.now_ms()
    end = now - now % MINUTE + 3 * MINUTE
    await trio.sleep_until(market.clock.trio_time_of(end + 20_000))
    await daemon.until_ready()
    for symbol in await daemon.get("/api/v1/symbols"):
        for interval in ("1m", "5m", "1h", "1d"):
            bars = await daemon.klines(symbol["symbol"], interval)
            assert_true(market, symbol["exchange_symbol"], interval, bars)
    await daemon.until_closed("BTCUSDT", "1m", end - MINUTE)
    bars = await daemon.klines("BTCUSDT", "1m", end_time=end - MINUTE)
    assert all(bar["is_complete"] for bar in bars)
    assert (await daemon.klines("BTCUSDT", "1w"))[-1]["is_complete"]


def restarts(daemon: Asked) -> dict[str, int]:
    """How often each part has been restarted."""
    parts = parts_of(daemon)
    named = {name: state.restarts for name, state in parts.supervisions.items()}
    connections = sum(each.supervision.restarts for each in parts.links)
    return {**named, "actors": parts.engine.actor_restarts, "connections": connections}


async def until_restarted(daemon: Asked, part: str) -> None:
    """Wait until a part has been restarted, and check that no other one was."""
    while not restarts(daemon)[part]:
        await trio.sleep(0.01)
    assert {part} == {name for name, number in restarts(daemon).items() if number}


async def test_a_killed_actor(daemon: Asked, market: SeededMarket) -> None:
    """An actor that dies in the middle of a fold gets a new book with the exchange's past."""
    engine = parts_of(daemon).engine
    index = engine.registry.index_of("BTCUSDT")
    poison: Any = None
    engine._actors[index].send_nowait(Arrival(poison, 0.0))

    await until_restarted(daemon, "actors")
    await right_afterwards(daemon, market)


async def test_a_killed_swapper(daemon: Asked, market: SeededMarket) -> None:
    """A swap that fails is made up for by the next one."""
    parts = parts_of(daemon)
    parts.engine.tick = failing_once(parts.engine.tick)  # type: ignore[method-assign]

    await until_restarted(daemon, "swapper")
    await right_afterwards(daemon, market)


async def test_a_killed_persister(daemon: Asked, market: SeededMarket) -> None:
    """A transaction that fails loses nothing: its bars are in the next one."""
    parts = parts_of(daemon)
    persister: Any = parts.persister
    persister._write = failing_once(persister._write)

    await until_restarted(daemon, "persister")
    await right_afterwards(daemon, market)


async def test_a_locked_database(daemon: Asked, market: SeededMarket) -> None:
    """While somebody else holds the database, bars wait and are still served."""
    path = daemon.running.config.storage.url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    while not parts_of(daemon).persister.counts.failures:
        await trio.sleep(0.05)
    # In memory, or in the spool by now.
    assert parts_of(daemon).persister.backlog
    assert (await daemon.client.get("/readyz")).status_code == 503
    other.rollback()
    other.close()

    await until_restarted(daemon, "persister")
    await right_afterwards(daemon, market)


async def test_a_killed_connection(daemon: Asked, market: SeededMarket) -> None:
    """A connection whose reader fails by a bug is opened again."""
    context: Any = parts_of(daemon).feed
    context.sink.deliver = failing_once(context.sink.deliver)

    await until_restarted(daemon, "connections")
    await right_afterwards(daemon, market)


async def test_a_killed_api(
    market: SeededMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interfaces die and come back on the same port; the candles do not notice."""
    kill = trio.Event()
    serve = klinetrio.api.app.run_api

    async def mortal(*arguments: Any, **keywords: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve, *arguments, **keywords))
            if not kill.is_set():
                await kill.wait()
                raise RuntimeError("killed by the test")

    monkeypatch.setattr(klinetrio.app, "run_api", mortal)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            kill.set()
            await until_restarted(daemon, "api")
            await right_afterwards(daemon, market)
