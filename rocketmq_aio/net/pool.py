"""Address → connection: one for each, made once however many ask, with a pause after a failure.

A connection is made in a task of its own: a caller that is cancelled while it waits leaves, the others still get it.
After a failed connect further callers get that failure at once, as a new error, until the pause is over; pauses double,
with jitter, so that a broker that comes back is not met by all its clients in one instant.

This file knows addresses, and nothing of topics or messages.

Source: `NettyRemotingClient.java` (5.3.3) for one connection per address.
Differs: Java tries to connect again at every request, and its callers wait in line for a lock.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from rocketmq_aio.codes import FLAG_ONEWAY, FLAG_RESPONSE, LanguageCode, ResponseCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ConnectError, ConnectionLostError, TransportError
from rocketmq_aio.net.addresses import parse_address
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.shared import Spawn, wait_shared
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.incoming import Reply, Request, decode_reply

__all__ = ["Pool", "refuse_request"]

logger = logging.getLogger("rocketmq_aio")


class Failure:
    """What is remembered of an address that could not be reached."""

    __slots__ = ("error", "not_before", "pause")

    def __init__(self, error: ConnectError, not_before: float, pause: float) -> None:
        self.error = error
        self.not_before = not_before
        self.pause = pause


class Pool:
    """The connections of one client.

    Args:
        environment: clock, network, dice.
        spawn: runs a connect as a background task.
        connect_timeout: seconds that one connect may take.
        reconnect_backoff: seconds of the first pause after a failure, and of the longest.
        address_map: what brokers register → what this host can reach.

    Attributes:
        connections: address → live connection.
        on_connected: told of each new connection and its address.
        on_lost: told of each connection that is gone.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        spawn: Spawn[Connection],
        connect_timeout: float,
        reconnect_backoff: tuple[float, float],
        address_map: Mapping[str, str] | Callable[[str], str] | None,
    ) -> None:
        self.connections: dict[str, Connection] = {}
        self.on_connected: Callable[[str, Connection], None] | None = None
        self.on_lost: Callable[[Connection], None] | None = None
        self.reconnects = 0
        self._closing = False
        self._environment = environment
        self._spawn = spawn
        self._connect_timeout = connect_timeout
        self._first_pause, self._longest_pause = reconnect_backoff
        self._address_map = address_map
        self._rng: random.Random = environment.entropy("pool")
        self._connecting: dict[str, asyncio.Task[Connection]] = {}
        self._failures: dict[str, Failure] = {}
        self._lost: list[Connection] = []
        self._seen: set[str] = set()
        self._retired = [0, 0]  # late answers and loop stalls of connections that are gone

    def get(self, addr: str) -> Connection | None:
        """The live connection to `addr`, if there is one."""
        return self.connections.get(addr)

    async def connect(self, addr: str, name: str) -> Connection:
        """The connection to `addr`, made now if need be. Safe to cancel.

        Args:
            addr: `host:port`, as the broker registered it.
            name: whose address it is, for error texts.

        Raises:
            ConnectError: it cannot be reached, or could not a moment ago.
        """
        connection = self.connections.get(addr)
        if connection is not None:
            return connection
        task = self._connecting.get(addr)
        if task is None:
            failure = self._failures.get(addr)
            if failure is not None and self._environment.clock.monotonic() < failure.not_before:
                raise failure.error.again() from failure.error
            task = self._spawn(f"connect {addr}", self._connect(addr, name))
            self._connecting[addr] = task
            task.add_done_callback(lambda _: self._connecting.pop(addr, None))
        return await wait_shared(task, f"a connection to {name} at {addr}")

    async def _connect(self, addr: str, name: str) -> Connection:
        try:
            target = self._translate(addr)
        except Exception as error:  # the user's function; its fault must not look like a bug of this library
            raise self._failed(addr, f"{name} at {addr}", f"address_map raised {error!r}") from error
        if not isinstance(target, str):  # such as a dict's `get` for an address that it lacks
            raise self._failed(addr, f"{name} at {addr}", f"address_map makes {target!r} of it, which is no str")
        title = f"{name} at {addr}" if target == addr else f"{name} at {target} (registered as {addr})"
        connection = Connection(
            name=title,
            address=target,
            monotonic=self._environment.clock.monotonic,
            decode=decode_reply,
            on_request=refuse_request,
            on_lost=self._connection_lost,
        )
        try:
            host, port = parse_address(target)
            async with asyncio.timeout(self._connect_timeout):
                await self._environment.network.connect(lambda: connection, host, port)
        except TimeoutError as error:
            raise self._failed(addr, title, f"no answer within {self._connect_timeout:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: an address that is none, a host name that cannot be one
            raise self._failed(addr, title, str(error).removesuffix(".") or type(error).__name__) from error
        if connection.closed:
            raise self._failed(addr, title, "it closed the connection at once")
        self._failures.pop(addr, None)
        if addr in self._seen:
            self.reconnects += 1
        self._seen.add(addr)
        self.connections[addr] = connection
        logger.info("connected to %s", title)
        if self.on_connected is not None:
            self.on_connected(addr, connection)
        return connection

    def _translate(self, addr: str) -> str:
        mapping = self._address_map
        if mapping is None:
            return addr
        return mapping.get(addr, addr) if isinstance(mapping, Mapping) else mapping(addr)

    def _failed(self, addr: str, title: str, why: str) -> ConnectError:
        error = ConnectError(
            f"Cannot connect to {title}: {why}.",
            address=addr,
            hint="Is it running, and is this the address under which this host reaches it? If not (containers), give "
            f"ClientConfig(address_map={{{addr!r}: 'host:port'}}).",
        )
        previous = self._failures.get(addr)
        pause = self._first_pause if previous is None else min(previous.pause * 2, self._longest_pause)
        jittered = pause * (0.5 + self._rng.random() / 2)
        self._failures[addr] = Failure(error, self._environment.clock.monotonic() + jittered, pause)
        return error

    def _connection_lost(self, connection: Connection, error: TransportError | None) -> None:
        self._retired[0] += connection.late_answers
        self._retired[1] += connection.loop_stalls
        for addr, known in self.connections.items():
            if known is connection:
                del self.connections[addr]
                break
        self._lost = [other for other in self._lost if not other.transport_gone]
        self._lost.append(connection)
        if error is not None and not self._closing:
            logger.info("lost the connection to %s: %s", connection.name, error)
        if self.on_lost is not None:
            self.on_lost(connection)

    @property
    def late_answers(self) -> int:
        """Answers that came after their request was given up."""
        return self._retired[0] + sum(connection.late_answers for connection in self.connections.values())

    @property
    def loop_stalls(self) -> int:
        """How often the loop was found to have been blocked."""
        return self._retired[1] + sum(connection.loop_stalls for connection in self.connections.values())

    def abort(self, why: str) -> None:
        """Close all connections at once; what is pending fails with a `ConnectionLostError` that says why."""
        self._closing = True
        for connection in list(self.connections.values()):
            words = f"The connection to {connection.name} was cut: {why}."
            connection.abort(ConnectionLostError(words, address=connection.address))

    async def wait_lost(self) -> None:
        """Wait until the sockets of all connections that were closed are gone. Safe to cancel."""
        for connection in list(self._lost):
            await connection.wait_lost()
        self._lost.clear()


def refuse_request(connection: Connection, incoming: Reply | Request) -> None:
    """Answer a request that this client does not serve, as Java's client does.

    A peer that asks and asks, and does not read the answers, gets none.
    """
    if incoming.flag & FLAG_ONEWAY or not connection.writable:
        return
    connection.write(
        RemotingCommand(
            code=ResponseCode.REQUEST_CODE_NOT_SUPPORTED,
            opaque=incoming.opaque,
            flag=FLAG_RESPONSE,
            language=LanguageCode.PYTHON,
            remark=f" request type {incoming.code} not supported",
        ).encode()
    )
