"""A network in memory: who listens where, and how connections come about.

A connection has two ends (`transport.py`), each with its own link to the other. One network belongs to one loop. What
travels is bytes; frames and RocketMQ are unknown here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

from broker_sim.worlds.links import Latency, Link
from broker_sim.worlds.transport import Address, MemoryTransport
from rocketmq_aio.environment import Listener

__all__ = ["MemoryListener", "MemoryNetwork"]

LISTENER_PORTS = range(20_000, 32_768)
CLIENT_PORTS = range(32_768, 61_000)
CLIENT_HOST = "127.0.0.1"
WILDCARDS = ("0.0.0.0", "::")


class MemoryListener:
    """A listening address in memory."""

    def __init__(self, network: MemoryNetwork, address: Address, factory: Callable[[], asyncio.Protocol]) -> None:
        self._network = network
        self.host, self.port = address
        self.factory = factory

    def close(self) -> None:
        """Stop listening at once. Accepted connections stay."""
        self._network._listeners.pop((self.host, self.port), None)


class MemoryNetwork:
    """All connections of one world. Names are not resolved: whoever listens as `broker-a` is found as `broker-a`.

    Clients come from 127.0.0.1. Ports are handed out in order.

    Args:
        latency: of every link.
        draw: the dice for its jitter.
    """

    def __init__(self, latency: Latency, draw: Callable[[], float]) -> None:
        self._latency = latency
        self._draw = draw
        self._listeners: dict[Address, MemoryListener] = {}
        self._client_ports: dict[int, None] = {}
        self._last_client_port = CLIENT_PORTS.start - 1
        self._last_listener_port = LISTENER_PORTS.start - 1
        self._open_ends = 0

    @property
    def open_ends(self) -> int:
        """Ends of connections whose `connection_lost` is still to come. 0 when everybody has closed."""
        return self._open_ends

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        """Listen on `host`:`port`; port 0 takes a free one.

        Raises:
            OSError: The address is in use.
        """
        host = _canonical(host)
        if port == 0:
            port = self._last_listener_port = self._next_port(
                LISTENER_PORTS, self._last_listener_port, lambda port: any(port == used for _, used in self._listeners)
            )
        elif (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"error while attempting to bind on address {(host, port)}: in use")
        listener = self._listeners[host, port] = MemoryListener(self, (host, port), factory)
        return listener

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to `host`:`port`. It takes the way there and back. Cancelling leaves nothing behind.

        Raises:
            ConnectionRefusedError: Nobody listens there.
            OSError: All ports for clients are in use.
        """
        loop = asyncio.get_running_loop()
        there = Link(self._latency, self._draw)
        client_port = self._take_client_port()
        answer: asyncio.Future[MemoryTransport] = loop.create_future()
        _call_at(loop, there.arrival(loop.time()), self._knock, answer, there, client_port, (_canonical(host), port))
        try:
            transport = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().abort()
            raise
        try:
            protocol = factory()
        except BaseException:
            transport.abort()
            raise
        transport.open(protocol)
        return transport, protocol

    def _knock(self, answer: asyncio.Future[MemoryTransport], there: Link, client_port: int, address: Address) -> None:
        """At the server. The client's end is complete when the answer is back; what the server writes comes later."""
        if answer.done():
            del self._client_ports[client_port]
            return
        loop = asyncio.get_running_loop()
        back = Link(self._latency, self._draw)
        answered_at = back.arrival(loop.time())
        listener = self._listener(address)
        if listener is None:
            del self._client_ports[client_port]
            refusal = ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {address}")
            _call_at(loop, answered_at, _refuse, answer, refusal)
            return
        server_address = (listener.host if listener.host not in WILDCARDS else address[0], listener.port)
        client_address = (CLIENT_HOST, client_port)
        client = MemoryTransport(loop, there, client_address, server_address, lambda: self._end_lost(client_port))
        server = MemoryTransport(loop, back, server_address, client_address, self._end_lost)
        self._open_ends += 2
        client.pair(server)
        _call_at(loop, answered_at, _accept, answer, client)
        try:
            protocol = listener.factory()
        except BaseException:
            server.abort()
            raise
        server.open(protocol)

    def _listener(self, address: Address) -> MemoryListener | None:
        hosts = (address[0], *WILDCARDS)
        return next((found for host in hosts if (found := self._listeners.get((host, address[1])))), None)

    def _take_client_port(self) -> int:
        port = self._next_port(CLIENT_PORTS, self._last_client_port, self._client_ports.__contains__)
        self._last_client_port = port
        self._client_ports[port] = None
        return port

    def _end_lost(self, client_port: int | None = None) -> None:
        self._open_ends -= 1
        if client_port is not None:
            del self._client_ports[client_port]

    @staticmethod
    def _next_port(ports: range, last: int, in_use: Callable[[int], bool]) -> int:
        for step in range(1, len(ports) + 1):
            port = ports[(last - ports.start + step) % len(ports)]
            if not in_use(port):
                return port
        raise OSError(errno.EADDRNOTAVAIL, f"all ports from {ports.start} to {ports.stop - 1} are in use")


def _canonical(host: str) -> str:
    return {"localhost": "127.0.0.1", "": "0.0.0.0"}.get(host, host)


def _call_at(loop: asyncio.AbstractEventLoop, due: float, callback: Callable[..., None], *args: Any) -> None:
    if due > loop.time():
        loop.call_at(due, callback, *args)
    else:
        loop.call_soon(callback, *args)


def _accept(answer: asyncio.Future[MemoryTransport], client: MemoryTransport) -> None:
    if answer.done():
        client.abort()
    else:
        answer.set_result(client)


def _refuse(answer: asyncio.Future[MemoryTransport], refusal: ConnectionRefusedError) -> None:
    if not answer.done():
        answer.set_exception(refusal)
