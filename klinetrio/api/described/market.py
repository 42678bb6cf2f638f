"""The routes of v1 that serve the market."""

from __future__ import annotations

from klinetrio.api.openapi import schemas
from klinetrio.api.openapi.operation import Answer, Operation
from klinetrio.api.parameters import Integer
from klinetrio.api.selection import MAX_TIME_MS, PARAMETERS
from klinetrio.domain.interval import INTERVALS
from klinetrio.formats.encoder import MEDIA_TYPES


TAG = "Market"

KLINE = schemas.record(
    {
        "symbol": schemas.text("As in `BTC_USDT`."),
        "interval": schemas.one_of(tuple(INTERVALS)),
        "open_time": schemas.time_ms("Its first millisecond."),
        "close_time": schemas.time_ms("Its last millisecond."),
        "open": schemas.decimal("Price of the first trade; without one, the last close."),
        "high": schemas.decimal(),
        "low": schemas.decimal(),
        "close": schemas.decimal("Price of the last trade."),
        "volume": schemas.decimal("In the base asset."),
        "quote_volume": schemas.decimal("In the quote asset."),
        "trade_count": schemas.integer(minimum=0),
        "taker_buy_volume": schemas.decimal("Of trades in which the buyer was the taker."),
        "taker_buy_quote_volume": schemas.decimal(),
        "is_final": schemas.truth("Its time is up; it changes only with a higher `revision`."),
        "is_complete": schemas.truth(
            "Proved: no trade is missing, by contiguous ids or by the exchange's own kline."
        ),
        "origin": schemas.one_of(
            ("live", "backfilled", "settled"),
            "From trades; at least in part from the exchange's klines; compared, and replaced by"
            " the exchange's kline.",
        ),
        "revision": schemas.integer("Grows when a final bar is corrected.", minimum=0),
    },
    title="Kline",
)

_KLINE_EXAMPLE = {
    "symbol": "BTC_USDT",
    "interval": "1m",
    "open_time": 1795228980000,
    "close_time": 1795229039999,
    "open": "92666.30",
    "high": "92667.90",
    "low": "92664.20",
    "close": "92666.60",
    "volume": "6.643",
    "quote_volume": "615582.56230",
    "trade_count": 4971,
    "taker_buy_volume": "3.884",
    "taker_buy_quote_volume": "359916.19540",
    "is_final": False,
    "is_complete": True,
    "origin": "live",
    "revision": 0,
}

KLINES = Operation(
    summary="Klines of one symbol or several",
    tag=TAG,
    description=(
        "Ascending by open time, of all symbols one after the other. Which bars:\n\n"
        "The last ones: without any time, or with `end_time` or `before`.\n\n"
        "The first ones: from `start_time` on or after `after`, perhaps up to `end_time`.\n\n"
        "All of a span: `limit=all` with `start_time` or `after`, perhaps up to `end_time`. Such an"
        " answer is streamed; one that cannot be finished is broken off without its end."
    ),
    parameters=PARAMETERS,
    answers=(
        Answer(
            "The bars; the last one may still be open.",
            schemas.array(KLINE),
            example=[_KLINE_EXAMPLE],
            others={
                MEDIA_TYPES["csv"]: schemas.text("A header row, then a line per bar."),
                MEDIA_TYPES["arrow"]: None,
            },
        ),
    ),
    problems=(
        "missing_parameter",
        "unknown_parameter",
        "repeated_parameter",
        "bad_parameter",
        "contradictory_parameters",
        "unknown_symbol",
        "unknown_interval",
        "not_acceptable",
        "format_unavailable",
        "store_unavailable",
        "too_many_streams",
        "http_version",
    ),
    example="symbol={symbol}&interval=1m&limit=3",
)

# What every route without parameters refuses.
NO_PARAMETERS = ("unknown_parameter", "bad_parameter")

SYMBOLS = Operation(
    summary="The symbols that are followed",
    tag=TAG,
    answers=(
        Answer(
            "All of them.",
            schemas.array(
                schemas.record(
                    {
                        "symbol": schemas.text("The name in this interface, as in `BTC_USDT`."),
                        "exchange_symbol": schemas.text("The exchange's name, as in `BTCUSDT`."),
                        "base": schemas.text("Base asset."),
                        "quote": schemas.text("Quote asset."),
                        "price_decimals": schemas.integer(minimum=0),
                        "quantity_decimals": schemas.integer(minimum=0),
                        "quote_decimals": schemas.integer("Of quote volumes.", minimum=0),
                        "listing_time": schemas.time_ms(),
                    },
                    title="Symbol",
                )
            ),
            example=[
                {
                    "symbol": "BTC_USDT",
                    "exchange_symbol": "BTCUSDT",
                    "base": "BTC",
                    "quote": "USDT",
                    "price_decimals": 2,
                    "quantity_decimals": 3,
                    "quote_decimals": 5,
                    "listing_time": 1567965300000,
                }
            ],
        ),
    ),
    problems=NO_PARAMETERS,
)

_LENGTH = schemas.or_null(schemas.integer("Null for `1M`, which follows the calendar."))

KEPT_INTERVALS = Operation(
    summary="The intervals that are kept",
    tag=TAG,
    answers=(
        Answer(
            "All of them, shortest first.",
            schemas.array(
                schemas.record(
                    {"interval": schemas.one_of(tuple(INTERVALS)), "length_ms": _LENGTH},
                    title="Interval",
                )
            ),
            example=[{"interval": "1m", "length_ms": 60000}],
        ),
    ),
    problems=NO_PARAMETERS,
)

SINCE = Integer(
    name="since",
    description="The `generation` of an earlier answer: only what has changed since is answered.",
    highest=MAX_TIME_MS,
)

_TICKER = schemas.record(
    {
        "symbol": schemas.text("As in `BTC_USDT`."),
        "price": schemas.or_null(schemas.decimal("Of the newest trade.")),
        "price_change": schemas.or_null(schemas.change("Over the last 24 hours, as all below.")),
        "price_change_percent": schemas.or_null(schemas.change()),
        "open": schemas.or_null(schemas.decimal()),
        "high": schemas.or_null(schemas.decimal()),
        "low": schemas.or_null(schemas.decimal()),
        "volume": schemas.or_null(schemas.decimal("In the base asset.")),
        "quote_volume": schemas.or_null(schemas.decimal("In the quote asset.")),
        "trade_count": schemas.or_null(schemas.integer(minimum=0)),
        "last_trade_time": schemas.or_null(schemas.time_ms()),
        "state": schemas.one_of(
            ("live", "down", "seeding", "halted"),
            "Live; its stream is not connected; its past is not known yet; it takes no more trades.",
        ),
        "is_complete": schemas.truth("Of the open bar of the shortest interval."),
    },
    title="Ticker",
    description="What is not known, or not yet, is null.",
)

TICKERS = Operation(
    summary="Price, last 24 hours and state of every symbol",
    tag=TAG,
    parameters=(SINCE,),
    answers=(
        Answer(
            "All symbols, or those that have changed.",
            schemas.record(
                {
                    "time": schemas.time_ms("The exchange's time."),
                    "generation": schemas.integer("To ask with, the next time.", minimum=0),
                    "tickers": schemas.array(_TICKER),
                }
            ),
        ),
    ),
    problems=("unknown_parameter", "repeated_parameter", "bad_parameter"),
)
