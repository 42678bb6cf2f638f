"""What a database must do for klinetrio.

All methods are synchronous and may block; the caller runs them in threads.  Every write is
idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

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

    @property
    def name(self) -> str:
        """What it is called in messages; no password is in it."""
        ...

    @property
    def url(self) -> str:
        """As ``storage.url`` names it, to be typed again; no password is in it."""
        ...

    def exists(self) -> bool:
        """Tell whether there are tables of klinetrio's; makes none.  Works before ``open``.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The server cannot be reached, or has no such database.
        """
        ...

    def damage(self) -> list[str]:
        """Return what is wrong with the database as such, and what helps, in words.

        What the bars say is not looked at, nor are they all counted.

        Raises:
            StoreError: It could not be looked at.
        """
        ...

    def condition(self, symbol: str, interval: str) -> str:
        """Return the SQL condition by which the bars of one series are found in ``klines``."""
        ...

    def prompt(self, statement: str) -> str:
        """Return the command by which a person runs an SQL statement; no password is in it."""
        ...

    def claim(self) -> AbstractContextManager[None]:
        """Be the only one who folds live trades into it for the length of the block.

        Whatever reads it, or writes whole bars into it beside a daemon, needs no claim.  Works
        before ``open``.

        Raises:
            ClaimError: Another process has claimed it.
            StoreError: The claim cannot be had at all.
        """
        ...

    def is_claimed(self) -> bool:
        """Tell whether a daemon holds the claim right now."""
        ...

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

    def identity(self) -> tuple[object, ...]:
        """Return what tells it from all other databases, by whatever URL they are named."""
        ...

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the stored symbols by name; their listing time is the earliest known."""
        ...

    def stored_series(self) -> set[tuple[str, str]]:
        """Return symbol and interval of all series of which anything is stored.

        Also of those that nobody follows any more: closed bars, an open one, or the span in which
        nothing is missing.  Costs some index look-ups a series, however many bars there are.
        """
        ...

    def check_scales(self) -> None:
        """Make sure that bars are stored at the scales of the registry.

        Scales only grow, together with the bars: if they are the registry's after bars have been
        read, they were it before.

        Raises:
            ScalesChanged: Another process has rescaled a symbol since.
        """
        ...

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Store the symbols of this run and their indexes; rows mean this registry from now on.

        Stored bars of a symbol whose scales have grown are rescaled.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def enlist(self, registry: SymbolPeriodRegistry) -> None:
        """Let rows mean this registry, beside a daemon that may be running.

        Symbols that are not known yet are stored; the others stay as they are.

        Raises:
            StoreError: It failed, or bars are stored at other scales; nothing has changed.
        """
        ...

    def consult(self, registry: SymbolPeriodRegistry) -> None:
        """Let rows mean this registry for reading alone: nothing is stored, nor has to be allowed.

        Series that are not stored are empty.

        Raises:
            StoreError: It failed, or bars are stored at other scales.
        """
        ...

    def regrow(self, symbols: Iterable[Symbol]) -> None:
        """Multiply the stored bars of symbols whose scales have grown.

        Only while no daemon runs: it would go on writing at the old ones, and be refused.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def write(self, closed: Batch, live: Batch) -> None:
        """Write closed bars and the open bars of some series in one transaction.

        A stored bar is replaced by one that is settled while it is not, or else by one that is
        proved while it is not, or else by one of a higher revision, or of the same revision with
        more trades; never the other way.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def write_history(
        self, closed: Batch, checked: Mapping[int, tuple[int, int]] | None = None
    ) -> int:
        """Write closed bars as the exchange's own klines tell them, in one transaction.

        They fill what is missing and what is not proved; a stored bar that is proved stays as it
        is.  One that changes gets a higher revision.

        Args:
            closed: The bars.
            checked: By row, the span ``[since, until)`` in which nothing is missing with these
                bars; it takes the place of the one that was stored.

        Returns:
            How many bars were written.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        ...

    def settle(self, closed: Batch) -> int:
        """Put the exchange's own klines in the place of stored bars, also of proved ones.

        One that changes gets a higher revision; one that is already the same and proved stays.

        Returns:
            How many bars were written.

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

    def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return, by row, the span in which nothing is missing, as ``write_history`` was told."""
        ...

    def first_time(self, series: int) -> int | None:
        """Return the open time of a series' oldest stored bar, None if there is none."""
        ...

    def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times in ``[start, end)`` of a series' proved bars, ascending."""
        ...

    def size(self) -> int:
        """Return the database's size in bytes, with its journal."""
        ...

    def journal_size(self) -> int:
        """Return the bytes of the journal alone: what was written and is not in its place yet.

        0 if there is none, or if it is not ours to look after.
        """
        ...

    def tidy(self) -> None:
        """Do what the database needs now and then; called after every transaction.

        Short, and harmless when it fails: it raises nothing of the database's.
        """
        ...
