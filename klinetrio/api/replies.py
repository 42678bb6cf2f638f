"""HTTP replies, all of one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from quart import Response

from klinetrio.api.problems import ApiError


if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"


def json_reply(data: Any, status: int = 200) -> Response:
    """Return ``data`` as a JSON reply."""
    return Response(orjson.dumps(data), status, content_type=JSON)


def error_reply(
    error: ApiError, to_body: Callable[[ApiError], dict[str, Any]] = ApiError.to_dict
) -> Response:
    """Return the reply to a request that cannot be fulfilled.

    Args:
        error: Why.
        to_body: Returns it in the words of the protocol that is spoken.
    """
    reply = json_reply(to_body(error), error.status)
    if error.retry_after_s is not None:
        reply.headers["Retry-After"] = str(error.retry_after_s)
    return reply
