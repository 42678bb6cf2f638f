"""What the routes of UDF are asked and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.openapi.operation import Answer, Operation
from klinetrio.api.openapi.schemas import (
    array,
    integer,
    number,
    one_of,
    record,
    text,
    truth,
)
from klinetrio.api.parameters import Integer, Text
from klinetrio.api.udf import history
from klinetrio.api.udf.resolutions import RESOLUTIONS
from klinetrio.api.udf.symbols import EXCHANGE, KIND


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.openapi.schemas import Schema

TAG = "TradingView UDF"

# All symbols of the exchange.
MAX_RESULTS = 1_000


def error_schema(_codes: Sequence[str]) -> Schema:
    """Return the schema of an error: UDF has words for them, and no codes."""
    return record({"s": {"const": "error"}, "errmsg": text("For people.")})


_RESOLUTIONS = array(one_of(tuple(RESOLUTIONS)))
_UNITS = array(text())

CONFIG = Operation(
    summary="What the feed can do",
    tag=TAG,
    answers=(
        Answer(
            "The configuration.",
            record(
                {
                    "supported_resolutions": _RESOLUTIONS,
                    "supports_search": truth(),
                    "supports_group_request": truth(),
                    "supports_marks": truth(),
                    "supports_timescale_marks": truth(),
                    "supports_time": truth(),
                    "exchanges": array(record({"value": text(), "name": text(), "desc": text()})),
                    "symbols_types": array(record({"name": text(), "value": text()})),
                }
            ),
        ),
    ),
    errors=error_schema,
)

_FOUND = {
    "symbol": text("As in `BTC_USDT`."),
    "full_name": text("With the exchange before it."),
    "description": text(),
    "exchange": text(),
    "ticker": text("What to ask for its history with."),
    "type": text(),
}

SYMBOLS = Operation(
    summary="A symbol",
    tag=TAG,
    parameters=(history.SYMBOL,),
    answers=(
        Answer(
            "What a chart has to know of it.",
            record(
                {
                    **_FOUND,
                    "name": text(),
                    "listed_exchange": text(),
                    "exchange-listed": text(),
                    "exchange-traded": text(),
                    "currency_code": text(),
                    "session": text(),
                    "timezone": text(),
                    "format": text(),
                    "pricescale": integer("Ten to the power of the decimals of its prices."),
                    "minmov": integer(),
                    "minmov2": integer(),
                    "pointvalue": integer(),
                    "volume_precision": integer("Decimals of its volumes."),
                    "supported_resolutions": _RESOLUTIONS,
                    "has_intraday": truth(),
                    "intraday_multipliers": _UNITS,
                    "has_daily": truth(),
                    "daily_multipliers": _UNITS,
                    "has_weekly_and_monthly": truth(),
                    "weekly_multipliers": _UNITS,
                    "monthly_multipliers": _UNITS,
                    "visible_plots_set": text(),
                    "data_status": text(),
                },
                title="UdfSymbol",
            ),
        ),
    ),
    problems=("missing_parameter", "repeated_parameter", "bad_parameter", "unknown_symbol"),
    example="symbol={symbol}",
    errors=error_schema,
)

QUERY = Text(name="query", description="A part of a symbol's name; of all of them if empty.")
TYPE = Text(name="type", description=f"Empty or `{KIND}`; nothing is of another type.")
ON_EXCHANGE = Text(
    name="exchange", description=f"Empty or `{EXCHANGE}`; nothing is from elsewhere."
)
LIMIT = Integer(
    name="limit",
    description="The most symbols.",
    lowest=1,
    highest=MAX_RESULTS,
    default=30,
)

SEARCH = Operation(
    summary="Symbols by a part of their name",
    tag=TAG,
    parameters=(QUERY, TYPE, ON_EXCHANGE, LIMIT),
    answers=(
        Answer("Those that begin with it first.", array(record(_FOUND, title="UdfSearchResult"))),
    ),
    problems=("repeated_parameter", "bad_parameter"),
    example="query=BTC&limit=10",
    errors=error_schema,
)

_COLUMNS = {
    "s": {"const": "ok"},
    "t": array(integer(), "Open times, UTC seconds."),
    "o": array(number()),
    "h": array(number()),
    "l": array(number()),
    "c": array(number()),
    "v": array(number(), "Volumes in the base asset."),
}

_NO_DATA = record(
    {"s": {"const": "no_data"}, "nextTime": integer("Of the newest bar before the span.")},
    optional=("nextTime",),
    description="There is no bar in the span; without `nextTime` none before it, either.",
)

HISTORY = Operation(
    summary="Bars",
    tag=TAG,
    description=(
        "The bars that open in `[from, to)`, or `countback` bars before `to`, whatever `from` says;"
        f" ascending, the last one may be open, of more than {history.MAX_BARS} the newest."
    ),
    parameters=history.PARAMETERS,
    answers=(
        Answer(
            "Columns, or that there are none.",
            {"anyOf": [record(_COLUMNS, title="UdfBars"), _NO_DATA]},
            example={
                "s": "ok",
                "t": [1795228980],
                "o": [92666.3],
                "h": [92667.9],
                "l": [92664.2],
                "c": [92666.6],
                "v": [6.643],
            },
        ),
    ),
    problems=(
        "missing_parameter",
        "repeated_parameter",
        "bad_parameter",
        "unknown_symbol",
        "unknown_interval",
        "store_unavailable",
    ),
    example="symbol={symbol}&resolution=1&countback=3",
    errors=error_schema,
)

TIME = Operation(
    summary="The exchange's time",
    tag=TAG,
    answers=(Answer("UTC seconds.", others={"text/plain": text(pattern="^[0-9]+$")}),),
    errors=error_schema,
)
