"""HTTP replies, all of one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from quart import Response


if TYPE_CHECKING:
    from klinetrio.api.problems import ApiError

JSON = "application/json"


def json_reply(data: Any, status: int = 200) -> Response:
    """Return ``data`` as a JSON reply."""
    return Response(orjson.dumps(data), status, content_type=JSON)


def error_reply(error: ApiError) -> Response:
    """Return the reply to a request that cannot be fulfilled."""
    reply = json_reply(error.to_dict(), error.status)
    if error.retry_after_s is not None:
        reply.headers["Retry-After"] = str(error.retry_after_s)
    return reply
