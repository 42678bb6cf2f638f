"""Query strings: strict, so that a mistyped name is an error and not a default."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import attrs

from klinetrio.api.problems import ApiError, quoted


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.names import Catalog

# The longest sensible one is under 200 bytes, percent-encoded symbols included.
MAX_QUERY = 2048

MAX_LIMIT = 1500
DEFAULT_LIMIT = 100

# 9999-12-31T23:59:59.999Z, the last moment that calendars here can tell.
MAX_TIME_MS = 253_402_300_799_999


@attrs.frozen
class KlinesQuery:
    """What ``GET /api/v1/klines`` asks for.

    Attributes:
        row: The series.
        start: Lowest open time, inclusive.
        end: Highest open time, inclusive.
        limit: How many bars at most.
    """

    row: int
    start: int | None
    end: int | None
    limit: int


def parse_query(raw: bytes, allowed: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a query string.

    Raises:
        ApiError: Not UTF-8, a name that is not allowed, or one that comes twice.
    """
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, strict_parsing=bool(raw), errors="strict"
        )
    except ValueError:
        raise _bad("expected a query string name=value&..., in UTF-8", raw) from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            expected = f"one of {', '.join(allowed)}" if allowed else "no parameters"
            raise ApiError(400, "unknown_parameter", f"expected {expected}, was {quoted(name)}")
        if name in parameters:
            message = f"{name}: expected once, was given repeatedly"
            raise ApiError(400, "repeated_parameter", message)
        parameters[name] = value
    return parameters


def parse_klines_query(raw: bytes, catalog: Catalog) -> KlinesQuery:
    """Return what a query string of ``/api/v1/klines`` asks for.

    Raises:
        ApiError: Anything about it is not as expected.
    """
    given = parse_query(raw, ("symbol", "interval", "limit", "start_time", "end_time"))
    for name in ("symbol", "interval"):
        if name not in given:
            raise ApiError(400, "missing_parameter", f"{name}: expected a value, was not given")
    row = catalog.row_of(given["symbol"], given["interval"])
    limit = _integer(given, "limit", lowest=1, highest=MAX_LIMIT)
    start = _integer(given, "start_time", lowest=0, highest=MAX_TIME_MS)
    end = _integer(given, "end_time", lowest=0, highest=MAX_TIME_MS)
    if start is not None and end is not None and start > end:
        raise _bad("start_time: expected at most end_time", f"{start} > {end}")
    return KlinesQuery(row, start, end, DEFAULT_LIMIT if limit is None else limit)


def _integer(given: dict[str, str], name: str, *, lowest: int, highest: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(highest))
    if not (is_number and lowest <= int(text) <= highest):
        raise _bad(f"{name}: expected an integer from {lowest} to {highest}", text)
    return int(text)


def _bad(expected: str, given: str | bytes) -> ApiError:
    return ApiError(400, "bad_parameter", f"{expected}, was {quoted(given)}")
