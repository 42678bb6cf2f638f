"""Percentiles are right within a bucket, in constant memory."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from klinetrio.latency import LatencyHistogram


# One bucket is 2**(1/4) wide; a little more for the rounding of floats.
WIDTH = 2**0.25 * 1.000001

DELAYS = st.lists(st.floats(2e-6, 3_000), min_size=1, max_size=200)


def histogram_of(delays: list[float]) -> LatencyHistogram:
    """Return a histogram with all delays recorded."""
    histogram = LatencyHistogram()
    for delay in delays:
        histogram.record(delay)
    return histogram


@given(DELAYS, st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_at_most_one_bucket_above_the_truth(
    delays: list[float], share: float
) -> None:
    """Never below the true percentile, and not a fifth above it."""
    truth = sorted(delays)[max(0, math.ceil(share * len(delays)) - 1)]
    assert truth <= histogram_of(delays).percentile(share) <= truth * WIDTH


@given(DELAYS)
def test_percentiles_do_not_fall(delays: list[float]) -> None:
    """A larger share has no smaller delay."""
    histogram = histogram_of(delays)
    percentiles = [histogram.percentile(share / 20) for share in range(21)]
    assert sorted(percentiles) == percentiles


def test_nothing_recorded_is_no_delay() -> None:
    """An empty histogram answers, too."""
    assert LatencyHistogram().percentile(0.99) == 0.0
    assert LatencyHistogram().count == 0


def test_what_is_off_the_scale_is_counted_at_its_ends() -> None:
    """Clocks that disagree give negative delays; a broken one gives days."""
    histogram = histogram_of([-5.0, 0.0, 1e9])
    assert histogram.count == 3
    assert histogram.percentile(0.5) == 1e-6
    assert 3_000 < histogram.percentile(1.0) < 5_000


def test_taking_starts_anew() -> None:
    """Each line of statistics speaks of its own minute."""
    histogram = histogram_of([0.001] * 3)
    taken = histogram.take()
    histogram.record(10.0)
    assert (taken.count, histogram.count) == (3, 1)
    assert taken.percentile(1.0) < 0.0013
    assert histogram.percentile(0.01) >= 10.0
    assert len(taken._buckets) == len(histogram._buckets)
