"""Compares what a daemon stored, pushed and served with what happened.

Pure, but for ``read_database``.  Rows are those of ``domain.kline``.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import attrs

from klinetrio.domain.kline import (
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN,
    OPEN_TIME,
    Flag,
    revision_of,
)


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from klinetrio.domain.interval import Interval

# Examples of each kind of failure that are shown.
_MOST_SHOWN = 5


class TruthTeller(Protocol):
    """A market that knows its true bars."""

    def true_klines(
        self, symbol: str, interval: Interval, start_ms: int, end_ms: int
    ) -> list[tuple[int, ...]]:
        """Return the true bars with ``start_ms <= open time < end_ms``."""
        ...


@attrs.frozen
class Span:
    """Which bars have to be there, proved.

    Attributes:
        since: Those that end after this, UTC ms: when the first daemon knew the past.
        until: Those that end at or before this: the last trade that the daemon can have seen.
        now: When the database was closed; nothing in it can end later.
    """

    since: int
    until: int
    now: int

    def wants(self, open_time: int, interval: Interval) -> bool:
        """Tell whether a bar has to be there."""
        return self.since < interval.next_open(open_time) <= self.until


@attrs.define
class Tally:
    """What was found of the bars of one interval.

    Attributes:
        checked: Complete bars that equal the truth in every field.
        by_ids: Those among them that were proved by ids alone, not by the exchange's klines.
        revised: Those among them that were corrected after they had been closed.
        wrong: Complete bars that do not, and bars that cannot be.
        doubled: Bars that are there twice.
        missing: Bars that have to be there and are not.
        unproved: Bars that have to be proved and are not.
        older: Bars that ended before the first daemon knew the past, not proved.
        tail: Bars after the last trade, not proved yet.
        examples: Some of the failures, in words.
    """

    checked: int = 0
    by_ids: int = 0
    revised: int = 0
    wrong: int = 0
    doubled: int = 0
    missing: int = 0
    unproved: int = 0
    older: int = 0
    tail: int = 0
    examples: list[str] = attrs.field(factory=list)

    @property
    def failures(self) -> int:
        """How many bars are not as they have to be."""
        return self.wrong + self.doubled + self.missing + self.unproved

    def complain(self, text: str) -> None:
        """Keep an example of a failure."""
        if len(self.examples) < _MOST_SHOWN:
            self.examples.append(text)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for field in attrs.fields(Tally):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        del self.examples[_MOST_SHOWN:]


def differs(row: Sequence[int], truth: Sequence[int]) -> bool:
    """Tell whether a bar is not the true one; ids count where both sides know them."""
    if list(row[:FIRST_AGG_ID]) != list(truth[:FIRST_AGG_ID]):
        return True
    return any(
        row[field] != truth[field] and NO_ID not in (row[field], truth[field])
        for field in (FIRST_AGG_ID, LAST_AGG_ID)
    )


def judge_series(
    name: str,
    interval: Interval,
    *,
    rows: Iterable[Sequence[int]],
    truth: Mapping[int, Sequence[int]],
    span: Span,
) -> Tally:
    """Return what is to be said of one stored series.

    Args:
        name: Of the symbol, for words.
        interval: Its interval.
        rows: What is stored, in any order.
        truth: The true bars by open time.
        span: Which of them have to be there.
    """
    tally = Tally()
    seen: set[int] = set()
    for row in rows:
        where = f"{name} {interval} {row[OPEN_TIME]}"
        if row[OPEN_TIME] in seen:
            tally.doubled += 1
            tally.complain(f"{where} is there twice")
        else:
            seen.add(row[OPEN_TIME])
            _judge_row(where, interval, row=row, truth=truth, span=span, tally=tally)
    for open_time in truth:
        if span.wants(open_time, interval) and open_time not in seen:
            tally.missing += 1
            tally.complain(f"{name} {interval} {open_time} is missing")
    return tally


def _judge_row(
    where: str,
    interval: Interval,
    *,
    row: Sequence[int],
    truth: Mapping[int, Sequence[int]],
    span: Span,
    tally: Tally,
) -> None:
    open_time, flags = row[OPEN_TIME], row[FLAGS]
    end = interval.next_open(open_time)
    if open_time not in truth or end > span.now or not flags & Flag.FINAL:
        tally.wrong += 1
        tally.complain(f"{where} cannot be: {list(row)}")
    elif flags & Flag.COMPLETE:
        if differs(row, truth[open_time]):
            tally.wrong += 1
            tally.complain(f"{where} is {list(row)}, in truth {list(truth[open_time])}")
        else:
            tally.checked += 1
            tally.by_ids += not flags & Flag.BACKFILLED
            tally.revised += revision_of(row) > 0
    elif span.wants(open_time, interval):
        tally.unproved += 1
        said = "wrong" if differs(row, truth[open_time]) else "right"
        tally.complain(f"{where} is not proved, though {said}: {list(row)}")
    else:
        tally.tail += end > span.until
        tally.older += end <= span.since


Told = dict[tuple[str, str, int], set[tuple[int, ...]]]
"""Values of bars that were told as final and complete, by symbol, interval and open time."""


def judge_told(
    told: Told, intervals: Mapping[str, Interval], market: TruthTeller
) -> tuple[int, list[str]]:
    """Compare what was told as final and complete with the truth.

    Returns:
        How many bars were right, and which were not.
    """
    series: dict[tuple[str, str], list[int]] = {}
    for symbol, interval, open_time in told:
        series.setdefault((symbol, interval), []).append(open_time)
    right, wrong = 0, []
    for (symbol, interval), times in series.items():
        rows = market.true_klines(symbol, intervals[interval], min(times), max(times) + 1)
        truth = {row[OPEN_TIME]: tuple(row[OPEN:FIRST_AGG_ID]) for row in rows}
        for open_time in times:
            values = told[symbol, interval, open_time]
            if values == {truth.get(open_time)}:
                right += 1
            else:
                text = f"{symbol} {interval} {open_time} was told as {sorted(values)}"
                wrong.append(f"{text}, in truth {truth.get(open_time)}")
    return right, wrong


def read_database(path: Path) -> dict[tuple[str, str], list[tuple[int, ...]]]:
    """Return all stored bars by symbol and interval."""
    query = """
        SELECT name, interval, open_time, open, high, low, close, volume, quote_volume, trade_count,
            taker_buy_volume, taker_buy_quote_volume, first_agg_id, last_agg_id,
            flags | (revision << 8)
        FROM klines JOIN symbols USING (symbol_id)
    """
    stored: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        for name, interval, *row in connection.execute(query):
            stored.setdefault((name, interval), []).append(tuple(row))
    return stored
