"""Listens, and takes each request through history and handler to its reply.

A request is answered in the turn in which it arrived; the replies of one turn leave in one write. A server does not
read on while a peer does not take its answers. Connections that are silent for two minutes are closed, as by a real
server.

This file knows what a request is, and of none what it means.

Source: `NettyRemotingServer.java`, `NettyRemotingAbstract.java` (`processRequestCommand`) (5.3.3).
Differs: requests are dealt with one after the other, in the order of their arrival, and never in parallel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from broker_sim.history import Exchange, History
from broker_sim.requests.answer import Answer, Context, Framed, HandlerTable, ReplyForm
from rocketmq_aio.codes import FLAG_ONEWAY, ResponseCode
from rocketmq_aio.environment import Environment, Listener, TcpListener, housekeeping_context
from rocketmq_aio.errors import LocalProtocolError, TransportError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.incoming import Reply, Request, decode_request

__all__ = ["Endpoint", "Session"]

logger = logging.getLogger("broker_sim")

IDLE_MAX = 120.0
#: Seconds between two looks for idle connections, at most and at least.
IDLE_SCAN_MAX = 10.0
IDLE_SCAN_MIN = 1.0


class Session(Context[Any]):
    """One accepted connection, and the context of the requests on it.

    Args:
        endpoint: where it was accepted.
        number: which of the cluster's accepted connections it is, counted from 1.
    """

    def __init__(self, endpoint: Endpoint, number: int) -> None:
        self.state = endpoint.state
        self.number = number
        self._name = endpoint.name
        self._handlers = endpoint.handlers
        self._form = endpoint.form
        self._wall = endpoint.environment.clock.wall
        self._record = endpoint.history.record
        self._started_at = endpoint.started_at

    def receive(self, connection: Connection, incoming: Reply | Request) -> None:
        """Answer one request; the connection calls it for each."""
        request: Request = incoming  # type: ignore[assignment]  # `cast` is a call, and this is run for each request
        code = request.code
        self.request = request
        self.now_ms = int(self._wall() * 1000)
        # When it was read, by the connection's clock call.
        now = connection.last_activity - self._started_at
        route = self._handlers.get(code)
        try:
            if route is None:
                answer: Framed = _unsupported(code)
            else:
                try:
                    header = request.fields(route.header)
                except LocalProtocolError as error:
                    logger.warning("%s closes the connection of %s: %s", self._name, connection.name, error)
                    connection.abort()
                    return
                answer = route.handler(self, header, request.body)
            frame = b"" if request.flag & FLAG_ONEWAY else answer.frame(request.opaque, self._form)
        except Exception as error:
            frame = self._failed(request, error)
        if frame:
            self._record(Exchange(self._name, self.number, code, now, now, request, frame))
            connection.write(frame)
        else:
            self._record(Exchange(self._name, self.number, code, now, None, request, frame))

    def _failed(self, request: Request, error: Exception) -> bytes:
        """The answer when a handler could not make one. As in Java the peer is told, and learns little from it."""
        # What the peer sent may be to blame; everything else is a bug.
        if not isinstance(error, LocalProtocolError):
            logger.error("%s failed to answer request %d", self._name, request.code, exc_info=error)
        if request.flag & FLAG_ONEWAY:
            return b""
        remark = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark).frame(request.opaque, self._form)


def _unsupported(code: int) -> Answer:
    return Answer(code=ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark=f" request type {code} not supported")


class Endpoint:
    """The listening side of one server.

    Args:
        name: the server's name, for history and logs.
        state: what handlers get as `context.state`.
        handlers: request code → who deals with it.
        form: of the answers.
        environment: clock and network.
        history: takes every exchange.
        started_at: when the cluster began, in seconds of the monotonic clock.
        numbers: numbers for accepted connections.
        on_lost: told of each accepted connection that is gone.
    """

    def __init__(
        self,
        *,
        name: str,
        state: object,
        handlers: HandlerTable,
        form: ReplyForm,
        environment: Environment,
        history: History,
        started_at: float,
        numbers: Iterator[int],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.name = name
        self.state = state
        self.handlers = handlers
        self.form = form
        self.environment = environment
        self.history = history
        self.started_at = started_at
        self._numbers = numbers
        self._on_lost = on_lost
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
        session = Session(self, next(self._numbers))
        connection = Connection(
            name=f"client {session.number} of {self.name}",
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
            logger.debug("%s lost a connection: %s", self.name, error)
        self._on_lost(connection)

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
