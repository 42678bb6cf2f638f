"""Asking the outside world until it answers: the exchange or the database may be away for hours."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, TypeVar

import trio

from klinetrio.errors import (
    ClaimError,
    DecodeError,
    ExchangeError,
    NetworkError,
    RateLimited,
    Refused,
    ScalesChanged,
    SchemaError,
    StoreError,
)
from klinetrio.logs import log_event
from klinetrio.supervise import backoff, describe


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("klinetrio.start")

T = TypeVar("T")

# Whoever is refused by his place is so until somebody changes the proxy.
REFUSED_PAUSE_S = 600.0

_AGAIN = (NetworkError, ExchangeError, DecodeError, StoreError)
_FINAL: tuple[type[Exception], ...] = (Refused, ScalesChanged, SchemaError, ClaimError)


async def insist(
    what: str,
    ask: Callable[[], Awaitable[T]],
    on_failure: Callable[[Exception], None] = lambda _error: None,
    *,
    final: tuple[type[Exception], ...] = (),
) -> T:
    """Return what ``ask`` returns, asking again, paced, for as long as there is no answer.

    Args:
        what: What is asked for, in logs.
        ask: Called anew for each attempt.
        on_failure: Told of each failure.
        final: Errors that are raised instead, beside those below.

    Raises:
        Refused: More asking is in vain.
        ScalesChanged, SchemaError, ClaimError: Likewise.

    Blocking: for as long as it takes.
    """
    rng = random.Random()  # noqa: S311  (jitter, not secrets)
    never = _FINAL + final
    attempt = 0
    while True:
        try:
            return await ask()
        except never:
            raise
        except _AGAIN as error:
            on_failure(error)
            delay = delay_after(error, attempt, rng)
            cause = describe(error)
            log_event(log, logging.WARNING, "waiting_for", what=what, cause=cause, delay_s=delay)
        await trio.sleep(delay)
        attempt += 1


def delay_after(error: Exception, attempt: int, rng: random.Random) -> float:
    """Return how long to wait before another attempt, in seconds."""
    delay = backoff(attempt, rng)
    if isinstance(error, Refused) and error.is_for_us:
        return max(delay, REFUSED_PAUSE_S)
    return max(delay, error.retry_after_s) if isinstance(error, RateLimited) else delay
