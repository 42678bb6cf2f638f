"""The download fills whatever is missing, goes on where it stopped, and asks for nothing twice.

The database is a real one; the exchange is a grid of bars behind the interface of ``BinanceRest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import pytest
import trio

from klinetrio.domain.interval import DAY, HOUR, MINUTE, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, OPEN, OPEN_TIME, Flag, revision_of
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import NetworkError, RateLimited, Refused, StoreError
from klinetrio.recovery.download import HistoryDownload
from klinetrio.recovery.gaps import PAGE
from klinetrio.storage.protocol import Batch
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import NOTHING, bar, batch


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from trio.testing import MockClock

    from klinetrio.domain.interval import Interval
    from klinetrio.exchange.rest import BinanceRest

BEGIN = 1_785_888_000_000  # a UTC midnight
LISTED = BEGIN + 5 * HOUR + 7 * MINUTE
NOW = BEGIN + 4 * DAY + 90_000
INTERVALS = parse_intervals(["1m", "1h", "1d", "1w"])
A, B = Symbol("AUSDT", "A", "USDT", LISTED, 2, 3), Symbol("BUSDT", "B", "USDT", LISTED, 2, 3)
PAST = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
LIMIT_S = 300.0


@attrs.define
class Exchange:
    """Has a bar of every span since the listing, but for what tests take away."""

    listed: dict[str, int] = attrs.field(factory=lambda: {"AUSDT": LISTED, "BUSDT": LISTED})
    lacks: set[tuple[str, int]] = attrs.field(factory=set)
    failures: list[Exception] = attrs.field(factory=list)
    asked: list[tuple[str, str, int, int]] = attrs.field(factory=list)
    now: int = NOW
    shorten: int = 0

    def now_ms(self) -> int:
        """As ``BinanceRest``."""
        return self.now

    async def klines(
        self, symbol: Symbol, interval: Interval, *, start: int, end: int, limit: int, **_: Any
    ) -> npt.NDArray[np.int64]:
        """As ``BinanceRest.klines``."""
        await trio.sleep(0.1)
        if self.failures:
            raise self.failures.pop(0)
        if symbol.name not in self.listed:
            raise Refused(400, -1121, "Invalid symbol.")
        self.asked.append((symbol.name, interval.name, start, end))
        first = max(start, interval.open_of(self.listed[symbol.name]))
        opens = interval.opens_between(first, min(end, self.now) + 1)
        rows = [
            bar(int(each), int(each) // MINUTE % 1000 + 1, bits=PAST)
            for each in opens
            if (interval.name, int(each)) not in self.lacks
        ]
        if self.shorten and len(rows) > self.shorten:
            limit, self.shorten = self.shorten, 0
        return np.array(rows[:limit], np.int64).reshape(-1, FIELD_COUNT)


@attrs.define
class Direct:
    """The database without threads, for which virtual time would not wait."""

    store: SqliteStore

    async def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        return self.store.read_checked()

    async def first_time(self, series: int) -> int | None:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        return self.store.first_time(series)

    async def proved_times(self, series: int, start: int, end: int) -> npt.NDArray[np.int64]:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        return self.store.proved_times(series, start, end)

    async def write_history(
        self, series: int, bars: npt.NDArray[np.int64], checked: tuple[int, int] | None = None
    ) -> int:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        rows = Batch(np.full(len(bars), series, np.int64), bars)
        return self.store.write_history(rows, {} if checked is None else {series: checked})


@attrs.define
class Bench:
    """A download and everything around it."""

    store: SqliteStore
    exchange: Exchange
    registry: SymbolPeriodRegistry
    download: HistoryDownload

    async def round(self, since: int | None, until: int = NOW) -> None:
        """Run a round to its end."""
        with trio.fail_after(LIMIT_S):
            await self.download.round(self.registry.symbols, until, since)

    def times(self, symbol: str, interval: str) -> list[int]:
        """Return the stored open times of one series."""
        index = self.registry.index_of(symbol)
        period = [each.name for each in INTERVALS].index(interval)
        rows = self.store.read(self.registry.row(index, period), start=None, end=None, limit=10**6)
        return [int(row[OPEN_TIME]) for row in rows]

    def asked_bars(self) -> int:
        """Return how many bars were asked for, but for those that tell a symbol's first day."""
        lengths = {each.name: each.length for each in INTERVALS}
        # Its end is then the moment, while a download asks up to the opening of a bar.
        return sum(
            (end - start) // lengths[name] + 1
            for _, name, start, end in self.exchange.asked
            if end != self.exchange.now
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a download into an empty database."""
    store = SqliteStore(tmp_path / "klines.db")
    store.open()
    registry = SymbolPeriodRegistry.ranked([A, B], INTERVALS)
    store.enlist(registry)
    exchange = Exchange()
    rest = cast("BinanceRest", exchange)
    yield Bench(store, exchange, registry, HistoryDownload(Direct(store), registry, rest))
    store.close()


def expected(interval: str, since: int, until: int = NOW) -> list[int]:
    """Return the open times that there should be."""
    (each,) = parse_intervals([interval])
    first = max(since, each.open_of(LISTED))
    opens: list[int] = each.opens_between(first, each.open_of(until)).tolist()
    return opens


async def test_everything_since_a_date_is_fetched(bench: Bench, autojump_clock: MockClock) -> None:
    """From the listing on if that is later, in every interval; an open bar is not history."""
    await bench.round(BEGIN - 30 * DAY)
    for symbol in ("AUSDT", "BUSDT"):
        assert bench.times(symbol, "1m") == expected("1m", 0)
        assert bench.times(symbol, "1h") == expected("1h", 0)
        assert bench.times(symbol, "1d") == expected("1d", 0)
        assert bench.times(symbol, "1w") == expected("1w", 0)
    progress = bench.download.progress
    # The bars before the listing, on its first day, were looked for in vain.
    assert progress.bars == progress.bars_done
    assert progress.absent == 2 * (307 + 5)
    assert progress.written + progress.absent == progress.bars
    assert progress.series == progress.series_done


async def test_a_second_round_asks_for_nothing(bench: Bench, autojump_clock: MockClock) -> None:
    """Not even for what the exchange did not have."""
    await bench.round(BEGIN)
    bench.exchange.asked.clear()
    await bench.round(BEGIN)
    assert bench.asked_bars() == 0
    assert len(bench.exchange.asked) == 2
    assert bench.download.progress.series == 0


async def test_a_broken_off_download_goes_on_where_it_stopped(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """At any moment; nothing is fetched twice but what was under way."""
    rounds = 0
    while True:
        rounds += 1
        with trio.move_on_after(0.75) as scope:
            await bench.round(BEGIN)
        if not scope.cancelled_caught:
            break
        assert rounds < 200
    assert rounds >= 3
    assert bench.times("AUSDT", "1m") == expected("1m", 0)
    assert bench.times("BUSDT", "1m") == expected("1m", 0)


async def test_a_hole_is_found_and_filled_whatever_its_cause(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """Without a date only what lies behind the oldest stored bar is looked at."""
    since = BEGIN + 2 * DAY
    stored = [each for each in expected("1m", since) if not 100 <= (each - since) // MINUTE < 2000]
    bars = [(0, bar(each, 5, bits=Flag.FINAL | Flag.COMPLETE)) for each in stored]
    unproved = stored[17]
    bars[17] = (0, bar(unproved, 5, bits=Flag.FINAL))
    bench.store.write(batch(*bars), NOTHING)
    await bench.round(None)
    assert bench.times("AUSDT", "1m") == expected("1m", since)
    assert bench.times("BUSDT", "1m") == []
    rows = {int(row[0]): row for row in bench.store.read(0, start=None, end=None, limit=10**6)}
    # What was proved has not changed; what was not, is now, by the exchange's word.
    assert rows[stored[16]][OPEN] == 5
    assert rows[unproved][OPEN] == unproved // MINUTE % 1000 + 1
    assert revision_of(rows[unproved]) == 1
    assert 1900 < bench.asked_bars() < 1900 + PAGE
    assert bench.download.progress.written == 1901


async def test_an_outage_is_filled_in_the_next_round(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """However long it was: the span that is known to be whole ends before it."""
    first = BEGIN + DAY
    bench.store.write(batch((0, bar(BEGIN + 12 * HOUR))), NOTHING)
    await bench.round(None, until=first)
    # The daemon was away for two days; a seed has brought the newest bars.
    newest = expected("1m", NOW - 100 * MINUTE)
    bench.store.write(batch(*((0, bar(each)) for each in newest)), NOTHING)
    bench.exchange.asked.clear()
    await bench.round(None)
    assert bench.times("AUSDT", "1m") == expected("1m", BEGIN + 12 * HOUR)
    assert min(start for _, _, start, _ in bench.exchange.asked) == first


async def test_older_history_is_wanted_later(bench: Bench, autojump_clock: MockClock) -> None:
    """The span grows at its other end."""
    await bench.round(BEGIN + 3 * DAY)
    assert bench.times("AUSDT", "1h") == expected("1h", BEGIN + 3 * DAY)
    bench.exchange.asked.clear()
    await bench.round(BEGIN + DAY)
    assert bench.times("AUSDT", "1h") == expected("1h", BEGIN + DAY)
    hours = [end for _, name, _, end in bench.exchange.asked if name == "1h"]
    assert max(hours) < BEGIN + 3 * DAY


async def test_a_bar_that_may_only_be_late_is_asked_for_again(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """I1: what is here is written, and the span ends before it."""
    late = NOW - NOW % MINUTE - 3 * MINUTE
    bench.exchange.lacks.add(("1m", late))
    await bench.round(BEGIN + 3 * DAY)
    assert late not in bench.times("AUSDT", "1m")
    bench.exchange.lacks.clear()
    await bench.round(BEGIN + 3 * DAY)
    assert bench.times("AUSDT", "1m") == expected("1m", BEGIN + 3 * DAY)


async def test_what_the_exchange_never_had_is_not_asked_for_for_ever(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """A day is enough."""
    bench.exchange.lacks.add(("1m", BEGIN + DAY))
    await bench.round(BEGIN)
    bench.exchange.asked.clear()
    await bench.round(BEGIN)
    assert bench.asked_bars() == 0
    assert BEGIN + DAY not in bench.times("AUSDT", "1m")


async def test_one_answer_that_falls_short_makes_no_hole(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """What is missing is asked for again before it is believed not to be there."""
    bench.exchange.shorten = 200
    await bench.round(BEGIN)
    assert bench.exchange.shorten == 0
    assert bench.times("AUSDT", "1m") == expected("1m", 0)
    assert bench.times("BUSDT", "1m") == expected("1m", 0)


async def test_a_time_to_come_keeps_no_hole_from_being_filled(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """The daemon's configuration may be ahead of time."""
    since = BEGIN + 3 * DAY
    stored = [each for each in expected("1m", since) if (each - since) // MINUTE != 100]
    bench.store.write(batch(*((0, bar(each)) for each in stored)), NOTHING)
    await bench.round(NOW + 365 * DAY)
    assert bench.times("AUSDT", "1m") == expected("1m", since)


async def test_an_end_before_what_is_known_is_counted_right(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """What lies in between is fetched, too: the span stays one."""
    await bench.round(BEGIN + 3 * DAY)
    await bench.round(BEGIN + DAY, until=BEGIN + DAY + HOUR)
    progress = bench.download.progress
    assert progress.bars == progress.bars_done == 2 * (2 * 1_440 + 48)
    assert bench.times("AUSDT", "1m") == expected("1m", BEGIN + DAY)


async def test_trouble_is_waited_out(bench: Bench, autojump_clock: MockClock) -> None:
    """As long as it takes, and the exchange's word about how long is obeyed."""
    bench.exchange.failures += [NetworkError("down"), RateLimited(429, -1003, "slow", 20.0)]
    bench.exchange.failures += [StoreError("locked")]
    await bench.round(BEGIN)
    assert trio.current_time() > 20
    assert bench.times("AUSDT", "1m") == expected("1m", 0)
    assert bench.download.progress.failures == 3


async def test_a_symbol_that_is_gone_does_not_stop_the_others(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """It is named and left out."""
    del bench.exchange.listed["AUSDT"]
    await bench.round(BEGIN)
    assert bench.times("AUSDT", "1m") == []
    assert bench.times("BUSDT", "1m") == expected("1m", 0)


async def test_a_symbol_that_goes_meanwhile_does_not_stop_the_others(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """Nor does it hold the round."""
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.round, BEGIN)
            await trio.sleep(0.25)
            del bench.exchange.listed["AUSDT"]
    assert bench.times("BUSDT", "1m") == expected("1m", 0)
    assert bench.download.progress.series == bench.download.progress.series_done == 6


async def test_a_refused_place_ends_it(bench: Bench, autojump_clock: MockClock) -> None:
    """More asking is in vain."""
    bench.exchange.failures.append(Refused(451, 0, "restricted location"))
    with pytest.RaisesGroup(Refused):
        await bench.round(BEGIN)
