"""The start waits for the exchange as long as it takes, and continues what can be trusted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import orjson
import outcome
import pytest
import trio

from klinetrio.config import load_config
from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.kline import (
    FIELD_COUNT,
    FLAGS,
    LAST_AGG_ID,
    OPEN_TIME,
    VOLUME,
    Flag,
    make_flags,
    revision_of,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import (
    ConfigError,
    DecodeError,
    ExchangeError,
    NetworkError,
    RateLimited,
)
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.dial import Dialer
from klinetrio.exchange.rest import open_rest
from klinetrio.insist import insist
from klinetrio.recovery.repair import MAX_HOLE_AGE_MS
from klinetrio.sim import Instrument, ScriptedMarket, open_simulated_exchange
from klinetrio.start import learn_time, learn_universe, read_past_run, restore
from klinetrio.storage.sqlite import SqliteStore
from tests.engine.strategies import BASE_TIME
from tests.storage.bars import NOTHING, batch


if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from trio.testing import MockClock

    from klinetrio.domain.listing import Listing

LIMIT_S = 300.0

NAMES = ("1m", "5m", "1h")


def instrument(name: str, listed: int = 1, **changes: Any) -> Instrument:
    """Return an instrument of the simulated exchange."""
    base = name.partition("_")[0].removesuffix("USDT").removesuffix("USDC")
    quote = "USDC" if "USDC" in name else "USDT"
    return Instrument(Symbol(name, base, quote, listed, 2, 3), **changes)


INSTRUMENTS = (
    instrument("ETHUSDT", 2),
    instrument("BTCUSDT", 1),
    instrument("BTCUSDC", 3),
    instrument("BTCUSDT_261225", 4, contract_type="CURRENT_QUARTER"),
    instrument("OLDUSDT", 5, status="SETTLING"),
    instrument("币安人生USDT", 6),
)


async def universe(known: dict[str, Symbol] | None = None, **settings: Any) -> SymbolPeriodRegistry:
    """Return what is learnt from a simulated exchange under these settings."""
    config = load_config(overrides={key.replace("__", "."): v for key, v in settings.items()})
    market = ScriptedMarket(INSTRUMENTS)
    with trio.fail_after(LIMIT_S):
        async with (
            open_simulated_exchange(market) as exchange,
            open_rest(exchange.rest_url, Dialer(None), ExchangeClock()) as rest,
        ):
            # Raised in here, it would come out in the groups of the exchange's nurseries.
            learnt = await outcome.acapture(learn_universe, config, rest, known or {})
    learning: tuple[SymbolPeriodRegistry, Listing] = learnt.unwrap()
    registry, listing = learning
    told = [orjson.loads(each) for each in listing.entries]
    assert [each["symbol"] for each in told] == names(registry)
    assert listing.head["timezone"] == "UTC"
    return registry


def names(registry: SymbolPeriodRegistry) -> list[str]:
    """Return the symbols in the order of their indexes."""
    return [symbol.name for symbol in registry.symbols]


async def test_the_universe_is_ranked_and_filtered() -> None:
    """By default all that trade for ever, oldest first."""
    registry = await universe()
    assert names(registry) == ["BTCUSDT", "ETHUSDT", "BTCUSDC", "币安人生USDT"]
    assert [str(each) for each in registry.intervals][:2] == ["1m", "5m"]
    assert registry.capacity == 32


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"exchange__quote_assets": ["USDC"]}, ["BTCUSDC"]),
        ({"exchange__contract_types": ["CURRENT_QUARTER"]}, ["BTCUSDT_261225"]),
        ({"exchange__symbols": ["ETHUSDT", "BTCUSDT_261225"]}, ["ETHUSDT", "BTCUSDT_261225"]),
        ({"exchange__symbols": ["ETH_USDT", "BTCUSDT"]}, ["BTCUSDT", "ETHUSDT"]),
        ({"exchange__symbols": ["币安人生USDT"]}, ["币安人生USDT"]),
    ],
)
async def test_filters_choose_the_symbols(settings: dict[str, Any], expected: list[str]) -> None:
    """A named symbol is taken whatever its type."""
    assert expected == names(await universe(**settings))


@pytest.mark.parametrize("missing", ["NOUSDT", "btcusdt", "NO_USDT", "OLDUSDT"])
async def test_a_named_symbol_that_does_not_trade_is_refused(missing: str) -> None:
    """By name; the others of the list are not to blame."""
    with pytest.raises(ConfigError, match=rf"exchange.symbols: .* was \['{missing}'\]"):
        await universe(exchange__symbols=["BTCUSDT", missing])


async def test_filters_that_nothing_passes_are_refused() -> None:
    """An empty universe is a mistake, not a quiet market."""
    with pytest.raises(ConfigError, match=r"exchange\.contract_types: expected filters that some"):
        await universe(exchange__quote_assets=["EUR"])


async def test_what_is_known_keeps_its_scales_and_its_age() -> None:
    """Scales never shrink, and a rank by an older listing stays."""
    known = {
        "ETHUSDT": Symbol("ETHUSDT", "ETH", "USDT", 0, 5, 1),
        "GONEUSDT": Symbol("GONEUSDT", "GONE", "USDT", 0, 1, 1),
    }
    registry = await universe(known)
    assert names(registry)[:2] == ["ETHUSDT", "BTCUSDT"]
    assert registry.symbols[0] == Symbol("ETHUSDT", "ETH", "USDT", 0, 5, 3)


async def test_the_first_time_is_the_exchanges() -> None:
    """Whatever the machine says."""
    market = ScriptedMarket(INSTRUMENTS)
    market.clock.skew_ms = 3_600_000
    clock = ExchangeClock()
    with trio.fail_after(LIMIT_S):
        async with (
            open_simulated_exchange(market) as exchange,
            open_rest(exchange.rest_url, Dialer(None), clock) as rest,
        ):
            await learn_time(rest, clock)
            assert clock.observed
            assert clock.now_ms() == pytest.approx(market.clock.told_ms(), abs=5_000)


class Exchange:
    """Fails as often as it is told, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[float] = []

    async def __call__(self) -> str:
        """Answer, or fail."""
        self.asked.append(trio.current_time())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_the_start_insists(autojump_clock: MockClock) -> None:
    """Through hours of every kind of trouble, paced, and says what it waits for."""
    trouble: list[Exception] = [
        NetworkError("down"),
        ExchangeError(503, 0, "busy"),
        DecodeError("garbage", "html"),
    ]
    exchange = Exchange(*trouble * 40)
    assert await insist("universe", exchange) == "answer"
    waits = [late - early for early, late in pairwise(exchange.asked)]
    assert len(waits) == 120
    assert 0.25 <= waits[0] <= 0.5
    assert all(15 <= wait <= 30 for wait in waits[10:])


async def test_the_start_says_what_it_waits_for(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line per attempt."""
    await insist("universe", Exchange(NetworkError("down"), NetworkError("down")))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith("waiting_for what=universe cause=down delay_s=") for line in lines)


async def test_a_limit_is_waited_out(autojump_clock: MockClock) -> None:
    """At least as long as the exchange said."""
    exchange = Exchange(RateLimited(418, -1003, "banned", 300.0))
    await insist("universe", exchange)
    assert exchange.asked == [0.0, 300.0]


@pytest.mark.parametrize("error", [ConfigError("exchange.symbols", [], "x"), KeyError("bug")])
async def test_what_waiting_cannot_mend_escapes(error: Exception) -> None:
    """At once."""
    exchange = Exchange(error)
    with pytest.raises(type(error)):
        await insist("universe", exchange)
    assert len(exchange.asked) == 1


# ---------------------------------------------------------------------------------------------
# What an earlier run has left.
# ---------------------------------------------------------------------------------------------


SYMBOLS = [Symbol("AUSDT", "A", "USDT", 1, 2, 3), Symbol("BUSDT", "B", "USDT", 2, 2, 3)]
REGISTRY = SymbolPeriodRegistry.ranked(SYMBOLS, parse_intervals(NAMES))
NO_BARS = batch().bars


def live_rows(symbol_index: int, *, agg_id: int = 500, flags: int = Flag.COMPLETE) -> Any:
    """Return the stored open bars of a symbol as of ``BASE_TIME``."""
    rows = {}
    for period, interval in enumerate(REGISTRY.intervals):
        opened = interval.open_of(BASE_TIME)
        row = [opened, 100, 110, 90, 105, 7, 700, 3, 2, 200, agg_id - 2, agg_id, flags]
        rows[REGISTRY.row(symbol_index, period)] = tuple(row)
    return rows


def restored(live: Any, now_ms: int = BASE_TIME + 30_000) -> tuple[int, Engine]:
    """Restore an engine from stored open bars; return how many symbols, and the engine."""
    engine = Engine(REGISTRY)
    return restore(engine, live, [NO_BARS] * REGISTRY.capacity, now_ms), engine


async def test_what_is_whole_and_proved_is_continued() -> None:
    """The next trade goes into the bar that was open."""
    number, engine = restored(live_rows(0) | live_rows(1))
    assert number == 2
    book = engine.book(0)
    assert book.seeded
    book.apply(AggTrade("AUSDT", 501, 100, 5, 9, 9, BASE_TIME + 20_000, False))
    assert (7 + 5, 501) == tuple(book.open_bar(0)[field] for field in (VOLUME, LAST_AGG_ID))
    assert not book.ledger.holes
    book.apply(AggTrade("AUSDT", 503, 100, 5, 9, 9, BASE_TIME + 20_000, False))
    assert [(502, 502)] == [(hole.first, hole.last) for hole in book.ledger.holes]


async def test_a_symbol_is_restored_by_itself() -> None:
    """What is missing of one does not cost the other."""
    incomplete = live_rows(1)
    del incomplete[REGISTRY.row(1, 2)]
    number, engine = restored(live_rows(0) | incomplete)
    assert number == 1
    assert [True, False] == [engine.book(index).seeded for index in range(2)]
    assert restored({})[0] == 0


@pytest.mark.parametrize("flags", [0, Flag.BACKFILLED, Flag.FEED_DOWN])
async def test_what_was_not_proved_is_not_continued(flags: int) -> None:
    """It gets its past from the exchange."""
    number, engine = restored(live_rows(0, flags=flags))
    assert number == 0
    assert not engine.book(0).seeded


async def test_bars_that_disagree_are_not_continued() -> None:
    """All intervals of a symbol stopped at the same trade, or were not written together."""
    rows = live_rows(0)
    row = REGISTRY.row(0, 1)
    rows[row] = (*rows[row][:LAST_AGG_ID], 499, rows[row][FLAGS])
    assert restored(rows)[0] == 0


async def test_what_is_too_old_is_not_continued() -> None:
    """Its hole would reach beyond what repair by trades can mend."""
    opened = parse_intervals(["1m"])[0].open_of(BASE_TIME)
    assert restored(live_rows(0), opened + MAX_HOLE_AGE_MS - 1)[0] == 1
    assert restored(live_rows(0), opened + MAX_HOLE_AGE_MS)[0] == 0


@pytest.mark.parametrize(
    ("unproved", "back"), [((), 0), ((0,), 1), ((3, 1), 4), ((119,), 120), ((125, 2), 3)]
)
async def test_the_past_is_known_as_far_as_it_is_proved(
    unproved: tuple[int, ...], back: int
) -> None:
    """What a run could not prove its successor asks for, two hours back; the rest waits."""
    bar = [0, 100, 110, 90, 105, 7, 700, 3, 2, 200, 1, 2, Flag.FINAL | Flag.COMPLETE]
    bars = np.array([bar] * 130, np.int64)
    bars[:, OPEN_TIME] = [BASE_TIME - number * MINUTE for number in range(130, 0, -1)]
    for number in unproved:
        bars[-1 - number, FLAGS] = Flag.FINAL
    engine = Engine(REGISTRY)
    newest = [NO_BARS] * REGISTRY.capacity
    newest[0] = bars
    assert restore(engine, {}, newest, BASE_TIME + 30_000) == 0
    assert engine.book(0).known_until == BASE_TIME - back * MINUTE


async def test_closed_bars_are_remembered_with_their_revision(tmp_path: Path) -> None:
    """So that a correction after the restart counts on from it."""
    database = SqliteStore(tmp_path / "klines.db")
    database.open()
    database.attach(REGISTRY)
    flags = make_flags(Flag.FINAL | Flag.COMPLETE, 4)
    opens = [BASE_TIME - number * MINUTE for number in range(300, 0, -1)]
    bars = [[opened, 100, 110, 90, 105, 7, 700, 3, 2, 200, 1, 2, flags] for opened in opens]
    live = live_rows(0)
    database.write(
        batch(*[(0, each) for each in bars]),
        batch(*[(row, values) for row, values in live.items()]),
    )
    found, newest = read_past_run(database, REGISTRY)
    database.close()
    assert live == found
    assert [130, 0, 0, 0, 0, 0] == [len(each) for each in newest]
    assert opens[-130:] == newest[0][:, OPEN_TIME].tolist()

    engine = Engine(REGISTRY)
    assert restore(engine, found, newest, BASE_TIME + 30_000) == 1
    book = engine.book(0)
    assert book.known_until == BASE_TIME
    remembered = book.closed_bar(0, opens[-1])
    assert remembered is not None
    assert (4, FIELD_COUNT) == (revision_of(remembered), len(remembered))
    assert book.closed_bar(0, opens[0]) is None
    assert len(NOTHING) == 0
