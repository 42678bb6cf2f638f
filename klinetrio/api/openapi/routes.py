"""Where the document and its page are served: also while the daemon is starting."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import orjson
import trio
from quart import Response

from klinetrio.api.openapi.document import make_document
from klinetrio.api.openapi.operation import Answer, Operation, describe
from klinetrio.api.openapi.page import render_page
from klinetrio.api.openapi.schemas import record, text
from klinetrio.api.problems import ApiError


if TYPE_CHECKING:
    from quart import Quart

    from klinetrio.api.names import OpenMarket

TAG = "This document"

# The page has neither scripts nor anything from elsewhere.
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"

_DOCUMENT = Operation(
    summary="The routes as an OpenAPI document",
    tag=TAG,
    answers=(
        Answer(
            "OpenAPI 3.1.",
            record({"openapi": text(), "info": {"type": "object"}, "paths": {"type": "object"}}),
        ),
    ),
    problems=("query_too_long",),
    always=True,
)

_PAGE = Operation(
    summary="The routes as a page to read",
    tag=TAG,
    answers=(Answer("The page; it needs nothing from elsewhere.", others={"text/html": text()}),),
    problems=("query_too_long",),
    always=True,
)

_STYLE = Operation(
    summary="How that page looks",
    tag=TAG,
    answers=(Answer("A style sheet.", others={"text/css": text()}),),
    problems=("query_too_long",),
    always=True,
)


def add_document_routes(app: Quart, opened: OpenMarket) -> None:
    """Add the document of all routes of ``app``, and the page that shows it.

    Args:
        app: Any route may still be added afterwards, until the first request.
        opened: Knows a symbol for the requests that can be tried.
    """

    # Made once, and not on the event loop: the page takes 0.2 s, mostly to compile its template.
    @cache
    def encoded() -> bytes:
        return orjson.dumps(make_document(app))

    @cache
    def page(symbol: str) -> str:
        return render_page(make_document(app), symbol)

    style = files(__package__).joinpath("page.css").read_bytes()

    @app.get("/openapi.json")
    @describe(_DOCUMENT)
    async def document() -> Response:
        body = await trio.to_thread.run_sync(encoded)
        return Response(body, content_type="application/json")

    @app.get("/docs")
    @describe(_PAGE)
    async def docs() -> Response:
        text_of_page = await trio.to_thread.run_sync(page, _first_symbol(opened))
        reply = Response(text_of_page, content_type="text/html; charset=utf-8")
        reply.headers["Content-Security-Policy"] = _POLICY
        reply.headers["X-Content-Type-Options"] = "nosniff"
        reply.headers["Referrer-Policy"] = "no-referrer"
        return reply

    @app.get("/docs/style.css")
    @describe(_STYLE)
    async def docs_style() -> Response:
        return Response(style, content_type="text/css; charset=utf-8")


def _first_symbol(opened: OpenMarket) -> str:
    """Return a symbol that can be asked for; the best known one while there is none."""
    try:
        return opened.catalog.shown[0] if opened.catalog.shown else "BTC_USDT"
    except ApiError:
        return "BTC_USDT"
