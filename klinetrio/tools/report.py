"""What the doctor says: a table of the series that are ill, then each kind of finding and its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.moment import LAST_MOMENT, format_moment
from klinetrio.tools.finding import MOST_NAMED, Kind, Span
from klinetrio.tools.prescription import prescribe, total


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klinetrio.storage.protocol import KlineStore
    from klinetrio.tools.examination import Diagnosis

_MEGABYTE = 1 << 20

# A log that was just cut off, or is about to be, is nothing to speak of.
_LARGE_JOURNAL = 64 * _MEGABYTE


@attrs.frozen
class Report:
    """All that was found.

    Attributes:
        diagnoses: Of every series, in the order in which they are shown.
        damage: What is wrong with the database itself, and what helps, in words.
        journal: Bytes of its journal.
        database: Knows its name and its own SQL.
    """

    diagnoses: Sequence[Diagnosis]
    damage: Sequence[str]
    journal: int
    database: KlineStore

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.damage and all(kind.is_information for kind in self._kinds)

    @property
    def _kinds(self) -> list[Kind]:
        return [kind for kind in Kind if any(kind in each.findings for each in self.diagnoses)]

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        kinds = self._kinds
        yield from self._about_database()
        if kinds:
            yield _line("symbol", "interval", "bars", [kind.heading for kind in kinds])
        for each in self.diagnoses:
            if each.findings:
                counts = [total(kind, [each]).count for kind in kinds]
                yield _line(each.symbol, each.interval, each.bars, counts)
        bars = sum(each.bars for each in self.diagnoses)
        if kinds:
            sums = [total(kind, self.diagnoses).count for kind in kinds]
            yield _line("all", len(self.diagnoses), bars, sums)
        for kind in kinds:
            yield ""
            yield from self._about(kind)
        if kinds:
            yield ""
        state = "healthy" if self.is_healthy else "not healthy"
        yield f"{state}: {bars} bars of {len(self.diagnoses)} series"

    def _about(self, kind: Kind) -> Iterator[str]:
        """Yield what was found of one kind, where, and what mends it."""
        found = total(kind, self.diagnoses)
        information = " (for information)" if kind.is_information else ""
        bars = "bar" if found.count == 1 else "bars"
        yield f"{kind.heading}{information}: {found.count} {bars} {kind.words}"
        named = [
            (each, span)
            for each in self.diagnoses
            if kind in each.findings
            for span in each.findings[kind].named
        ]
        named.sort(key=lambda pair: (-pair[1].count, pair[1].start))
        for each, span in named[:MOST_NAMED]:
            yield f"  {each.symbol} {each.interval} {_shown(span)}"
        if found.spans > MOST_NAMED:
            yield f"  and {found.spans - MOST_NAMED} more"
        for command in prescribe(kind, self.diagnoses, self.database):
            yield f"  $ {command}"

    def _about_database(self) -> Iterator[str]:
        """Yield what has to be mended before any bar can be."""
        if self.damage:
            yield "damaged:"
            yield from (f"  {each}" for each in self.damage)
            yield ""
        if self.journal > _LARGE_JOURNAL:
            yield (
                f"journal (for information): {self.journal // _MEGABYTE} MB wait to be moved into the"
                " file; a reader that never ends its transaction may be in the way"
            )
            yield ""


def _line(symbol: str, interval: object, bars: object, cells: Sequence[object]) -> str:
    return f"{symbol:<18}{interval!s:>8}{bars!s:>12}" + "".join(f"{each!s:>12}" for each in cells)


def _shown(span: Span) -> str:
    note = f" ({span.note})" if span.note else ""
    if span.count == 1:
        return f"{_moment(span.start)}{note}"
    return f"{_moment(span.start)} to {_moment(span.end)}, {span.count} bars{note}"


def _moment(time_ms: int) -> str:
    """Return a moment to read, or the number where no calendar reaches or a second is not enough."""
    if not 0 <= time_ms <= LAST_MOMENT or time_ms % 1_000:
        return f"{time_ms} ms"
    return format_moment(time_ms)
