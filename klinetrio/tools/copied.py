"""Two databases between which everything is copied, their rows meaning the same series.

All of it may block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.interval import INTERVALS, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, LAST_AGG_ID, OPEN_TIME, TRADE_COUNT
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ConfigError, ScaleError, StoreError
from klinetrio.exchange.dial import without_password
from klinetrio.storage.delivery import NOTHING
from klinetrio.storage.enrolment import growth, merge_scales
from klinetrio.storage.merging import multiplied
from klinetrio.storage.protocol import Batch
from klinetrio.storage.stores import EXPECTED, is_store_url, open_store


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    from klinetrio.domain.symbol import Symbol
    from klinetrio.storage.protocol import Int64Array, KlineStore

    Span = tuple[int, int]


@attrs.frozen(slots=True)
class Marks:
    """What became of what is stored beside closed bars.

    Attributes:
        live: Open bars that were written; a younger one of the target stays.
        checked: Spans known to be whole that were written or became longer.
        fault: The series of which the target does not hold them; None if there is none.
    """

    live: int
    checked: int
    fault: str | None


@attrs.frozen
class Pair:
    """Both databases, open.

    Attributes:
        source: Where bars come from; may be in use.
        target: Where they go.
        registry: What rows mean, in both; its symbols are at the target's scales.
        rows: Of the series that the source has.
        growths: By symbol, what the source's prices and quantities are multiplied by.
    """

    source: KlineStore
    target: KlineStore
    registry: SymbolPeriodRegistry
    rows: Sequence[int]
    growths: Mapping[str, tuple[int, int]]

    def read_source(self, row: int, start: int, limit: int) -> Int64Array:
        """Return bars of the source at the target's scales.

        Raises:
            ScaleError: A number does not fit.
            ScalesChanged: A daemon that has started since has multiplied the bars.
        """
        bars = self.source.read(row, start=start, end=None, limit=limit)
        self.source.check_scales()
        return self._grown(row, bars)

    def length_of(self, row: int) -> int:
        """Return how many bars a series of the source has if it has no hole."""
        first = self.source.first_time(row)
        last = self.source.read(row, start=None, end=None, limit=1)
        if first is None or not len(last):
            return 0
        _, interval = self.registry.series(row)
        return int(last[0, OPEN_TIME] - first) // interval.length + 1

    def move_marks(self, live: Mapping[int, Sequence[int]], checked: Mapping[int, Span]) -> Marks:
        """Write open bars and spans known to be whole, where the target's are not as good.

        Args:
            live: By row, as the source had them before its closed bars were read.
            checked: Likewise.

        Raises:
            StoreError: A database failed.
        """
        young, unfit = self._younger(live)
        known = self.target.read_checked()
        spans = {row: joined(span, known.get(row)) for row, span in checked.items()}
        longer = {row: span for row, span in spans.items() if known.get(row) != span}
        rows = np.array(list(young), np.int64)
        bars = np.array(list(young.values()), np.int64).reshape(len(rows), FIELD_COUNT)
        if young:
            self.target.write(NOTHING, Batch(rows, bars))
        if longer:
            self.target.write_history(NOTHING, longer)
        lost = sorted(unfit | self._lost(young, longer))
        names = (
            f"{symbol.name} {interval}" for symbol, interval in map(self.registry.series, lost)
        )
        return Marks(len(young), len(longer), ", ".join(names) or None)

    def _younger(
        self, live: Mapping[int, Sequence[int]]
    ) -> tuple[dict[int, tuple[int, ...]], set[int]]:
        """Return the open bars that the target lacks, and the rows of those that do not fit."""
        self.source.check_scales()
        known = self.target.read_live()
        found: dict[int, tuple[int, ...]] = {}
        unfit = set()
        for row, bar in live.items():
            try:
                grown = self._grown(row, np.array([bar], np.int64))[0].tolist()
            except ScaleError:
                unfit.add(row)
                continue
            if _is_news(grown, known.get(row)):
                found[row] = tuple(grown)
        return found, unfit

    def _lost(self, live: Mapping[int, Sequence[int]], checked: Mapping[int, Span]) -> set[int]:
        """Return the rows of which the target does not hold what was written."""
        bars, spans = self.target.read_live(), self.target.read_checked()
        lost = {row for row in live if tuple(bars.get(row, ())) != tuple(live[row])}
        return lost | {row for row in checked if tuple(spans.get(row, ())) != checked[row]}

    def _grown(self, row: int, bars: Int64Array) -> Int64Array:
        symbol, _ = self.registry.series(row)
        return multiplied(bars, *self.growths[symbol.name])


def _is_news(bar: Sequence[int], other: Sequence[int] | None) -> bool:
    """Tell whether an open bar of the source is to be written.

    Of two with the same trades the source's is taken as it is now: a feed that is down since, or a
    proof that is gone, changes nothing but flags.
    """
    if other is None:
        return True
    return tuple(bar) != tuple(other) and _trades_of(bar) >= _trades_of(other)


def _trades_of(bar: Sequence[int]) -> tuple[int, int, int]:
    return bar[OPEN_TIME], bar[LAST_AGG_ID], bar[TRADE_COUNT]


def joined(span: Span, other: Span | None) -> Span:
    """Return the one span that is known to be whole when two are: both together if they touch."""
    if other is None:
        return span
    if span[0] <= other[1] and other[0] <= span[1]:
        return min(span[0], other[0]), max(span[1], other[1])
    return span if span[1] - span[0] > other[1] - other[0] else other


def open_pair(source_url: str, target_url: str, stack: ExitStack) -> Pair:
    """Open both, claim the target, and make it ready for the source's symbols.

    Args:
        source_url: As ``storage.url`` names it; must exist.
        target_url: Likewise; made when missing, as the daemon does.
        stack: Closes both, and gives the claim up.

    Raises:
        ConfigError: A URL names none, the source does not exist, or both are the same.
        ClaimError: Somebody folds live trades into the target.
        StoreError: One cannot be used.
    """
    source, target = _store("--from", source_url), _store("--to", target_url)
    if not source.exists():
        raise ConfigError("--from", source.name, "a database with klinetrio's tables")
    for store in (source, target):
        stack.callback(store.close)
        store.open()
    if source.identity() == target.identity():
        raise ConfigError("--to", target.name, "another database than --from")
    stack.enter_context(target.claim())
    return _paired(source, target)


def _store(option: str, url: str) -> KlineStore:
    if not is_store_url(url):
        raise ConfigError(option, without_password(url), EXPECTED)
    try:
        return open_store(url)
    except ConfigError as error:
        raise ConfigError(option, error.value, error.expected) from None


def _paired(source: KlineStore, target: KlineStore) -> Pair:
    """Let rows of both mean the source's series."""
    series = source.stored_series()
    strange = {interval for _, interval in series} - INTERVALS.keys()
    if strange:
        raise StoreError(f"{source.name}: expected known intervals, were {' '.join(strange)}")
    # Asked after the series, so that none has a symbol that is not among them.
    symbols = list(source.known_symbols().values())
    known = target.known_symbols()
    merged = [merge_scales(symbol, known.get(symbol.name)) for symbol in symbols]
    intervals = parse_intervals({interval for _, interval in series})
    ours, theirs = (SymbolPeriodRegistry(tuple(each), intervals) for each in (symbols, merged))
    _regrow(target, merged)
    source.consult(ours)
    target.enlist(theirs)
    rows = [row for row in range(theirs.capacity) if _names(theirs, row) in series]
    pairs = zip(symbols, merged, strict=True)
    growths = {symbol.name: growth(symbol, grown) for symbol, grown in pairs}
    return Pair(source, target, theirs, rows, growths)


def _regrow(target: KlineStore, symbols: Sequence[Symbol]) -> None:
    """Multiply the target's bars where the source has more decimals; nobody else writes them."""
    for symbol in symbols:
        try:
            target.regrow([symbol])
        except StoreError as error:
            text = f"bars of {symbol.name} in --to do not take the decimals that --from has"
            raise StoreError(f"{text}: {error}") from error


def _names(registry: SymbolPeriodRegistry, row: int) -> tuple[str, str]:
    symbol, interval = registry.series(row)
    return symbol.name, interval.name
