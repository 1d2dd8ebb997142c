"""When does what is written now arrive? The rules of simulated links, as values and arithmetic.

A link is one direction of one connection. Like TCP it keeps the order: what is written later never arrives earlier,
also when the delay has become shorter meanwhile. Pure: the time and the dice are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from rocketmq_aio.errors import ConfigError

__all__ = ["Latency", "Link"]


class Latency(msgspec.Struct, frozen=True):
    """A rule: everything is under way for `seconds`, and up to `jitter` longer, evenly distributed.

    Attributes:
        seconds: 0 or more.
        jitter: seconds, 0 or more.

    Raises:
        ConfigError: A value is negative or not finite.
    """

    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seconds", "jitter"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"Latency: {name} is {value}; it must be 0 or more, and finite")


class Link:
    """One direction of one connection.

    Args:
        latency: the delay of what is written from now on. It may be replaced at any time.
        draw: gives numbers in [0, 1). It is asked once for each write, and only when there is a jitter.
    """

    __slots__ = ("_draw", "_last", "latency")

    def __init__(self, latency: Latency, draw: Callable[[], float]) -> None:
        self.latency = latency
        self._draw = draw
        self._last = -math.inf

    def arrival(self, now: float) -> float:
        """When what is written at `now` arrives: not before `now`, and not before what was written earlier."""
        latency = self.latency
        due = now + latency.seconds
        if latency.jitter:
            due += latency.jitter * self._draw()
        if due < self._last:
            return self._last
        self._last = due
        return due
