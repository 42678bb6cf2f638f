"""The line of statistics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.logs import log_event
from klinetrio.status import books_of, percentiles, unproved_since


if TYPE_CHECKING:
    from klinetrio.parts import Parts
    from klinetrio.storage.persister import Persister

log = logging.getLogger("klinetrio.stats")


async def run_statistics(parts: Parts) -> None:
    """Log a line of statistics at every interval, for ever."""
    interval_s = parts.config.stats.interval_s
    deadline = trio.current_time()
    before = parts.engine.counts()
    frames = 0
    while True:
        deadline += interval_s
        await trio.sleep_until(deadline)
        counts = parts.engine.counts()
        handoff = parts.engine.delays.take()
        transit = parts.feed.counts.transit.take()
        new = {k: v - getattr(before, k) for k, v in attrs.asdict(counts).items()}
        up = sum(each.link.state == "up" for each in parts.links)
        log_event(
            log,
            logging.INFO,
            "statistics",
            connections=f"{up}/{len(parts.links)}",
            frames=parts.feed.counts.frames - frames,
            **{f"trades_{name}" if name == "folded" else name: n for name, n in new.items()},
            bad_frames=sum(parts.feed.counts.bad.values()),
            **percentiles("transit", transit),
            **percentiles("hand_off", handoff),
            queued=parts.engine.queued,
            queue_high_water=parts.engine.queue_high_water,
            swaps=parts.swapper.counts.swaps,
            late_ticks=parts.swapper.counts.late,
            batches=parts.persister.counts.batches,
            **_storage(parts.persister),
            weight=parts.rest.budget.used,
            **_completeness(parts),
        )
        before, frames = counts, parts.feed.counts.frames


def _storage(persister: Persister) -> dict[str, object]:
    """Return what waits for the database, and how large that is."""
    return {
        "backlog": persister.backlog,
        "backlog_disk": persister.spool.bars,
        "oldest_waiting_s": round(persister.waiting_s, 1),
        "store_failures": persister.counts.failures,
        "given_up": persister.counts.given_up,
        "database_bytes": persister.counts.size,
        "wal_bytes": persister.counts.journal_size,
    }


def _completeness(parts: Parts) -> dict[str, object]:
    """Return what is missing, what was repaired, and what the audit found."""
    books = books_of(parts)
    since = [each for book in books if (each := unproved_since(book)) is not None]
    agreement = parts.auditor.agreement
    return {
        "open_holes": sum(len(book.ledger.holes) for book in books),
        "repaired": parts.repair.counts.trades,
        "unproved_symbols": len(since),
        "oldest_unproved": min(since, default="none"),
        "audited": agreement.compared,
        "unexplained": agreement.unexplained,
    }
