"""What a session needs to know of the language that its client speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011

Message = str | bytes | None
"""As the framework hands it over: text, binary, or (from Quart) ``None`` for an empty binary."""


class Ending(NamedTuple):
    """Why a session ends, as its client is told."""

    code: int
    reason: str


@attrs.frozen
class Answer:
    """What comes of a message.

    Attributes:
        reply: Sent to the client; None for nothing.
        ending: Ends the session, after the reply.
        work: Done beside the session, and no longer than it.
    """

    reply: bytes | None = None
    ending: Ending | None = None
    work: Callable[[], Awaitable[None]] | None = None


class Dialogue(Protocol):
    """One client's side of the talk; no I/O."""

    def begin(self) -> Answer:
        """Return what comes of the connection itself, as of streams named in its path."""
        ...

    def hear(self, message: Message) -> Answer:
        """Return what comes of one message."""
        ...
