"""The market of fills: two truths, and every difference between them accounted for."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    LAST_AGG_ID,
    NO_ID,
    OPEN,
    VOLUME,
    is_final,
)
from klinetrio.sim import FillMarket, Shares, SimClock, open_simulated_exchange
from klinetrio.sim.fills import JOINED_WITHIN_MS


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import httpx2

    from klinetrio.sim.filled import Straddle
    from klinetrio.sim.market import Frame

    Bounded = Callable[[], AbstractContextManager[Any]]

# Wednesday 2026-10-07 14:23:10.500 UTC: within a minute.
START = 1_791_382_990_500
START_MINUTE = START - START % MINUTE
NOON = START - START % HOUR

ONE_MINUTE = INTERVALS["1m"]

NONE = Shares(straddles=0, forced=0, holes=0)
ALL = Shares(straddles=0.5, forced=0.02, holes=0.05)


def make_market(shares: Shares = ALL, *, seed: int = 7, rate: float = 5) -> FillMarket:
    """Return a market at a clock that stands still: tests advance it by hand."""
    clock = SimClock(START, held=True)
    return FillMarket(seed=seed, symbols=5, trades_per_second=rate, shares=shares, clock=clock)


def advance(market: FillMarket, to_ms: int) -> list[Frame]:
    """Let the market reach ``START + to_ms`` and return what it delivered."""
    frames: list[Frame] = []
    market.clock.start_ms = START + to_ms
    while not market.advance(START + to_ms, frames.append):
        pass
    return frames


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 60_000), max_size=20))
def test_pace_changes_nothing(moments: list[int]) -> None:
    """How often the loop runs does not matter: the same seed gives the same frames and bars."""
    steady, hasty = make_market(), make_market()
    expected = advance(steady, 60_000)
    got = [frame for to_ms in [*sorted(moments), 60_000] for frame in advance(hasty, to_ms)]
    assert expected == got
    assert len(expected) > 100
    for symbol in steady.trading_symbols:
        span = symbol, ONE_MINUTE, START - HOUR, START + HOUR
        assert steady.true_klines(*span) == hasty.true_klines(*span)
        assert steady.aggregate_klines(*span) == hasty.aggregate_klines(*span)


def test_seed_decides() -> None:
    """Another seed is another market."""
    assert advance(make_market(), 30_000) != advance(make_market(seed=8), 30_000)


def test_aggregates_come_when_they_are_complete() -> None:
    """Ids rise by one; an event comes 100 to 160 ms after ``T``, and REST has it by then."""
    market = make_market()
    frames = advance(market, 20 * MINUTE)
    for symbol in market.trading_symbols:
        trades = market.trades_of(symbol)
        assert all(b.agg_id == a.agg_id + 1 and b.time >= a.time for a, b in pairwise(trades))
        assert all(b.first_id > a.last_id for a, b in pairwise(trades))
        assert all(START < a.time <= START + 20 * MINUTE - JOINED_WITHIN_MS for a in trades)
        events = [orjson.loads(each.payload) for each in frames if each.symbol == symbol]
        assert [each["a"] for each in events] == [t.agg_id for t in trades][: len(events)]
        assert len(trades) - len(events) <= 5
        assert all(100 <= event["E"] - event["T"] <= 160 for event in events)


def sums(row: tuple[int, ...]) -> list[int]:
    """Return a bar's five sums."""
    return list(row[VOLUME:FIRST_AGG_ID])


def sums_of(straddle: Straddle | None) -> list[int]:
    """Return a straddle's five sums."""
    if straddle is None:
        return [0] * 5
    volume, quote = straddle.volume, straddle.volume * straddle.price
    taken = [0, 0] if straddle.buyer_is_maker else [volume, quote]
    return [volume, quote, straddle.trade_count, *taken]


def test_every_difference_is_accounted_for() -> None:
    """Aggregates' bar = fills' bar + what left - what entered + holes - forced, in every minute."""
    market = make_market()
    advance(market, 60 * MINUTE)
    odd = 0
    for symbol in market.trading_symbols:
        span = symbol, ONE_MINUTE, START_MINUTE, START_MINUTE + HOUR
        for shown, true in zip(
            market.aggregate_klines(*span), market.true_klines(*span), strict=True
        ):
            why = market.differences(symbol, true[0])
            forced = [[0] * 5]
            for fill in why.forced:
                worth = fill.quantity * fill.price
                taken = [0, 0] if fill.buyer_is_maker else [fill.quantity, worth]
                forced.append([fill.quantity, worth, 1, *taken])
            expected = [
                true_sum + left - entered - lacking
                for true_sum, left, entered, lacking in zip(
                    sums(true),
                    sums_of(why.left),
                    sums_of(why.entered),
                    map(sum, zip(*forced, strict=True)),
                    strict=True,
                )
            ]
            expected[2] += why.holes
            assert expected == sums(shown)
            if not why:
                assert shown[OPEN:FIRST_AGG_ID] == true[OPEN:FIRST_AGG_ID]
            if not why.forced:
                assert shown[CLOSE] == true[CLOSE]
            odd += bool(why)
    assert odd > 100


def test_each_reason_can_be_had_alone() -> None:
    """A share of zero leaves its reason out; without any the two truths are one."""
    for name in ("straddles", "forced", "holes"):
        market = make_market(attrs.evolve(NONE, **{name: getattr(ALL, name)}))
        advance(market, 20 * MINUTE)
        whys = [
            market.differences(symbol, START_MINUTE + n * MINUTE)
            for symbol in market.trading_symbols
            for n in range(20)
        ]
        found = {
            "straddles": any(each.left for each in whys),
            "forced": any(each.forced for each in whys),
            "holes": any(each.holes for each in whys),
        }
        assert {each for each, there in found.items() if there} == {name}
    market = make_market(NONE)
    advance(market, 20 * MINUTE)
    for symbol in market.trading_symbols:
        for interval in map(INTERVALS.__getitem__, ("1m", "5m", "1h")):
            span = symbol, interval, NOON, NOON + DAY
            shown, true = market.aggregate_klines(*span), market.true_klines(*span)
            # Not the open bar: its newest aggregates are not complete.
            assert [row[:FIRST_AGG_ID] for row in shown if is_final(row)] == [
                row[:FIRST_AGG_ID] for row in true if is_final(row)
            ]


def test_straddles_are_told() -> None:
    """Each belongs to an aggregate dated before its boundary, with more fills than lie beyond."""
    market = make_market()
    advance(market, 60 * MINUTE)
    for symbol in market.trading_symbols:
        straddles = market.straddles_of(symbol)
        assert 10 < len(straddles) < 50
        trades = {each.agg_id: each for each in market.trades_of(symbol)}
        for each in straddles:
            trade = trades[each.agg_id]
            assert each.boundary - JOINED_WITHIN_MS <= trade.time < each.boundary
            assert 0 < each.volume < trade.quantity
            assert 0 < each.trade_count < trade.last_id - trade.first_id + 1
            assert market.differences(symbol, each.boundary).entered == each
            assert market.differences(symbol, each.boundary - MINUTE).left == each
    assert any(market.forced_of(symbol) for symbol in market.trading_symbols)


def test_bars_of_aggregates_have_ids_and_bars_of_fills_have_none() -> None:
    """Ids of consecutive bars of aggregates join; a kline does not say which it is made of."""
    market = make_market()
    advance(market, 10 * MINUTE)
    symbol = market.trading_symbols[0]
    span = symbol, ONE_MINUTE, START_MINUTE, START + DAY
    shown = market.aggregate_klines(*span)
    assert all(b[FIRST_AGG_ID] == a[LAST_AGG_ID] + 1 for a, b in pairwise(shown))
    assert {row[FIRST_AGG_ID] for row in market.true_klines(*span)} == {NO_ID}


def test_history_comes_before() -> None:
    """Both truths continue the same past."""
    market = make_market()
    advance(market, 2 * MINUTE)
    for symbol in market.trading_symbols[:2]:
        for interval in map(INTERVALS.__getitem__, ("1m", "1h", "1d")):
            span = symbol, interval, START - 10 * DAY, START_MINUTE - START_MINUTE % interval.length
            assert market.true_klines(*span) == market.aggregate_klines(*span)
            assert len(market.true_klines(*span)) >= 2


async def test_rest_and_streams_of_a_fast_clock(
    http: httpx2.AsyncClient, bounded: Bounded, open_stream: Any
) -> None:
    """REST's klines are those of the fills; streams and REST show the aggregates."""
    market = FillMarket(seed=3, shares=ALL, trades_per_second=3, clock=SimClock(START, rate=100))
    symbol, events = "BTCUSDT", []
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as stream,
        ):
            while market.clock.now_ms() < START + 5 * MINUTE:
                events.append(orjson.loads(await stream.get_message()))
            end = START_MINUTE + 4 * MINUTE
            asked: dict[str, Any] = {
                "symbol": symbol,
                "startTime": START_MINUTE,
                "endTime": end - 1,
            }
            url = f"{exchange.rest_url}/fapi/v1"
            klines = (await http.get(f"{url}/klines", params={**asked, "interval": "1m"})).json()
            trades = (await http.get(f"{url}/aggTrades", params={**asked, "limit": 1000})).json()
        await trio.lowlevel.checkpoint()
    true = market.true_klines(symbol, ONE_MINUTE, START_MINUTE, end)
    assert [row[VOLUME] for row in true] == [int(row[5].replace(".", "")) for row in klines]
    assert [row[7] for row in true] == [row[8] for row in klines]
    assert [each.agg_id for each in market.trades_of(symbol) if each.time < end] == [
        each["a"] for each in trades
    ]
    seen = [each["a"] for each in events]
    assert seen == list(range(seen[0], seen[0] + len(seen)))
