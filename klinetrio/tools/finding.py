"""What the doctor may find in the bars of a series, and how much of it there is.

However much there is, only counts, the span and the largest few are kept.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import attrs
import numpy as np


if TYPE_CHECKING:
    from klinetrio.storage.protocol import Int64Array

# Of each kind and series.
MOST_NAMED = 3


class Kind(Enum):
    """What it is: the heading of its column, and what a line says of it."""

    MISSING = ("missing", "not there, between the first and the last one")
    DOUBLE = ("double", "there more than once")
    MISALIGNED = ("misaligned", "at a time at which no bar of the interval opens")
    FUTURE = ("future", "with an end in the future")
    IMPOSSIBLE = ("impossible", "with values that no trades can make")
    REVERSED = ("reversed", "whose last aggregate id is older than the first")
    DIFFERENT = ("different", "proved, and not the fold of the shorter ones, proved as well")
    ABSENT = ("absent", "not there, in spans of which the exchange was asked for all it has")
    UNPROVED = ("unproved", "not proved complete")
    OPEN = ("open", "not final, among the closed ones")
    APART = ("apart", "not the fold of shorter ones that came from elsewhere (trades, or klines)")

    @property
    def heading(self) -> str:
        """What its column is called."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What it means."""
        return self.value[1]

    @property
    def is_information(self) -> bool:
        """Whether a healthy database may have it."""
        return self in {Kind.ABSENT, Kind.UNPROVED, Kind.OPEN, Kind.APART}


@attrs.frozen(slots=True)
class Span:
    """Bars side by side.

    Attributes:
        start: UTC ms.
        end: UTC ms, exclusive.
        count: How many.
        note: What else is to be said.
    """

    start: int
    end: int
    count: int
    note: str = ""


@attrs.define(slots=True)
class Found:
    """How much there is of one kind.

    Attributes:
        count: Bars.
        spans: How many spans they are in, where that is known; else as many as bars.
        start: Of the first, UTC ms.
        end: Of the last, UTC ms, exclusive.
        named: The largest spans, the first of those that are equally large.
    """

    count: int = 0
    spans: int = 0
    start: int = 2**63 - 1
    end: int = -(2**63)
    named: list[Span] = attrs.field(factory=list)

    def add(self, starts: Int64Array, ends: Int64Array, counts: Int64Array, note: str = "") -> None:
        """Take note of more spans."""
        if not len(starts):
            return
        self.count += int(counts.sum())
        self.spans += len(starts)
        self.start = min(self.start, int(starts.min()))
        self.end = max(self.end, int(ends.max()))
        largest = np.argsort(-counts, kind="stable")[:MOST_NAMED]
        parts = zip(starts[largest], ends[largest], counts[largest], strict=True)
        self._name([Span(int(start), int(end), int(count), note) for start, end, count in parts])

    def join(self, other: Found) -> None:
        """Take over what another one has."""
        self.count += other.count
        self.spans += other.spans
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self._name(other.named)

    def _name(self, spans: list[Span]) -> None:
        both = self.named + spans
        self.named = sorted(both, key=lambda each: (-each.count, each.start))[:MOST_NAMED]


Findings = dict[Kind, Found]


def note_bars(
    findings: Findings, kind: Kind, starts: Int64Array, ends: Int64Array, note: str = ""
) -> None:
    """Take note of bars, one by one."""
    if len(starts):
        counts = np.ones(len(starts), np.int64)
        findings.setdefault(kind, Found()).add(starts, ends, counts, note)


def note_spans(
    findings: Findings, kind: Kind, starts: Int64Array, ends: Int64Array, counts: Int64Array
) -> None:
    """Take note of spans of so many bars each."""
    if len(starts):
        findings.setdefault(kind, Found()).add(starts, ends, counts)
