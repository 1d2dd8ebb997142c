"""The environments: loopback (real sockets), memory (real time, no sockets) and virtual (no real time either).

A seeded environment draws everything from its seed, and pretends to be a process of its own, so that ids are the same
in every run.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from broker_sim.worlds.links import Latency
from broker_sim.worlds.memory import MemoryNetwork
from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.environment import Environment, ProcessIdentity, SystemClock

__all__ = ["VIRTUAL_START", "VirtualClock", "loopback", "memory", "virtual"]

VIRTUAL_START = datetime(2024, 1, 1, tzinfo=UTC)
"""The wall clock of a virtual world starts here."""

VIRTUAL_LATENCY = Latency(0.0002)
"""Never 0: in a world without delays two servers that answer each other would stop the clock."""

HOST = "127.0.0.1"


def loopback() -> Environment:
    """The real world: TCP, the system's clocks, and dice that nobody can repeat. Servers listen on 127.0.0.1."""
    return Environment.system()


def memory(seed: int = 0) -> Environment:
    """A world without sockets, in real time, on any loop. Nothing is under way for longer than a turn.

    Args:
        seed: what everything random in it is drawn from. Real time is not repeated by it.
    """
    return _seeded(SystemClock(), Latency(0.0), seed)


def virtual(loop: VirtualLoop, seed: int = 0, start: datetime = VIRTUAL_START) -> Environment:
    """A world without sockets, in the virtual time of `loop`.

    Args:
        loop: the loop that everything in it runs on.
        seed: what everything random in it is drawn from.
        start: what its wall clock shows first. An aware datetime.
    """
    return _seeded(VirtualClock(loop, start), VIRTUAL_LATENCY, seed)


class VirtualClock:
    """The clocks of a virtual loop.

    Args:
        loop: moves the clocks.
        start: what the wall clock shows now. An aware datetime.
    """

    def __init__(self, loop: VirtualLoop, start: datetime = VIRTUAL_START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"{start!r} has no time zone")
        self._time = loop.time
        self._offset = start.timestamp() - loop.time()

    @property
    def monotonic(self) -> Callable[[], float]:
        """The loop's time."""
        return self._time

    def wall(self) -> float:
        """Seconds since 1970. They move with the loop's time, and with each `step`."""
        return self._time() + self._offset

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back if `seconds` is negative. The monotonic clock does not notice."""
        self._offset += seconds


class SeededEntropy:
    """A named source of random generators.

    The first generator of a name depends on the seed and the name alone. Each further one of the same name is another,
    because two producers of one process must not draw the same ids.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls: Counter[str] = Counter()

    def __call__(self, name: str) -> random.Random:
        self._calls[name] += 1
        count = self._calls[name]
        return random.Random(f"{self._seed}/{name}" if count == 1 else f"{self._seed}/{name}/{count}")


def _seeded(clock: SystemClock | VirtualClock, latency: Latency, seed: int) -> Environment:
    entropy = SeededEntropy(seed)
    pid = entropy("process").randrange(1, 1 << 15)
    identity = ProcessIdentity(ipaddress.ip_address(HOST).packed, pid, HOST, local_months=False)
    network = MemoryNetwork(latency, entropy("links").random)
    return Environment(clock=clock, network=network, entropy=entropy, identity=lambda: identity)
