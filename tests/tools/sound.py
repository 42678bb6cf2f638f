"""Sound bars of several intervals, and what damages them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.kline import FIRST_AGG_ID, FLAGS, LAST_AGG_ID, NO_ID, Flag
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.fold import fold_klines
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.protocol import Batch
from klinetrio.tools.finding import Kind
from klinetrio.tools.visit import Order, Visit
from tests.storage.bars import NOTHING


if TYPE_CHECKING:
    from klinetrio.storage.protocol import Int64Array, KlineStore
    from klinetrio.tools.examination import Diagnosis

# 2026-08-08 00:00 UTC.
START = 1_786_147_200_000
MINUTES = 180

SYMBOLS = (Symbol("BTCUSDT", "BTC", "USDT", 1, 2, 3), Symbol("ETHUSDT", "ETH", "USDT", 2, 2, 3))
INTERVALS = parse_intervals(("1m", "5m", "1h"))
REGISTRY = SymbolPeriodRegistry(SYMBOLS, INTERVALS)

THEIRS = Flag.FINAL | Flag.COMPLETE | Flag.SETTLED


def minutes(count: int = MINUTES, seed: int = 1) -> Int64Array:
    """Return proved minutes as trades make them, some of them without any."""
    draw = random.Random(seed)  # noqa: S311  (reproducible)
    rows, price, agg_id = [], 100_000, 1_000
    for number in range(count):
        trades = draw.choice((0, 1, 5))
        prices = [price := price + draw.randint(-50, 50) for _ in range(trades)] or [price]
        volumes = [draw.randint(1, 9_999) for _ in range(trades)]
        quote = sum(p * v for p, v in zip(prices, volumes, strict=False))
        bought, paid = (volumes[0], volumes[0] * prices[0]) if trades else (0, 0)
        values = [prices[0], max(prices), min(prices), prices[-1], sum(volumes), quote]
        ids = [agg_id, agg_id + trades - 1]
        flags = Flag.FINAL | Flag.COMPLETE
        rows.append([START + number * MINUTE, *values, trades, bought, paid, *ids, flags])
        agg_id += trades
    return np.array(rows, np.int64)


def sound() -> dict[str, Int64Array]:
    """Return bars of every interval, the longer ones folded from the minutes."""
    shortest = minutes()
    return {
        each.name: shortest if each.name == "1m" else fold_klines(shortest, each)
        for each in INTERVALS
    }


def put(store: KlineStore, bars: dict[str, Int64Array], symbol: int = 0) -> None:
    """Store bars."""
    for name, rows in bars.items():
        period = [each.name for each in INTERVALS].index(name)
        series = np.full(len(rows), REGISTRY.row(symbol, period), np.int64)
        store.write(Batch(series, rows), NOTHING)


def of_exchange(rows: Int64Array) -> Int64Array:
    """Return the same bars as the exchange's own klines."""
    theirs = rows.copy()
    theirs[:, FLAGS] = THEIRS
    theirs[:, [FIRST_AGG_ID, LAST_AGG_ID]] = NO_ID
    return theirs


async def visit(store: KlineStore, **order: object) -> Visit:
    """Look at a database."""
    found = Visit(store, Order(**order))  # type: ignore[arg-type]
    await found.run(0.0)
    return found


def counts(diagnoses: list[Diagnosis]) -> dict[tuple[str, str, Kind], int]:
    """Return how many bars are ill in which way."""
    return {
        (each.symbol, each.interval, kind): found.count
        for each in diagnoses
        for kind, found in each.findings.items()
    }


# By the name of a damage: the SQL that does it to one minute, and what has to be found.
CHANGES = {
    "gone": ("DELETE FROM klines WHERE {here}", {("1m", Kind.MISSING): 1}),
    "shifted": (
        "UPDATE klines SET open_time = open_time + 1 WHERE {here}",
        {("1m", Kind.MISSING): 1, ("1m", Kind.MISALIGNED): 1},
    ),
    "low above": ("UPDATE klines SET low = high + 1 WHERE {here}", {("1m", Kind.IMPOSSIBLE): 1}),
    "high below": ("UPDATE klines SET high = low - 1 WHERE {here}", {("1m", Kind.IMPOSSIBLE): 1}),
    "negative": ("UPDATE klines SET volume = -1 WHERE {here}", {("1m", Kind.IMPOSSIBLE): 1}),
    "taker": (
        "UPDATE klines SET taker_buy_volume = volume + 1 WHERE {here}",
        {("1m", Kind.IMPOSSIBLE): 1},
    ),
    "no trades": (
        "UPDATE klines SET trade_count = 0, volume = 1 WHERE {here}",
        {("1m", Kind.IMPOSSIBLE): 1},
    ),
    "quote": (
        "UPDATE klines SET quote_volume = (volume + 1) * high + 1 WHERE {here}",
        {("1m", Kind.IMPOSSIBLE): 1},
    ),
    "reversed": (
        "UPDATE klines SET first_agg_id = last_agg_id + 2 WHERE {here}",
        {("1m", Kind.REVERSED): 1},
    ),
    "more": (
        "UPDATE klines SET volume = volume + 1, quote_volume = quote_volume + high WHERE {here}",
        {("5m", Kind.DIFFERENT): 1},
    ),
    "unproved": ("UPDATE klines SET flags = 1 WHERE {here}", {("1m", Kind.UNPROVED): 1}),
    "open": ("UPDATE klines SET flags = 2 WHERE {here}", {("1m", Kind.OPEN): 1}),
}
