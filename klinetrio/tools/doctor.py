"""``python -m klinetrio doctor``: checks what is stored, and says what mends it.

Reads the database alone, beside a daemon that may be writing; a page at a time, so the memory stays
flat however much there is.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from klinetrio.errors import ConfigError
from klinetrio.process import EXIT_FAILURE, leave_on_signal, run_to_the_end
from klinetrio.storage.stores import open_store
from klinetrio.tools.progress import tell
from klinetrio.tools.report import Report
from klinetrio.tools.settings import takes_settings, to_moment
from klinetrio.tools.visit import Order, Visit


if TYPE_CHECKING:
    from klinetrio.config import Config

log = logging.getLogger("klinetrio.doctor")

# Beside the time between two flushes: for the flush itself.
_SECOND_LOOK_S = 1.0


@click.command()
@takes_settings("storage", "log_level")
@click.option(
    "--symbols", default="", help="Separated by commas; all that are stored if not given."
)
@click.option("--intervals", default="", help="As 1m,1h; all that are stored if not given.")
@click.option("--since", callback=to_moment, help="First open time, UTC, as 2024-01-31.")
@click.option("--until", callback=to_moment, help="End, UTC, exclusive.")
def doctor(
    config: Config, symbols: str, intervals: str, since: int | None, until: int | None
) -> None:
    """Check the stored bars, and print what to run to mend what is wrong with them.

    Looks for holes, for bars that are there twice, at times at which there can be none, or with
    values that cannot be, for longer bars that differ from the shorter ones they are made of, and
    for damage of the database itself.  Changes nothing, and may run beside the daemon.

    Exit status 0 if all is well, 1 if not or if it cannot be read, 2 if there is no database.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("expected --since before --until")
    order = Order(_listed(symbols), _listed(intervals), since, until)
    reports: list[Report] = []

    async def run() -> None:
        reports.append(await run_doctor(config, order))

    run_to_the_end(partial(leave_on_signal, run))
    for line in reports[0].lines():
        click.echo(line)
    if not reports[0].is_healthy:
        sys.exit(EXIT_FAILURE)


async def run_doctor(config: Config, order: Order) -> Report:
    """Look at what is stored.

    Args:
        config: Where the database is, and how often a daemon writes to it.
        order: What is looked at.

    Raises:
        ConfigError: There is no such database, or not what is to be looked at.
        StoreError: The database cannot be used.

    Cancellation: leaves the database as it was, as everything does.
    """
    database = open_store(config.storage.url)
    if not await trio.to_thread.run_sync(database.exists):
        # Opening it would create an empty one.
        raise ConfigError("storage.url", database.name, "a database with klinetrio's tables")
    await trio.to_thread.run_sync(database.open)
    try:
        visit = Visit(database, order)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, log, visit.shown)
            await visit.run(config.storage.flush_interval_s + _SECOND_LOOK_S)
            nursery.cancel_scope.cancel()
        journal = await trio.to_thread.run_sync(database.journal_size)
    finally:
        database.close()
    return Report(visit.diagnoses, visit.damage, journal, database)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
