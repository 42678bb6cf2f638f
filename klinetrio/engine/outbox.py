"""Closed bars on their way from the books to the next swap.

Bounded by time, not by count: the swapper empties it every 100 ms.  A swap holds at most one
entry per closed bar; midnight on a Monday closes eight bars per symbol, 8,000 entries of about
700 bytes for 1,000 symbols: 6 MB for 100 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.engine.publication import ClosedBar


if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(slots=True)
class _Entry:
    bar: ClosedBar
    announce: bool


class Outbox:
    """The newest state of every bar that was closed or corrected since the last ``take``."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int], _Entry] = {}

    def holds(self, row: int, open_time: int) -> bool:
        """Tell whether the bar waits here, so that nobody has seen its last state yet."""
        return (row, open_time) in self._entries

    def put(self, row: int, values: Sequence[int], *, announce: bool) -> None:
        """Add a bar or replace its state.

        Args:
            row: Its series.
            values: The thirteen fields.
            announce: Whether push clients shall hear of it; a bar whose values are as published
                and which is only better proved now goes to the database alone.
        """
        key = (row, values[OPEN_TIME])
        before = self._entries.get(key)
        announce = announce or (before is not None and before.announce)
        self._entries[key] = _Entry(ClosedBar(row, tuple(values)), announce)

    def take(self) -> tuple[list[ClosedBar], list[ClosedBar]]:
        """Return the bars to announce and the others, oldest first; the outbox is empty then."""
        entries = sorted(self._entries.values(), key=lambda entry: entry.bar.values[OPEN_TIME])
        self._entries.clear()
        announced = [entry.bar for entry in entries if entry.announce]
        return announced, [entry.bar for entry in entries if not entry.announce]
