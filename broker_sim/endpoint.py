"""Listens, and keeps the accepted connections of one server.

A server does not read on while a peer does not take its answers. Connections that are silent for two minutes are
closed, as by a real server. What happens to a request is in `session.py`.

Source: `NettyRemotingServer.java` (5.3.3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from broker_sim.session import ServerCore, Session
from rocketmq_aio.environment import Environment, Listener, TcpListener, housekeeping_context
from rocketmq_aio.errors import TransportError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.incoming import decode_request

__all__ = ["Endpoint"]

logger = logging.getLogger("broker_sim")

IDLE_MAX = 120.0
#: Seconds between two looks for idle connections, at most and at least.
IDLE_SCAN_MAX = 10.0
IDLE_SCAN_MIN = 1.0


class Endpoint:
    """The listening side of one server.

    Args:
        core: what its sessions have in common.
        environment: clock and network.
        numbers: numbers for accepted connections.
    """

    def __init__(
        self,
        *,
        core: ServerCore,
        environment: Environment,
        numbers: Iterator[int],
    ) -> None:
        self.core = core
        self.environment = environment
        self._numbers = numbers
        self._accepting = False
        self._listener: Listener | None = None
        self._connections: dict[Connection, None] = {}
        self._closing: list[Connection] = []
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def listening(self) -> bool:
        """Whether it accepts connections."""
        return self._listener is not None

    async def listen(self, host: str, port: int) -> int:
        """Begin to listen.

        Args:
            host: the address to listen on.
            port: 0 takes a free one.

        Returns:
            The port.

        Raises:
            OSError: it cannot, for example because the port is taken.
        """
        # From the first moment: a client may connect before `listen` has come back.
        self._accepting = True
        try:
            self._listener = await self.environment.network.listen(self._accept, host, port)
        except BaseException:
            self._accepting = False
            raise
        self._idle_timer = asyncio.get_running_loop().call_later(
            IDLE_SCAN_MAX, self._close_idle, context=housekeeping_context()
        )
        return self._listener.port

    def _accept(self) -> Connection:
        session = Session(self.core, next(self._numbers))
        connection = Connection(
            name=f"client {session.number} of {self.core.name}",
            monotonic=self.environment.clock.monotonic,
            decode=decode_request,
            on_request=session.receive,
            on_lost=self._lost,
            pause_reading=True,
        )
        connection.last_activity = self.environment.clock.monotonic()
        session.connection = connection
        self._connections[connection] = None
        if not self._accepting:  # accepted while the listener was being closed
            connection.abort()
        return connection

    def _lost(self, connection: Connection, error: TransportError | None) -> None:
        self._connections.pop(connection, None)
        if error is not None:
            logger.debug("%s lost a connection: %s", self.core.name, error)
        self.core.on_lost(connection)

    def _close_idle(self) -> None:
        now = self.environment.clock.monotonic()
        earliest = now + IDLE_MAX
        for connection in list(self._connections):
            due = connection.last_activity + IDLE_MAX
            if due <= now:
                connection.abort()
            else:
                earliest = min(earliest, due)
        delay = min(IDLE_SCAN_MAX, max(IDLE_SCAN_MIN, earliest - now))
        self._idle_timer = asyncio.get_running_loop().call_later(
            delay, self._close_idle, context=housekeeping_context()
        )

    def abort(self) -> None:
        """Stop listening and close all connections, at once."""
        self._accepting = False
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self.core.forget_delayed()
        self._closing += self._connections
        for connection in self._closing:
            connection.abort()

    async def wait_closed(self) -> None:
        """Wait, after `abort`, until the sockets of all connections are gone."""
        for connection in self._closing:
            await connection.wait_lost()
        self._closing = []

    def release_after_fork(self) -> None:
        """In a child that inherited it: let go of the port."""
        if isinstance(self._listener, TcpListener):
            self._listener.release_after_fork()
