"""Counters and the frozen snapshots of them."""

from __future__ import annotations

import random

import pytest

from rocketmq_aio.errors import ClosedError, MessageError, SendTimeoutError
from rocketmq_aio.observe import LatencyHistogram, SendCounters


def histogram_of(*latencies: float) -> LatencyHistogram:
    """What the send path counts."""
    counters = SendCounters()
    for latency in latencies:
        counters.latencies[int(latency * 1e6).bit_length()] += 1
    return counters.latency()


def test_nothing_recorded() -> None:
    """An empty histogram has no buckets and no latency."""
    empty = histogram_of()
    assert empty == LatencyHistogram(())
    assert empty.total == 0
    assert [empty.quantile(fraction) for fraction in (0, 0.5, 1)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("latency", "bucket"),
    [(0.0, 0), (0.9e-6, 0), (1.5e-6, 1), (2.5e-6, 2), (3.5e-6, 2), (0.0010005, 10), (1.0, 20), (3600.0, 32)],
)
def test_buckets_double(latency: float, bucket: int) -> None:
    """Bucket n is from 2^(n-1) to 2^n microseconds; empty buckets behind the last are not listed."""
    histogram = histogram_of(latency)
    assert histogram.counts == (0,) * bucket + (1,)
    assert bucket == 0 or 2 ** (bucket - 1) <= latency * 1e6 < 2**bucket


def test_every_latency_that_a_clock_can_measure_has_a_bucket() -> None:
    """Hundreds of thousands of years."""
    assert histogram_of(9.2e12).total == 1


def test_quantiles_are_upper_bounds() -> None:
    """The bound is above as many latencies as were asked for, and at most twice as large as it must be."""
    rng = random.Random(5)
    latencies = sorted(rng.lognormvariate(-6, 1.5) for _ in range(1001))
    histogram = histogram_of(*latencies)
    assert histogram.total == 1001
    for fraction in (0.001, 0.1, 0.5, 0.9, 0.99, 1.0):
        exact = latencies[max(int(fraction * 1001 + 0.999999) - 1, 0)]
        assert exact <= histogram.quantile(fraction) <= 2 * exact + 1e-6


def test_the_lowest_quantile_is_the_first_bucket_that_counts() -> None:
    """Empty buckets before it are none of it."""
    assert LatencyHistogram((0, 0, 3, 0, 1)).quantile(0) == 4e-6
    assert LatencyHistogram((0, 0, 3, 0, 1)).quantile(0.75) == 4e-6
    assert LatencyHistogram((0, 0, 3, 0, 1)).quantile(0.76) == 16e-6


def test_failures_are_counted_by_class() -> None:
    """The name of the class that the caller catches."""
    counters = SendCounters()
    for error in (MessageError("a"), ClosedError("b"), MessageError("c"), SendTimeoutError("d")):
        counters.fail(error)
    assert counters.failed == {"MessageError": 2, "ClosedError": 1, "SendTimeoutError": 1}


def test_a_snapshot_stands_still() -> None:
    """What is counted later does not change it, and nobody can."""
    counters = SendCounters()
    counters.latencies[3] += 1
    before = counters.latency()
    counters.latencies[3] += 1
    assert before == LatencyHistogram((0, 0, 0, 1))
    assert counters.latency() == LatencyHistogram((0, 0, 0, 2))
    with pytest.raises(AttributeError):
        before.counts = ()
