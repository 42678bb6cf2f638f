"""The REST routes of v1, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from quart import Response, request

from klinetrio.api.answers import KlineAnswers
from klinetrio.api.described.market import KEPT_INTERVALS, KLINES, SINCE, SYMBOLS, TICKERS
from klinetrio.api.described.operator import AUDIT, HEALTH, METRICS, READINESS, STATUS
from klinetrio.api.metrics import render_metrics
from klinetrio.api.openapi.operation import describe
from klinetrio.api.parameters import parse_query, read_query
from klinetrio.api.problems import ApiError
from klinetrio.api.replies import json_reply


if TYPE_CHECKING:
    from quart import Quart

    from klinetrio.api.board import TickerBoard
    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import OpenMarket


def add_rest_routes(app: Quart, opened: OpenMarket, hub: PushHub, board: TickerBoard) -> None:
    """Add all HTTP routes to ``app``."""
    _add_data_routes(app, opened)
    _add_ticker_route(app, opened, board)
    _add_operator_routes(app, opened, hub)


def _add_data_routes(app: Quart, opened: OpenMarket) -> None:
    answers = KlineAnswers(opened)

    @app.get("/api/v1/klines")
    @describe(KLINES)
    async def klines() -> Response:
        return await answers.reply()

    @app.get("/api/v1/symbols")
    @describe(SYMBOLS)
    async def symbols() -> Response:
        _expect_no_parameters()
        catalog = opened.catalog
        return json_reply(
            [
                {
                    "symbol": shown,
                    "exchange_symbol": symbol.name,
                    "base": symbol.base,
                    "quote": symbol.quote,
                    "price_decimals": symbol.price_scale,
                    "quantity_decimals": symbol.quantity_scale,
                    "quote_decimals": symbol.quote_scale,
                    "listing_time": symbol.listing_time,
                }
                for shown, symbol in zip(catalog.shown, catalog.symbols, strict=True)
            ]
        )

    @app.get("/api/v1/intervals")
    @describe(KEPT_INTERVALS)
    async def intervals() -> Response:
        _expect_no_parameters()
        return json_reply(
            [
                {"interval": each.name, "length_ms": None if each.is_calendar else each.length}
                for each in opened.catalog.intervals
            ]
        )


def _add_ticker_route(app: Quart, opened: OpenMarket, board: TickerBoard) -> None:
    @app.get("/api/v1/tickers")
    @describe(TICKERS)
    async def tickers() -> Response:
        since = SINCE.read(read_query(request.query_string, TICKERS.parameters))
        return json_reply(await board.of(opened.market).tickers(opened.catalog, since))


def _add_operator_routes(app: Quart, opened: OpenMarket, hub: PushHub) -> None:
    @app.get("/api/v1/status")
    @describe(STATUS)
    async def status() -> Response:
        _expect_no_parameters()
        return json_reply(opened.market.status() | {"push": attrs.asdict(hub.statistics())})

    @app.get("/api/v1/audit")
    @describe(AUDIT)
    async def audit() -> Response:
        _expect_no_parameters()
        return json_reply(opened.market.audit())

    @app.get("/healthz")
    @describe(HEALTH)
    async def healthz() -> Response:
        return json_reply({"status": "ok"})

    @app.get("/readyz")
    @describe(READINESS)
    async def readyz() -> Response:
        reasons = list(opened.market.unready())
        if not reasons:
            return json_reply({"status": "ready"})
        error = ApiError(503, "not_ready", "; ".join(reasons))
        return json_reply(error.to_dict() | {"reasons": reasons}, error.status)

    @app.get("/metrics")
    @describe(METRICS)
    async def metrics() -> Response:
        accept = request.headers.get("Accept", "")
        body, content_type = await render_metrics(opened.market, hub.statistics(), accept)
        return Response(body, content_type=content_type)


def _expect_no_parameters() -> None:
    parse_query(request.query_string, ())
