"""REST of the simulated exchange: eight routes of ``/fapi/v1``, with Binance's semantics.

Invariants:
  I1  every answer of a known route carries ``X-MBX-USED-WEIGHT-1M``; refused calls are charged.
  I2  rows ascend; both time bounds are inclusive; the first rows from ``startTime`` on if it is
      given, else the last ones.
  I3  klines end with the open bar, and hold every trade up to now.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio
from quart import Response, request
from quart_trio import QuartTrio

from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.interval import HOUR
from klinetrio.sim.instruments import exchange_info
from klinetrio.sim.rest_params import (
    AGG_TRADES_LIMIT,
    KLINES_LIMIT,
    MAX_AGG_TRADES_LIMIT,
    MAX_KLINES_LIMIT,
    BadRequestError,
    parse_book,
    parse_contract,
    parse_interval,
    parse_number,
    parse_window,
)
from klinetrio.sim.tickers import day_ticker, price_ticker
from klinetrio.sim.weight import AGG_TRADES_WEIGHT, RateLimits, WeightMeter, klines_weight


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.sim.ledger import Book, Ledger
    from klinetrio.sim.tape import SimTrade

    Args = dict[str, str]

# REST serves aggregate trades of the last two days only.
AGG_TRADES_WINDOW = 48 * HOUR

_TOO_MANY = -1003


@attrs.define
class RestFailure:
    """A fault: how the next calls are answered.

    Attributes:
        status: HTTP status; ``None`` never answers.
        body: The answer's body.
        left: How many more calls.
        headers: Further headers, as ``Retry-After``.
        route: Only calls of this route, as in ``klines``; ``None`` is all.
    """

    status: int | None
    body: bytes
    left: int
    headers: dict[str, str]
    route: str | None = None


@attrs.define
class RestExchange:
    """State and routes of the REST side.

    Attributes:
        calls: Calls by route.
        failures: Faults to come, oldest first.
        closing: Set when the exchange closes; calls that would never be answered end then.
    """

    ledger: Ledger
    limits: RateLimits = attrs.field(factory=RateLimits)
    meter: WeightMeter = attrs.field(init=False)
    calls: Counter[str] = attrs.field(factory=Counter, init=False)
    failures: list[RestFailure] = attrs.field(factory=list, init=False)
    closing: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.meter = WeightMeter(self.ledger.clock, self.limits)

    def make_app(self) -> QuartTrio:
        """Return the ASGI application."""
        app = QuartTrio("klinetrio.sim")
        routes: dict[str, tuple[Callable[[Args], Any], Callable[[Args], int]]] = {
            "ping": (lambda _: {}, _one),
            "time": (self._time, _one),
            "exchangeInfo": (self._exchange_info, _one),
            "klines": (self._klines, _weigh_klines),
            "continuousKlines": (self._continuous_klines, _weigh_klines),
            "aggTrades": (self._agg_trades, lambda _: AGG_TRADES_WEIGHT),
            "ticker/price": (self._prices, lambda args: 1 if "symbol" in args else 2),
            "ticker/24hr": (self._days, lambda args: 1 if "symbol" in args else 40),
        }

        async def serve(route: str) -> Response:
            if route not in routes:
                return _error(404, -5000, f"Path /fapi/v1/{route}, Method GET is invalid")
            return await self._serve(route, *routes[route])

        app.add_url_rule("/fapi/v1/<path:route>", view_func=serve)
        return app

    async def _serve(
        self, route: str, answer: Callable[[Args], Any], weigh: Callable[[Args], int]
    ) -> Response:
        args = request.args.to_dict()
        self.calls[route] += 1
        response = await self._fail(route)
        if response is None:
            refusal = self.meter.charge(weigh(args))
            if refusal is not None:
                response = _error(refusal.status, _TOO_MANY, refusal.message)
                if refusal.retry_after_s is not None:
                    response.headers["Retry-After"] = str(refusal.retry_after_s)
            else:
                self.ledger.catch_up()
                response = _answer(answer, args)
        response.headers["X-MBX-USED-WEIGHT-1M"] = str(self.meter.used)
        return response

    async def _fail(self, route: str) -> Response | None:
        """Return the answer of the first fault that is meant for this call."""
        failure = next((each for each in self.failures if each.route in {None, route}), None)
        if failure is None:
            return None
        failure.left -= 1
        if failure.left <= 0:
            self.failures.remove(failure)
        if failure.status is None:
            await self.closing.wait()
            return _error(503, -1001, "Internal error; unable to process your request.")
        response = Response(failure.body, status=failure.status, content_type="application/json")
        response.headers.update(failure.headers)
        return response

    def _time(self, _: Args) -> Any:
        return {"serverTime": self.ledger.clock.told_ms()}

    def _exchange_info(self, _: Args) -> Any:
        return exchange_info(self.ledger.instruments, self.ledger.clock.told_ms())

    def _klines(self, args: Args) -> Any:
        return self._bars(parse_book(self.ledger, args), args)

    def _continuous_klines(self, args: Args) -> Any:
        return self._bars(parse_contract(self.ledger, args), args)

    def _bars(self, book: Book | None, args: Args) -> Any:
        interval = parse_interval(args)
        window = parse_window(args, default=KLINES_LIMIT, highest=MAX_KLINES_LIMIT)
        if book is None:
            return []
        symbol = book.instrument.symbol
        rows = self.ledger.bars(symbol.name, interval, window.start, window.end, window.limit)
        return [_kline_row(row, symbol, interval) for row in rows.tolist()]

    def _prices(self, args: Args) -> Any:
        return self._tickers(args, price_ticker)

    def _days(self, args: Args) -> Any:
        return self._tickers(args, day_ticker)

    def _tickers(self, args: Args, ticker: Callable[[Ledger, Book], Any]) -> Any:
        if "symbol" in args:
            return ticker(self.ledger, parse_book(self.ledger, args))
        trading = [each for each in self.ledger.instruments if each.is_trading]
        return [ticker(self.ledger, self.ledger.book(each.name)) for each in trading]

    def _agg_trades(self, args: Args) -> Any:
        book = parse_book(self.ledger, args)
        window = parse_window(args, default=AGG_TRADES_LIMIT, highest=MAX_AGG_TRADES_LIMIT)
        from_id = parse_number(args, "fromId")
        oldest = self.ledger.clock.now_ms() - AGG_TRADES_WINDOW
        if from_id is None:
            if any(each is not None and each < oldest for each in (window.start, window.end)):
                raise _too_old()
            # Without a start the answer are the last trades, as far as the window reaches back.
            trades = book.tape.between(window.start, window.end, window.limit)
            trades = [each for each in trades if each.time >= oldest]
        elif window.start is not None or window.end is not None:
            raise BadRequestError(-1128, "Combination of optional parameters invalid.")
        else:
            trades = book.tape.from_id(from_id, window.limit)
            if trades and trades[0].time < oldest:
                raise _too_old()
        return [_trade_row(each, book.instrument.symbol) for each in trades]


def _one(_: Args) -> int:
    return 1


def _weigh_klines(args: Args) -> int:
    limit = args.get("limit", "")
    # A limit that is no number is refused at the price of none.
    return klines_weight(int(limit) if limit.isascii() and limit.isdigit() else None)


def _answer(answer: Callable[[Args], Any], args: Args) -> Response:
    try:
        body = orjson.dumps(answer(args))
    except BadRequestError as error:
        return _error(400, error.code, error.message)
    return Response(body, content_type="application/json")


def _error(status: int, code: int, message: str) -> Response:
    body = orjson.dumps({"code": code, "msg": message})
    return Response(body, status=status, content_type="application/json")


def _too_old() -> BadRequestError:
    return BadRequestError(-4166, "Search window is restricted to recent 2 days only.")


def _kline_row(row: list[int], symbol: Symbol, interval: Interval) -> list[int | str]:
    """Return Binance's array of twelve: the last one means nothing."""
    open_time, *prices = row[:5]
    volume, quote_volume, count, taker, taker_quote = row[5:10]
    return [
        open_time,
        *(format_scaled(each, symbol.price_scale) for each in prices),
        format_scaled(volume, symbol.quantity_scale),
        interval.close_of(open_time),
        format_scaled(quote_volume, symbol.quote_scale),
        count,
        format_scaled(taker, symbol.quantity_scale),
        format_scaled(taker_quote, symbol.quote_scale),
        "0",
    ]


def _trade_row(trade: SimTrade, symbol: Symbol) -> dict[str, Any]:
    return {
        "a": trade.agg_id,
        "p": format_scaled(trade.price, symbol.price_scale),
        "q": format_scaled(trade.quantity, symbol.quantity_scale),
        "nq": format_scaled(trade.normal_quantity, symbol.quantity_scale),
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.time,
        "m": trade.buyer_is_maker,
    }
