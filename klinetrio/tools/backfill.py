"""``python -m klinetrio backfill``: fills the database from the exchange's klines."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from klinetrio.domain.interval import MINUTE
from klinetrio.logs import log_event
from klinetrio.process import leave_on_signal, run_to_the_end
from klinetrio.recovery.download import HistoryDownload
from klinetrio.recovery.seeder import SETTLE_MS
from klinetrio.storage.past_bars import PastBars
from klinetrio.tools.joined import open_joined
from klinetrio.tools.progress import Shown, tell
from klinetrio.tools.settings import takes_settings, to_moment


if TYPE_CHECKING:
    from klinetrio.config import Config
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.recovery.download import Progress

log = logging.getLogger("klinetrio.backfill")

# Beside a daemon: by then it has written what it has, also after some flushes that failed.
BESIDE_MS = 5 * MINUTE


@click.command()
@takes_settings("symbols", "intervals", "proxy", "storage", "log_level")
@click.option("--since", callback=to_moment, help="First open time, UTC, as 2024-01-31.")
@click.option("--until", callback=to_moment, help="End, UTC, exclusive; now if not given.")
def backfill(config: Config, since: int | None, until: int | None) -> None:
    """Fill the database with the exchange's own klines.

    Without --since, only what is missing since the oldest stored bar of each series.  Can be broken
    off at any moment and goes on where it stopped; runs alone or beside the daemon, which knows
    what is youngest better.  Bars that are proved stay as they are.  What is known to be whole is
    one span of each series: what lies between it and what is asked for is fetched, too.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("expected --since before --until")
    run_to_the_end(partial(leave_on_signal, partial(run_backfill, config, since, until)))


async def run_backfill(
    config: Config, since: int | None, until: int | None, clock: ExchangeClock | None = None
) -> None:
    """Download until everything is here.

    Args:
        config: The configuration.
        since: First open time, UTC ms; None for the oldest stored one of each series.
        until: End, UTC ms; None for now.
        clock: Another clock than the default, for simulated exchanges that run fast.
    """
    async with open_joined(config, clock) as joined:
        download = HistoryDownload(PastBars(joined.database), joined.registry, joined.rest)
        newest = joined.rest.now_ms() - (BESIDE_MS if joined.beside_daemon else SETTLE_MS)
        end = newest if until is None else min(until, newest)
        if since is not None and since >= end:
            raise joined.too_young(since, end)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, log, lambda: _shown(download.progress))
            done = await download.round(joined.registry.symbols, end, since)
            nursery.cancel_scope.cancel()
    facts = {"written": done.written, "absent": done.absent, "series": done.series}
    log_event(log, logging.INFO, "done", **facts, failures=done.failures)


def _shown(progress: Progress) -> Shown:
    facts = {
        "series": f"{progress.series_done}/{progress.series}",
        "failures": progress.failures,
    }
    return Shown(progress.bars_done, progress.bars, facts)
