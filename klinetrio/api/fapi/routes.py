"""The routes of ``/fapi``.

Invariants (tested in tests/api/fapi and tests/e2e/test_same_as_exchange.py):
  I1  The same request gets the same body as at the exchange, as far as what it asks for is held.
  I2  Every answer of a known route carries the weight of the minute.
  I3  Whatever is refused is refused in the exchange's form.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import orjson
import trio
from quart import Response, request

from klinetrio.api import derived
from klinetrio.api.board import SYMBOLS_PER_STEP
from klinetrio.api.fapi import parameters, tickers, trades, weight
from klinetrio.api.fapi.described import KLINES_LIMIT, MAX_KLINES_LIMIT, OPERATIONS
from klinetrio.api.fapi.errors import DISCONNECTED, UNSUPPORTED, FapiError, refusal
from klinetrio.api.fapi.info import ExchangeInfo
from klinetrio.api.fapi.rows import encode
from klinetrio.api.openapi.operation import describe
from klinetrio.api.pages import in_time
from klinetrio.api.problems import ApiError
from klinetrio.api.replies import JSON


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from quart import Quart

    from klinetrio.api.board import Board, TickerBoard
    from klinetrio.api.names import Catalog, OpenMarket
    from klinetrio.api.ports import Market

    Given = Mapping[str, str]


@attrs.frozen
class Route:
    """One route: how it is answered, and what it weighs."""

    answer: Callable[[Answers, Given], Awaitable[bytes]]
    weigh: Callable[[Given], int]


def add_fapi_routes(app: Quart, opened: OpenMarket, board: TickerBoard) -> None:
    """Add everything under ``/fapi`` to ``app``."""
    meter, turn = weight.WeightMeter(), trio.Lock()
    known: list[Answers] = []

    def answers() -> Answers:
        market = opened.market
        if not known or known[0].market is not market:
            known[:] = [Answers(market, opened.catalog, board.of(market), turn)]
        return known[0]

    async def serve(route: Route) -> Response:
        given = request.args.to_dict()
        used = meter.charge(route.weigh(given), opened.market.now_ms())
        try:
            reply = Response(await route.answer(answers(), given), content_type=JSON)
        except FapiError as error:
            reply = error.reply()
        except ApiError as error:
            reply = refusal(error, request.path, request.method)
        reply.headers[weight.HEADER] = str(used)
        return reply

    for name, route in _ROUTES.items():
        for version in _VERSIONS.get(name, ("v1",)):
            path = f"/fapi/{version}/{name}"
            view = describe(OPERATIONS[name])(partial(serve, route))
            app.add_url_rule(path, path, view)


class Answers:
    """What is answered of one market.

    Args:
        market: Where the bars and trades are.
        catalog: Its names.
        board: Its tickers.
        turn: Held while bars are turned into text.
    """

    def __init__(self, market: Market, catalog: Catalog, board: Board, turn: trio.Lock) -> None:
        self.market = market
        self._catalog = catalog
        self._board = board
        self._turn = turn
        self._info = ExchangeInfo(market.listing)

    async def ping(self, _: Given) -> bytes:
        """Return nothing."""
        return b"{}"

    async def time(self, _: Given) -> bytes:
        """Return the exchange's time."""
        return orjson.dumps({"serverTime": self.market.now_ms()})

    async def exchange_info(self, _: Given) -> bytes:
        """Return what the exchange said of the symbols that are followed."""
        return self._info.body(self.market.now_ms())

    async def klines(self, given: Given) -> bytes:
        """Return bars of one symbol."""
        return await self._klines(parameters.symbol_index(given, self._catalog), given)

    async def continuous_klines(self, given: Given) -> bytes:
        """Return bars of the contract of a pair."""
        pair = parameters.mandatory(given, "pair")
        contract_type = parameters.mandatory(given, "contractType")
        return await self._klines(self._info.continuous(pair, contract_type), given)

    async def _klines(self, index: int | None, given: Given) -> bytes:
        interval = parameters.interval(given, self.market.intervals)
        window = parameters.window(given, default=KLINES_LIMIT, highest=MAX_KLINES_LIMIT)
        if index is None:
            return b"[]"
        with in_time():
            bars = await derived.klines(
                self.market,
                index,
                interval,
                start=window.start,
                end=window.end,
                limit=window.limit,
            )
            return await encode(bars, self.market.symbols[index], interval, self._turn)

    async def agg_trades(self, given: Given) -> bytes:
        """Return the newest trades of one symbol."""
        index = parameters.symbol_index(given, self._catalog)
        window = parameters.window(given, default=trades.DEFAULT_LIMIT, highest=trades.MAX_LIMIT)
        from_id = parameters.number(given, "fromId")
        held = self.market.recent_trades(index)
        chosen = trades.choose(held, window, from_id)
        symbol = self.market.symbols[index]
        return orjson.dumps([trades.trade_row(each, symbol) for each in chosen])

    async def ticker_price(self, given: Given) -> bytes:
        """Return the price of one symbol, or a list of all."""
        states = self.market.states()
        one = self._one(given)
        chosen = range(len(states)) if one is None else [one]
        rows = [tickers.price_of(self._board, each, states[each]) for each in chosen]
        return _one_or_all(rows, is_one=one is not None)

    async def ticker_day(self, given: Given) -> bytes:
        """Return the last 24 hours of one symbol, or a list of all."""
        one = self._one(given)
        if not self._board.day.is_possible:
            message = "This operation is not supported: no interval is kept that makes up an hour."
            raise FapiError(UNSUPPORTED, message)
        chosen = list(range(len(self.market.symbols))) if one is None else [one]
        with in_time():
            await self._board.load(chosen)
        states = self.market.states()
        rows: list[dict[str, Any] | None] = []
        for first in range(0, len(chosen), SYMBOLS_PER_STEP):
            step = chosen[first : first + SYMBOLS_PER_STEP]
            days = self._board.day.bars(step)
            rows += [
                tickers.day_of(self._board, index, day, states[index])
                for index, day in zip(step, days, strict=True)
            ]
            await trio.lowlevel.checkpoint()
        return _one_or_all(rows, is_one=one is not None)

    def _one(self, given: Given) -> int | None:
        """Return which symbol is asked for, None for all."""
        return parameters.symbol_index(given, self._catalog) if "symbol" in given else None


def _one_or_all(rows: list[dict[str, Any] | None], *, is_one: bool) -> bytes:
    """Return one ticker, or a list of those that are known."""
    if not is_one:
        return orjson.dumps([row for row in rows if row is not None])
    if rows[0] is None:
        raise FapiError(DISCONNECTED, "The bars of this symbol are not known yet.", 503)
    return orjson.dumps(rows[0])


_ROUTES = {
    "ping": Route(Answers.ping, weight.one),
    "time": Route(Answers.time, weight.one),
    "exchangeInfo": Route(Answers.exchange_info, weight.one),
    "klines": Route(Answers.klines, weight.klines),
    "continuousKlines": Route(Answers.continuous_klines, weight.klines),
    "aggTrades": Route(Answers.agg_trades, weight.agg_trades),
    "ticker/price": Route(Answers.ticker_price, weight.ticker_price),
    "ticker/24hr": Route(Answers.ticker_day, weight.ticker_day),
}

# The exchange's second version is the same, and what newer programs ask for.
_VERSIONS = {"ticker/price": ("v1", "v2")}
