"""``/metrics``: what the market counts and what the hub counts, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from klinetrio import __version__


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from klinetrio.api.hub import PushStatistics
    from klinetrio.api.ports import Market

# Text of 3,000 samples takes 13 ms (measured), which trades should not have to wait for; of 100
# samples 0.3 ms, less than the hand-over to a thread may cost.
MAX_INLINE_SAMPLES = 100


@attrs.frozen
class _Collected:
    """Metrics already taken, in the form the encoder wants them."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


async def render_metrics(market: Market, push: PushStatistics, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type.

    The numbers are taken at once, of one moment; only turning many into text is left to a thread.

    Args:
        market: Counts what comes in.
        push: Counts what goes out.
        accept: The ``Accept`` header: Prometheus text or OpenMetrics.
    """
    collected = _Collected([*market.metrics(), *push_metrics(push)])
    encode, content_type = choose_encoder(accept)
    samples = sum(len(metric.samples) for metric in collected.metrics)
    if samples <= MAX_INLINE_SAMPLES:
        return encode(collected), content_type
    return await trio.to_thread.run_sync(encode, collected), content_type


def push_metrics(push: PushStatistics) -> Iterator[Metric]:
    """Yield what the push side counts."""
    build = GaugeMetricFamily("klinetrio_build_info", "Version that runs.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield GaugeMetricFamily("klinetrio_push_clients", "Push clients.", push.clients)
    yield GaugeMetricFamily(
        "klinetrio_push_subscriptions", "Series watched, of all clients.", push.subscriptions
    )
    yield GaugeMetricFamily(
        "klinetrio_push_pending", "Closed bars and trades waiting, of all clients.", push.pending
    )
    messages = CounterMetricFamily(
        "klinetrio_push_messages", "Messages sent to push clients.", labels=["kind"]
    )
    messages.add_metric(["update"], push.updates)
    messages.add_metric(["final"], push.finals)
    messages.add_metric(["trade"], push.trades)
    yield messages
    yield CounterMetricFamily(
        "klinetrio_push_conflated", "Updates made superfluous by newer ones.", push.conflated
    )
    yield CounterMetricFamily(
        "klinetrio_push_dropped", "Push clients closed as too slow.", push.slow_clients
    )
    yield CounterMetricFamily(
        "klinetrio_push_refused", "Push clients turned away.", push.refused_clients
    )
