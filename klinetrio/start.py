"""What has to be known before anything can run: the exchange's time, the universe, the past run.

The exchange may be out of reach for hours when the daemon starts; it keeps asking, paced, and
says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import parse_intervals
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ConfigError, DecodeError
from klinetrio.exchange.codec import decode_listing, decode_universe
from klinetrio.logs import log_event
from klinetrio.recovery.repair import MAX_HOLE_AGE_MS
from klinetrio.storage.enrolment import merge_scales


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.config import Config
    from klinetrio.domain.listing import Listing
    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.engine import Engine
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.storage.protocol import Int64Array
    from klinetrio.storage.stored import BarReader

log = logging.getLogger("klinetrio.start")

# Closed bars per series that are brought back into memory, as many as a book holds at most.
_REMEMBERED = 130


async def learn_time(rest: BinanceRest, clock: ExchangeClock) -> None:
    """Set the clock for the first time.

    Raises:
        NetworkError, ExchangeError, DecodeError: It could not be learnt.
    """
    sent = trio.current_time()
    server_ms = await rest.server_time()
    clock.observe(server_ms, sent, trio.current_time())


async def learn_universe(
    config: Config, rest: BinanceRest, known: Mapping[str, Symbol]
) -> tuple[SymbolPeriodRegistry, Listing]:
    """Return the symbols and intervals of this run, and what the exchange says of the symbols.

    Args:
        config: Filters.
        rest: The exchange.
        known: Symbols of earlier runs, whose scales never shrink.

    Raises:
        ConfigError: No symbol passes the filters, or a named one does not exist.
        NetworkError, ExchangeError, DecodeError: It could not be learnt.
    """
    wanted = config.exchange
    info = await rest.exchange_info()
    symbols = decode_universe(
        info,
        contract_types=wanted.contract_types,
        quote_assets=wanted.quote_assets,
        names=[form for name in wanted.symbols for form in _forms(name)],
        on_odd=_tell_of_odd_symbol,
    )
    found = {symbol.name for symbol in symbols}
    missing = sorted(name for name in wanted.symbols if found.isdisjoint(_forms(name)))
    if missing:
        text = "symbols that the exchange trades, as BTCUSDT or BTC_USDT"
        raise ConfigError("exchange.symbols", missing, text)
    if not symbols:
        text = "filters that some symbol of the exchange passes"
        raise ConfigError("exchange.contract_types", list(wanted.contract_types), text)
    merged = [merge_scales(symbol, known.get(symbol.name)) for symbol in symbols]
    registry = SymbolPeriodRegistry.ranked(merged, parse_intervals(config.engine.intervals))
    return registry, decode_listing(info, registry.symbols)


def _forms(name: str) -> tuple[str, str]:
    """Return how the exchange may name a symbol: our interfaces say BTC_USDT for BTCUSDT."""
    return name, name.replace("_", "")


def _tell_of_odd_symbol(error: DecodeError) -> None:
    log_event(log, logging.ERROR, "symbol_left_out", cause=error)


def read_past_run(
    stored: BarReader, registry: SymbolPeriodRegistry
) -> tuple[Mapping[int, Sequence[int]], list[Int64Array]]:
    """Return the stored open bars by row, and the newest closed ones of every series."""
    newest = [
        stored.read(row, start=None, end=None, limit=_REMEMBERED)
        for row in range(registry.capacity)
    ]
    return stored.read_live(), newest


def restore(
    engine: Engine,
    live: Mapping[int, Sequence[int]],
    newest: Sequence[Int64Array],
    now_ms: int,
) -> int:
    """Continue every symbol whose stored bars can be trusted; return how many they are.

    Older ones than what repair reaches by trades are not continued: they get their past from the
    exchange's klines instead.
    """
    registry = engine.registry
    restored = 0
    for index in range(len(registry.symbols)):
        book = engine.book(index)
        rows = [registry.row(index, period) for period in range(registry.period_count)]
        for period, row in enumerate(rows):
            book.remember(period, newest[row])
        bars = [live[row] for row in rows if row in live]
        fresh = bars and max(bar[0] for bar in bars) > now_ms - MAX_HOLE_AGE_MS
        if fresh and len(bars) == len(rows) and book.restore(bars):
            book.flush()
            restored += 1
    return restored
