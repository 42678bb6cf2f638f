"""What the running daemon measures of itself, as Prometheus takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

    from klinetrio.parts import Parts


def measures_of(parts: Parts) -> Iterable[Metric]:
    """Return what ``/metrics`` shows."""
    yield from _labelled(parts)
    for name, text, number in (*_events(parts), *_bars_kept(parts)):
        yield CounterMetricFamily(f"klinetrio_{name}", text, number)
    for name, text, gauge in (*_levels(parts), *_storage_levels(parts)):
        yield GaugeMetricFamily(f"klinetrio_{name}", text, gauge)


def _labelled(parts: Parts) -> Iterable[Metric]:
    """Yield what is counted by kind."""
    fates = attrs.asdict(parts.engine.counts())
    del fates["gaps"]  # no fate of a trade
    yield _by("fate", "trades", "Trades by fate.", fates)
    yield _by("kind", "bad_frames", "Unusable frames.", parts.feed.counts.bad)
    verdicts = attrs.asdict(parts.auditor.agreement)
    yield _by("verdict", "audited_bars", "Minutes compared with the exchange's.", verdicts)


def _by(label: str, name: str, text: str, numbers: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"klinetrio_{name}", text, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family


def _events(parts: Parts) -> Iterable[tuple[str, str, float]]:
    """Yield what happens on the way from the exchange to the swap."""
    restarts = sum(each.supervision.restarts for each in parts.links)
    yield "agg_id_gaps", "Holes that opened in the ids.", parts.engine.counts().gaps
    yield "ws_reconnects", "Connections opened again.", restarts
    yield "ws_renewals", "Connections replaced without a break.", parts.feed.counts.renewed
    yield "swaps", "Swaps.", parts.swapper.counts.swaps
    yield "late_ticks", "Swaps that came late.", parts.swapper.counts.late


def _bars_kept(parts: Parts) -> Iterable[tuple[str, str, float]]:
    """Yield what became of closed bars."""
    counts = parts.persister.counts
    yield "persist_rows", "Bars written.", counts.rows
    yield "persist_failures", "Failed batches.", counts.failures
    yield "persist_spooled", "Bars put to disk.", counts.spooled
    yield "persist_spool_failures", "Failures of the spool.", counts.spool_failures
    yield "persist_given_up", "Bars given up.", counts.given_up


def _levels(parts: Parts) -> Iterable[tuple[str, str, float]]:
    """Yield how things stand with the exchange and the engine."""
    up = sum(each.link.state == "up" for each in parts.links)
    delay = parts.engine.delays.percentile(0.99)
    yield "ws_connected", "Connections up.", up
    yield "rest_used_weight", "Weight this minute.", parts.rest.budget.used
    yield "actor_delay_p99_seconds", "Decode to buffer.", delay


def _storage_levels(parts: Parts) -> Iterable[tuple[str, str, float]]:
    """Yield how things stand with what is to be kept."""
    persister = parts.persister
    counts, spool = persister.counts, persister.spool
    yield "persist_backlog", "Closed bars to be written.", persister.backlog
    yield "persist_backlog_disk", "Those of them in the spool.", spool.bars
    yield "persist_waiting_seconds", "Wait of the oldest of them.", persister.waiting_s
    yield "persist_seconds", "Last batch's time.", counts.last_s
    yield "spool_bytes", "Spool's size.", spool.size
    yield "database_bytes", "Database size.", counts.size
    yield "database_wal_bytes", "Its write-ahead log's part of it.", counts.journal_size
