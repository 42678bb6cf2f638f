"""``python -m klinetrio copy``: moves everything from one database to another, and proves it.

Exit status: 0 if the target holds each bar of the source, in its state or a better one; 1 if not, or
if a database failed; 2 for what was asked wrongly.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from klinetrio.errors import CopyError
from klinetrio.logs import log_event
from klinetrio.process import leave_on_signal, run_to_the_end
from klinetrio.tools.copied import open_pair
from klinetrio.tools.copier import Copier
from klinetrio.tools.progress import Shown, tell
from klinetrio.tools.settings import takes_settings


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from klinetrio.config import Config
    from klinetrio.tools.copier import Outcome

log = logging.getLogger("klinetrio.copy")

_HEADINGS = ("symbol", "interval", "bars", "written", "kept", "more", "source", "target", "")

# As many digits of a checksum as a person compares.
_DIGITS = 12


@click.command()
@takes_settings("log_level")
@click.option(
    "--from",
    "source",
    metavar="URL",
    required=True,
    help="What is copied: sqlite:///path.db, or postgresql://user@host/database.",
)
@click.option("--to", "target", metavar="URL", required=True, help="Where to; made when missing.")
def copy(_config: Config, source: str, target: str) -> None:
    """Copy everything from one database to another, and compare.

    The target must not be a running daemon's; the source may be.  Only what the target lacks, or has
    in a worse state, is written, so it can be broken off at any moment, goes on where it stopped, and
    a second time brings what has come since.  Prints, for every series: bars of the source; written;
    kept, because the target has them in a better state or in one as good; more, that only the target
    has; and the checksums of both.
    """
    run_to_the_end(partial(leave_on_signal, partial(run_copy, source, target)))


async def run_copy(source: str, target: str) -> Sequence[Outcome]:
    """Copy, print the table, and return its lines.

    Args:
        source: URL of the database that is copied.
        target: URL of the one where it goes.

    Raises:
        ConfigError: A URL names none, the source does not exist, or both are the same.
        CopyError: The target does not hold what it should.
        StoreError: A database failed; what was copied stays.

    Cancellation: a page under way is finished.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        pair = await trio.to_thread.run_sync(open_pair, source, target, stack)
        copier = Copier(pair)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, log, lambda: _shown(copier, len(pair.rows)))
            steps = copier.run()
            while await trio.to_thread.run_sync(_step, steps):
                pass
            nursery.cancel_scope.cancel()
    for line in table(copier.outcomes):
        click.echo(line)
    _tell(copier, time.monotonic() - started)
    return copier.outcomes


def table(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """Return the lines of the table, its heading first and the sum of all last."""
    yield _line(*_HEADINGS)
    for each in outcomes:
        sums = (each.source_sum[:_DIGITS], each.target_sum[:_DIGITS])
        numbers = (each.bars, each.written, each.kept, each.more)
        yield _line(each.symbol, each.interval, *numbers, *sums, each.verdict)
    totals = (sum(getattr(each, name) for each in outcomes) for name in _HEADINGS[2:6])
    verdicts = Counter(each.verdict for each in outcomes)
    words = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    yield _line("all", "", *totals, "", "", words or "no series")


def _line(symbol: str, interval: str, *cells: object) -> str:
    *numbers, source, target, verdict = cells
    shown = "".join(f"{each!s:>12}" for each in numbers)
    return f"{symbol:<18}{interval:<9}{shown}  {source:<12}  {target:<12}  {verdict}".rstrip()


def _tell(copier: Copier, seconds: float) -> None:
    """Say how it ended.

    Raises:
        CopyError: The target does not hold what it should.
    """
    outcomes, marks = copier.outcomes, copier.marks
    if marks is None:
        raise RuntimeError("expected the copier to be at its end")
    for each in outcomes:
        series = {"symbol": each.symbol, "interval": each.interval}
        if each.fault is not None:
            log_event(log, logging.ERROR, "series_failed", **series, reason=each.fault)
        if each.different:
            log_event(log, logging.ERROR, "series_different", **series, bars=each.different)
    if marks.fault is not None:
        log_event(log, logging.ERROR, "open_bars_failed", series=marks.fault)
    log_event(
        log,
        logging.INFO,
        "copied",
        series=len(outcomes),
        bars=copier.done,
        written=sum(each.written for each in outcomes),
        open_bars_written=marks.live,
        spans_written=marks.checked,
        bars_per_s=round(copier.done / max(0.001, seconds)),
    )
    bad = sum(not each.is_good for each in outcomes)
    if bad or marks.fault is not None:
        raise CopyError(f"expected all of it in --to, but for {bad} of {len(outcomes)} series")


def _shown(copier: Copier, series: int) -> Shown:
    facts = {"series": f"{len(copier.outcomes)}/{series}"}
    return Shown(copier.done, max(copier.done, copier.expected), facts)


def _step(steps: Iterator[None]) -> bool:
    """Do one step; tell whether there was one."""
    return next(steps, True) is None
