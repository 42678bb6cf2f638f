"""``GET /`` and ``GET /assets/NAME``: the page, also while the daemon is starting.

The page fetches nothing from elsewhere and runs no script but its own files; the policy sent with
it has the browser see to that.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from quart import Response, abort, request

from klinetrio.api.described.page import ASSET, PAGE
from klinetrio.api.openapi.operation import describe
from klinetrio.api.page_files import page_files


if TYPE_CHECKING:
    from quart import Quart

    from klinetrio.api.page_files import PageFile

INDEX = "index.html"
ASSETS = "/assets/"

# Of the one style element that the chart library adds, for its maker's mark on the chart.
CHART_STYLE_HASH = "sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY="

# 'self' of connect-src covers WebSockets to where the page came from, too.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' '{CHART_STYLE_HASH}'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Kept by browsers, and asked for again by its tag.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


def is_of_page(path: str) -> bool:
    """Tell whether a path is answered without a market: the page says itself what it waits for."""
    return path == "/" or path.startswith(ASSETS)


def add_page_routes(app: Quart) -> None:
    """Add the routes of the page to ``app``."""
    known = page_files()

    @app.get("/")
    @describe(PAGE)
    async def page() -> Response:
        return _reply(known[INDEX])

    @app.get(f"{ASSETS}<name>")
    @describe(ASSET)
    async def asset(name: str) -> Response:
        file = known.get(name)
        if file is None:
            abort(HTTPStatus.NOT_FOUND)
        return _reply(file)


def _reply(file: PageFile) -> Response:
    variant = file.variant(accepts_gzip=request.accept_encodings["gzip"] > 0)
    if request.if_none_match.contains_weak(variant.tag):
        reply = Response(b"", HTTPStatus.NOT_MODIFIED)
    else:
        reply = Response(variant.body, content_type=file.content_type)
        if variant.encoding is not None:
            reply.headers["Content-Encoding"] = variant.encoding
    reply.headers.update(HEADERS)
    reply.set_etag(variant.tag)
    return reply
