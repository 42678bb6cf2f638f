"""Bars, registries and databases for tests of the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, Flag, make_flags
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.protocol import Batch
from klinetrio.storage.spool import Spool


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BASE = 1_786_171_860_000
MINUTE = 60_000

NAMES = ("1m", "5m", "1d")


def symbol(name: str, listing_time: int = 0, price: int = 2, quantity: int = 3) -> Symbol:
    """Return a plain symbol."""
    return Symbol(name, name.removesuffix("USDT"), "USDT", listing_time, price, quantity)


def registry(*symbols: Symbol) -> SymbolPeriodRegistry:
    """Return a registry with three intervals; of two symbols unless told otherwise."""
    chosen = symbols or (symbol("BTCUSDT", 1), symbol("ETHUSDT", 2))
    return SymbolPeriodRegistry.ranked(chosen, parse_intervals(NAMES))


def bar(
    open_time: int,
    value: int = 7,
    *,
    bits: int = Flag.FINAL | Flag.COMPLETE,
    revision: int = 0,
    trades: int = 3,
) -> list[int]:
    """Return a bar whose values can be told from others."""
    values = [value + number for number in range(6)]
    return [open_time, *values, trades, 1, 2, 100, 100 + trades, make_flags(bits, revision)]


def batch(*bars: tuple[int, Sequence[int]]) -> Batch:
    """Return bars of some series as a batch."""
    rows = np.array([row for row, _ in bars], np.int64)
    values = np.array([values for _, values in bars], np.int64).reshape(len(bars), FIELD_COUNT)
    return Batch(rows, values)


def spool_of(folder: Path, owner: str = "klines.db") -> Spool:
    """Return an open spool of the two usual symbols."""
    spool = Spool(folder / "spool", owner)
    spool.open()
    spool.attach(registry())
    return spool


NOTHING = batch()
