"""The spool: closed bars on disk while the database does not take them.

A bar goes from memory to the spool and from there to the database, never back, and in each step it
is in the new place before it leaves the old one.  With the closed bars the spool keeps the newest
state of the open ones, so that a start after ``kill -9`` goes on from the outage's end and not from
its beginning.  A daemon whose database is well writes nothing here.

What was considered and left: an append-only file of our own is simpler to write but not to read;
REST asks for the bars of one series, corrections replace bars, scales grow between runs, and a torn
end has to be found.  All that the store's own schema does already.

Invariants (tested in tests/storage/test_spool.py):
  I1  A bar that was put is there until ``remove`` names exactly its state, through any crash.
  I2  Bounded by ``MAX_BYTES``: 2 GB at some 100 bytes a bar are 20 million bars; 500 symbols with
      the default intervals close 660 bars a minute, so that is three weeks without a database.
  I3  ``bars`` is never lower than what is there, seen from any thread: 0 means empty.

All methods block, but for the plain attributes.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from klinetrio.errors import StoreError
from klinetrio.logs import log_event
from klinetrio.storage.spool_file import SpoolFile


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import Batch, Int64Array

log = logging.getLogger("klinetrio.storage")

MAX_BYTES = 2 * 10**9

FILE_NAME = "bars.db"

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# SQLite's extended result codes have the plain one in their low byte.
_PRIMARY = 0xFF


class Spool:
    """Closed bars on disk.

    Args:
        folder: Where; created when missing.
        owner: Whose bars these are: the database, without any password.

    Attributes:
        path: The file.
        bars: Closed bars that wait.
        live_mark: Number of the newest put that kept open bars; 0 if none are kept.
        size: Bytes on disk, as of the last change.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = folder / FILE_NAME
        self.bars = 0
        self.live_mark = 0
        self.size = 0
        self._owner = owner
        self._puts = 0
        # One change and its counting at a time; readers need no turn.
        self._changing = threading.Lock()
        self._file = SpoolFile(self.path)

    def open(self) -> None:
        """Open or create the file; one that is damaged is set aside.

        Raises:
            StoreError: It cannot be opened, or holds bars of another database.
        """
        try:
            self._look()
        except StoreError as error:
            if not _is_damage(error):
                raise
            self._set_aside(error)
            self._look()
        if self.bars:
            log_event(log, logging.WARNING, "spool_found", path=self.path, closed_bars=self.bars)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return by name the symbols as the waiting bars have them; none if no bars wait."""
        return self._file.known_symbols() if self.bars or self.live_mark else {}

    def series(self) -> set[tuple[str, str]]:
        """Return symbol and interval of every series that bars wait of."""
        return self._file.series() if self.bars else set()

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Let rows mean this registry; bars of symbols whose scales have grown are multiplied.

        Raises:
            StoreError: It failed, or a number would not fit; nothing has changed.
        """
        self._file.attach(registry)

    def put(self, closed: Batch, live: Batch) -> None:
        """Keep closed bars, and the open ones as they are now.

        Raises:
            StoreError: The disk does not take it, or the bound is reached; nothing has changed.
        """
        with self._changing:
            self.size = self._file.size()
            if self.size >= MAX_BYTES:
                text = f"expected the spool to stay below {MAX_BYTES} bytes, was {self.size}"
                raise StoreError(text)
            # Too high for a moment rather than too low.
            self.bars += len(closed)
            added = 0
            try:
                added = self._file.put(closed, live)
            finally:
                self.bars += added - len(closed)
            self._puts += 1
            if len(live):
                self.live_mark = self._puts
            self.size = self._file.size()

    def first(self, limit: int) -> Batch:
        """Return some of the waiting bars, of each series the oldest first; they stay."""
        return self._file.first(limit)

    def view(self, registry: SymbolPeriodRegistry) -> SpoolFile:
        """Return the file with rows that mean another registry; those of this one do not change."""
        return self._file.view(registry)

    def remove(self, written: Batch, live_mark: int, view: SpoolFile | None = None) -> None:
        """Drop bars that the database has, unless a better state of them has come since.

        Args:
            written: The bars.
            live_mark: If it is still the newest one, the open bars go, too; 0 keeps them.
            view: What the rows of the bars mean, if not what was attached.

        Raises:
            StoreError: It failed; nothing has changed.
        """
        with self._changing:
            with_live = 0 < live_mark == self.live_mark
            if not self.bars and not with_live:
                return
            self.bars -= (view or self._file).remove(written, with_live=with_live)
            if with_live:
                self.live_mark = 0
            if not self.bars and not self.live_mark:
                # It is emptied all the same if somebody looks at it and so keeps it large.
                with suppress(StoreError):
                    self._file.shrink()
            self.size = self._file.size()

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return waiting bars of one series, ascending, as ``KlineStore.read`` does."""
        return self._file.read(series, start=start, end=end, limit=limit)

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last kept, by row."""
        return self._file.read_live() if self.live_mark else {}

    def _look(self) -> None:
        file = self._file
        file.open()
        self.bars, self.live_mark, self.size = 0, 0, file.size()
        file.check()
        self.bars, self.live_mark = file.count(), int(file.has_live())
        self._puts = self.live_mark
        owner = file.owner()
        if owner != self._owner:
            if self.bars and owner:
                file.close()
                text = f"expected {self.path} to hold bars of {self._owner}, were of {owner}"
                raise StoreError(f"{text}: start once with that database, or move the spool away")
            file.set_owner(self._owner)

    def _set_aside(self, error: StoreError) -> None:
        """Keep a damaged file for whoever can read it, and begin anew."""
        self._file.close()
        aside = f"{self.path.name}.damaged-{int(time.time())}"
        for end in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + end)
            if part.exists():
                part.rename(part.with_name(aside + end))
        facts = {"path": self.path.with_name(aside), "cause": error}
        log_event(log, logging.ERROR, "spool_set_aside", **facts)


def _is_damage(error: StoreError) -> bool:
    cause = error.__cause__
    if not isinstance(cause, sqlite3.DatabaseError):
        return False
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & _PRIMARY in _DAMAGED
