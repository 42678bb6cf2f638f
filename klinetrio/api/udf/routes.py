"""The routes of UDF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response, request

from klinetrio.api.openapi.operation import describe
from klinetrio.api.parameters import parse_query
from klinetrio.api.replies import JSON, json_reply
from klinetrio.api.udf import described
from klinetrio.api.udf.history import SYMBOL, HistoryAnswers, parse_history_query
from klinetrio.api.udf.symbols import (
    EXCHANGE,
    KIND,
    configuration,
    search,
    symbol_info,
    without_exchange,
)


if TYPE_CHECKING:
    from quart import Quart

    from klinetrio.api.names import OpenMarket
    from klinetrio.api.problems import ApiError

PREFIX = "/udf/"


def udf_error(error: ApiError) -> dict[str, Any]:
    """Return the body of an error, as front ends expect it."""
    return {"s": "error", "errmsg": error.message}


def add_udf_routes(app: Quart, opened: OpenMarket) -> None:
    """Add the routes to ``app``."""
    answers = HistoryAnswers(opened)

    @app.get("/udf/config")
    @describe(described.CONFIG)
    async def udf_config() -> Response:
        return json_reply(configuration(opened.catalog.intervals))

    @app.get("/udf/symbols")
    @describe(described.SYMBOLS)
    async def udf_symbols() -> Response:
        name = without_exchange(SYMBOL.demand(parse_query(request.query_string, None)))
        return json_reply(symbol_info(opened.catalog, opened.catalog.index_of(name)))

    @app.get("/udf/search")
    @describe(described.SEARCH)
    async def udf_search() -> Response:
        given = parse_query(request.query_string, None)
        kind, exchange = described.TYPE.read(given), described.ON_EXCHANGE.read(given)
        limit = described.LIMIT.read(given) or 0
        if kind not in {None, "", KIND} or exchange not in {None, "", EXCHANGE}:
            return json_reply([])
        return json_reply(search(opened.catalog, described.QUERY.read(given) or "", limit))

    @app.get("/udf/history")
    @describe(described.HISTORY)
    async def udf_history() -> Response:
        query = parse_history_query(request.query_string, opened.catalog)
        return Response(await answers.reply(query), content_type=JSON)

    @app.get("/udf/time")
    @describe(described.TIME)
    async def udf_time() -> Response:
        seconds = opened.market.now_ms() // 1000
        return Response(str(seconds), content_type="text/plain; charset=utf-8")
