"""What a send costs in countable things: Python calls, writes to the socket, timers. No clock decides them.

A Python call is a 'call' event of `sys.setprofile` in the code of `rocketmq_aio`; each resumption of a coroutine is
one. The making of the message and the handling of its answer are included, the caller's own frames are not. The servers
run in a thread of their own, which the profile function does not see.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec

import rocketmq_aio
from benchmarks.machine import loop_factory
from broker_sim import Cluster
from rocketmq_aio import Environment, Message, Producer
from rocketmq_aio.environment import Listener

__all__ = ["Counts", "Tap", "TapNetwork", "count_sends", "record_exchange", "tapped"]

TOPIC = "CountedTopic"
PACKAGE = str(Path(rocketmq_aio.__file__).parent)


class Tap:
    """What went over the connections of a `TapNetwork`.

    Attributes:
        writes: calls of `write`.
        connections: connections made.
        written: the bytes of the last `write`.
        received: the bytes of the last read.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.connections = 0
        self.written = b""
        self.received = b""


class _TapTransport:
    """A transport that counts what is written to it."""

    def __init__(self, inner: asyncio.Transport, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def write(self, data: bytes) -> None:
        self._tap.writes += 1
        self._tap.written = data
        self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _TapProtocol(asyncio.Protocol):
    """Stands between a transport and its protocol."""

    def __init__(self, inner: asyncio.Protocol, tap: Tap) -> None:
        self.inner = inner
        self._tap = tap
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        self.connection_lost = inner.connection_lost  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tap.connections += 1
        tapped = _TapTransport(cast(asyncio.Transport, transport), self._tap)
        self.inner.connection_made(cast(asyncio.BaseTransport, tapped))

    def data_received(self, data: bytes) -> None:
        self._tap.received = data
        self.inner.data_received(data)


class TapNetwork:
    """A network that another does the work for.

    Args:
        inner: the network that works.
        tap: told of what goes over outgoing connections.
    """

    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect, with the tap in between."""
        transport, protocol = await self._inner.connect(lambda: _TapProtocol(factory(), self._tap), host, port)
        return transport, cast(_TapProtocol, protocol).inner

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        """Listen, without a tap."""
        return cast(Listener, await self._inner.listen(factory, host, port))


def tapped(environment: Environment, tap: Tap) -> Environment:
    """The same environment with a tap in its network."""
    return msgspec.structs.replace(environment, network=TapNetwork(environment.network, tap))


class Counts(msgspec.Struct, frozen=True):
    """What `messages` sends took.

    Attributes:
        messages: how many were sent and acknowledged.
        in_flight: at a time.
        calls: Python calls, by qualified name.
        writes: calls of the transport's `write`.
        timers: calls of the loop's `call_later` and `call_at`.
        connections: connections that were open.
        seconds: how long it took, under the profile function.
    """

    messages: int
    in_flight: int
    calls: dict[str, int]
    writes: int
    timers: int
    connections: int
    seconds: float

    @property
    def calls_per_message(self) -> float:
        """Python calls of a send."""
        return sum(self.calls.values()) / self.messages

    @property
    def writes_per_message(self) -> float:
        """Writes of a send."""
        return self.writes / self.messages

    @property
    def timers_per_message(self) -> float:
        """Timers of a send."""
        return self.timers / self.messages


def counting_loop() -> tuple[asyncio.AbstractEventLoop, Counter[str]]:
    """A new loop, and a counter of the timers that are made in it."""
    made: Counter[str] = Counter()
    base: Any = type(loop_factory()())

    class CountingLoop(base):  # type: ignore[misc]
        """The usual loop; it counts timers."""

        def call_later(self, *args: Any, **kwargs: Any) -> Any:
            """As the loop's own."""
            made["timers"] += 1
            return super().call_later(*args, **kwargs)

        def call_at(self, *args: Any, **kwargs: Any) -> Any:
            """As the loop's own."""
            made["timers"] += 1
            return super().call_at(*args, **kwargs)

    return CountingLoop(), made


def count_sends(in_flight: int, messages: int, *, body_bytes: int = 1024) -> Counts:
    """Send to a simulated broker over loopback, and count.

    Args:
        in_flight: tasks that each await one send after the other.
        messages: how many to count. Half as many go before, uncounted: routes and connections are warm.
        body_bytes: the size of each body.
    """
    with Cluster(topics={TOPIC: 8}) as cluster:
        loop, made = counting_loop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            counts = runner.run(_count(cluster, made, in_flight, messages, bytes(body_bytes)))
        stored = len(cluster.messages(TOPIC))
    if stored != messages + messages // 2:
        raise AssertionError(f"{messages + messages // 2} messages were acknowledged, {stored} are stored")
    return counts


async def _count(cluster: Cluster, made: Counter[str], in_flight: int, messages: int, body: bytes) -> Counts:
    calls: Counter[str] = Counter()

    def look(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            calls[code.co_qualname] += 1

    async def send(numbers: Iterator[int]) -> None:
        for _ in numbers:
            await producer.send(Message(TOPIC, body))

    async def send_all(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*[send(numbers) for _ in range(in_flight)])

    tap = Tap()
    environment = tapped(cluster.environment, tap)
    async with Producer("counted", namesrv=cluster.namesrv, topics=[TOPIC], environment=environment) as producer:
        await send_all(messages // 2)
        writes, timers = tap.writes, made["timers"]
        started = time.perf_counter()
        sys.setprofile(look)
        try:
            await send_all(messages)
        finally:
            sys.setprofile(None)
        seconds = time.perf_counter() - started
        return Counts(
            messages, in_flight, dict(calls), tap.writes - writes, made["timers"] - timers, tap.connections, seconds
        )


async def record_exchange(body: bytes) -> tuple[bytes, bytes]:
    """The frames of a real send with `body` and of its answer, as they went over a connection."""
    async with Cluster(topics={TOPIC: 8}) as cluster:
        tap = Tap()
        environment = tapped(cluster.environment, tap)
        async with Producer("recorded", namesrv=cluster.namesrv, topics=[TOPIC], environment=environment) as producer:
            await producer.send(Message(TOPIC, body))
            return tap.written, tap.received
