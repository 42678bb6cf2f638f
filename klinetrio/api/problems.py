"""What is answered when a request cannot be fulfilled."""

from __future__ import annotations

from typing import Any

import attrs

from klinetrio.errors import KlinetrioError


# Long enough to recognise what was sent, short enough to send it back.
MAX_QUOTED = 60


class ApiError(KlinetrioError):
    """A request cannot be fulfilled; the client is told why.

    Args:
        status: HTTP status; of no meaning on a WebSocket.
        code: Short stable name for programs.
        message: For people: "expected X, was Y".
        retry_after_s: When to try again, if that may help.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """Return the body that every error has."""
        return {"error": {"code": self.code, "message": self.message}}


def quoted(value: object) -> str:
    """Return what was sent, cut to a length that can be sent back."""
    if isinstance(value, list | dict):
        # However deep it is.
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[: MAX_QUOTED + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


@attrs.frozen
class Problem:
    """One of the codes of ``ApiError``, for those who read about it.

    Attributes:
        status: HTTP status.
        meaning: What went wrong.
        retry: ``Retry-After`` may say when to ask again.
    """

    status: int
    meaning: str
    retry: bool = False


PROBLEMS = {
    "missing_parameter": Problem(400, "a parameter that has to be there is not"),
    "unknown_parameter": Problem(400, "there is no such parameter here"),
    "repeated_parameter": Problem(400, "something was named more than once"),
    "bad_parameter": Problem(400, "a value, or the query string, is not as expected"),
    "contradictory_parameters": Problem(400, "two parameters that cannot both hold"),
    "bad_request": Problem(400, "not the HTTP that is expected here"),
    "not_found": Problem(404, "there is nothing under this path"),
    "unknown_symbol": Problem(404, "no such symbol is followed"),
    "unknown_interval": Problem(404, "no such interval is kept"),
    "not_acceptable": Problem(406, "`Accept` wants what cannot be made"),
    "query_too_long": Problem(414, "the query string is too long"),
    "internal": Problem(500, "an error of the daemon's own; it is in its log"),
    "format_unavailable": Problem(501, "the library of this format is not installed"),
    "starting": Problem(503, "the daemon is starting", retry=True),
    "not_ready": Problem(503, "it runs, but is not ready; `reasons` says why"),
    "store_unavailable": Problem(503, "the history cannot be read just now", retry=True),
    "too_many_streams": Problem(503, "too many long answers are under way", retry=True),
    "too_many_clients": Problem(503, "too many push clients are connected", retry=True),
    "http_version": Problem(505, "a streamed answer cannot be told in HTTP/1.0"),
}
"""The codes with which a route may refuse, as the document of the interface shows them."""
