"""The REST routes of v1, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import orjson
import trio
from quart import Response, request

from klinetrio.api.metrics import render_metrics
from klinetrio.api.parameters import parse_klines_query, parse_query
from klinetrio.api.problems import ApiError
from klinetrio.api.replies import JSON, json_reply
from klinetrio.errors import StoreError


if TYPE_CHECKING:
    from collections.abc import Sequence

    from quart import Quart

    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import Catalog, OpenMarket
    from klinetrio.api.ports import Row

# 50 bars take 0.3 ms to turn into text (measured); trades are not kept waiting longer than that.
KLINES_PER_STEP = 50

# A client that waited this long has given up; the database is not what it should be.
QUERY_TIMEOUT_S = 10.0


def add_rest_routes(app: Quart, opened: OpenMarket, hub: PushHub) -> None:
    """Add all HTTP routes to ``app``."""
    _add_data_routes(app, opened)
    _add_operator_routes(app, opened, hub)


def _add_data_routes(app: Quart, opened: OpenMarket) -> None:
    @app.get("/api/v1/klines")
    async def klines() -> Response:
        catalog = opened.catalog
        query = parse_klines_query(request.query_string, catalog)
        try:
            with trio.fail_after(QUERY_TIMEOUT_S):
                rows = await opened.market.klines(
                    query.row, start=query.start, end=query.end, limit=query.limit
                )
        except (StoreError, trio.TooSlowError) as error:
            message = "the history cannot be read just now"
            raise ApiError(503, "store_unavailable", message, retry_after_s=5) from error
        body = await encode_klines(query.row, rows, catalog)
        return Response(body, content_type=JSON)

    @app.get("/api/v1/symbols")
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
    async def intervals() -> Response:
        _expect_no_parameters()
        return json_reply(
            [
                {"interval": each.name, "length_ms": None if each.is_calendar else each.length}
                for each in opened.catalog.intervals
            ]
        )


def _add_operator_routes(app: Quart, opened: OpenMarket, hub: PushHub) -> None:
    @app.get("/api/v1/status")
    async def status() -> Response:
        _expect_no_parameters()
        return json_reply(opened.market.status() | {"push": attrs.asdict(hub.statistics())})

    @app.get("/api/v1/audit")
    async def audit() -> Response:
        _expect_no_parameters()
        return json_reply(opened.market.audit())

    @app.get("/healthz")
    async def healthz() -> Response:
        return json_reply({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        reasons = list(opened.market.unready())
        if not reasons:
            return json_reply({"status": "ready"})
        error = ApiError(503, "not_ready", "; ".join(reasons))
        return json_reply(error.to_dict() | {"reasons": reasons}, error.status)

    @app.get("/metrics")
    async def metrics() -> Response:
        accept = request.headers.get("Accept", "")
        body, content_type = await render_metrics(opened.market, hub.statistics(), accept)
        return Response(body, content_type=content_type)


async def encode_klines(row: int, rows: Sequence[Row], catalog: Catalog) -> bytes:
    """Return bars of one series as a JSON array, letting others run in between."""
    parts = []
    for first in range(0, len(rows), KLINES_PER_STEP):
        await trio.lowlevel.checkpoint()
        step = [catalog.kline_of(row, each) for each in rows[first : first + KLINES_PER_STEP]]
        parts.append(orjson.dumps(step)[1:-1])
    return b"[" + b",".join(parts) + b"]"


def _expect_no_parameters() -> None:
    parse_query(request.query_string, ())
