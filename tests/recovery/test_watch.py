"""Whose silence is suspected, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.recovery.watch import (
    FIRST_PATIENCE_S,
    GAPS,
    LEAST_PATIENCE_S,
    MOST_PATIENCE_S,
    Pace,
    SilenceWatch,
)


if TYPE_CHECKING:
    from klinetrio.recovery.repair import RepairDesk


@given(st.lists(st.floats(1.0, 20.0), min_size=5, max_size=200), st.floats(0.01, 100.0))
def test_a_symbol_at_its_pace_is_never_suspected(gaps: list[float], unit: float) -> None:
    """However slow it is, and although its gaps differ by twenty times."""
    pace, now = Pace(0, 0.0), 0.0
    for number, gap in enumerate(gaps, 1):
        elapsed = gap * unit
        # The first gaps are what it learns from.
        if number > 4:
            assert elapsed <= pace.patience_s
        now += elapsed
        assert pace.hear(number, now)


@given(st.floats(0.001, 1_000.0))
def test_the_patience_is_in_proportion(gap: float) -> None:
    """Thirty gaps, within the bounds."""
    pace = Pace(0, 0.0)
    for number in range(1, 100):
        pace.hear(number, number * gap)
    assert pace.gap_s == pytest.approx(gap)
    expected = min(max(LEAST_PATIENCE_S, GAPS * gap), MOST_PATIENCE_S)
    assert pace.patience_s == pytest.approx(expected)


def test_a_burst_counts_as_its_mean() -> None:
    """A look sees many trades at once."""
    pace = Pace(0, 0.0)
    for look in range(1, 50):
        pace.hear(look * 100, float(look))
    assert pace.gap_s == pytest.approx(0.01)


def test_a_change_of_pace_is_followed() -> None:
    """The busy hour is over: soon the new gaps are the normal ones."""
    pace, now = Pace(0, 0.0), 0.0
    for number in range(1, 1_000):
        now += 0.1
        pace.hear(number, now)
    for number in range(1_000, 1_200):
        now += 12.0
        pace.hear(number, now)
    assert pace.patience_s > 300


def test_a_replaced_book_is_no_trade() -> None:
    """Its counts begin at zero."""
    pace = Pace(500, 10.0)
    assert not pace.hear(0, 20.0)
    assert pace.since == 10.0
    assert pace.hear(1, 21.0)


class Desk:
    """What the watch needs of a desk."""

    def __init__(self) -> None:
        self.fetched = [0]
        self.deaf: set[int] = set()


def make_watch() -> tuple[SilenceWatch, Engine, Desk]:
    """Return a watch of one symbol whose past is known and whose feed is up."""
    symbol = Symbol("AUSDT", "A", "USDT", 0, 2, 3)
    engine = Engine(SymbolPeriodRegistry([symbol], parse_intervals(["1m"])))
    book = engine.book(0)
    book.anchor(100, 1_000)
    book.seeded = True
    book.set_feed(up=True)
    book.confirm(100)
    desk = Desk()
    return SilenceWatch(engine, cast("RepairDesk", desk)), engine, desk


def trade(agg_id: int) -> AggTrade:
    """Return a trade."""
    return AggTrade("AUSDT", agg_id, 1, 1, agg_id, agg_id, 2_000 + agg_id, False)


async def test_a_silence_that_stays_confirmed_is_suspected_ever_more_rarely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After 1, 3, 7, ... times its first patience, then every two hours."""
    watch, engine, _ = make_watch()
    book = engine.book(0)
    moments: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        started = trio.current_time()
        while len(moments) < 12:
            await trio.sleep(0.5)
            if book.unsure:
                moments.append(trio.current_time() - started)
                book.confirm(100)
        nursery.cancel_scope.cancel()
    assert [round(moment / FIRST_PATIENCE_S, 1) for moment in moments[:4]] == [1, 3, 7, 15]
    assert moments[-1] - moments[-2] == pytest.approx(MOST_PATIENCE_S, abs=3)
    assert autojump_clock.autojump_threshold == 0


async def test_only_what_could_be_known_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    """A feed that is down says so already; trades that we fetched do not make a stream alive."""
    watch, engine, desk = make_watch()
    book = engine.book(0)
    desk.deaf.add(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        book.set_feed(up=False)
        await trio.sleep(2 * FIRST_PATIENCE_S)
        assert watch.suspected == 0
        book.set_feed(up=True)
        book.confirm(100)
        for agg_id in range(101, 101 + int(FIRST_PATIENCE_S)):
            desk.fetched[0] += 1
            book.apply(trade(agg_id))
            await trio.sleep(1)
        await trio.sleep(5)
        assert watch.suspected == 1
        assert desk.deaf == {0}
        book.apply(trade(1_000))
        await trio.sleep(2)
        assert desk.deaf == set()
        nursery.cancel_scope.cancel()
    assert autojump_clock.autojump_threshold == 0
