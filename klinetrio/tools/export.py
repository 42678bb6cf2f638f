"""``python -m klinetrio export``: stored bars as a file for pandas, polars, DuckDB and the like.

Straight from the database, beside a daemon that may be writing; a page at a time, so the memory
stays flat however long the span is.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click
import trio

from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import OPEN_TIME
from klinetrio.domain.moment import format_moment
from klinetrio.errors import ConfigError, ExportError
from klinetrio.formats.encoder import INSTALL_ARROW, has_arrow
from klinetrio.formats.files import FILE_FORMATS, make_table
from klinetrio.logs import log_event
from klinetrio.process import leave_on_signal, run_to_the_end
from klinetrio.tools.new_file import new_file
from klinetrio.tools.progress import Shown, tell
from klinetrio.tools.settings import takes_settings, to_moment
from klinetrio.tools.stored import open_stored


if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from klinetrio.config import Config
    from klinetrio.formats.files import TableFile
    from klinetrio.tools.stored import StoredBars

log = logging.getLogger("klinetrio.export")

# 12 MB while they are read.
PAGE_BARS = 20_000

STDOUT = "-"


@attrs.frozen
class Order:
    """What is exported.

    Attributes:
        symbols: By exchange or by public name.
        interval: Of the bars.
        since: First open time, UTC ms.
        until: End, UTC ms, exclusive.
        format: One of ``FILE_FORMATS``.
        output: A path, or ``-``.
        force: Whether an existing file is replaced.
    """

    symbols: tuple[str, ...]
    interval: str
    since: int
    until: int
    format: str
    output: str
    force: bool = False


@click.command()
@takes_settings("storage", "log_level")
@click.argument("symbols", metavar="SYMBOL...", nargs=-1, required=True)
@click.option("--interval", required=True, type=click.Choice(list(INTERVALS)), help="As 1m or 1d.")
@click.option(
    "--since", required=True, callback=to_moment, help="First open time, UTC, as 2024-01-31."
)
@click.option("--until", callback=to_moment, help="End, UTC, exclusive; now if not given.")
@click.option("--format", "form", required=True, type=click.Choice(FILE_FORMATS))
@click.option(
    "-o", "--output", required=True, help="The file; - is standard output, for csv and arrow."
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def export(
    config: Config,
    symbols: tuple[str, ...],
    *,
    interval: str,
    since: int,
    until: int | None,
    form: str,
    output: str,
    force: bool,
) -> None:
    """Write stored bars to a file.

    Closed bars of one interval, symbol by symbol, ascending; numbers are exact decimals.  Reads the
    database alone and may run beside the daemon.  The file has its name only when it is whole.
    """
    now = time.time_ns() // 1_000_000
    end = now if until is None else until
    if since >= end:
        told = "the end" if until is None else "--until"
        what = f"{told}, {format_moment(end)}"
        raise click.UsageError(f"expected --since before {what}, was {format_moment(since)}")
    if output == STDOUT and form == "parquet":
        raise click.UsageError("expected a file for parquet, was standard output")
    if output == STDOUT and form == "arrow" and sys.stdout.isatty():
        raise click.UsageError("expected a pipe for arrow, was a terminal")
    order = Order(symbols, interval, since, end, form, output, force)
    run_to_the_end(partial(leave_on_signal, partial(run_export, config, order)))


async def run_export(config: Config, order: Order) -> int:
    """Write the file; return how many bars are in it.

    Raises:
        ConfigError: A symbol is not stored, the file exists, or pyarrow is missing.
        ExportError: No bar is stored in that span, or the file cannot be written.
        StoreError: The database failed.

    Cancellation: leaves no file.
    """
    if order.format != "csv" and not has_arrow():
        raise ConfigError("--format", order.format, f"csv, or pyarrow: {INSTALL_ARROW}")
    started = time.monotonic()
    with _target(order) as file:
        interval = INTERVALS[order.interval]
        stored = await trio.to_thread.run_sync(
            open_stored, config.storage.url, order.symbols, interval
        )
        try:
            count, found = await _copy_all(stored, order, file)
        finally:
            stored.close()
    rate = round(count / max(0.001, time.monotonic() - started))
    facts = {"symbols": len(stored.series), "bars_per_s": rate}
    span = {name: format_moment(each) for name, each in zip(("first", "last"), found, strict=True)}
    log_event(log, logging.INFO, "done", file=order.output, bars=count, **span, **facts)
    return count


async def _copy_all(
    stored: StoredBars, order: Order, file: BinaryIO
) -> tuple[int, tuple[int, int]]:
    """Write the table; return how many bars are in it, and the first and the last open time."""
    table = await trio.to_thread.run_sync(_make_table, order, file, stored)
    try:
        copying = Copying(stored, table, order)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, log, copying.shown)
            await copying.run()
            nursery.cancel_scope.cancel()
        with _writing(order):
            await trio.to_thread.run_sync(table.close)
    except BaseException:
        table.abandon()
        raise
    return copying.done, copying.found


class Copying:
    """Bars on their way from the database to a table.

    Args:
        stored: Where they are.
        table: Where they go.
        order: Which ones.

    Attributes:
        done: How many are there.
        found: The first and the last open time of all of them.
    """

    def __init__(self, stored: StoredBars, table: TableFile, order: Order) -> None:
        self.done = 0
        self.found = (0, 0)
        self._stored = stored
        self._table = table
        self._order = order
        self._expected = 0
        self._series_done = 0

    def shown(self) -> Shown:
        """Return how far it is; holes count as bars until they have been passed."""
        series = f"{self._series_done}/{len(self._stored.series)}"
        return Shown(self.done, max(self.done, self._expected), {"series": series})

    async def run(self) -> None:
        """Copy all of them.

        Raises:
            ExportError: There is none.
        """
        spans = await trio.to_thread.run_sync(self._spans)
        if not any(spans):
            since, until = format_moment(self._order.since), format_moment(self._order.until)
            what = f"{' '.join(self._order.symbols)} {self._order.interval}"
            raise ExportError(f"no closed bar of {what} is stored from {since} to {until}")
        there = [span for span in spans if span]
        self.found = min(first for first, _ in there), max(last for _, last in there)
        for index, span in enumerate(spans):
            if span is None:
                name = self._stored.series[index].name
                log_event(log, logging.WARNING, "nothing_stored", symbol=name)
            else:
                await self._copy(index, *span)
            self._series_done += 1

    def _spans(self) -> list[tuple[int, int] | None]:
        order, count = self._order, len(self._stored.series)
        spans = [self._stored.span(each, order.since, order.until - 1) for each in range(count)]
        length = INTERVALS[order.interval].length
        self._expected = sum((span[1] - span[0]) // length + 1 for span in spans if span)
        return spans

    async def _copy(self, index: int, first: int, last: int) -> None:
        start = first
        while start <= last:
            read, start = await trio.to_thread.run_sync(self._copy_page, index, start, last)
            self.done += read

    def _copy_page(self, index: int, start: int, last: int) -> tuple[int, int]:
        """Copy one page; return how many bars, and from when the next one is."""
        bars = self._stored.read(index, start=start, end=last, limit=PAGE_BARS)
        if len(bars):
            with _writing(self._order):
                self._table.write(self._stored.series[index], bars)
        if len(bars) < PAGE_BARS:
            return len(bars), last + 1
        return len(bars), int(bars[-1, OPEN_TIME]) + 1


def _make_table(order: Order, file: BinaryIO, stored: StoredBars) -> TableFile:
    with _writing(order):
        return make_table(order.format, file, stored.series, is_pipe=order.output == STDOUT)


@contextmanager
def _target(order: Order) -> Iterator[BinaryIO]:
    """Yield what is written to."""
    with _writing(order):
        if order.output == STDOUT:
            # A descriptor of its own, so that a reader that leaves is noticed here and not at exit.
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as file:
                yield file
        else:
            # Through a link, to what it names.
            with new_file(Path(order.output).resolve(), force=order.force) as file:
                yield file


@contextmanager
def _writing(order: Order) -> Iterator[None]:
    """Turn what the system says about the file into ours."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot write {order.output}: {error.strerror or error}") from error
