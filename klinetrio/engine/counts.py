"""What happens to trades, in numbers."""

from __future__ import annotations

import attrs


@attrs.define(slots=True)
class BookCounts:
    """What has happened to the trades of one symbol since the start.

    Attributes:
        folded: Added to their bars.
        duplicates: Seen before, dropped.
        late: Belonged to a bar that was already closed, which was corrected.
        too_late: Belonged to a bar that is no longer in memory.
        covered: Older than the klines that already hold them, or are about to.
        refused: Could not be believed, or came after the symbol was halted.
        gaps: Holes that opened in the ids.
    """

    folded: int = 0
    duplicates: int = 0
    late: int = 0
    too_late: int = 0
    covered: int = 0
    refused: int = 0
    gaps: int = 0
