"""The bars of a query, page by page, while they are closed and written.

Each page is joined anew from database, pending and open bars, and begins after the last open time
of the page before; what one page shows, the next one cannot show again.  Within a page nothing is
missing (``storage/history.py``), however bars move; so nothing is missing at the seams either.

Where it ends is settled at the beginning: with the bar that is open then, of each series.  So an
answer ends however long it takes, all its symbols are of one moment, and only its last bar may be
open.

Invariant (tested in tests/api/test_pages.py):
  I1  All pages of a series together are what one page without a limit would have been: ascending,
      without a double, and without a hole that the bars themselves do not have.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.api.problems import ApiError
from klinetrio.domain.kline import OPEN_TIME, has_row
from klinetrio.errors import StoreError


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klinetrio.api.ports import Market, Row
    from klinetrio.api.selection import KlinesQuery

# 1,000 bars are 0.6 MB as numbers and 0.35 MB as JSON: one page is what a streamed answer holds.
PAGE_BARS = 1_000

# A client that waited this long has given up; the database is not what it should be.
QUERY_TIMEOUT_S = 10.0


@attrs.frozen
class Page:
    """Some bars of one series.

    Attributes:
        row: The series.
        bars: Ascending by open time; may be none.
    """

    row: int
    bars: Sequence[Row]


class KlinePages:
    """All bars that a query asks for.

    Args:
        market: Where they are.
        query: Which ones.
    """

    def __init__(self, market: Market, query: KlinesQuery) -> None:
        self._market = market
        self._limit = query.limit
        self._to_read = deque(
            (row, query.start, query.end if query.limit else _end_of(market, row, query.end))
            for row in query.rows
        )

    async def next(self) -> Page | None:
        """Return the next page, None when there was the last one.

        Raises:
            ApiError: The database could not be read, or not in time.
        """
        if not self._to_read:
            return None
        row, start, end = self._to_read.popleft()
        limit = self._limit or PAGE_BARS
        with in_time():
            bars = await self._market.klines(row, start=start, end=end, limit=limit)
        if self._limit is None and len(bars) == PAGE_BARS:
            self._to_read.appendleft((row, bars[-1][OPEN_TIME] + 1, end))
        return Page(row, bars)


@contextmanager
def in_time() -> Iterator[None]:
    """Bound what reads bars.

    Raises:
        ApiError: They could not be read, or not within ``QUERY_TIMEOUT_S``.
    """
    try:
        with trio.fail_after(QUERY_TIMEOUT_S):
            yield
    except (StoreError, trio.TooSlowError) as error:
        message = "the history cannot be read just now"
        raise ApiError(503, "store_unavailable", message, retry_after_s=5) from error


def _end_of(market: Market, row: int, end: int | None) -> int | None:
    """Return the highest open time that a series' last page may have."""
    live = market.live_row(row)
    if not has_row(live):
        return end
    return live[OPEN_TIME] if end is None else min(end, live[OPEN_TIME])
