"""All that one database has into another one, series by series and page by page.

Synchronous: every step of ``run`` may block for as long as a page takes.

A page of both databases is put together in memory, what the target lacks or has in a worse state is
written, and when the series is through, and anything was, the target is read once more and compared,
by number and checksum, with what was expected of it.  So a run that was broken off is repeated at the speed of
reading, and writes nothing twice.

Invariants (tested in tests/tools/test_copy.py):
  I1  Each bar that was read in the source is in the target, in its state or a better one, or the
      outcome of its series says that it is not.
  I2  Nothing of the target is lost or made worse.
  I3  Open bars and spans known to be whole are read before the closed bars and written after them: a
      daemon that goes on from them misses none.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.errors import ScaleError
from klinetrio.storage.delivery import NOTHING
from klinetrio.storage.merging import merge
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from collections.abc import Iterator

    from klinetrio.storage.protocol import Int64Array
    from klinetrio.tools.copied import Marks, Pair

# 6 MB of each database while they are put together.
PAGE_BARS = 20_000

_FIRST_TIME = -(2**62)


@attrs.define(slots=True)
class Outcome:
    """What became of one series.

    Attributes:
        symbol: By exchange name.
        interval: As ``1m``.
        bars: Closed bars of the source.
        written: Of these, how many the target lacked or had in a worse state.
        kept: Of these, how many the target had in a better state, or in one as good.
        different: Of these, how many have other numbers in the target, in a state as good.
        more: Closed bars that only the target has.
        source_sum: Checksum of the source's bars, at the target's scales.
        target_sum: Checksum of the target's bars, read after writing.
        fault: Why the target does not hold them as it should; None if it does.
    """

    symbol: str
    interval: str
    bars: int = 0
    written: int = 0
    kept: int = 0
    different: int = 0
    more: int = 0
    source_sum: str = ""
    target_sum: str = ""
    fault: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether each bar of the source is in the target, in its state or a better one."""
        return not self.different and self.fault is None

    @property
    def verdict(self) -> str:
        """The outcome in a word or two."""
        if self.fault is not None:
            return "FAILED"
        if self.different:
            return "DIFFERENT"
        if self.source_sum == self.target_sum:
            return "equal"
        words = {"better": self.kept, "more": self.more}
        return " and ".join(word for word, count in words.items() if count)


class Checksum:
    """SHA-256 over bars as little-endian 64-bit numbers, and how many there were."""

    def __init__(self) -> None:
        self.bars = 0
        self._sum = sha256()

    def add(self, bars: Int64Array) -> None:
        """Go on with these."""
        self.bars += len(bars)
        self._sum.update(np.ascontiguousarray(bars, "<i8").tobytes())

    def text(self) -> str:
        """Return it in hexadecimal digits."""
        return self._sum.hexdigest()


class Copier:
    """Copies.

    Args:
        pair: Both databases, open, their rows meaning the same series.

    Attributes:
        outcomes: Of the series that are through.
        done: Bars of the source that are through.
        expected: How many there will be; holes count until they have been passed.
        marks: What became of open bars and spans; None before the end.
    """

    def __init__(self, pair: Pair) -> None:
        self.outcomes: list[Outcome] = []
        self.done = 0
        self.expected = 0
        self.marks: Marks | None = None
        self._pair = pair

    def run(self) -> Iterator[None]:
        """Copy everything; a step is a page.

        Raises:
            ScalesChanged: A daemon has multiplied the source's bars meanwhile.
            StoreError: One of the databases failed.
        """
        pair = self._pair
        live, checked = pair.source.read_live(), pair.source.read_checked()
        yield from self._measure()
        for row in pair.rows:
            yield from self._copy(row)
        good = {row for row, each in zip(pair.rows, self.outcomes, strict=True) if not each.fault}
        self.marks = pair.move_marks(
            {row: bar for row, bar in live.items() if row in good},
            {row: span for row, span in checked.items() if row in good},
        )

    def _measure(self) -> Iterator[None]:
        for row in self._pair.rows:
            self.expected += self._pair.length_of(row)
            yield

    def _copy(self, row: int) -> Iterator[None]:
        symbol, interval = self._pair.registry.series(row)
        outcome = Outcome(symbol.name, interval.name)
        ours, wanted = Checksum(), Checksum()
        try:
            for source, target in self._pages(row):
                merged = merge(source, target)
                self._write(row, merged.write)
                ours.add(source)
                wanted.add(merged.result)
                outcome.written += len(merged.write)
                outcome.kept += merged.kept
                outcome.different += merged.different
                outcome.more += merged.more
                self.done += len(source)
                yield
        except ScaleError as error:
            outcome.fault = str(error)
        else:
            # Where nothing was written, what was read of the target is what is there.
            there = Checksum() if outcome.written else wanted
            for page in self._read_back(row) if outcome.written else ():
                there.add(page)
                yield
            outcome.fault = _fault(wanted, there)
            outcome.target_sum = there.text()
        outcome.bars, outcome.source_sum = ours.bars, ours.text()
        self.outcomes.append(outcome)

    def _pages(self, row: int) -> Iterator[tuple[Int64Array, Int64Array]]:
        """Yield the bars of both databases, the same span of both, until both are at their end.

        Raises:
            ScaleError: A number of the source does not fit at the target's scales.
        """
        start: int | None = _FIRST_TIME
        while start is not None:
            source = self._pair.read_source(row, start, PAGE_BARS)
            target = self._pair.target.read(row, start=start, end=None, limit=PAGE_BARS)
            full = [int(page[-1, OPEN_TIME]) for page in (source, target) if len(page) == PAGE_BARS]
            # What is beyond the end of the shorter page comes again with the next one.
            end = min(full) if full else None
            if end is not None:
                source, target = _until(source, end), _until(target, end)
            yield source, target
            start = None if end is None else end + 1

    def _read_back(self, row: int) -> Iterator[Int64Array]:
        start: int | None = _FIRST_TIME
        while start is not None:
            page = self._pair.target.read(row, start=start, end=None, limit=PAGE_BARS)
            yield page
            start = int(page[-1, OPEN_TIME]) + 1 if len(page) == PAGE_BARS else None

    def _write(self, row: int, bars: Int64Array) -> None:
        if len(bars):
            self._pair.target.write(Batch(np.full(len(bars), row, np.int64), bars), NOTHING)
            self._pair.target.tidy()


def _until(bars: Int64Array, end: int) -> Int64Array:
    return bars[bars[:, OPEN_TIME] <= end]


def _fault(wanted: Checksum, there: Checksum) -> str | None:
    if wanted.text() == there.text():
        return None
    return (
        f"expected {wanted.bars} bars of checksum {wanted.text()[:12]} after writing, were"
        f" {there.bars} of {there.text()[:12]}: copy again"
    )
