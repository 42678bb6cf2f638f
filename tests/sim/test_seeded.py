"""The seeded market: deterministic, exact, and like the real one where it matters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import NO_ID
from klinetrio.sim import SeededMarket, SimClock
from klinetrio.sim.bars import fold
from klinetrio.sim.catalogue import make_catalogue
from klinetrio.sim.history import HistoryCache, SeededHistory


if TYPE_CHECKING:
    from klinetrio.sim.market import Frame


# Wednesday 2026-10-07 14:23:10.500 UTC: within a minute.
START = 1_791_382_990_500


def make_market(seed: int = 7, *, symbols: int = 20, rate: float = 300) -> SeededMarket:
    """Return a market at a clock that stands still: tests advance it by hand."""
    clock = SimClock(START, held=True)
    return SeededMarket(seed=seed, symbols=symbols, trades_per_second=rate, clock=clock)


def advance(market: SeededMarket, to_ms: int) -> list[Frame]:
    """Let the market reach ``START + to_ms`` and return what it delivered."""
    frames: list[Frame] = []
    market.clock.start_ms = START + to_ms
    while not market.advance(START + to_ms, frames.append):
        pass
    return frames


@settings(max_examples=20)
@given(st.lists(st.integers(1, 5_000), max_size=20))
def test_pace_changes_nothing(moments: list[int]) -> None:
    """How often the loop runs does not matter: the same seed gives the same frames."""
    steady, hasty = make_market(), make_market()
    expected = advance(steady, 5_000)
    got = [frame for to_ms in [*sorted(moments), 5_000] for frame in advance(hasty, to_ms)]
    assert expected == got
    assert len(expected) > 1_000


def test_seed_decides() -> None:
    """Another seed is another market."""
    assert advance(make_market(7), 1_000) != advance(make_market(8), 1_000)


def test_nothing_is_known_before_its_time() -> None:
    """The ledger has exactly the trades up to now; events come 50 to 150 ms later, in order."""
    market = make_market()
    frames = advance(market, 3_000)
    for symbol in market.trading_symbols:
        trades = market.trades_of(symbol)
        assert all(START < trade.time <= START + 3_000 for trade in trades)
        events = [orjson.loads(each.payload) for each in frames if each.symbol == symbol]
        assert [each["a"] for each in events] == [t.agg_id for t in trades][: len(events)]
        assert all(before["E"] <= after["E"] <= START + 3_000 for before, after in pairwise(events))
        assert all(event["E"] - event["T"] >= 50 for event in events)


def test_a_market_that_was_held_up_can_catch_up() -> None:
    """The ledger then has every trade up to now; the frames are the same as ever."""
    market, steady = make_market(), make_market()
    market.clock.start_ms = START + 3_000
    market.ledger.catch_up()
    expected = advance(steady, 3_000)
    for symbol in market.trading_symbols:
        assert market.trades_of(symbol) == steady.trades_of(symbol)
    assert advance(market, 3_000) == expected
    assert len(expected) > 500


def test_ids_rise_by_one_and_neighbours_were_not_to_be_joined() -> None:
    """Aggregate ids have no hole, fill ids have some; equal neighbours are 100 ms apart."""
    market = make_market()
    advance(market, 60_000)
    holes = parts = 0
    for symbol in market.trading_symbols:
        for before, after in pairwise(market.trades_of(symbol)):
            assert after.agg_id == before.agg_id + 1
            assert after.first_id > before.last_id >= before.first_id
            holes += after.first_id > before.last_id + 1
            parts += after.normal_quantity < after.quantity
            alike = after.price == before.price and after.buyer_is_maker == before.buyer_is_maker
            assert not alike or after.time - before.time > 100
    assert holes > 10
    assert parts > 10


def test_bars_of_live_minutes_are_made_of_trades_only() -> None:
    """From the minute of the start on, REST's bars are the fold of the trades it serves."""
    market = make_market()
    advance(market, 200_000)
    for symbol in market.trading_symbols:
        trades = market.trades_of(symbol)
        bars = market.true_klines(symbol, INTERVALS["1m"], START - START % MINUTE, START + DAY)
        assert len(bars) == 4
        assert sum(bar[5] for bar in bars) == sum(trade.quantity for trade in trades)
        for bar in bars:
            inside = [each for each in trades if bar[0] <= each.time < bar[0] + MINUTE]
            assert bar[11] - bar[10] + 1 == len(inside)
            assert not inside or bar[1] == inside[0].price
            assert not inside or bar[4] == inside[-1].price


def test_last_symbols_have_empty_minutes() -> None:
    """Activity is heavy-tailed down to whole minutes without a trade."""
    market = make_market(rate=20)
    advance(market, 10 * MINUTE)
    busiest, *_ = market.trading_symbols
    sleepiest = [each.name for each in market.ledger.instruments if each.is_trading][19]
    assert len(market.trades_of(busiest)) > 1_000
    bars = market.true_klines(sleepiest, INTERVALS["1m"], START, START + 9 * MINUTE)
    assert any(bar[7] == 0 for bar in bars)


def test_listing_holds_what_clients_must_leave_out() -> None:
    """Beside the perpetuals stand other types, other states and a Chinese name."""
    market = make_market(symbols=25)
    listed = market.ledger.instruments
    perpetual = [each for each in listed if each.contract_type == "PERPETUAL" and each.is_trading]
    assert len(perpetual) == 25
    assert {"SETTLING", "PENDING_TRADING"} < {each.status for each in listed}
    assert {"TRADIFI_PERPETUAL", "CURRENT_QUARTER"} < {each.contract_type for each in listed}
    assert any(not each.name.isascii() for each in perpetual)
    assert any("_" in each.name for each in listed)
    assert "SIM021USDT" in {each.name for each in perpetual}
    assert len({each.symbol.price_scale for each in perpetual}) > 3


@pytest.fixture
def history() -> SeededHistory:
    """Return ten days of one symbol that is not always busy."""
    profiles = make_catalogue(
        seed=3, symbols=10, trades_per_second=50, now_ms=START, history_ms=10 * DAY
    )
    return SeededHistory(profiles[8], 3, START - START % MINUTE, HistoryCache())


def test_history_is_dense_and_possible(history: SeededHistory) -> None:
    """Every minute is there, and its numbers could be those of trades."""
    rows = history.minutes(0, START + DAY)
    assert (rows[1:, 0] - rows[:-1, 0] == MINUTE).all()
    assert rows[0, 0] == history.first_open
    assert rows[-1, 0] == history.end - MINUTE
    opened, high, low, close, volume, quote, count, taker, taker_quote = rows[:, 1:10].T
    assert (low >= history.profile.instrument.tick).all()
    for price in (opened, close):
        assert ((low <= price) & (price <= high)).all()
    for base, value in ((volume, quote), (taker, taker_quote)):
        assert ((low * base <= value) & (value <= high * base)).all()
    assert (taker <= volume).all()
    empty = count == 0
    assert 0 < empty.sum() < len(rows)
    assert (volume[empty] == 0).all()
    assert (high[empty] == low[empty]).all()
    assert (close[1:][empty[1:]] == close[:-1][empty[1:]]).all()
    assert (rows[:, 10:] == NO_ID).all()


@settings(max_examples=30)
@given(offset=st.integers(0, 9 * 1440), length=st.integers(1, 3_000))
def test_history_is_the_same_however_it_is_asked_for(offset: int, length: int) -> None:
    """A window is that part of the whole, also after the cache has forgotten it."""
    profiles = make_catalogue(
        seed=3, symbols=3, trades_per_second=50, now_ms=START, history_ms=10 * DAY
    )
    one, other = (
        SeededHistory(profiles[0], 3, end, HistoryCache()) for end in (START, START + DAY)
    )
    start = one.first_open + offset * MINUTE
    end = min(start + length * MINUTE, START - START % MINUTE)
    assert (
        one.minutes(start, end).tolist()
        == other.minutes(0, 2 * START)[offset : offset + max(0, (end - start) // MINUTE)].tolist()
    )


def test_longer_history_is_the_fold_of_minutes(history: SeededHistory) -> None:
    """Days add up from hours as well as from minutes."""
    minutes = history.minutes(0, START)
    by_hours = fold(fold(minutes, INTERVALS["1h"]), INTERVALS["1d"])
    assert fold(minutes, INTERVALS["1d"]).tolist() == by_hours.tolist()
    assert len(by_hours) in {10, 11}
    assert minutes[:, 5].sum() == by_hours[:, 5].sum()


def test_trading_begins_where_history_ends() -> None:
    """The first live price is within a few ticks of the last historical close."""
    market = make_market()
    advance(market, 1_000)
    minute = START - START % MINUTE
    before = market.true_klines("BTCUSDT", INTERVALS["1m"], minute - HOUR, minute)
    assert abs(market.trades_of("BTCUSDT")[0].price - before[-1][4]) < 1_000
