"""How far a tool is: a bar on a terminal, lines elsewhere; both on stderr."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio

from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# How often a line is written where there is no terminal, and the bar is drawn where there is one.
LINE_EVERY_S = 10.0
DRAW_EVERY_S = 0.2


@attrs.frozen
class Shown:
    """What is shown of a tool's progress.

    Attributes:
        done: Bars that are done.
        of: Bars that are known to be there; may grow.
        facts: What a line says beside that.
    """

    done: int
    of: int
    facts: Mapping[str, Any] = attrs.field(factory=dict)


async def tell(log: logging.Logger, progress: Callable[[], Shown]) -> None:
    """Show how far a tool is, for ever.

    Args:
        log: Where lines go.
        progress: Returns what to show now.
    """
    terminal = sys.stderr.isatty()
    with _bar() if terminal else _lines(log) as show:
        while True:
            await trio.sleep(DRAW_EVERY_S if terminal else LINE_EVERY_S)
            show(progress())


@contextmanager
def _bar() -> Iterator[Callable[[Shown], None]]:
    """Yield what draws a bar on the terminal."""
    started = monotonic()
    with click.progressbar(length=1, file=sys.stderr, show_pos=True, label="bars") as bar:

        def show(progress: Shown) -> None:
            bar.length = max(1, progress.of)
            rate = progress.done / max(1.0, monotonic() - started)
            bar.label = f"{rate:,.0f} bars/s"
            bar.update(min(progress.done, bar.length) - bar.pos)

        yield show


@contextmanager
def _lines(log: logging.Logger) -> Iterator[Callable[[Shown], None]]:
    """Yield what writes a line."""
    started = monotonic()

    def show(progress: Shown) -> None:
        rate = progress.done / max(1.0, monotonic() - started)
        left_s = (progress.of - progress.done) / rate if rate else 0
        log_event(
            log,
            logging.INFO,
            "progress",
            done=progress.done,
            of=progress.of,
            bars_per_s=round(rate),
            left_s=round(left_s),
            **progress.facts,
        )

    yield show
