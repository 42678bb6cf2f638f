"""What a database of klines is, in the plainest words: dictionaries.

The databases are compared with it, so nothing here is taken from them: what is promised is said once
more.  Nothing survives it but its ``Disk``.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import (
    FIELD_COUNT,
    FLAGS,
    OPEN,
    OPEN_TIME,
    REVISION_SHIFT,
    TAKER_BUY_QUOTE_VOLUME,
    TRADE_COUNT,
    Flag,
    bits_of,
    make_flags,
)
from klinetrio.errors import ClaimError, ScalesChanged, StoreError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import Batch, Int64Array

    Bar = tuple[int, ...]
    # Symbol and interval.
    Series = tuple[str, str]
    # Returns what becomes of a stored bar when another one comes; None if it stays.
    Rule = Callable[[Bar, Bar], Bar | None]

_LARGEST = 2**63 - 1


@attrs.define
class Disk:
    """What is stored: symbols, closed bars by open time, open bars, spans without a hole."""

    exists: bool = False
    symbols: dict[str, Symbol] = attrs.field(factory=dict)
    closed: dict[Series, dict[int, Bar]] = attrs.field(factory=dict)
    live: dict[Series, Bar] = attrs.field(factory=dict)
    checked: dict[Series, tuple[int, int]] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    claimed: bool = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is changed in the block, or nothing."""
        with self.lock:
            before = self.symbols.copy(), self.closed.copy(), self.live.copy(), self.checked.copy()
            self.closed = {series: bars.copy() for series, bars in self.closed.items()}
            try:
                yield
            except BaseException:
                self.symbols, self.closed, self.live, self.checked = before
                raise


class MemoryStore:
    """Klines in memory.

    Args:
        disk: What other stores of the same database have, too.
    """

    name = "memory"
    url = "memory:"

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._symbols: tuple[Symbol, ...] = ()
        self._rows: list[Series] = []
        self._is_open = False

    def exists(self) -> bool:
        """Tell whether it was ever opened."""
        return self._disk.exists

    def open(self) -> None:
        """Have it from now on."""
        self._disk.exists = self._is_open = True

    def close(self) -> None:
        """Leave it; harmless when repeated."""
        self._is_open = False

    def damage(self) -> list[str]:
        """Return nothing: there is nothing that could break."""
        return []

    def condition(self, symbol: str, interval: str) -> str:
        """Return no condition that anybody could use."""
        return f"{symbol} {interval}"

    def prompt(self, statement: str) -> str:
        """Return no command that anybody could use."""
        return statement

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only one for the length of the block."""
        with self._disk.lock:
            if self._disk.claimed:
                raise ClaimError(self.name, "another store")
            self._disk.claimed = True
        try:
            yield
        finally:
            self._disk.claimed = False

    def is_claimed(self) -> bool:
        """Tell whether somebody is in such a block."""
        return self._disk.claimed

    def identity(self) -> tuple[object, ...]:
        """Return which disk it is."""
        return "memory", id(self._disk)

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the symbols; a daily bar from before its listing time makes that earlier."""
        days = {name: self._disk.closed.get((name, "1d"), {}) for name in self._disk.symbols}
        return {
            name: attrs.evolve(symbol, listing_time=min([symbol.listing_time, *days[name]]))
            for name, symbol in self._disk.symbols.items()
        }

    def stored_series(self) -> set[Series]:
        """Return the series of which there is anything."""
        closed = {series for series, bars in self._disk.closed.items() if bars}
        return closed | set(self._disk.live) | set(self._disk.checked)

    def check_scales(self) -> None:
        """Make sure that bars have the decimals that this store writes."""
        self._expect_scales(self._symbols)

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Take over symbols as they are now, and bring their bars to their decimals."""
        with self._disk.transaction():
            self.regrow(registry.symbols)
            self._disk.symbols.update({each.name: each for each in registry.symbols})
        self._adopt(registry)

    def enlist(self, registry: SymbolPeriodRegistry) -> None:
        """Add symbols that are new."""
        self._expect_scales(registry.symbols)
        for each in registry.symbols:
            self._disk.symbols.setdefault(each.name, each)
        self._adopt(registry)

    def consult(self, registry: SymbolPeriodRegistry) -> None:
        """Only read."""
        self._expect_scales(registry.symbols)
        self._adopt(registry)

    def regrow(self, symbols: Iterable[Symbol]) -> None:
        """Multiply the bars of symbols that are known."""
        with self._disk.transaction():
            for new in symbols:
                old = self._disk.symbols.get(new.name)
                if old is not None:
                    self._multiply(old, new)
                    scales = {
                        name: getattr(new, name) for name in ("price_scale", "quantity_scale")
                    }
                    self._disk.symbols[new.name] = attrs.evolve(old, **scales)

    def write(self, closed: Batch, live: Batch) -> None:
        """Write bars as they close, and the open ones."""
        with self._writing():
            self._put(closed, lambda old, new: new if _precedence(new) > _precedence(old) else None)
            for series, bar in self._bars(live):
                self._disk.live[series] = bar

    def write_history(
        self, closed: Batch, checked: Mapping[int, tuple[int, int]] | None = None
    ) -> int:
        """Write the exchange's bars where nothing is proved."""
        with self._writing():
            written = self._put(
                closed, lambda old, new: None if old[FLAGS] & Flag.COMPLETE else _revised(old, new)
            )
            for row, span in (checked or {}).items():
                self._disk.checked[self._rows[row]] = span
        return written

    def settle(self, closed: Batch) -> int:
        """Write the exchange's bars, unless they say the same."""
        with self._writing():
            return self._put(
                closed,
                lambda old, new: (
                    None
                    if old[FLAGS] & Flag.COMPLETE and _numbers(old) == _numbers(new)
                    else _revised(old, new)
                ),
            )

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return the first bars from a start, or else the last."""
        bars = self._disk.closed.get(self._rows[series], {})
        low = min(bars, default=0) if start is None else start
        high = max(bars, default=0) if end is None else end
        found = [bars[each] for each in sorted(bars) if low <= each <= high]
        chosen = found[:limit] if start is not None else found[max(0, len(found) - limit) :]
        return np.array(chosen, np.int64).reshape(len(chosen), FIELD_COUNT)

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars."""
        return self._by_row(self._disk.live)

    def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return the spans without a hole."""
        spans = self._by_row(self._disk.checked)
        return {row: (since, until) for row, (since, until) in spans.items()}

    def first_time(self, series: int) -> int | None:
        """Return the oldest open time."""
        return min(self._disk.closed.get(self._rows[series], {}), default=None)

    def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times of proved bars."""
        bars = self._disk.closed.get(self._rows[series], {})
        proved = [each for each, bar in bars.items() if bar[FLAGS] & Flag.COMPLETE]
        return np.array(sorted(each for each in proved if start <= each < end), np.int64)

    def size(self) -> int:
        """Return how many bytes the bars would be."""
        return sum(len(bars) for bars in self._disk.closed.values()) * FIELD_COUNT * 8

    def journal_size(self) -> int:
        """Return 0: there is none."""
        return 0

    def tidy(self) -> None:
        """Do nothing."""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._is_open:
            raise StoreError("memory is closed")
        with self._disk.transaction():
            self.check_scales()
            yield

    def _bars(self, batch: Batch) -> list[tuple[Series, Bar]]:
        bars = [tuple(each) for each in batch.bars.tolist()]
        series = [self._rows[row] for row in batch.series.tolist()]
        if any(name not in self._disk.symbols for name, _ in series):
            raise StoreError("a symbol is not stored")
        return list(zip(series, bars, strict=True))

    def _put(self, batch: Batch, rule: Rule) -> int:
        """Put each bar in its place, one after the other; return how many places have changed."""
        written = 0
        for series, new in self._bars(batch):
            place = self._disk.closed.setdefault(series, {})
            old = place.get(new[OPEN_TIME])
            taken = new if old is None else rule(old, new)
            if taken is not None:
                place[new[OPEN_TIME]] = taken
                written += 1
        return written

    def _multiply(self, old: Symbol, new: Symbol) -> None:
        price = 10 ** (new.price_scale - old.price_scale)
        quantity = 10 ** (new.quantity_scale - old.quantity_scale)
        factors = [
            1,
            *[price] * 4,
            quantity,
            price * quantity,
            1,
            quantity,
            price * quantity,
            1,
            1,
            1,
        ]

        def multiplied(bar: Bar) -> Bar:
            grown = tuple(value * factor for value, factor in zip(bar, factors, strict=True))
            if not all(-_LARGEST - 1 <= value <= _LARGEST for value in grown):
                raise StoreError("a number does not fit 64 bits")
            return grown

        for (name, interval), bars in self._disk.closed.items():
            if name == new.name:
                grown = {each: multiplied(bar) for each, bar in bars.items()}
                self._disk.closed[name, interval] = grown
        for (name, interval), bar in self._disk.live.items():
            if name == new.name:
                self._disk.live[name, interval] = multiplied(bar)

    def _expect_scales(self, symbols: Iterable[Symbol]) -> None:
        for ours in symbols:
            stored = self._disk.symbols.get(ours.name, ours)
            expected, were = (
                f"{each.price_scale} decimals and {each.quantity_scale}" for each in (ours, stored)
            )
            if expected != were:
                raise ScalesChanged(f"expected {expected} of {ours.name}, were {were}")

    def _adopt(self, registry: SymbolPeriodRegistry) -> None:
        self._symbols = tuple(registry.symbols)
        self._rows = [
            (symbol.name, interval.name)
            for symbol in registry.symbols
            for interval in registry.intervals
        ]

    def _by_row(self, known: Mapping[Series, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        return {row: known[series] for row, series in enumerate(self._rows) if series in known}


def _precedence(bar: Bar) -> tuple[int, ...]:
    """Return what the better of two states is told by: settled, proved, corrected, fuller."""
    bits = bar[FLAGS]
    return bits & Flag.SETTLED, bits & Flag.COMPLETE, bits >> REVISION_SHIFT, bar[TRADE_COUNT]


def _numbers(bar: Bar) -> Bar:
    """Return what the exchange's own klines tell, too."""
    return bar[OPEN : TAKER_BUY_QUOTE_VOLUME + 1]


def _revised(old: Bar, new: Bar) -> Bar:
    """Return a bar in the place of another one, with a higher revision if it is another."""
    revision = (old[FLAGS] >> REVISION_SHIFT) + (_numbers(old) != _numbers(new))
    return (*new[:FLAGS], make_flags(bits_of(new), revision))
