"""What readers see of one symbol's open bars: its rows in the store.

Kept apart from the bars themselves because it survives them: a row is written as a whole or not at
all, so what is shown is sound whatever became of the bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.kline import FLAGS, Flag, has_row


if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from klinetrio.engine.store import DoubleBufferedKlineStore


class ShownRows:
    """The consecutive rows of one symbol in the store.

    Args:
        store: Where they are.
        first_row: The first of them.
        count: How many.
    """

    __slots__ = ("_count", "_first_row", "_store")

    def __init__(self, store: DoubleBufferedKlineStore, first_row: int, count: int) -> None:
        self._store = store
        self._first_row = first_row
        self._count = count

    def row(self, index: int) -> list[int]:
        """Return a copy of a row as of the last swap; all zeros if nothing has been shown."""
        return self._store.live_row(self._first_row + index)

    def write(self, bars: Sequence[Sequence[int]], changed: Collection[int]) -> None:
        """Show the bars with these indexes, those that there are, at the next swap.

        Raises:
            OverflowError: A value does not fit 64 bits; its row has not changed then.
        """
        if len(changed) == self._count and all(map(has_row, bars)):
            self._store.write(self._first_row, bars)
            return
        for index in changed:
            if has_row(bars[index]):
                self._store.write(self._first_row + index, [bars[index]])

    def withdraw(self) -> None:
        """Take back the claim to be complete, and show the rows as they are otherwise."""
        for index in range(self._count):
            shown = self.row(index)
            if has_row(shown):
                shown[FLAGS] &= ~Flag.COMPLETE
                self._store.write(self._first_row + index, [shown])
