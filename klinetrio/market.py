"""The running daemon as its interfaces and its logs see it; reads, never writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from klinetrio import __version__
from klinetrio.domain.interval import MINUTE
from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.book import SymbolBook
    from klinetrio.exchange.feed import SupervisedLink
    from klinetrio.latency import LatencyHistogram
    from klinetrio.parts import Parts

log = logging.getLogger("klinetrio.stats")

# The share of connections that may be down while the daemon calls itself ready: of hundreds one is
# nearly always being opened again, which costs its symbol a second.
TOLERATED_DOWN = 0.05

# Names listed in full in the status and in reasons; the number is always told.
_MOST_NAMES = 50


class LiveMarket:
    """Implements ``api.ports.Market`` on the running parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registry = parts.engine.registry

    @property
    def symbols(self) -> Sequence[Symbol]:
        """All symbols, by symbol index."""
        return self._registry.symbols

    @property
    def intervals(self) -> Sequence[Interval]:
        """All intervals, shortest first."""
        return self._registry.intervals

    def live_row(self, row: int) -> Sequence[int]:
        """Return a copy of the series' open bar as of the last swap."""
        return self._parts.engine.store.live_row(row)

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return bars of one series, ascending by open time."""
        return await self._parts.history.klines(row, start=start, end=end, limit=limit)

    def unready(self) -> Sequence[str]:
        """Return why the daemon is not ready, in words."""
        reasons = []
        parts = self._parts
        down = sum(each.link.state != "up" for each in parts.links)
        if down > TOLERATED_DOWN * len(parts.links):
            reasons.append(f"{down} of {len(parts.links)} connections are not up")
        seeding = len(self._symbols_that_seed())
        if seeding:
            reasons.append(f"{seeding} of {len(self.symbols)} symbols do not know their past yet")
        halted = [each.symbol.public_name for each in self._books() if each.halted]
        if halted:
            reasons.append(f"{len(halted)} symbols are halted, {halted[0]} the first")
        failures = parts.persister.counts.failures_in_a_row
        if failures:
            reasons.append(f"the database failed {failures} times in a row")
        return reasons

    def status(self) -> dict[str, Any]:
        """Return what ``/api/v1/status`` shows."""
        parts = self._parts
        return {
            "version": __version__,
            "uptime_s": round(trio.current_time() - parts.started, 1),
            "exchange_time": parts.clock.now_ms(),
            "clock_skew_ms": round(parts.clock.skew_ms()),
            "universe": {
                "symbols": len(self.symbols),
                "intervals": [interval.name for interval in self.intervals],
                "series": self._registry.capacity,
            },
            "symbols": self._symbols_status(),
            "trades": self._trades_status(),
            "actors": self._actors_status(),
            "swaps": {
                "generation": parts.engine.store.generation,
                **attrs.asdict(parts.swapper.counts),
            },
            "storage": self._storage_status(),
            "history": self._history_status(),
            "rest": self._rest_status(),
            "parts": {name: attrs.asdict(each) for name, each in parts.supervisions.items()},
            "connections": [_connection_status(each) for each in parts.links],
        }

    def metrics(self) -> Iterable[Metric]:
        """Return what ``/metrics`` shows."""
        parts = self._parts
        counts = parts.engine.counts()
        trades = CounterMetricFamily("klinetrio_trades", "Trades by fate.", labels=["fate"])
        for fate, number in attrs.asdict(counts).items():
            if fate != "gaps":
                trades.add_metric([fate], number)
        yield trades
        bad = CounterMetricFamily("klinetrio_bad_frames", "Unusable frames.", labels=["kind"])
        for kind, number in parts.feed.counts.bad.items():
            bad.add_metric([kind], number)
        yield bad
        up = sum(each.link.state == "up" for each in parts.links)
        restarts = sum(each.supervision.restarts for each in parts.links)
        for name, text, value in (
            ("klinetrio_agg_id_gaps", "Holes that opened in the ids.", counts.gaps),
            ("klinetrio_ws_reconnects", "Connections opened again.", restarts),
            (
                "klinetrio_ws_renewals",
                "Connections replaced without a break.",
                parts.feed.counts.renewed,
            ),
            ("klinetrio_swaps", "Swaps.", parts.swapper.counts.swaps),
            ("klinetrio_late_ticks", "Swaps that came late.", parts.swapper.counts.late),
            ("klinetrio_persist_rows", "Bars written.", parts.persister.counts.rows),
            ("klinetrio_persist_failures", "Failed batches.", parts.persister.counts.failures),
        ):
            yield CounterMetricFamily(name, text, value)
        delays = parts.engine.delays
        for name, text, gauge in (
            ("klinetrio_ws_connected", "Connections up.", up),
            (
                "klinetrio_persist_backlog",
                "Closed bars to be written.",
                len(parts.persister.pending),
            ),
            ("klinetrio_persist_seconds", "Last batch's time.", parts.persister.counts.last_s),
            ("klinetrio_database_bytes", "Database size.", parts.persister.counts.size),
            ("klinetrio_rest_used_weight", "Weight this minute.", parts.rest.budget.used),
            ("klinetrio_actor_delay_p99_seconds", "Decode to buffer.", delays.percentile(0.99)),
        ):
            yield GaugeMetricFamily(name, text, gauge)

    def _books(self) -> list[SymbolBook]:
        return [self._parts.engine.book(index) for index in range(len(self.symbols))]

    def _symbols_that_seed(self) -> list[str]:
        waiting = (book for book in self._books() if not book.seeded and not book.halted)
        return [book.symbol.public_name for book in waiting]

    def _symbols_status(self) -> dict[str, Any]:
        now = self._parts.clock.now_ms()
        seeding: list[Any] = list(self._symbols_that_seed())
        halted: list[Any] = []
        holes: list[Any] = []
        quiet: list[Any] = []
        for book in self._books():
            name = book.symbol.public_name
            if book.halted:
                halted.append({"symbol": name, "reason": book.halted})
            if book.ledger.holes:
                missing = sum(hole.size for hole in book.ledger.holes)
                since = book.ledger.holes[0].since
                holes.append({"symbol": name, "missing": missing, "since": since})
            if book.ledger.newest_time and now - book.ledger.newest_time > MINUTE:
                quiet.append({"symbol": name, "last_trade": book.ledger.newest_time})
        deaf = [self.symbols[index].public_name for index in sorted(self._parts.repair.deaf)]
        named = {
            "seeding": seeding,
            "halted": halted,
            "open_holes": holes,
            "quiet": quiet,
            "deaf_streams": list[Any](deaf),
        }
        return {
            name: {"count": len(entries), "first": entries[:_MOST_NAMES]}
            for name, entries in named.items()
        }

    def _trades_status(self) -> dict[str, Any]:
        feed, engine = self._parts.feed.counts, self._parts.engine
        return {
            "frames": feed.frames,
            "decoded": feed.trades,
            "bad_frames": dict(feed.bad),
            **attrs.asdict(engine.counts()),
            "dropped": engine.dropped,
            "repaired": self._parts.repair.counts.trades,
        }

    def _actors_status(self) -> dict[str, Any]:
        engine = self._parts.engine
        return {
            "queued": engine.queued,
            "queue_high_water": engine.queue_high_water,
            "restarts": engine.actor_restarts,
            **_percentiles("hand_off", engine.delays),
        }

    def _storage_status(self) -> dict[str, Any]:
        persister = self._parts.persister
        return {**attrs.asdict(persister.counts), "backlog": len(persister.pending)}

    def _history_status(self) -> dict[str, Any]:
        keeper = self._parts.keeper
        return {
            "since": keeper.since,
            "rounds": keeper.rounds,
            **attrs.asdict(keeper.download.progress),
        }

    def _rest_status(self) -> dict[str, Any]:
        rest, repair = self._parts.rest, self._parts.repair
        return {
            "used_weight": rest.budget.used,
            "highest_weight": rest.budget.highest,
            "calls": rest.calls,
            "failures": rest.failures,
            "repairs_under_way": repair.busy,
            "suspected": self._parts.watch.suspected,
            **attrs.asdict(repair.counts),
        }


def _percentiles(name: str, delays: LatencyHistogram) -> dict[str, float]:
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
            **_percentiles("transit", transit),
            **_percentiles("hand_off", handoff),
            queued=parts.engine.queued,
            queue_high_water=parts.engine.queue_high_water,
            swaps=parts.swapper.counts.swaps,
            late_ticks=parts.swapper.counts.late,
            batches=parts.persister.counts.batches,
            backlog=len(parts.persister.pending),
            weight=parts.rest.budget.used,
        )
        before, frames = counts, parts.feed.counts.frames
