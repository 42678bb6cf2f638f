"""How fast the pure fold is: trades into all eight default intervals, in this process.

The baseline is the obvious fold in plain Python (tests/engine/reference.py), in the same run.
Run by ``nox -s bench -- fold``.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np


sys.path.insert(0, str(Path(__file__).parents[2]))

from klinetrio.domain.interval import DEFAULT_INTERVALS, parse_intervals
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.batch import TradeColumns, fold_trades
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.store import DoubleBufferedKlineStore
from tests.engine.reference import reference_bars


if TYPE_CHECKING:
    from collections.abc import Callable

INTERVALS = parse_intervals(DEFAULT_INTERVALS)
MANY = 5_000_000
FEW = 50_000
ROUNDS = 5


def columns(count: int) -> TradeColumns:
    """Return random trades, 50 a second."""
    rng = np.random.default_rng(1)
    return TradeColumns(
        agg_id=np.arange(1, count + 1, dtype=np.int64),
        price=9_000_000 + rng.integers(-500, 500, count).cumsum(),
        quantity=rng.integers(1, 10_000, count),
        fills=rng.integers(1, 4, count),
        time=1_786_171_860_000 + np.arange(count, dtype=np.int64) * 20,
        buyer_is_maker=rng.random(count) < 0.5,
    )


def one_by_one(count: int) -> list[AggTrade]:
    """Return random trades as the actors get them."""
    rng = random.Random(1)  # noqa: S311
    return [
        AggTrade(
            "BTCUSDT",
            n,
            rng.randrange(1, 10**7),
            rng.randrange(1, 10**4),
            n,
            n,
            1_786_171_860_000 + n * 20,
            n % 2 == 0,
        )
        for n in range(count)
    ]


def best(fn: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the shortest time of some rounds: the machine is shared."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        fn()
        times.append(time.perf_counter() - started)
    return min(times)


def fold_in_a_book(trades: list[AggTrade]) -> None:
    """Fold as an actor does, without the tasks around it."""
    store = DoubleBufferedKlineStore.allocate(len(INTERVALS))
    symbol = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)
    book = SymbolBook(symbol, INTERVALS, store=store, outbox=Outbox(), first_row=0)
    for trade in trades:
        book.apply(trade)
    book.flush()


def main() -> None:
    """Measure and print."""
    trades = one_by_one(FEW)
    reference = FEW / best(lambda: [reference_bars(trades, each) for each in INTERVALS], 3)
    book = FEW / best(lambda: fold_in_a_book(trades))
    many = columns(MANY)
    vector = MANY / best(lambda: fold_trades(many, INTERVALS))
    print("pure fold into eight intervals, trades/s (best of some rounds, one core)")
    print(f"  baseline, obvious Python fold   {reference:12,.0f}")
    print(f"  book, trade by trade (live)     {book:12,.0f}   {book / reference:6.1f} x baseline")
    print(
        f"  vectorised (replay)             {vector:12,.0f}   {vector / reference:6.1f} x baseline"
    )
    print("  budget: replay at 5,000,000 trades/s or more")


if __name__ == "__main__":
    main()
