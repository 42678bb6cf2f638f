"""The running daemon as its interfaces and its logs see it; reads, never writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from klinetrio.status import audit_of, books_of, status_of, symbols_that_seed


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.parts import Parts

# The share of connections that may be down while the daemon calls itself ready: of hundreds one is
# nearly always being opened again, which costs its symbol a second.
TOLERATED_DOWN = 0.05


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
        seeding = len(symbols_that_seed(self._parts))
        if seeding:
            reasons.append(f"{seeding} of {len(self.symbols)} symbols do not know their past yet")
        halted = [each.symbol.public_name for each in books_of(self._parts) if each.halted]
        if halted:
            reasons.append(f"{len(halted)} symbols are halted, {halted[0]} the first")
        failures = parts.persister.counts.failures_in_a_row
        if failures:
            reasons.append(f"the database failed {failures} times in a row")
        return reasons

    def status(self) -> dict[str, Any]:
        """Return what ``/api/v1/status`` shows."""
        return status_of(self._parts)

    def audit(self) -> list[dict[str, Any]]:
        """Return what ``/api/v1/audit`` shows."""
        return audit_of(self._parts)

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
        agreement = parts.auditor.agreement
        audited = CounterMetricFamily(
            "klinetrio_audited_bars", "Minutes compared with the exchange's.", labels=["verdict"]
        )
        for verdict, number in attrs.asdict(agreement).items():
            audited.add_metric([verdict], number)
        yield audited
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
