"""The outside world, in one object: time, sockets, dice and the identity of the process.

Everything above takes what it needs from an `Environment` that is handed down constructors. Nobody else tells the
time, opens a socket or draws a random number, so that a simulation can replace all of it by handing over another
`Environment`. This file knows asyncio's transports, and nothing of RocketMQ.
"""

from __future__ import annotations

import asyncio
import contextvars
import ipaddress
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

__all__ = ["Clock", "Environment", "Listener", "Network", "ProcessIdentity", "housekeeping", "housekeeping_context"]

#: True in the context of work that repeats by itself: heartbeats, scans, reconnects. A virtual loop tells by it whether
#: the program still makes progress or merely ticks. It is set once, at the birth of such a task or timer.
housekeeping: contextvars.ContextVar[bool] = contextvars.ContextVar("rocketmq_aio.housekeeping", default=False)


def housekeeping_context() -> contextvars.Context:
    """A new, otherwise empty context in which `housekeeping` is set.

    New at each call, because a context cannot be entered by two threads at once.
    """
    context = contextvars.Context()
    context.run(housekeeping.set, True)
    return context


class Clock(Protocol):
    """Two clocks. Bind the callables once; they are called for every message."""

    @property
    def monotonic(self) -> Callable[[], float]:
        """Seconds that never go back. They measure; they never go on the wire."""

    @property
    def wall(self) -> Callable[[], float]:
        """Seconds since 1970. They go on the wire, in milliseconds; they never measure."""


class Listener(Protocol):
    """A listening socket."""

    @property
    def host(self) -> str:
        """The address that it listens on."""

    @property
    def port(self) -> int:
        """The port that it listens on, never 0."""

    def close(self) -> None:
        """Stop listening at once. Accepted connections stay."""


class Network(Protocol):
    """Opens byte streams. Errors are `OSError`s, as asyncio raises them."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to `host`:`port`. Cancelling leaves no socket behind."""

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        """Listen on `host`:`port`; port 0 takes a free one."""


class ProcessIdentity(msgspec.Struct, frozen=True):
    """What makes unique ids of this process differ from those of all others.

    Attributes:
        address: the host's address, 4 or 16 bytes.
        pid: the process id.
        host: the same address as text, for client ids.
        local_months: ids count milliseconds from the beginning of the month in local time, as Java's tools read them.
            False: in UTC, so that a simulation has the same ids on every host.
    """

    address: bytes
    pid: int
    host: str
    local_months: bool = True


class Environment(msgspec.Struct, frozen=True):
    """The outside world of one client or one cluster.

    Attributes:
        clock: tells the time.
        network: opens and accepts connections.
        entropy: `entropy(name)` is a new random generator for one part of the program. Parts are named, so that a
            new draw in one does not shift the draws of another.
        identity: `identity()` is the identity of the process that calls it; it differs after a fork.
    """

    clock: Clock
    network: Network
    entropy: Callable[[str], random.Random]
    identity: Callable[[], ProcessIdentity]

    @classmethod
    def system(cls) -> Environment:
        """The real world: the system's clocks, TCP, and random numbers that nobody can repeat."""
        return cls(clock=SystemClock(), network=TcpNetwork(), entropy=_system_entropy, identity=_system_identity)


class SystemClock:
    """The system's own clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class TcpListener:
    """A listening TCP socket of asyncio."""

    def __init__(self, server: asyncio.Server) -> None:
        if not server.sockets:  # asyncio passes over what it cannot bind
            raise OSError("there is no socket to listen on")
        self._server = server
        self.host, self.port = server.sockets[0].getsockname()[:2]

    def close(self) -> None:
        """Stop listening at once. Accepted connections stay."""
        self._server.close()

    def release_after_fork(self) -> None:
        """In a child: let go of the port, which would otherwise stay connectable after the parent has closed it.

        The descriptors' numbers stay taken, by the null device: the inherited objects still own them, and would close
        somebody else's file when they are collected.
        """
        for sock in self._server.sockets:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, sock.fileno())
            os.close(null)


class TcpNetwork:
    """TCP as asyncio has it, without delays for small writes."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to `host`:`port` over IPv4 or IPv6."""
        # No happy_eyeballs_delay: uvloop refuses the argument. Both loops set TCP_NODELAY themselves.
        return await asyncio.get_running_loop().create_connection(factory, host, port)

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        """Listen on `host`:`port`."""
        # With asyncio's default of 100, a thousand clients that connect at once wait a second each for a dropped SYN.
        server = await asyncio.get_running_loop().create_server(
            factory, host, port, backlog=4096, start_serving=False
        )
        try:  # cancelled here, it would otherwise leave a socket that nobody can close
            await server.start_serving()
            return TcpListener(server)
        except BaseException:
            server.close()
            raise


def _system_entropy(_name: str) -> random.Random:
    return random.Random(os.urandom(16))


def _system_identity() -> ProcessIdentity:
    host = _host_address()
    return ProcessIdentity(address=ipaddress.ip_address(host).packed, pid=os.getpid(), host=host)


def _host_address() -> str:
    """The address that this host would use towards others. No packet is sent: connecting UDP only picks a route."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                host: str = probe.getsockname()[0].partition("%")[0]
        except OSError:
            continue
        if not ipaddress.ip_address(host).is_unspecified:
            return host
    return "127.0.0.1"
