"""Two ends of a connection that write down what happens to them, and the worlds in which they can meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from broker_sim.worlds.environments import loopback, memory
from broker_sim.worlds.runner import run_virtual
from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.environment import Environment, Listener

Main = Callable[[Environment], Awaitable[Any]]


def _on_loop(main: Main, factory: Callable[[], asyncio.AbstractEventLoop] | None, environment: Environment) -> Any:
    async def body() -> Any:
        async with asyncio.timeout(20):
            return await main(environment)

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(body())


WORLDS: dict[str, Callable[[Main], Any]] = {
    "virtual": lambda main: run_virtual(main, seed=1),
    "memory": lambda main: _on_loop(main, None, memory(1)),
    "memory-uvloop": lambda main: _on_loop(main, uvloop.new_event_loop, memory(1)),
    "tcp": lambda main: _on_loop(main, None, loopback()),
    "tcp-uvloop": lambda main: _on_loop(main, uvloop.new_event_loop, loopback()),
}
IN_MEMORY = ("virtual", "memory", "memory-uvloop")


class Peer(asyncio.Protocol):
    """Writes down what happens, and lets a test wait for it.

    Args:
        keep_open: the answer to an end of file.
        on_data: is called with the peer and what it received.
    """

    def __init__(self, keep_open: bool = False, on_data: Callable[[Peer, bytes], object] | None = None) -> None:
        self.transport: asyncio.Transport
        self.keep_open = keep_open
        self.on_data = on_data
        self.events: list[str] = []
        self.received = bytearray()
        self.error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on this peer holds. It is asked after each event."""
        while not condition():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def lost(self) -> BaseException | None:
        """Wait for the end, and return its error."""
        await self.until(lambda: "lost" in self.events)
        return self.error

    def _happened(self, event: str) -> None:
        self.events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._happened("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.on_data is not None:
            self.on_data(self, data)
        self._happened("data")

    def eof_received(self) -> bool:
        self._happened("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self._happened("pause")

    def resume_writing(self) -> None:
        self._happened("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._happened("lost")


class Pair:
    """A server, and one connection to it."""

    client: Peer
    server: Peer
    listener: Listener

    @classmethod
    async def open(cls, environment: Environment, client: Peer | None = None, server: Peer | None = None) -> Pair:
        """Connect `client` with `server`."""
        self = cls()
        self.client, self.server = client or Peer(), server or Peer()
        self.listener = await environment.network.listen(lambda: self.server, "127.0.0.1", 0)
        network = environment.network
        transport, protocol = await network.connect(lambda: self.client, self.listener.host, self.listener.port)
        assert protocol is self.client
        assert transport is self.client.transport
        await self.server.until(lambda: "made" in self.server.events)
        return self

    async def end(self) -> None:
        """Wait until both ends are gone, and stop listening."""
        self.client.transport.abort()
        await self.client.lost()
        await self.server.lost()
        self.listener.close()


async def settle() -> None:
    """Wait until what is under way in memory has arrived: a few latencies in virtual time, a few turns in real time."""
    virtual = isinstance(asyncio.get_running_loop(), VirtualLoop)
    for _ in range(6):
        await asyncio.sleep(0.0001 if virtual else 0)
