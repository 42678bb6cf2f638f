"""Databases for tests of the tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.protocol import Batch
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import NOTHING, bar, batch


if TYPE_CHECKING:
    from pathlib import Path

# 2026-08-08 00:00 UTC.
START = 1_786_147_200_000

SYMBOLS = (
    Symbol("BTCUSDT", "BTC", "USDT", 1, 2, 3),
    Symbol("1000PEPEUSDT", "1000PEPE", "USDT", 2, 7, 0),
    Symbol("QUIETUSDT", "QUIET", "USDT", 3, 2, 3),
)
REGISTRY = SymbolPeriodRegistry(SYMBOLS, (INTERVALS["1m"], INTERVALS["1h"]))
PEPE = 2


def filled(path: Path, count: int = 50) -> SqliteStore:
    """Return an open database with so many minutes of two symbols; the first has an open one."""
    store = SqliteStore(path)
    store.open()
    store.attach(REGISTRY)
    for row in (0, PEPE):
        bars = np.array([bar(START + number * MINUTE, number) for number in range(count)])
        store.write(Batch(np.full(count, row), bars), NOTHING)
    store.write(NOTHING, batch((0, bar(START + count * MINUTE, count, bits=0))))
    return store
