"""Which series lives in which row.

Built once at start and fixed while running, so that a row number never changes its meaning.
``symbol_index`` is a symbol's rank by listing time, ties by name: old symbols keep low numbers.
A symbol's intervals lie side by side: ``row = symbol_index * period_count + period_index``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol


@attrs.frozen(slots=True)
class SymbolPeriodRegistry:
    """All symbols and intervals of this run, and the row of each pair.

    Attributes:
        symbols: By symbol index.
        intervals: By period index, shortest first.
    """

    symbols: Sequence[Symbol]
    intervals: Sequence[Interval]
    _index_by_name: dict[str, int] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        names = {symbol.name: index for index, symbol in enumerate(self.symbols)}
        object.__setattr__(self, "_index_by_name", names)

    @classmethod
    def ranked(
        cls, symbols: Iterable[Symbol], intervals: Sequence[Interval]
    ) -> SymbolPeriodRegistry:
        """Build the registry with symbols ranked by listing time, ties by name."""
        ranked = sorted(symbols, key=lambda symbol: (symbol.listing_time, symbol.name))
        return cls(tuple(ranked), tuple(intervals))

    @property
    def period_count(self) -> int:
        """Number of intervals."""
        return len(self.intervals)

    @property
    def capacity(self) -> int:
        """Number of rows."""
        return len(self.symbols) * len(self.intervals)

    def row(self, symbol_index: int, period_index: int) -> int:
        """Return the row of one series."""
        return symbol_index * len(self.intervals) + period_index

    def first_row(self, symbol_index: int) -> int:
        """Return the row of the symbol's shortest interval."""
        return symbol_index * len(self.intervals)

    def series(self, row: int) -> tuple[Symbol, Interval]:
        """Return what the row holds."""
        symbol_index, period_index = divmod(row, len(self.intervals))
        return self.symbols[symbol_index], self.intervals[period_index]

    def index_of(self, name: str) -> int:
        """Return the index of the symbol with this exchange name.

        Raises:
            KeyError: There is none.
        """
        return self._index_by_name[name]
