"""What ``/api/v1/status`` and ``/api/v1/audit`` show of a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from klinetrio import __version__
from klinetrio.domain.interval import MINUTE


if TYPE_CHECKING:
    from klinetrio.engine.book import SymbolBook
    from klinetrio.exchange.feed import SupervisedLink
    from klinetrio.latency import LatencyHistogram
    from klinetrio.parts import Parts
    from klinetrio.recovery.judging import Agreement

# Names listed in full in the status; the number is always told.
_MOST_NAMES = 50


def status_of(parts: Parts) -> dict[str, Any]:
    """Return what ``/api/v1/status`` shows."""
    return {
        "version": __version__,
        "uptime_s": round(trio.current_time() - parts.started, 1),
        "exchange_time": parts.clock.now_ms(),
        "clock_skew_ms": round(parts.clock.skew_ms()),
        "clock_error_ms": round(parts.clock.error_ms, 1),
        "clock_drift_ppm": parts.clock.drift_ppm,
        "universe": {
            "symbols": len(parts.engine.registry.symbols),
            "intervals": [interval.name for interval in parts.engine.registry.intervals],
            "series": parts.engine.registry.capacity,
        },
        "symbols": _symbols_status(parts),
        "trades": _trades_status(parts),
        "actors": _actors_status(parts),
        "swaps": {
            "generation": parts.engine.store.generation,
            **attrs.asdict(parts.swapper.counts),
        },
        "storage": _storage_status(parts),
        "history": _history_status(parts),
        "audit": _audit_status(parts),
        "rest": _rest_status(parts),
        "parts": {name: attrs.asdict(each) for name, each in parts.supervisions.items()},
        "connections": [_connection_status(each) for each in parts.links],
    }


def audit_of(parts: Parts) -> list[dict[str, Any]]:
    """Return what ``/api/v1/audit`` shows: how each symbol's minutes stood to the exchange's."""
    return [
        {
            "symbol": symbol.public_name,
            **_agreement(audit.agreement),
            "own": audit.own,
            "unproved": audit.unproved,
            "skipped": audit.skipped,
            "audited_until": audit.since or None,
        }
        for symbol, audit in zip(parts.engine.registry.symbols, parts.auditor.symbols, strict=True)
    ]


def _agreement(agreement: Agreement) -> dict[str, int]:
    return {"compared": agreement.compared, **attrs.asdict(agreement)}


def books_of(parts: Parts) -> list[SymbolBook]:
    """Return the book of every symbol."""
    return [parts.engine.book(index) for index in range(len(parts.engine.registry.symbols))]


def symbols_that_seed(parts: Parts) -> list[str]:
    """Return the names of the symbols that do not know their past yet."""
    waiting = (book for book in books_of(parts) if not book.seeded and not book.halted)
    return [book.symbol.public_name for book in waiting]


def _symbols_status(parts: Parts) -> dict[str, Any]:
    now = parts.clock.now_ms()
    seeding: list[Any] = list(symbols_that_seed(parts))
    halted: list[Any] = []
    holes: list[Any] = []
    quiet: list[Any] = []
    unproved: list[Any] = []
    for book in books_of(parts):
        name = book.symbol.public_name
        if book.halted:
            halted.append({"symbol": name, "reason": book.halted})
        if book.ledger.holes:
            missing = sum(hole.size for hole in book.ledger.holes)
            first = book.ledger.holes[0].since
            holes.append({"symbol": name, "missing": missing, "since": first})
        since = unproved_since(book)
        if since is not None:
            unproved.append({"symbol": name, "since": since})
        if book.ledger.newest_time and now - book.ledger.newest_time > MINUTE:
            quiet.append({"symbol": name, "last_trade": book.ledger.newest_time})
    unproved.sort(key=lambda entry: entry["since"])
    deaf = [parts.engine.registry.symbols[index].public_name for index in sorted(parts.repair.deaf)]
    named = {
        "seeding": seeding,
        "halted": halted,
        "open_holes": holes,
        "quiet": quiet,
        "deaf_streams": list[Any](deaf),
        "unproved": unproved,
    }
    return {
        name: {"count": len(entries), "first": entries[:_MOST_NAMES]}
        for name, entries in named.items()
    }


def _trades_status(parts: Parts) -> dict[str, Any]:
    feed, engine = parts.feed.counts, parts.engine
    return {
        "frames": feed.frames,
        "decoded": feed.trades,
        "bad_frames": dict(feed.bad),
        **attrs.asdict(engine.counts()),
        "dropped": engine.dropped,
        "repaired": parts.repair.counts.trades,
    }


def _actors_status(parts: Parts) -> dict[str, Any]:
    engine = parts.engine
    return {
        "queued": engine.queued,
        "queue_high_water": engine.queue_high_water,
        "restarts": engine.actor_restarts,
        **percentiles("hand_off", engine.delays),
    }


def _storage_status(parts: Parts) -> dict[str, Any]:
    persister = parts.persister
    return {
        "attached": parts.hold.is_attached,
        **attrs.asdict(persister.counts),
        "backlog": persister.backlog,
        "backlog_memory": len(persister.pending),
        "backlog_disk": persister.spool.bars,
        "oldest_waiting_s": round(persister.waiting_s, 1),
        "writing_s": round(persister.writing_s, 1),
        "spool_size": persister.spool.size,
    }


def _history_status(parts: Parts) -> dict[str, Any]:
    keeper = parts.keeper
    return {
        "since": keeper.since,
        "rounds": keeper.rounds,
        **attrs.asdict(keeper.download.progress),
    }


def _audit_status(parts: Parts) -> dict[str, Any]:
    auditor = parts.auditor
    return {
        "is_on": auditor.is_on,
        "settle": auditor.settle,
        "rounds": auditor.rounds,
        "failures": auditor.failures,
        "settled": auditor.settled,
        "settling": len(auditor.settling),
        **_agreement(auditor.agreement),
        "own": sum(each.own for each in auditor.symbols),
        "unproved": sum(each.unproved for each in auditor.symbols),
        "skipped": sum(each.skipped for each in auditor.symbols),
    }


def _rest_status(parts: Parts) -> dict[str, Any]:
    rest, repair = parts.rest, parts.repair
    return {
        "used_weight": rest.budget.used,
        "highest_weight": rest.budget.highest,
        "calls": rest.calls,
        "failures": rest.failures,
        "repairs_under_way": repair.busy,
        "suspected": parts.watch.suspected,
        **attrs.asdict(repair.counts),
    }


def unproved_since(book: SymbolBook) -> int | None:
    """Return the oldest time of which a book cannot prove all, although it may still; 0 if unknown.

    None if all is proved up to its newest trade.
    """
    times = [hole.since for hole in book.ledger.holes[:1]]
    if not book.seeded:
        times.append(book.trusted_until)
    if book.closed.unproved_since is not None:
        times.append(book.closed.unproved_since)
    return min(times, default=None)


def percentiles(name: str, delays: LatencyHistogram) -> dict[str, float]:
    """Return a histogram's median and 99th percentile in ms."""
    return {
        f"{name}_p50_ms": round(delays.percentile(0.50) * 1000, 3),
        f"{name}_p99_ms": round(delays.percentile(0.99) * 1000, 3),
    }


def _connection_status(each: SupervisedLink) -> dict[str, Any]:
    link = each.link
    now = trio.current_time()

    def age(moment: float) -> float | None:
        return round(now - moment, 1) if moment else None

    return {
        "stream": link.name,
        "state": link.state,
        "since_s": age(link.since),
        "frames": link.frames,
        "reconnects": each.supervision.restarts,
        "last_cause": each.supervision.last_cause,
        "last_frame_age_s": age(link.last_frame),
        "last_pong_age_s": age(link.last_pong),
    }
