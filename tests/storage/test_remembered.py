"""While the database is away memory answers what it has whole, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.domain.interval import HOUR, MINUTE
from klinetrio.domain.kline import OPEN, OPEN_TIME, is_final
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.errors import StoreError
from klinetrio.storage.history import PATIENCE_S, History
from klinetrio.storage.pending import PendingBars
from klinetrio.storage.remembered import RememberedBars
from tests.storage.bars import BASE, registry


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.storage.protocol import Int64Array

MINUTES = 150


class Away:
    """A database whose server is down, or hangs."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Fail, perhaps after a while."""
        if self.takes_s:
            trio.from_thread.run(trio.sleep, self.takes_s)
        raise StoreError(f"away: {series} {start} {end} {limit}")

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Fail."""
        raise StoreError("away")


@pytest.fixture
def engine() -> Engine:
    """Return an engine in which one symbol has traded for two hours and a half, once a minute."""
    engine = Engine(registry())
    book = engine.book(0)
    book.set_feed(up=True)
    for number in range(MINUTES):
        time = BASE + number * MINUTE + 5
        book.apply(AggTrade("BTCUSDT", number, 100 + number, 1, number, number, time, False))
        book.flush()
        engine.tick(time)
    engine.tick(BASE + MINUTES * MINUTE - 1)
    return engine


def numbers(bars: Sequence[Sequence[int]] | None) -> list[int] | None:
    """Return the minutes that bars are of."""
    return None if bars is None else [(bar[OPEN_TIME] - BASE) // MINUTE for bar in bars]


@pytest.mark.parametrize(
    ("start", "end", "limit", "expected"),
    [
        (None, None, 1, [149]),
        (None, None, 3, [147, 148, 149]),
        (None, 147, 2, [146, 147]),
        (None, 999, 2, [148, 149]),
        (146, None, 100, [146, 147, 148, 149]),
        (146, 148, 2, [146, 147]),
        (149, None, 5, [149]),
        (150, None, 5, []),
        (None, None, 120, list(range(30, 150))),
        # One that is not here, and what is before all.
        (None, None, 150, None),
        (0, None, 3, None),
        (None, 3, 1, None),
    ],
)
def test_memory_answers_what_it_has_whole(
    engine: Engine, start: int | None, end: int | None, limit: int, expected: list[int] | None
) -> None:
    """The open bar and two hours of closed ones, by the same rules as everything."""
    bounds = [None if each is None else BASE + each * MINUTE for each in (start, end)]
    bars = RememberedBars(engine).read(0, start=bounds[0], end=bounds[1], limit=limit)
    assert numbers(bars) == expected
    for bar in bars or ():
        assert bar[OPEN] == 100 + (bar[OPEN_TIME] - BASE) // MINUTE
        assert is_final(bar) == (bar[OPEN_TIME] < BASE + 149 * MINUTE)


def test_a_series_that_never_traded_is_not_known(engine: Engine) -> None:
    """Whether it is empty only the database could tell."""
    assert RememberedBars(engine).read(3, start=None, end=None, limit=1) is None


@pytest.mark.parametrize("takes_s", [0.0, PATIENCE_S + 1])
async def test_a_database_that_is_away_is_done_without(engine: Engine, takes_s: float) -> None:
    """Whether it fails at once or does not answer; what memory has not is an error as ever."""
    history = History(Away(takes_s), PendingBars(), engine.store, RememberedBars(engine))
    with trio.fail_after(60):
        bars = await history.klines(0, start=None, end=None, limit=4)
        assert numbers(bars) == [146, 147, 148, 149]
        with pytest.raises(StoreError):
            await history.klines(0, start=BASE - HOUR, end=None, limit=4)
