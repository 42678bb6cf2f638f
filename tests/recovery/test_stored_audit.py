"""The audit on demand compares every interval by itself, so nothing stays behind.

The database is a real one; the exchange is a grid of bars behind the interface of ``BinanceRest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import trio

from klinetrio.domain.interval import DAY, HOUR, MINUTE
from klinetrio.domain.kline import FLAGS, OPEN, Flag, revision_of
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import NetworkError, ScalesChanged
from klinetrio.recovery.stored_audit import StoredAudit
from klinetrio.storage.protocol import Batch
from klinetrio.storage.sqlite import SqliteStore
from tests.recovery.test_download import BEGIN, INTERVALS, NOW, A, Direct, Exchange
from tests.storage.bars import NOTHING, bar, batch, symbol


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from trio.testing import MockClock

    from klinetrio.exchange.rest import BinanceRest

LIVE = Flag.FINAL | Flag.COMPLETE
SINCE, UNTIL = BEGIN + DAY, BEGIN + DAY + 5 * HOUR
WRONG = SINCE + HOUR + 7 * MINUTE


class Stored(Direct):
    """The database without threads.

    Attributes:
        writes_left: After so many more writes it fails.
    """

    writes_left = 10**6

    async def read(self, series: int, start: int, end: int) -> npt.NDArray[np.int64]:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        return self.store.read(series, start=start, end=end - 1, limit=10**6)

    async def settle(self, series: int, bars: npt.NDArray[np.int64]) -> int:
        """As ``PastBars``."""
        await trio.lowlevel.checkpoint()
        self.writes_left -= 1
        if self.writes_left < 0:
            raise KeyboardInterrupt
        return self.store.settle(Batch(np.full(len(bars), series, np.int64), bars))


def value_of(open_time: int) -> int:
    """Return what the exchange's bar is told by."""
    return open_time // MINUTE % 1000 + 1


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Return a database that is as the exchange, but for one minute and what holds it."""
    store = SqliteStore(tmp_path / "klines.db")
    store.open()
    store.enlist(SymbolPeriodRegistry.ranked([A], INTERVALS))
    bars = []
    for row, interval in enumerate(INTERVALS):
        for each in interval.opens_between(BEGIN + DAY, NOW).tolist():
            holds = each <= WRONG < interval.next_open(each)
            bars.append((row, bar(each, value_of(each) + 500 * holds, bits=LIVE)))
    store.write(batch(*bars), NOTHING)
    yield Stored(store)
    store.close()


def audit_of(stored: Stored, exchange: Exchange) -> StoredAudit:
    """Return an audit that settles."""
    registry = SymbolPeriodRegistry.ranked([A], INTERVALS)
    return StoredAudit(stored, registry, cast("BinanceRest", exchange), settle=True)


def wrong(stored: Stored) -> list[tuple[str, int]]:
    """Return the stored bars that are not the exchange's."""
    return [
        (interval.name, int(each[0]))
        for row, interval in enumerate(INTERVALS)
        for each in stored.store.read(row, start=None, end=None, limit=10**6)
        if each[OPEN] != value_of(int(each[0]))
    ]


async def test_longer_bars_are_settled_with_their_minutes(
    stored: Stored, autojump_clock: MockClock
) -> None:
    """Those that are over; each once."""
    found = await audit_of(stored, Exchange()).audit(A, SINCE, UNTIL)
    assert (found.settled, found.longer, found.missing) == (2, 1, 0)
    assert found.agreement.compared == found.agreement.equal + 1
    assert {name for name, _ in wrong(stored)} == {"1d"}
    again = await audit_of(stored, Exchange()).audit(A, SINCE, UNTIL)
    assert (again.settled, again.longer, again.own) == (0, 0, 1)


async def test_a_longer_bar_that_ends_after_a_run_is_settled_by_the_next(
    stored: Stored, autojump_clock: MockClock
) -> None:
    """Although all its minutes are right by then."""
    await audit_of(stored, Exchange()).audit(A, SINCE, UNTIL)
    later = await audit_of(stored, Exchange()).audit(A, UNTIL, SINCE + 2 * DAY)
    assert later.longer == later.settled == 1
    assert wrong(stored) == []
    (day,) = stored.store.read(2, start=SINCE, end=SINCE, limit=1)
    assert day[FLAGS] & Flag.SETTLED
    assert revision_of(day) == 1


async def test_a_run_that_was_killed_leaves_nothing_to_the_next(
    stored: Stored, autojump_clock: MockClock
) -> None:
    """After the minutes and before what holds them."""
    stored.writes_left = 1
    with pytest.raises(KeyboardInterrupt):
        await audit_of(stored, Exchange()).audit(A, SINCE, SINCE + DAY)
    assert {name for name, _ in wrong(stored)} == {"1h", "1d"}
    stored.writes_left = 10**6
    await audit_of(stored, Exchange()).audit(A, SINCE, SINCE + DAY)
    assert wrong(stored) == []


async def test_a_bar_that_is_missing_is_stored(stored: Stored, autojump_clock: MockClock) -> None:
    """From the oldest stored one on."""
    with stored.store._file.writing() as connection:
        connection.execute("DELETE FROM klines WHERE open_time = ?", (SINCE + 3 * HOUR,))
    found = await audit_of(stored, Exchange()).audit(A, SINCE - DAY, UNTIL)
    assert found.missing == 1
    assert SINCE + 3 * HOUR in stored.store.proved_times(0, SINCE, UNTIL).tolist()
    assert SINCE + 3 * HOUR in stored.store.proved_times(1, SINCE, UNTIL).tolist()
    assert stored.store.first_time(0) == SINCE


async def test_trouble_is_waited_out_but_not_other_scales(
    stored: Stored, autojump_clock: MockClock
) -> None:
    """A database that another process has rescaled has to be opened anew."""
    exchange = Exchange(failures=[NetworkError("down"), NetworkError("down")])
    found = await audit_of(stored, exchange).audit(A, SINCE, UNTIL)
    assert found.settled == 2
    stored.store.regrow([symbol("AUSDT", 0, 3, 3)])
    with pytest.raises(ScalesChanged, match=r"expected 2 decimals .* start again"):
        await audit_of(stored, cast("Any", exchange)).audit(A, UNTIL, NOW)
