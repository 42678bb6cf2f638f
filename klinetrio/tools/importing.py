"""``klinetrio import``: the exchange's archive files from disk into the database.

A plain synchronous program, because nothing else happens in it; it may run beside a daemon.

Exit status: 0 if every file was taken, 1 if any was refused or the database failed, 2 for a
configuration error.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klinetrio.archive.names import parse_name
from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.moment import format_moment
from klinetrio.errors import ConfigError, StoreError
from klinetrio.logs import log_event
from klinetrio.process import EXIT_FAILURE, fail
from klinetrio.storage.stores import open_store
from klinetrio.tools.importer import ArchiveFile, Importer
from klinetrio.tools.settings import takes_settings


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from klinetrio.config import Config
    from klinetrio.domain.interval import Interval
    from klinetrio.tools.importer import ImportCounts

log = logging.getLogger("klinetrio.tools")

# Directories of the archive whose files are named like those of klines, but are not made of trades.
_OTHER_PRICES = frozenset({"indexPriceKlines", "markPriceKlines", "premiumIndexKlines"})


@click.command("import")
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@takes_settings("intervals", "storage", "log_level")
def import_files(config: Config, paths: Sequence[Path]) -> None:
    """Import the exchange's archive files: aggTrades and klines, zip or csv.

    PATH is a file, or a directory that is searched.  A file is checked against its .CHECKSUM if
    that lies beside it.
    """
    try:
        files = find_files(paths)
    except ConfigError as error:
        fail(error)
    try:
        counts = run_import(config, files)
    except StoreError as error:
        log_event(log, logging.ERROR, "failed", cause=error)
        sys.exit(EXIT_FAILURE)
    if counts.refused:
        sys.exit(EXIT_FAILURE)


def find_files(paths: Iterable[Path]) -> list[ArchiveFile]:
    """Return the archive files among paths and below directories, each once.

    Raises:
        ConfigError: There is none, or a file that is named has a name that says nothing.
    """
    found: dict[Path, ArchiveFile] = {}
    for path in paths:
        for each in _below(path) if path.is_dir() else [path]:
            name = parse_name(each.name)
            if name is not None:
                found[each.resolve()] = ArchiveFile(each, name)
            elif each == path:
                raise ConfigError("PATH", str(path), "a name like BTCUSDT-aggTrades-2026-08.zip")
    if not found:
        raise ConfigError("PATH", [str(path) for path in paths], "archive files in it")
    return list(found.values())


def _below(directory: Path) -> list[Path]:
    """Return what a directory holds, but for klines of other prices."""
    every = sorted(directory.rglob("*"))
    return [each for each in every if _OTHER_PRICES.isdisjoint(each.resolve().parent.parts)]


def run_import(config: Config, files: Sequence[ArchiveFile]) -> ImportCounts:
    """Import files, tell what happened, and return it.

    Raises:
        StoreError: The database failed.
        ConfigError: The database has no file.
    """
    intervals = parse_intervals(config.engine.intervals)
    useful = [file for file in files if _is_useful(file, intervals)]
    store = open_store(config.storage.url)
    store.open()
    started = time.perf_counter()
    try:
        with _progress(useful) as done:
            importer = Importer(store, intervals, done)
            importer.take(_past(useful, importer.counts))
    finally:
        store.close()
    _tell(importer.counts, time.perf_counter() - started, len(files) - len(useful))
    return importer.counts


def _past(files: Sequence[ArchiveFile], counts: ImportCounts) -> list[ArchiveFile]:
    """Return the files whose day or month is over; the others are refused.

    A download of before the end would be taken for all there was.
    """
    now = time.time_ns() // 1_000_000
    for file in files:
        if file.name.end > now:
            end = format_moment(file.name.end)
            counts.refused[file.path] = f"expected a day or month that is over, ends at {end} UTC"
    return [file for file in files if file.path not in counts.refused]


def _is_useful(file: ArchiveFile, intervals: Sequence[Interval]) -> bool:
    """Tell whether any wanted bar can be made of a file's klines."""
    interval = file.name.interval
    return interval is None or any(each.contains(interval) for each in intervals)


def _tell(counts: ImportCounts, seconds: float, skipped: int) -> None:
    for path, reason in counts.refused.items():
        log_event(log, logging.ERROR, "file_refused", file=path, reason=reason)
    log_event(
        log,
        logging.INFO,
        "imported",
        files=counts.files,
        checksums=counts.checked,
        rows=counts.rows,
        rows_per_s=round(counts.rows / seconds),
        bars_written=counts.bars,
        bars_already_proved=counts.proved,
        files_refused=len(counts.refused),
        files_of_unwanted_intervals=skipped,
    )


@contextmanager
def _progress(files: Sequence[ArchiveFile]) -> Iterator[Callable[[ArchiveFile], None]]:
    """Show how far it is: as a bar to a person, as lines to a log."""
    if not sys.stderr.isatty():
        yield lambda file: log_event(log, logging.INFO, "file_done", file=file.path)
        return
    total = sum(file.path.stat().st_size for file in files)
    with click.progressbar(length=total, label="importing", file=sys.stderr) as bar:
        yield lambda file: bar.update(file.path.stat().st_size)
