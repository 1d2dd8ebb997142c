"""Takes each request of a connection through injections and handler to its reply, and into the history.

A request is answered in the turn in which it arrived, unless an injection says otherwise; the replies of one turn leave
in one write. What an injection delays is still dealt with when its client has gone, and is forgotten when its server
stops.

This file knows what a request is, and of none what it means.

Source: `NettyRemotingAbstract.java` (`processRequestCommand`) (5.3.3).
Differs: requests are dealt with one after the other, in the order of their arrival, and never in parallel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from typing import Any

from broker_sim.history import Exchange, History
from broker_sim.inject import Rules
from broker_sim.requests.answer import Answer, Context, Framed, HandlerTable, ReplyForm
from broker_sim.verdicts import Corrupt, Delay, Disconnect, Drop, Duplicate, Reply, Status, Verdict
from rocketmq_aio.codes import FLAG_ONEWAY, SEND, ResponseCode
from rocketmq_aio.environment import Clock
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Reply as IncomingReply
from rocketmq_aio.wire.incoming import Request

__all__ = ["ServerCore", "Session"]

logger = logging.getLogger("broker_sim")


class ServerCore:
    """What all sessions of one server have in common.

    Args:
        name: the server's name, for history, injections and logs.
        state: what handlers get as `context.state`.
        handlers: request code → who deals with it.
        form: of the answers.
        clock: tells the time.
        history: takes every exchange.
        started_at: when the cluster began, in seconds of the monotonic clock.
        rules: the cluster's injections.
        on_lost: told of each connection that is gone.
    """

    def __init__(
        self,
        *,
        name: str,
        state: object,
        handlers: HandlerTable,
        form: ReplyForm,
        clock: Clock,
        history: History,
        started_at: float,
        rules: Rules,
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.name = name
        self.state = state
        self.handlers = handlers
        self.form = form
        self.clock = clock
        self.history = history
        self.started_at = started_at
        self.rules = rules
        self.on_lost = on_lost
        # By number: timers that are due at one time have equal hashes.
        self._delayed: dict[int, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._numbers = count()

    def later(self, seconds: float, go_on: Callable[[], None], forget: Callable[[], None]) -> None:
        """Call `go_on` in so many seconds, or `forget` if the server stops before."""
        number = next(self._numbers)

        def due() -> None:
            del self._delayed[number]
            go_on()

        self._delayed[number] = (asyncio.get_running_loop().call_later(seconds, due), forget)

    def forget_delayed(self) -> None:
        """The server stops: what is delayed is never dealt with."""
        delayed, self._delayed = self._delayed, {}
        for timer, forget in delayed.values():
            timer.cancel()
            forget()


class Session(Context[Any]):
    """One accepted connection, and the context of the requests on it.

    Args:
        core: of the server that accepted it.
        number: which of the cluster's accepted connections it is, counted from 1.
    """

    def __init__(self, core: ServerCore, number: int) -> None:
        self.state = core.state
        self.number = number
        self._core = core
        self._name = core.name
        self._handlers = core.handlers
        self._form = core.form
        self._wall = core.clock.wall
        self._record = core.history.record
        self._started_at = core.started_at
        self._rules = core.rules.installed

    def receive(self, connection: Connection, incoming: IncomingReply | Request) -> None:
        """Deal with one request; the connection calls it for each."""
        request: Request = incoming  # type: ignore[assignment]  # `cast` is a call, and this is run for each request
        # When it was read, by the connection's clock call.
        now = connection.last_activity - self._started_at
        if self._rules:
            verdict = self._core.rules.decide(
                self._name, request, lambda verdict, error: self._function_failed(verdict, request, error)
            )
            if verdict is not None:
                self._carry_out(verdict, connection, request, now)
                return
        frame = self._answer(connection, request)
        if frame:
            self._record(Exchange(self._name, self.number, request.code, now, now, request, frame))
            connection.write(frame)
        else:
            self._record(Exchange(self._name, self.number, request.code, now, None, request, frame))

    def _answer(self, connection: Connection, request: Request) -> bytes:
        """Let the handler deal with a request.

        Returns:
            The frame of its answer; empty if there is none, because it was one-way, or so broken that the connection
            is closed now.
        """
        code = request.code
        self.request = request
        self.now_ms = int(self._wall() * 1000)
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
                    return b""
                answer = route.handler(self, header, request.body)
            return b"" if request.flag & FLAG_ONEWAY else answer.frame(request.opaque, self._form)
        except Exception as error:
            return self._failed(request, error)

    def _failed(self, request: Request, error: Exception) -> bytes:
        """The answer when a handler could not make one. As in Java the peer is told, and learns little from it."""
        # What the peer sent may be to blame; everything else is a bug.
        if not isinstance(error, LocalProtocolError):
            logger.error("%s failed to answer request %d", self._name, request.code, exc_info=error)
        if request.flag & FLAG_ONEWAY:
            return b""
        remark = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark).frame(request.opaque, self._form)

    # --- injections

    def _function_failed(self, verdict: Verdict, request: Request, error: BaseException) -> None:
        logger.error(
            "%s: the function of an injection failed (%r); request %d goes on without it",
            self._name, verdict, request.code, exc_info=error,
        )  # fmt: skip

    def _carry_out(self, verdict: Verdict, connection: Connection, request: Request, received_at: float) -> None:
        """Do with a request what a rule says.

        Args:
            verdict: any but `Pass`.
            connection: where it came from.
            request: the request.
            received_at: seconds from the start of the cluster.
        """

        def finish(frame: bytes) -> None:
            """Record the exchange, and write the answer, if there is one."""
            replied_at = None
            if frame and not connection.closed:
                replied_at = self._core.clock.monotonic() - self._started_at
                connection.write(frame)
            else:
                frame = b""
            self._record(
                Exchange(self._name, self.number, request.code, received_at, replied_at, request, frame, verdict)
            )

        def answer() -> bytes:
            frame = self._answer(connection, request)
            if connection.closed:  # what was done for a client that had gone is undone, as when it goes afterwards
                self._core.on_lost(connection)
            return frame

        match verdict:
            case Delay(seconds=seconds, phase="before"):
                self._core.later(seconds, lambda: finish(answer()), lambda: finish(b""))
            case Delay(seconds=seconds):
                late = answer()
                self._core.later(seconds, lambda: finish(late), lambda: finish(b""))
            case Drop(phase=phase) | Disconnect(phase=phase):
                if phase == "after":
                    answer()
                finish(b"")
                if isinstance(verdict, Disconnect):
                    connection.flush()  # the answers to what came before it
                    connection.abort()
            case Duplicate():
                finish(answer())
                if not connection.closed:
                    finish(answer())
            case Reply(phase=phase):
                if phase == "after":
                    answer()
                finish(self._own_reply(verdict, request))
            case Status(status=status):
                finish(_with_status(answer(), request, status))
            case Corrupt():
                finish(self._corrupted(answer(), verdict, request))

    def _own_reply(self, reply: Reply, request: Request) -> bytes:
        if request.flag & FLAG_ONEWAY:
            return b""
        fields = None if reply.fields is None else dict(reply.fields)
        answer = Answer(code=reply.code, remark=reply.remark, fields=fields, body=reply.body)
        return answer.frame(request.opaque, self._form)

    def _corrupted(self, frame: bytes, verdict: Corrupt, request: Request) -> bytes:
        if not frame:
            return frame
        try:
            return bytes(memoryview(verdict.change(frame)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also pytest.fail, which is no Exception
            self._function_failed(verdict, request, error)
            return frame


def _with_status(frame: bytes, request: Request, status: int) -> bytes:
    """The acknowledgement of a stored message with another status; anything else as it is."""
    if not frame or request.code not in SEND:
        return frame
    (parts,) = FrameReader().feed(frame)
    command = RemotingCommand.decode(*parts)
    if command.code != ResponseCode.SUCCESS:
        return frame
    command.code = int(status)
    return command.encode()


def _unsupported(code: int) -> Answer:
    return Answer(code=ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark=f" request type {code} not supported")
