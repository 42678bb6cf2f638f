"""The application: routes, what every request has to pass, and what every error looks like."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from klinetrio.api.board import TickerBoard
from klinetrio.api.commands import Commands
from klinetrio.api.described.push import PUSH
from klinetrio.api.fapi import add_fapi_routes, is_fapi, refusal
from klinetrio.api.folding import FoldReader
from klinetrio.api.names import OpenMarket
from klinetrio.api.openapi.operation import answers_always, describe
from klinetrio.api.openapi.routes import add_document_routes
from klinetrio.api.page_routes import add_page_routes, is_of_page
from klinetrio.api.parameters import MAX_QUERY
from klinetrio.api.problems import ApiError
from klinetrio.api.replies import error_reply
from klinetrio.api.rest import add_rest_routes
from klinetrio.api.resume import Resumer
from klinetrio.api.session import QuartSocket, run_session
from klinetrio.api.streams.routes import add_stream_routes
from klinetrio.api.streams.tickers import MiniTickers
from klinetrio.api.udf.routes import PREFIX as UDF_PREFIX
from klinetrio.api.udf.routes import add_udf_routes, udf_error
from klinetrio.httpd import MAX_CONNECTIONS, FaultLog, serve_http


if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from klinetrio.api.hub import PushHub
    from klinetrio.api.ports import MarketSource

# No route reads a body.
MAX_BODY = 4096


def create_app(
    market: MarketSource,
    hub: PushHub,
    shutdown: trio.Event,
    board: TickerBoard | None = None,
) -> QuartTrio:
    """Return the application.

    Args:
        market: Returns the market; while it is ``None`` all routes answer 503, but for those that
            are declared to answer always.
        hub: Feeds the push clients.
        shutdown: Closes the push clients; the server stops accepting by the same event.
        board: Hears of every swap; None makes one that hears of none.
    """
    app = QuartTrio("klinetrio", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # A doubled slash is a mistake to be told about, not to be sent elsewhere for.
    app.url_map.merge_slashes = False
    opened = OpenMarket(market)
    _add_checks(app, opened)
    _add_error_handlers(app)
    board = board or TickerBoard(market)
    add_rest_routes(app, opened, hub, board)
    add_fapi_routes(app, opened, board)
    add_page_routes(app)

    _add_push_route(app, opened, hub, shutdown)
    runs = hub.pump.run, MiniTickers(market, hub, board).run, FoldReader(opened, hub).run
    _add_pushing(app, *runs)
    add_stream_routes(app, opened, hub, shutdown)
    add_udf_routes(app, opened)
    add_document_routes(app, opened)
    return app


async def run_api(
    make_app: Callable[[], Any],
    listener: socket.socket,
    *,
    shutdown: trio.Event,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a new application until ``shutdown``; fit to be called again after a failure.

    Args:
        make_app: Returns a new application each time, as one cannot be served twice.
        listener: As of ``httpd.open_listener``; stays open between two calls.
        shutdown: Ends it in order.
        max_connections: As many at once.
        task_status: Started once connections are accepted.

    Raises:
        Exception: The application could not start, or the listener failed.
    """
    await serve_http(
        make_app(),
        listener,
        shutdown=shutdown,
        max_connections=max_connections,
        task_status=task_status,
    )


def _add_pushing(app: QuartTrio, *runs: Callable[[], Awaitable[None]]) -> None:
    """Have tasks run as long as the application is served."""
    pushing = trio.CancelScope()

    async def push() -> None:
        with pushing:
            async with trio.open_nursery() as nursery:
                for run in runs:
                    nursery.start_soon(run)

    @app.before_serving
    async def start() -> None:
        app.nursery.start_soon(push)

    @app.after_serving
    async def stop() -> None:
        pushing.cancel()


def _add_push_route(app: QuartTrio, opened: OpenMarket, hub: PushHub, shutdown: trio.Event) -> None:
    resumer = Resumer(opened, hub)

    @app.websocket("/api/v1/ws")
    @describe(PUSH)
    async def push() -> None:
        make = partial(Commands, hub=hub, opened=opened, resumer=resumer)
        await run_session(QuartSocket(websocket), hub, make, shutdown)


def _add_checks(app: QuartTrio, opened: OpenMarket) -> None:
    @app.before_request
    async def check() -> None:
        if len(request.query_string) > MAX_QUERY:
            message = f"expected a query string of at most {MAX_QUERY} bytes"
            raise ApiError(HTTPStatus.REQUEST_URI_TOO_LONG, "query_too_long", message)
        if not (answers_always(app, request.endpoint) or is_of_page(request.path)):
            _ = opened.market  # raises while the daemon is starting

    @app.after_request
    async def add_headers(reply: Response) -> Response:
        # Public market data, read-only, and no cookies: any page may read it.
        reply.headers["Access-Control-Allow-Origin"] = "*"
        # The next swap makes data stale; the page says itself how long it lasts.
        reply.headers.setdefault("Cache-Control", "no-store")
        return reply


def _add_error_handlers(app: QuartTrio) -> None:
    faults = FaultLog()

    @app.errorhandler(ApiError)
    async def on_api_error(error: ApiError) -> Response:
        return _reply_to(error)

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        code = status.phrase.lower().replace(" ", "_").replace("-", "_")
        reply = _reply_to(ApiError(status, code, status.description or status.phrase))
        for name, value in error.get_headers():
            if name.lower() != "content-type":
                reply.headers[name] = value
        return reply

    @app.errorhandler(Exception)
    async def on_bug(error: Exception) -> Response:
        where = request.path if has_request_context() else websocket.path
        faults.report(f"{where} failed", error, is_bug=True)
        return _reply_to(ApiError(500, "internal", "an error of ours; it has been logged"))


def _reply_to(error: ApiError) -> Response:
    """Return an error in the words of the protocol in which it was asked."""
    if has_request_context() and request.path.startswith(UDF_PREFIX):
        return error_reply(error, udf_error)
    if has_request_context() and is_fapi(request.path):
        return refusal(error, request.path, request.method)
    return error_reply(error)
