"""What a producer counts, and the frozen snapshot of it that users see.

This file knows numbers, and nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rocketmq_aio.errors import RocketMQError

__all__ = ["LatencyHistogram", "ProducerStats", "SendCounters"]

_BUCKETS = 64


class LatencyHistogram(msgspec.Struct, frozen=True):
    """Latencies, from the write of a request to the arrival of its answer, in buckets that double.

    Attributes:
        counts: bucket 0 is below one microsecond; bucket n is from 2^(n-1) to 2^n microseconds.
    """

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many latencies were recorded."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """An upper bound of the latency that `fraction` of all stay below, in seconds; 0.0 if there are none.

        Args:
            fraction: from 0 to 1.

        Raises:
            ValueError: it is not.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a quantile is a fraction from 0 to 1, not {fraction!r}")
        wanted = fraction * self.total
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return (1 << index) / 1e6
        return 0.0


class ProducerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A producer's counters since it was made.

    Attributes:
        sent: acknowledged messages, and one-way messages that were written.
        failed: class name of the error → how many sends ended with it.
        late_answers: answers that came when nobody waited for them any more.
        cancelled_unknown: sends cancelled after they were handed to the socket: they may be stored.
        in_flight: messages that are on their way now.
        in_flight_bytes: bytes of their bodies.
        window_waits: sends that had to wait for room.
        reconnects: connections made to an address that had one before.
        loop_stalls: how often a connection with requests in flight found that the event loop had been blocked for more
            than 50 ms; one stall counts once for each such connection.
        latency: latencies of acknowledged sends.
    """

    sent: int
    failed: Mapping[str, int]
    late_answers: int
    cancelled_unknown: int
    in_flight: int
    in_flight_bytes: int
    window_waits: int
    reconnects: int
    loop_stalls: int
    latency: LatencyHistogram


class SendCounters:
    """The counters while they count."""

    __slots__ = ("cancelled_unknown", "failed", "latencies", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.failed: dict[str, int] = {}
        self.cancelled_unknown = 0
        #: One place for each bit that a latency in microseconds can have: `latencies[int(µs).bit_length()] += 1`.
        self.latencies = [0] * _BUCKETS

    def fail(self, error: RocketMQError) -> None:
        """Count a send that ended in `error`."""
        name = type(error).__name__
        self.failed[name] = self.failed.get(name, 0) + 1

    def latency(self) -> LatencyHistogram:
        """A snapshot of the latencies."""
        last = max((index for index, count in enumerate(self.latencies) if count), default=-1)
        return LatencyHistogram(tuple(self.latencies[: last + 1]))
