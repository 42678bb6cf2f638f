"""A symbol's past up to a minute boundary, put together from three cheap kline requests.

Minutes of this hour, hours of this day and days of what lies before make every longer bar: the
bar that spans the boundary is the fold of whole days, then whole hours, then whole minutes.  Each
request costs weight 1 at up to 100 rows, so the bars before come for nothing.

Pure functions; the rows are those of ``domain.kline``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import FIELD_COUNT, FLAGS, OPEN_TIME, Flag
from klinetrio.engine.fold import fold_klines
from klinetrio.engine.seeding import Past, Seed


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from klinetrio.domain.interval import Interval

    Int64Array = npt.NDArray[np.int64]

# Longest first: the coarsest source that fits is the cheapest.
SOURCES = (INTERVALS["1d"], INTERVALS["1h"], INTERVALS["1m"])

# Rows of one request of weight 1.
CHEAP_ROWS = 100

# What the exchange does not have a day after, it never had: a symbol that was away for a while has a
# gap where it was.
_SETTLED_MS = DAY

# Rows of the largest request.
MAX_ROWS = 1_500


@attrs.frozen(slots=True)
class Span:
    """Rows of one source to ask for: open times in ``[start, end]``."""

    start: int
    end: int


def plan_past(
    until: int, intervals: Sequence[Interval], missing_since: int
) -> dict[Interval, Span]:
    """Return what to ask for, by source.

    Args:
        until: The boundary, a UTC minute.
        intervals: The intervals that are kept.
        missing_since: A time from which on bars may be missing; the rows reach back to it, but
            not beyond one request.
    """
    plan = {}
    day = INTERVALS["1d"].open_of(until)
    hour = INTERVALS["1h"].open_of(until)
    ends = {DAY: day, HOUR: hour, MINUTE: until}
    for source in SOURCES:
        if not any(interval.contains(source) for interval in intervals):
            continue
        end = ends[source.length]
        cheap = end - CHEAP_ROWS * source.length
        furthest = end - MAX_ROWS * source.length
        # From its own start on, or the longer bar in which something is missing could not be made.
        made = [each for each in intervals if _source_of(each) is source]
        missing = min((each.open_of(missing_since) for each in made), default=cheap)
        plan[source] = Span(max(furthest, min(cheap, missing)), end - 1)
    return plan


def _source_of(interval: Interval) -> Interval:
    """Return the coarsest source whose bars make those of an interval."""
    return next(each for each in SOURCES if interval.contains(each))


def build_seed(
    until: int,
    intervals: Sequence[Interval],
    rows: Mapping[Interval, Int64Array],
    plan: Mapping[Interval, Span],
) -> Seed:
    """Return every interval's past.

    Args:
        until: The boundary, a UTC minute.
        intervals: By period index.
        rows: The exchange's answers, by source; may hold bars that end after the boundary, which
            are left out.
        plan: What was asked for.
    """
    past = {source: _ended(bars, source, until) for source, bars in rows.items()}
    return Seed(until, [_past_of(interval, until, past, plan) for interval in intervals])


def _past_of(
    interval: Interval,
    until: int,
    rows: Mapping[Interval, Int64Array],
    plan: Mapping[Interval, Span],
) -> Past:
    source = next(each for each in SOURCES if each in rows and interval.contains(each))
    closed = _closed(rows[source], interval, until, source=source, asked_from=plan[source].start)
    spanning = interval.open_of(until - 1)
    if interval.next_open(spanning) == until:
        return Past(closed, None)
    pieces = []
    start = spanning
    for each in SOURCES:
        if each not in rows or not interval.contains(each):
            continue
        bars = rows[each]
        pieces.append(bars[bars[:, OPEN_TIME] >= start])
        start = max(start, each.open_of(until))
    parts = fold_klines(np.concatenate(pieces), interval)
    return Past(closed, parts[-1].tolist() if len(parts) else None)


def _closed(
    bars: Int64Array, interval: Interval, until: int, *, source: Interval, asked_from: int
) -> Int64Array:
    """Return the longer bars that are whole in ``bars`` and ended at or before ``until``."""
    if len(bars) == 0:
        return np.zeros((0, FIELD_COUNT), np.int64)
    folded = _ended(fold_klines(bars, interval), interval, until)
    # The first longer bar is whole only if its first shorter one is there, or if there never was
    # one: bars that begin later than they were asked for begin with the listing.
    first = int(bars[0, OPEN_TIME])
    whole = folded if first > asked_from else folded[folded[:, OPEN_TIME] >= first]
    # And the newest only if the source reaches its end.
    reach = source.next_open(int(bars[-1, OPEN_TIME]))
    ends = np.array([interval.next_open(int(each)) for each in whole[:, OPEN_TIME]], np.int64)
    whole = whole[ends <= reach]
    whole[:, FLAGS] = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
    return whole


def _ended(bars: Int64Array, interval: Interval, until: int) -> Int64Array:
    ends = np.array([interval.next_open(int(each)) for each in bars[:, OPEN_TIME]], np.int64)
    return bars[ends <= until]


def is_whole(
    rows: Mapping[Interval, Int64Array], plan: Mapping[Interval, Span], listing_time: int
) -> bool:
    """Tell whether every bar that was asked for is there, as it must be for a seed.

    The exchange makes a kline of every span since the listing, so a missing one means that it is
    not ready.
    """
    missing = (_missing(rows[source], source, plan[source], listing_time) for source in plan)
    return not any(map(len, missing))


def has_no_gap(
    rows: Mapping[Interval, Int64Array], plan: Mapping[Interval, Span], until: int
) -> bool:
    """Tell whether the bars of the last day are whole from the first one on, or there are none.

    Enough for a symbol whose first trade is younger than its stated listing time, or that did not
    trade for a while before the boundary's last day.
    """
    if not any(map(len, rows.values())):
        return True
    begin = 0
    # The finest bars that do not reach back as far as they were asked for tell the beginning.
    for source, span in plan.items():
        if len(rows[source]) and rows[source][0, OPEN_TIME] > span.start:
            begin = int(rows[source][0, OPEN_TIME])
    missing = (_missing(rows[source], source, plan[source], begin) for source in plan)
    ends = np.concatenate(
        [opens + source.length for opens, source in zip(missing, plan, strict=True)]
    )
    return bool((ends <= until - _SETTLED_MS).all())


def _missing(bars: Int64Array, source: Interval, span: Span, since: int) -> Int64Array:
    """Return the open times of a span that are not there."""
    first, last = source.open_of(max(span.start, since)), source.open_of(span.end)
    expected = np.arange(first, last + 1, source.length, dtype=np.int64)
    return np.setdiff1d(expected, bars[:, OPEN_TIME])
