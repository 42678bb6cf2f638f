"""What the persister has done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.supervise import describe


if TYPE_CHECKING:
    from klinetrio.storage.delivery import Delivered

# A text for the status, not a report.
_LONGEST_ERROR = 300


@attrs.define(slots=True)
class PersistCounts:
    """What the persister has done since the start.

    Attributes:
        batches: Transactions committed.
        rows: Bars written, closed and open.
        failures: Transactions that failed.
        failures_in_a_row: Those since the last success.
        last_error: Why the last one failed; empty after a success.
        last_rows: Bars in the last transaction.
        last_s: How long the last transaction took, in seconds.
        size: The database's size after it, in bytes, with its journal.
        journal_size: The size of the journal alone.
        spooled: Closed bars that went to the spool.
        spool_failures: Writes to the spool, or reads of it, that failed.
        spool_error: Why the last one failed; empty after a success.
        given_up: Closed bars that found no place at all, and are the download's to fetch.
    """

    batches: int = 0
    rows: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    last_rows: int = 0
    last_s: float = 0.0
    size: int = 0
    journal_size: int = 0
    spooled: int = 0
    spool_failures: int = 0
    spool_error: str = ""
    given_up: int = 0

    def note(self, delivered: Delivered) -> None:
        """Take note of a transaction."""
        self.batches += 1
        self.rows += delivered.rows
        self.failures_in_a_row, self.last_error = 0, ""
        self.last_rows, self.last_s = delivered.rows, delivered.seconds
        self.size, self.journal_size = delivered.size, delivered.journal_size
        if delivered.spool_error is None:
            self.spool_error = ""
        else:
            self.note_spool_failure(delivered.spool_error)

    def note_failure(self, error: BaseException) -> None:
        """Take note of a transaction that failed."""
        self.failures += 1
        self.failures_in_a_row += 1
        self.last_error = describe(error)[:_LONGEST_ERROR]

    def note_spooled(self, bars: int) -> None:
        """Take note of bars that went to the spool."""
        self.spooled += bars
        self.spool_error = ""

    def note_spool_failure(self, error: BaseException) -> None:
        """Take note of a spool that cannot be written or read."""
        self.spool_failures += 1
        self.spool_error = describe(error)[:_LONGEST_ERROR]
