"""What is answered when a request cannot be fulfilled."""

from __future__ import annotations

from typing import Any

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
    text = repr(value[: MAX_QUOTED + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
