"""Restarting a part without restarting the daemon.

A supervisor takes a function, never a coroutine, because only a function can be called again, and
the exceptions that mean "again": the outside world failed, so the part waits and goes on for ever.
Any other exception is a bug.  The part is restarted all the same, from whatever it finds stored,
but when bugs keep coming the supervisor gives up, because a daemon that serves wrong bars is worse
than one that stops.

Invariants (tested in tests/test_supervise.py):
  I1  Cancellation and normal return end the supervision; they are never "again".
  I2  The delay resets only after a healthy period, not at the start of an attempt: a server that
      accepts and hangs up is not hammered.
  I3  At most ``BUGS_ALLOWED`` bugs in ``BUG_WINDOW_S`` are survived; the next one escapes as
      GaveUp.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.errors import GaveUp
from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("klinetrio.supervise")

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
HEALTHY_S = 30.0
BUGS_ALLOWED = 5
BUG_WINDOW_S = 300.0


def backoff(attempt: int, rng: random.Random) -> float:
    """Return the delay in seconds before retry number ``attempt`` (from 0).

    Doubles up to the cap; the jitter of half the delay keeps 500 connections that were lost
    together from coming back together.
    """
    # Beyond 2**16 the cap rules anyway, and a float power of a large attempt would overflow.
    delay = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 16))
    return delay * (0.5 + rng.random() / 2)


@attrs.define(slots=True)
class Supervision:
    """What a supervisor knows of its part.

    Attributes:
        name: The part's name in logs.
        restarts: Times it was started again.
        last_cause: Why, the last time.
    """

    name: str
    restarts: int = 0
    last_cause: str = ""


async def supervise(
    fn: Callable[[], Awaitable[None]],
    *,
    state: Supervision,
    again: tuple[type[Exception], ...] = (),
    healthy_s: float = HEALTHY_S,
    rng: random.Random | None = None,
) -> None:
    """Run ``fn`` until it returns, starting it again when it fails.

    Args:
        fn: Takes no arguments; called anew for each attempt.
        state: Filled in as things happen.
        again: Exceptions that mean "try again", alone or in groups.
        healthy_s: How long an attempt must have run for the delay to start over.
        rng: Source of jitter.

    Raises:
        GaveUp: Bugs kept coming; the last one is its cause.

    Cancellation: ends the part and the supervision at once.
    """
    rng = rng or random.Random()  # noqa: S311  (jitter, not secrets)
    bugs: deque[float] = deque(maxlen=BUGS_ALLOWED + 1)
    attempt = 0
    while True:
        started = trio.current_time()
        try:
            await fn()
        except Exception as error:  # noqa: BLE001  (sorted just below)
            cause = error
        else:
            return
        now = trio.current_time()
        attempt = 0 if now - started >= healthy_s else attempt
        delay = backoff(attempt, rng)
        attempt += 1
        if _is_expected(cause, again):
            _note(state, cause, delay, expected=True)
        else:
            bugs.append(now)
            if len(bugs) > BUGS_ALLOWED and now - bugs[0] <= BUG_WINDOW_S:
                raise GaveUp(f"{state.name} failed {len(bugs)} times: {describe(cause)}") from cause
            _note(state, cause, delay, expected=False)
        await trio.sleep(delay)


def _is_expected(error: BaseException, again: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_expected(each, again) for each in error.exceptions)
    return isinstance(error, again)


def _note(state: Supervision, cause: Exception, delay: float, *, expected: bool) -> None:
    state.restarts += 1
    state.last_cause = describe(cause)
    level = logging.WARNING if expected else logging.ERROR
    log_event(
        log,
        level,
        "restarting" if expected else "restarting_after_bug",
        part=state.name,
        cause=state.last_cause,
        delay_s=round(delay, 2),
        restarts=state.restarts,
        traceback=None if expected else cause,
    )


def describe(error: BaseException) -> str:
    """Return an error as one short text; a group as the distinct texts of what is in it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(describe(each) for each in error.exceptions))
    text = str(error) or type(error).__name__
    return (
        text
        if type(error).__module__.startswith("klinetrio.")
        else f"{type(error).__name__}: {text}"
    )
