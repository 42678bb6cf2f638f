"""What the routes of ``/fapi/v1`` are asked and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.fapi import trades
from klinetrio.api.fapi.weight import HEADER
from klinetrio.api.openapi.operation import Answer, Operation
from klinetrio.api.openapi.schemas import array, change, decimal, integer, record, text, truth
from klinetrio.api.parameters import Integer, Text
from klinetrio.domain.interval import INTERVALS


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.openapi.schemas import Schema
    from klinetrio.api.parameters import Parameter

TAG = "As the exchange has it"

KLINES_LIMIT = 500
MAX_KLINES_LIMIT = 1500

# The exchange takes up to twenty digits for a number; so many fit a document.
_HIGHEST = 2**63 - 1


def error_schema(_codes: Sequence[str]) -> Schema:
    """Return the schema of an error in the exchange's form."""
    return record({"code": integer(), "msg": text("For people.")}, title="FapiError")


SYMBOL = Text(name="symbol", description="As in `BTCUSDT`, in any case.", required=True)
ANY_SYMBOL = Text(name="symbol", description="One symbol; a list of all without it.")
PAIR = Text(name="pair", description="As in `BTCUSDT`.", required=True)
CONTRACT_TYPE = Text(
    name="contractType",
    description="Of contracts of quarters and months there are no rows.",
    values=(
        "PERPETUAL",
        "TRADIFI_PERPETUAL",
        "CURRENT_QUARTER",
        "NEXT_QUARTER",
        "CURRENT_MONTH",
        "NEXT_MONTH",
    ),
    required=True,
)
INTERVAL = Text(
    name="interval",
    description="One that is kept, or that kept ones make up.",
    values=tuple(INTERVALS),
    required=True,
)
START_TIME = Integer(
    name="startTime", description="The first rows from here on, inclusive.", highest=_HIGHEST
)
END_TIME = Integer(name="endTime", description="Up to here, inclusive.", highest=_HIGHEST)
FROM_ID = Integer(name="fromId", description="Rows from this id on.", highest=_HIGHEST)


def _limit(default: int, highest: int) -> Integer:
    return Integer(
        name="limit", description="The most rows.", lowest=1, highest=highest, default=default
    )


def _operation(
    summary: str,
    schema: Schema,
    *parameters: Parameter,
    description: str = "",
    problems: Sequence[str] = (),
    example: str = "",
) -> Operation:
    weight = {HEADER: text("What the minute would weigh at the exchange.", pattern="^[0-9]+$")}
    answers = [Answer("As the exchange answers.", schema, headers=weight)]
    if parameters:
        words = "Refused, with the exchange's code."
        answers.append(Answer(words, error_schema(()), status=400, headers=weight))
    return Operation(
        summary=summary,
        tag=TAG,
        answers=tuple(answers),
        description=description,
        parameters=parameters,
        problems=problems,
        example=example,
        errors=error_schema,
    )


_ROWS = array(
    array({"type": ["integer", "string"]}, minItems=12, maxItems=12),
    "Each: open time, open, high, low, close, volume, close time, quote volume, number of trades,"
    " taker buy volume, taker buy quote volume, `0`.",
)
_WINDOW = (START_TIME, END_TIME, _limit(KLINES_LIMIT, MAX_KLINES_LIMIT))

_TRADE = record(
    {
        "a": integer("Its id."),
        "p": decimal("Price."),
        "q": decimal("Quantity."),
        "nq": decimal("Of it, without RPI orders; if the exchange told."),
        "f": integer("Id of the first fill."),
        "l": integer("Id of the last fill."),
        "T": integer("Time."),
        "m": truth("Whether the buyer was the maker."),
    },
    title="FapiTrade",
    optional=("nq",),
)

_PRICE = record({"symbol": text(), "price": decimal(), "time": integer()}, title="FapiPrice")

_DAY = record(
    {
        "symbol": text(),
        "priceChange": change(),
        "priceChangePercent": change(),
        "weightedAvgPrice": decimal(),
        "lastPrice": decimal(),
        "lastQty": decimal(),
        "openPrice": decimal(),
        "highPrice": decimal(),
        "lowPrice": decimal(),
        "volume": decimal(),
        "quoteVolume": decimal(),
        "openTime": integer(),
        "closeTime": integer(),
        "firstId": integer(),
        "lastId": integer(),
        "count": integer(),
    },
    title="FapiDay",
)


def _one_or_all(schema: Schema) -> Schema:
    return {"anyOf": [schema, array(schema)]}


OPERATIONS = {
    "ping": _operation("Whether it answers", record({})),
    "time": _operation("The exchange's time", record({"serverTime": integer()})),
    "exchangeInfo": _operation(
        "The symbols that are followed",
        record({"timezone": text(), "serverTime": integer(), "symbols": array({"type": "object"})}),
        description="As the exchange listed them at the start, with whatever else it said then.",
    ),
    "klines": _operation(
        "Klines of a symbol",
        _ROWS,
        SYMBOL,
        INTERVAL,
        *_WINDOW,
        problems=("store_unavailable",),
        example="symbol=BTCUSDT&interval=2h&limit=3",
    ),
    "continuousKlines": _operation(
        "Klines of a pair's contract",
        _ROWS,
        PAIR,
        CONTRACT_TYPE,
        INTERVAL,
        *_WINDOW,
        problems=("store_unavailable",),
        example="pair=BTCUSDT&contractType=PERPETUAL&interval=1m&limit=3",
    ),
    "aggTrades": _operation(
        "The newest trades of a symbol",
        array(_TRADE),
        SYMBOL,
        FROM_ID,
        START_TIME,
        END_TIME,
        _limit(trades.DEFAULT_LIMIT, trades.MAX_LIMIT),
        description="From memory; what is not held is refused with -4166.",
        example="symbol=BTCUSDT&limit=3",
    ),
    "ticker/price": _operation(
        "The newest price", _one_or_all(_PRICE), ANY_SYMBOL, example="symbol=BTCUSDT"
    ),
    "ticker/24hr": _operation(
        "The last 24 hours",
        _one_or_all(_DAY),
        ANY_SYMBOL,
        problems=("store_unavailable",),
        example="symbol=BTCUSDT",
    ),
}
"""By the route below ``/fapi/v1``."""
