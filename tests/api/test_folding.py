"""Bars of intervals that are not kept, as followers of the exchange's streams see them move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api import derived, folding
from klinetrio.api.folding import Folding
from klinetrio.domain.interval import DAY, INTERVALS
from klinetrio.domain.kline import FLAGS, OPEN_TIME, has_row, is_final
from klinetrio.errors import StoreError
from tests.api.daemon import connected, hear, running
from tests.api.memory_market import MINUTE_MS, START, SYMBOLS, MemoryMarket


if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("1m", "1h", "1d")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(90, 110)),
        st.tuples(
            st.sampled_from(["close", "close", "correct", "swap", "ask", "take"]), st.just(0)
        ),
    ),
    min_size=5,
    max_size=80,
)


class Watched:
    """A market whose minutes somebody follows as longer bars.

    Args:
        name: Of the longer interval.
    """

    def __init__(self, name: str) -> None:
        self.market = MemoryMarket(SYMBOLS[:1], NAMES)
        self.interval = INTERVALS[name]
        self.fold = Folding(self.interval, self.market.intervals[0])
        self.ended: list[int] = []
        self._read: tuple[int, Sequence[Sequence[int]]] | None = None

    async def swap(self) -> None:
        """Take what a swap publishes; compare the open bar."""
        for closed in self.market.swap().closed:
            bar = self.fold.close(closed.values)
            if bar is not None:
                assert is_final(bar)
                self.ended.append(bar[OPEN_TIME])
        live = self.market.live_row(0)
        if self.fold.is_read and has_row(live):
            told = self.fold.live(live)
            truth = await derived.open_bar(self.market, 0, self.interval)
            assert told is not None
            assert truth is not None
            assert list(told)[:FLAGS] == list(truth)[:FLAGS]

    async def close(self) -> None:
        """Close the open minute, in which something was traded."""
        self.market.trade(0)
        self.market.close(0)
        await self.swap()

    async def correct(self) -> None:
        """Correct the newest closed minute."""
        if self.market.has_closed(0):
            self.market.correct(0)

    async def ask(self) -> None:
        """Read the past, to be taken later."""
        live = self.market.live_row(0)
        if has_row(live):
            opens = self.fold.opens_at(live)
            bars = await self.market.klines(0, start=opens, end=None, limit=folding.MAX_PARTS)
            self._read = opens, bars

    async def take(self) -> None:
        """Take the past that was read."""
        if self._read is not None and not self.fold.is_read:
            self.fold.take(*self._read)


@given(steps=steps, name=st.sampled_from(["3m", "5m"]))
@settings(max_examples=150)
async def test_open_bar_is_what_rest_would_tell(
    steps: Sequence[tuple[str, int]], name: str
) -> None:
    """However trades, closings, corrections and the reading of the past fall together."""
    watched = Watched(name)
    watched.market.trade(0)
    for step, price in steps:
        if step == "trade":
            watched.market.trade(0, price)
        else:
            await getattr(watched, step)()
    await watched.swap()
    assert watched.ended == sorted(set(watched.ended))


async def test_a_final_is_the_fold_of_its_parts() -> None:
    """Told once, with the swap in which its last part closes; corrections after it are not."""
    market, interval = MemoryMarket(SYMBOLS[:1], NAMES), INTERVALS["3m"]
    fold = Folding(interval, market.intervals[0])
    fold.take(START, [])
    finals = []
    for price in (100, 120, 90, 95):
        market.trade(0, price)
        market.close(0)
        market.correct(0)
        finals += [fold.close(closed.values) for closed in market.swap().closed]
    (final,) = (bar for bar in finals if bar is not None)
    (truth, *_) = await derived.klines(market, 0, interval, start=START, end=None, limit=1)
    assert list(final[:5]) == [START, 100, 120, 90, 90]
    # The third part was corrected after it had ended the bar.
    assert (final[5], truth[5]) == (5, 6)


async def test_intervals_that_are_not_kept_are_streamed() -> None:
    """The open bar at once, with what was before; then every change, and the end."""
    market = MemoryMarket(SYMBOLS[:1], NAMES)
    for price in (100, 130):
        market.trade(0, price)
        market.close(0)
    market.trade(0, 110)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/ws/btcusdt@kline_3m") as client:
            first = (await hear(client))["k"]
            market.trade(0, 80)
            daemon.swap()
            second = (await hear(client))["k"]
            market.close(0)
            daemon.swap()
            last, next_one = (await hear(client))["k"], (await hear(client))["k"]

    assert (first["t"], first["T"], first["i"]) == (START, START + 3 * MINUTE_MS - 1, "3m")
    assert [first[key] for key in "ohlc"] == ["1.00", "1.30", "1.00", "1.10"]
    assert [second[key] for key in "ohlc"] == ["1.00", "1.30", "0.80", "0.80"]
    assert (first["n"], second["n"], first["x"], second["x"]) == (3, 4, False, False)
    assert last == {**second, "x": True}
    assert (next_one["t"], next_one["n"]) == (START + 3 * MINUTE_MS, 0)


@pytest.mark.parametrize("name", ["3d", "1M", "1w"])
async def test_days_and_months_are_streamed(name: str) -> None:
    """Of the longest interval that makes them up, as a continuous kline, too."""
    market = MemoryMarket(SYMBOLS[:1], NAMES)
    market.trade(2, 70)
    async with running(market) as daemon:
        daemon.swap()
        path = f"/stream?streams=btcusdt_perpetual@continuousKline_{name}"
        async with connected(daemon, path) as client:
            bar = (await hear(client))["data"]["k"]
    assert (bar["i"], bar["t"], bar["c"]) == (name, INTERVALS[name].open_of(START), "0.70")
    assert START // DAY * DAY == START


async def test_a_history_that_cannot_be_read_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once it can; what is kept is told meanwhile."""
    monkeypatch.setattr(folding, "RETRY_S", 0.01)
    market = MemoryMarket(SYMBOLS[:1], NAMES)
    market.failure = StoreError("the database is away")
    path = "/ws/btcusdt@kline_3m/btcusdt@kline_1m"
    async with running(market) as daemon, connected(daemon, path) as client:
        while daemon.hub.statistics().subscriptions < 2:
            await trio.sleep(0.01)
        market.trade(0, 50)
        daemon.swap()
        heard: list[Any] = [(await hear(client))["k"]["i"]]
        market.failure = None
        heard.append((await hear(client))["k"]["i"])
    assert heard == ["1m", "3m"]


async def test_a_bar_of_too_many_parts_is_silent() -> None:
    """Acknowledged, as whatever is not there."""
    market = MemoryMarket(SYMBOLS[:1], ["1m"])
    market.trade(0)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/ws/btcusdt@kline_1d/btcusdt@kline_1h") as client:
            assert (await hear(client))["k"]["i"] == "1h"
            market.trade(0)
            daemon.swap()
            assert (await hear(client))["k"]["i"] == "1h"


async def test_nothing_is_told_before_the_past_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol that is being seeded: its open bar would lack what the seed brings."""
    monkeypatch.setattr(folding, "RETRY_S", 0.01)
    market = MemoryMarket(SYMBOLS[:1], NAMES)
    market.unseeded = {0}
    market.trade(0, 100)
    path = "/ws/btcusdt@kline_3m/btcusdt@kline_1m"
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, path) as client:
            heard = [(await hear(client))["k"]["i"]]
            market.close(0)
            daemon.swap()
            heard += [(await hear(client))["k"]["i"], (await hear(client))["k"]["i"]]
            market.unseeded.clear()
            told = (await hear(client))["k"]
    assert heard == ["1m", "1m", "1m"]
    assert (told["i"], told["t"], told["n"]) == ("3m", START, 1)


async def test_holes_in_the_past_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history download may fill them, of which no swap tells."""
    monkeypatch.setattr(folding, "RETRY_S", 0.01)
    monkeypatch.setattr(folding, "REREAD_S", 0.02)
    market = MemoryMarket(SYMBOLS[:1], NAMES)
    for price in (100, 130):
        market.trade(0, price)
        market.close(0)
    market.trade(0, 110)
    missing = market.take_away(0, START)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/ws/btcusdt@kline_3m") as client:
            first = (await hear(client))["k"]
            market.put_back(0, missing)
            second = (await hear(client))["k"]
            while second["n"] != 3:
                second = (await hear(client))["k"]
    assert (first["o"], first["n"]) == ("1.30", 2)
    assert (second["o"], second["t"], second["n"]) == ("1.00", START, 3)


async def test_one_that_cannot_be_read_does_not_keep_others_waiting() -> None:
    """Each is tried for itself."""
    market = MemoryMarket(SYMBOLS[:2], NAMES)
    market.unseeded = {0}
    market.trade(0)
    market.trade(3)
    async with running(market) as daemon:
        daemon.swap()
        async with connected(daemon, "/ws/btcusdt@kline_3m/ethusdc@kline_3m") as client:
            assert (await hear(client))["s"] == "ETHUSDC"
