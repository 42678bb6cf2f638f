"""The application: routes, what every request has to pass, and what every error looks like."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from klinetrio.api.names import OpenMarket
from klinetrio.api.parameters import MAX_QUERY
from klinetrio.api.problems import ApiError
from klinetrio.api.replies import error_reply
from klinetrio.api.rest import add_rest_routes
from klinetrio.api.session import run_session
from klinetrio.httpd import FaultLog, serve_http


if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from klinetrio.api.hub import PushHub
    from klinetrio.api.ports import MarketSource

# No route reads a body.
MAX_BODY = 4096


def create_app(market: MarketSource, hub: PushHub, shutdown: trio.Event) -> QuartTrio:
    """Return the application.

    Args:
        market: Returns the market; every route but ``/healthz`` answers 503 while it is ``None``.
        hub: Feeds the push clients.
        shutdown: Closes the push clients; the server stops accepting by the same event.
    """
    app = QuartTrio("klinetrio", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # A doubled slash is a mistake to be told about, not to be sent elsewhere for.
    app.url_map.merge_slashes = False
    opened = OpenMarket(market)
    _add_checks(app, opened)
    _add_error_handlers(app)
    add_rest_routes(app, opened, hub)

    @app.websocket("/api/v1/ws")
    async def push() -> None:
        await run_session(websocket, hub, opened.catalog, shutdown)

    return app


async def run_api(
    make_app: Callable[[], Any],
    listener: socket.socket,
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a new application until ``shutdown``; fit to be called again after a failure.

    Args:
        make_app: Returns a new application each time, as one cannot be served twice.
        listener: As of ``httpd.open_listener``; stays open between two calls.
        shutdown: Ends it in order.
        task_status: Started once connections are accepted.

    Raises:
        Exception: The application could not start, or the listener failed.
    """
    await serve_http(make_app(), listener, shutdown=shutdown, task_status=task_status)


def _add_checks(app: QuartTrio, opened: OpenMarket) -> None:
    @app.before_request
    async def check() -> None:
        if len(request.query_string) > MAX_QUERY:
            message = f"expected a query string of at most {MAX_QUERY} bytes"
            raise ApiError(HTTPStatus.REQUEST_URI_TOO_LONG, "query_too_long", message)
        if request.path != "/healthz":
            _ = opened.market  # raises while the daemon is starting

    @app.after_request
    async def add_headers(reply: Response) -> Response:
        # Public market data, read-only, and no cookies: any page may read it.
        reply.headers["Access-Control-Allow-Origin"] = "*"
        # The next swap makes it stale.
        reply.headers["Cache-Control"] = "no-store"
        return reply


def _add_error_handlers(app: QuartTrio) -> None:
    faults = FaultLog()

    @app.errorhandler(ApiError)
    async def on_api_error(error: ApiError) -> Response:
        return error_reply(error)

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        code = status.phrase.lower().replace(" ", "_").replace("-", "_")
        reply = error_reply(ApiError(status, code, status.description or status.phrase))
        for name, value in error.get_headers():
            if name.lower() != "content-type":
                reply.headers[name] = value
        return reply

    @app.errorhandler(Exception)
    async def on_bug(error: Exception) -> Response:
        where = request.path if has_request_context() else websocket.path
        faults.report(f"{where} failed", error, is_bug=True)
        return error_reply(ApiError(500, "internal", "an error of ours; it has been logged"))
