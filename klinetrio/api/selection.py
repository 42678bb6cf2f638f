"""What ``GET /api/v1/klines`` may be asked for: which series, which bars of them, which form.

Bars are chosen in one of three ways:

    the last ones:   nothing, or ``end_time`` (inclusive), or ``before`` (exclusive)
    the first ones:  from ``start_time`` (inclusive) or ``after`` (exclusive), perhaps to ``end_time``
    all of a span:   ``limit=all`` and where it begins; perhaps ``end_time``

What says both is refused, as one of the two would have to be ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.api.parameters import Integer, Names, Text, bad_parameter, read_query
from klinetrio.api.problems import ApiError
from klinetrio.domain.interval import INTERVALS
from klinetrio.formats.encoder import MEDIA_TYPES


if TYPE_CHECKING:
    from klinetrio.api.names import Catalog

MAX_LIMIT = 1500
DEFAULT_LIMIT = 100

ALL = "all"

# Names have up to 16 bytes: with their commas encoded 950 of the 2,048 bytes of a query.
MAX_SYMBOLS = 50

# 9999-12-31T23:59:59.999Z, the last moment that calendars here can tell.
MAX_TIME_MS = 253_402_300_799_999

SYMBOL = Names(
    name="symbol",
    description="A symbol of `/api/v1/symbols`, or several with commas between them: their bars"
    " follow one another, `limit` of each.",
    highest=MAX_SYMBOLS,
)

INTERVAL = Text(
    name="interval",
    description="One of `/api/v1/intervals`: those that the daemon keeps.",
    values=tuple(INTERVALS),
    checked=False,  # those kept are the catalog's to know
    required=True,
)

LIMIT = Integer(
    name="limit",
    description="The most bars of each symbol; `all` streams a whole span, which then has to begin"
    " somewhere.",
    lowest=1,
    highest=MAX_LIMIT,
    default=DEFAULT_LIMIT,
    word=ALL,
)

START_TIME = Integer(
    name="start_time",
    description="Bars from this open time on, the first ones of them. UTC ms, inclusive.",
    highest=MAX_TIME_MS,
)

END_TIME = Integer(
    name="end_time",
    description="Bars up to this open time; without a start the last ones of them. UTC ms,"
    " inclusive.",
    highest=MAX_TIME_MS,
)

BEFORE = Integer(
    name="before",
    description="The last bars that open before this time: the cursor backwards. UTC ms.",
    highest=MAX_TIME_MS,
)

AFTER = Integer(
    name="after",
    description="The first bars that open after this time: the cursor forwards. UTC ms.",
    highest=MAX_TIME_MS,
)

FORMAT = Text(
    name="format",
    description="The form of the answer; goes before `Accept`.",
    values=tuple(MEDIA_TYPES),
)

PARAMETERS = (SYMBOL, INTERVAL, LIMIT, START_TIME, END_TIME, BEFORE, AFTER, FORMAT)


@attrs.frozen
class KlinesQuery:
    """What was asked for.

    Attributes:
        rows: The series, in the order asked for.
        start: Lowest open time, inclusive.
        end: Highest open time, inclusive.
        limit: How many bars of each series at most; None for all, and then there is a start.
        format: As named by ``format``, None if it was not.
    """

    rows: tuple[int, ...]
    start: int | None
    end: int | None
    limit: int | None
    format: str | None


def parse_klines_query(raw: bytes, catalog: Catalog) -> KlinesQuery:
    """Return what a query string asks for.

    Raises:
        ApiError: Anything about it is not as expected.
    """
    given = read_query(raw, PARAMETERS)
    rows = _rows(SYMBOL.demand(given), INTERVAL.demand(given), catalog)
    limit = _limit(given)
    start, end = _span(given)
    if limit is None and start is None:
        message = "limit=all: expected start_time or after beside it, was given neither"
        raise ApiError(400, "missing_parameter", message)
    return KlinesQuery(rows, start, end, limit, FORMAT.read(given))


def _rows(names: list[str], interval: str, catalog: Catalog) -> tuple[int, ...]:
    rows = tuple(catalog.row_of(name, interval) for name in names)
    if len(set(rows)) < len(rows):
        message = "symbol: expected each symbol once, one was named repeatedly"
        raise ApiError(400, "repeated_parameter", message)
    return rows


def _limit(given: dict[str, str]) -> int | None:
    if given.get(LIMIT.name) == ALL:
        return None
    return LIMIT.read(given)


def _span(given: dict[str, str]) -> tuple[int | None, int | None]:
    """Return lowest and highest open time, inclusive, of what may be given in two ways each."""
    for name, others in (
        ("before", ("start_time", "after", "end_time")),
        ("after", ("start_time",)),
    ):
        for other in others:
            if name in given and other in given:
                message = f"{name}: expected without {other}, was given with it"
                raise ApiError(400, "contradictory_parameters", message)
    start, end, before, after = (each.read(given) for each in (START_TIME, END_TIME, BEFORE, AFTER))
    if before is not None:
        return None, before - 1
    if start is not None and end is not None and start > end:
        raise bad_parameter("start_time: expected at most end_time", f"{start} > {end}")
    if after is not None and end is not None and after >= end:
        raise bad_parameter("after: expected less than end_time", f"{after} >= {end}")
    return (start if after is None else after + 1), end
