"""What a request under ``/fapi/v1`` asks for, checked as the exchange checks it.

Parameters that are not known are ignored, and of a repeated one the first counts.  Symbols are taken
in any ASCII case (measured), and by their public name as everywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.api.derived import source_of
from klinetrio.api.fapi.errors import FapiError
from klinetrio.api.problems import ApiError
from klinetrio.domain.interval import INTERVALS


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.api.names import Catalog
    from klinetrio.domain.interval import Interval

    Given = Mapping[str, str]

# To the exchange a longer number is not one: its legal range is '^[0-9]{1,20}$'.
_MAX_DIGITS = 20


@attrs.frozen
class Window:
    """Which rows are wanted; both times inclusive."""

    start: int | None
    end: int | None
    limit: int


def symbol_index(given: Given, catalog: Catalog) -> int:
    """Return which symbol is asked for.

    Raises:
        FapiError: None is, or one that is not followed.
    """
    return index_of(mandatory(given, "symbol"), catalog)


def index_of(name: str, catalog: Catalog) -> int:
    """Return the index of a symbol.

    Raises:
        FapiError: It is not followed.
    """
    try:
        return catalog.row_of(name, catalog.intervals[0].name) // len(catalog.intervals)
    except ApiError:
        raise FapiError(-1121, "Invalid symbol.") from None


def interval(given: Given, kept: Sequence[Interval]) -> Interval:
    """Return which interval is asked for; case counts, ``1M`` is a month.

    Raises:
        FapiError: The exchange has no such interval, or the kept ones do not make it up.
    """
    wanted = INTERVALS.get(mandatory(given, "interval"))
    if wanted is None:
        raise FapiError(-1120, "Invalid interval.")
    if source_of(wanted, kept) is None:
        held = " ".join(each.name for each in kept)
        raise FapiError(-1120, f"Invalid interval: it is not made up of a kept one ({held}).")
    return wanted


def window(given: Given, *, default: int, highest: int) -> Window:
    """Return times and limit.

    Raises:
        FapiError: One is no number, the limit out of bounds, or the times the wrong way round.
    """
    start, end = number(given, "startTime"), number(given, "endTime")
    limit = number(given, "limit")
    if limit is None:
        limit = default
    if not 1 <= limit <= highest:
        raise not_valid("limit")
    if start is not None and end is not None and start > end:
        raise FapiError(-1023, "Start time is greater than end time.")
    return Window(start, end, limit)


def number(given: Given, name: str) -> int | None:
    """Return a number, None if it is not given.

    Raises:
        FapiError: It is empty, or none.
    """
    text = given.get(name)
    if text is None:
        return None
    if not text:
        raise FapiError(-1105, f"Parameter '{name}' was empty.")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        legal = f"^[0-9]{{1,{_MAX_DIGITS}}}$"
        message = f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
        raise FapiError(-1100, message)
    return int(text)


def mandatory(given: Given, name: str) -> str:
    """Return a text that has to be there.

    Raises:
        FapiError: It is not, or empty.
    """
    text = given.get(name)
    if not text:
        message = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        raise FapiError(-1102, message)
    return text


def not_valid(name: str) -> FapiError:
    """Return the error of a value that is out of bounds."""
    return FapiError(-1130, f"Data sent for parameter '{name}' is not valid.")
