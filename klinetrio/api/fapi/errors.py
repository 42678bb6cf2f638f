"""What the exchange answers to what it cannot: a code and a message.

Codes and words are those of its documentation; where somebody has seen the very case it is noted.
What only klinetrio refuses is said under the code whose meaning comes nearest.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from quart import Response

from klinetrio.api.replies import JSON


if TYPE_CHECKING:
    from klinetrio.api.problems import ApiError

_PREFIX = "/fapi/"

# Of a path or method that is not there.
NO_PATH = -5000

UNKNOWN = -1000
DISCONNECTED = -1001
SERVER_BUSY = -1008
UNSUPPORTED = -1020
TOO_MANY_PARAMETERS = -1101

_CODES = {
    "overloaded": SERVER_BUSY,
    "too_many_clients": SERVER_BUSY,
    "query_too_long": TOO_MANY_PARAMETERS,
}


class FapiError(Exception):
    """A request is refused; carries the exchange's code.

    Args:
        code: As the exchange documents it.
        message: For people.
        status: HTTP status.
    """

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def reply(self) -> Response:
        """Return the reply that every error has."""
        body = orjson.dumps({"code": self.code, "msg": self.message})
        return Response(body, self.status, content_type=JSON)


def is_fapi(path: str) -> bool:
    """Tell whether a path is answered as the exchange answers."""
    return path.startswith(_PREFIX)


def refusal(error: ApiError, path: str, method: str) -> Response:
    """Return what klinetrio refuses in the exchange's form.

    Args:
        error: Why.
        path: What was asked for.
        method: And how.
    """
    if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        # Both alike, as the exchange does.
        return no_path(path, method).reply()
    code = _CODES.get(error.code, DISCONNECTED)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        code = UNKNOWN
    reply = FapiError(
        code, f"{error.message[:1].upper()}{error.message[1:]}.", error.status
    ).reply()
    if error.retry_after_s is not None:
        reply.headers["Retry-After"] = str(error.retry_after_s)
    return reply


def no_path(path: str, method: str) -> FapiError:
    """Return the error of a path or method that is not there."""
    return FapiError(NO_PATH, f"Path {path}, Method {method} is invalid", HTTPStatus.NOT_FOUND)
