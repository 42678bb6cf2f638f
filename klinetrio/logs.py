"""Single-line logs: ``time level logger event key=value ...`` to stderr, UTC.

A caller names an event and its facts: ``log_event(log, INFO, "connected", stream=name)``.  Values
with spaces or quotes are quoted, line breaks are escaped, tracebacks become one value, so a line
is always one line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from klinetrio.errors import ConfigError


if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("debug", "info", "warning", "error")

# One line per kind and minute; whatever is suppressed meanwhile is counted into the next line.
QUIET_S = 60.0

# Kinds are few (about 30); this bounds the memory should a kind ever be made from outside data.
_MAX_KINDS = 1_000


class LineFormatter(logging.Formatter):
    """Formats every record, also one of a library, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = _printable(record.getMessage())
        name = record.name.removeprefix("klinetrio.")
        line = f"{moment.replace('+00:00', 'Z')} {record.levelname.lower()} {name} {message}"
        if record.exc_info and record.exc_info[1] is not None:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            line += f" traceback={json.dumps(trace)}"
        return line


def setup_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this level and above to ``stream``.

    Raises:
        ConfigError: An unknown level.
    """
    if level not in LEVELS:
        raise ConfigError("log.level", level, f"one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("klinetrio").setLevel(level.upper())


def log_event(
    log: logging.Logger,
    level: int,
    event: str,
    **facts: object,
) -> None:
    """Log one event with its facts.

    Args:
        log: Logger.
        level: As in ``logging.INFO``.
        event: Stable name, words joined by ``_``.
        facts: Written as ``key=value`` in the given order; an exception as the value of
            ``traceback`` is written with its traceback.
    """
    if log.isEnabledFor(level):
        error = facts.pop("traceback", None)
        pairs = "".join(f" {key}={_text(value)}" for key, value in facts.items())
        log.log(
            level,
            "%s%s",
            event,
            pairs,
            exc_info=error if isinstance(error, BaseException) else None,
        )


def _text(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not any(c in ' "=' for c in text):
        return text
    # JSON escapes line breaks only below U+0020 unless it has to be ASCII: U+2028 is one, too.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(text: str) -> str:
    """Return a text whose line breaks and control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class QuietLog:
    """Logs each kind of event at once, then at most once a minute with the number suppressed.

    For events whose number somebody else decides, as bad frames or failing clients.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._last: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def event(self, level: int, event: str, kind: str, **facts: object) -> None:
        """Log the event if its kind has been silent for a minute, else count it."""
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now - last < QUIET_S:
            self._suppressed[kind] += 1
            return
        if last is None and len(self._last) >= _MAX_KINDS:
            return
        suppressed = self._suppressed.get(kind, 0)
        self._last[kind] = now
        self._suppressed[kind] = 0
        if suppressed:
            facts["suppressed"] = suppressed
        log_event(self._log, level, event, kind=kind, **facts)
