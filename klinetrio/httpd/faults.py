"""What clients make go wrong, counted and logged without letting them flood the log."""

from __future__ import annotations

import logging
from math import inf

import trio


# A client can cause a fault as often as it likes; it gets one line per minute and kind.
FAULT_LOG_S = 60.0


class ReplyBrokenOff(Exception):
    """An app cannot finish a reply that it has begun.

    The connection is closed without the reply's end, so that its client cannot take what it has
    for all there was.
    """


_log = logging.getLogger("klinetrio.httpd")


class FaultLog:
    """Counts faults by kind and logs each kind at most once per ``FAULT_LOG_S``."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._quiet_until: dict[str, float] = {}

    def report(self, event: str, error: BaseException, *, is_bug: bool = False) -> None:
        """Count ``error``; log it if its kind was not logged lately.

        Args:
            event: What came of it, in words.
            error: What was raised.
            is_bug: It is our fault, so the log shows where it came from.
        """
        cause = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        kind = type(cause).__name__
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        now = trio.current_time()
        if now < self._quiet_until.get(kind, -inf):
            return
        self._quiet_until[kind] = now + FAULT_LOG_S
        _log.log(
            logging.ERROR if is_bug else logging.WARNING,
            "%s: kind=%s count=%d detail=%r",
            *(event, kind, count, str(cause)[:200]),
            exc_info=error if is_bug else None,
        )
