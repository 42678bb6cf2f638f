"""What a database must do for klinetrio.

All methods are synchronous and may block; the caller runs them in threads.  Every write is
idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry

    Int64Array = npt.NDArray[np.int64]


@attrs.frozen(slots=True)
class Batch:
    """Bars of any series.

    Attributes:
        series: The row of each bar's series, shape ``(n,)``.
        bars: The bars, shape ``(n, 13)``.
    """

    series: Int64Array
    bars: Int64Array

    def __len__(self) -> int:
        return len(self.series)


class KlineStore(Protocol):
    """A database of klines."""

    def open(self) -> None:
        """Connect, and create or migrate the schema.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The database cannot be opened.
        """
        ...

    def close(self) -> None:
        """Disconnect; harmless when repeated."""
        ...

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the stored symbols by name; their listing time is the earliest known."""
        ...

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Store the symbols of this run and their indexes; rows mean this registry from now on.

        Stored bars of a symbol whose scales have grown are rescaled.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def write(self, closed: Batch, live: Batch) -> None:
        """Write closed bars and the open bars of some series in one transaction.

        A stored bar is replaced by one that is proved while it is not, or else by one of a
        higher revision, or of the same revision with more trades; never the other way.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def write_history(self, closed: Batch) -> None:
        """Write closed bars as the exchange's own klines tell them, in one transaction.

        They fill what is missing and what is not proved; a stored bar that is proved stays as it
        is.  One that changes gets a higher revision.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return stored bars of one series, ascending, shape ``(n, 13)``.

        Args:
            series: Its row.
            start: Lowest open time, inclusive.
            end: Highest open time, inclusive.
            limit: How many: the first from ``start`` if it is given, else the last.

        Raises:
            StoreError: It failed.
        """
        ...

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written, by row."""
        ...

    def size(self) -> int:
        """Return the database's size in bytes."""
        ...
