"""What a REST call asks for, checked as Binance checks it.

The codes are Binance's; where a source saw the very case it is noted, elsewhere it is the
documented meaning of the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.interval import INTERVALS, Interval


if TYPE_CHECKING:
    from collections.abc import Mapping

    from klinetrio.sim.ledger import Book, Ledger

KLINES_LIMIT = 500
MAX_KLINES_LIMIT = 1500
AGG_TRADES_LIMIT = 500
MAX_AGG_TRADES_LIMIT = 1000

LASTING_CONTRACTS = ("PERPETUAL", "TRADIFI_PERPETUAL")
CONTRACT_TYPES = (
    *LASTING_CONTRACTS,
    "CURRENT_MONTH",
    "NEXT_MONTH",
    "CURRENT_QUARTER",
    "NEXT_QUARTER",
)

# Numbers longer than this are "illegal characters" to Binance: '^[0-9]{1,20}$'.
_MAX_DIGITS = 20


class BadRequestError(Exception):
    """The call is refused with HTTP 400; carries Binance's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@attrs.frozen
class Window:
    """Which rows are wanted: bounds inclusive."""

    start: int | None
    end: int | None
    limit: int


def parse_book(ledger: Ledger, args: Mapping[str, str]) -> Book:
    """Return the book of ``symbol``; lower case is accepted (measured)."""
    name = _mandatory(args, "symbol")
    for candidate in (name, name.upper()):
        try:
            return ledger.book(candidate)
        except KeyError:
            continue
    raise BadRequestError(-1121, "Invalid symbol.")


def parse_contract(ledger: Ledger, args: Mapping[str, str]) -> Book | None:
    """Return the book of ``pair`` and ``contractType``, None if there is no such contract.

    Quarters are not told: their contracts of before would have to be joined.
    """
    pair, kind = _mandatory(args, "pair").upper(), _mandatory(args, "contractType")
    books = [ledger.book(each.name) for each in ledger.instruments]
    of_pair = [each for each in books if each.instrument.name.partition("_")[0] == pair]
    if not of_pair:
        raise BadRequestError(-1121, "Invalid symbol.")
    if kind not in CONTRACT_TYPES:
        raise BadRequestError(-1130, "Data sent for parameter 'contractType' is not valid.")
    wanted = kind if kind in LASTING_CONTRACTS else None
    return next((each for each in of_pair if each.instrument.contract_type == wanted), None)


def parse_interval(args: Mapping[str, str]) -> Interval:
    """Return the interval; case counts (``1m`` is a minute, ``1M`` a month)."""
    try:
        return INTERVALS[_mandatory(args, "interval")]
    except KeyError:
        # 1s is refused alike (measured).
        raise BadRequestError(-1120, "Invalid interval.") from None


def parse_window(args: Mapping[str, str], *, default: int, highest: int) -> Window:
    """Return ``startTime``, ``endTime`` and ``limit``."""
    start, end = parse_number(args, "startTime"), parse_number(args, "endTime")
    limit = parse_number(args, "limit")
    if limit is None:
        limit = default
    if not 1 <= limit <= highest:
        raise BadRequestError(-1130, "Data sent for parameter 'limit' is not valid.")
    if start is not None and end is not None and start > end:
        raise BadRequestError(-1023, "Start time is greater than end time.")
    return Window(start, end, limit)


def parse_number(args: Mapping[str, str], name: str) -> int | None:
    """Return an optional parameter that is a number."""
    text = args.get(name)
    if text is None:
        return None
    if not text:
        raise BadRequestError(-1105, f"Parameter '{name}' was empty.")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise BadRequestError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return int(text)


def _mandatory(args: Mapping[str, str], name: str) -> str:
    text = args.get(name)
    if not text:
        raise BadRequestError(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        )
    return text
