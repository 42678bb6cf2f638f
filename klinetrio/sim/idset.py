"""A set of integers that are mostly consecutive, kept as ranges.

Invariant I1: ranges ascend and never touch, so a gapless run of any length is one range.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator


class IdSet:
    """Aggregate ids; adding the next one of a run costs no memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []  # inclusive

    def add(self, number: int) -> None:
        """Add one number."""
        starts, ends = self._starts, self._ends
        if ends and number == ends[-1] + 1:
            ends[-1] = number
            return
        index = bisect_right(starts, number)
        if index and number <= ends[index - 1]:
            return
        joins_left = index > 0 and ends[index - 1] == number - 1
        joins_right = index < len(starts) and starts[index] == number + 1
        if joins_left and joins_right:
            ends[index - 1] = ends.pop(index)
            del starts[index]
        elif joins_left:
            ends[index - 1] = number
        elif joins_right:
            starts[index] = number
        else:
            starts.insert(index, number)
            ends.insert(index, number)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The runs, both ends inclusive, ascending."""
        return list(zip(self._starts, self._ends, strict=True))

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number)
        return index > 0 and number <= self._ends[index - 1]

    def __len__(self) -> int:
        return sum(end - start + 1 for start, end in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for start, end in self.ranges:
            yield from range(start, end + 1)

    def __repr__(self) -> str:
        return f"<IdSet({self.ranges})>"
