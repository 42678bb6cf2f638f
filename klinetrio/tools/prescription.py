"""What to run against what the doctor has found: whole commands, to be copied."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from klinetrio.domain.interval import INTERVALS, MINUTE, parse_intervals
from klinetrio.domain.moment import LAST_MOMENT, format_moment
from klinetrio.tools.finding import Found, Kind


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.storage.protocol import KlineStore
    from klinetrio.tools.examination import Diagnosis

# What the exchange's klines mend, wherever they differ from the stored ones or those are gone.
_AUDITED = {Kind.DOUBLE, Kind.IMPOSSIBLE, Kind.REVERSED, Kind.DIFFERENT, Kind.ABSENT, Kind.APART}
_FETCHED = {Kind.MISSING, Kind.UNPROVED}
_DELETED = {Kind.DOUBLE, Kind.MISALIGNED, Kind.FUTURE, Kind.REVERSED}


def prescribe(kind: Kind, diagnoses: Sequence[Diagnosis], database: KlineStore) -> list[str]:
    """Return the commands that mend one kind of finding, in the order in which to run them.

    Args:
        kind: What was found.
        diagnoses: All series of the database that were looked at.
        database: Knows its name and its own SQL.
    """
    ill = [each for each in diagnoses if kind in each.findings]
    commands = []
    if kind in _DELETED:
        statements = (_delete(kind, each, database) for each in ill)
        commands.append(database.prompt("; ".join(statements)))
    if kind in _FETCHED:
        intervals = parse_intervals({each.interval for each in ill})
        commands.append(_tool("backfill", kind, ill, intervals, database.url))
    if kind in _AUDITED:
        commands.append(_tool("audit", kind, ill, _up_to(ill, diagnoses), database.url, "--settle"))
    return commands


def total(kind: Kind, diagnoses: Iterable[Diagnosis]) -> Found:
    """Return how much there is of one kind in all series."""
    found = Found()
    for each in diagnoses:
        if kind in each.findings:
            found.join(each.findings[kind])
    return found


def _tool(
    name: str,
    kind: Kind,
    ill: Sequence[Diagnosis],
    intervals: Iterable[Interval],
    url: str,
    *options: str,
) -> str:
    found = total(kind, ill)
    words = [
        *("python", "-m", "klinetrio", name, "--storage", url),
        *("--symbols", ",".join(dict.fromkeys(each.symbol for each in ill))),
        *("--intervals", ",".join(each.name for each in intervals)),
        *("--since", _option(found.start)),
        *("--until", _option(found.end)),
        *options,
    ]
    return shlex.join(words)


def _option(time_ms: int) -> str:
    """Return a moment as the tools take it."""
    if time_ms % MINUTE:
        return str(time_ms)
    return format_moment(time_ms).replace(" ", "T").removesuffix(":00")


def _up_to(ill: Sequence[Diagnosis], diagnoses: Sequence[Diagnosis]) -> Sequence[Interval]:
    """Return the stored intervals of these symbols up to the longest that is ill, and minutes.

    A bar that differs from its parts does not say which of them is wrong; and the audit compares
    minutes, whatever else it does.
    """
    symbols = {each.symbol for each in ill}
    longest = max(INTERVALS[each.interval].length for each in ill)
    stored = {each.interval for each in diagnoses if each.symbol in symbols}
    return [each for each in parse_intervals(stored | {"1m"}) if each.length <= longest]


def _delete(kind: Kind, ill: Diagnosis, database: KlineStore) -> str:
    where = database.condition(ill.symbol, ill.interval)
    found = ill.findings[kind]
    if kind is Kind.DOUBLE:
        times = f"SELECT open_time FROM klines WHERE {where} GROUP BY open_time HAVING count(*) > 1"  # noqa: S608
        which = f"open_time IN ({times})"
    elif kind is Kind.FUTURE:
        which = f"open_time >= {found.start}"
    elif kind is Kind.REVERSED:
        which = "first_agg_id - 1 > last_agg_id - CASE WHEN trade_count > 0 THEN 1 ELSE 0 END"
    else:
        which = _misaligned(INTERVALS[ill.interval], found)
    # The text is shown to a person, who may or may not run it.
    return f"DELETE FROM klines WHERE {where} AND {which}"  # noqa: S608


def _misaligned(interval: Interval, found: Found) -> str:
    if interval.is_calendar:
        # Both databases know calendars, but not the same words for them.
        return f"open_time IN ({', '.join(str(each.start) for each in found.named)})"
    off = f"open_time % {interval.length} <> {interval.offset % interval.length}"
    return f"({off} OR open_time NOT BETWEEN 0 AND {LAST_MOMENT})"
